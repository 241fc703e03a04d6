"""Check versions, devices, disk, weights, extras and a configuration, and say how to fix what is wrong.

The exit status is 0 only if nothing needed is missing; with --config, that includes what the run needs.
"""

import argparse

from maskdistill.cli.config import check_file
from maskdistill.config import Config
from maskdistill.product.checks import Check, report_lines
from maskdistill.product.inspection import inspect, versions
from maskdistill.runtime.errors import MaskDistillError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--config", metavar="YAML", help="configuration of the run that you want to start")


def run(args: argparse.Namespace) -> None:
    """Print all checks."""
    config, checks = None, [*versions()]
    if args.config is not None:
        config, found = _configuration(args.config)
        checks.append(found)
    checks += inspect(config)
    print("\n".join(report_lines(checks)))
    if wrong := [check.name for check in checks if check.state == "wrong"]:
        things = "1 required thing is" if len(wrong) == 1 else f"{len(wrong)} required things are"
        raise MaskDistillError(f"{things} missing or wrong: {', '.join(wrong)}")


def _configuration(path: str) -> tuple[Config | None, Check]:
    try:
        config = check_file(path)
    except MaskDistillError as error:
        return None, Check("configuration", "wrong", str(error), "correct what is named")
    return config, Check("configuration", "ok", f"{path}: run {config.run!r}")
