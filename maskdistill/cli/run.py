"""Run a configuration's workflow quietly: one line per stage, and at the end where everything is.

It runs Snakemake with all cores and GPUs that it finds, and keeps Snakemake's output in a file among the
run's logs. Options after -- go to Snakemake, e.g. `maskdistill run config/mine.yaml -- --forcerun masks`; if
--cores, --jobs, --executor or --profile is among them, it decides about cores and GPUs.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from maskdistill.cli.config import check_file
from maskdistill.cli.option_types import whole
from maskdistill.product.finished_run import of_other_pictures
from maskdistill.product.run_end import OF_SNAKEMAKE, bad_end, good_end
from maskdistill.product.run_progress import Progress
from maskdistill.product.usual import usual_seconds
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.leases import visible_gpus
from maskdistill.runtime.logs import last_lines
from maskdistill.runtime.progress import seconds_left
from maskdistill.runtime.run_lock import explain_lock
from maskdistill.workflow.commands import need_workflow, seen_from_checkout, snakefile

LOOK = 0.5
"""Seconds between two looks at the events."""
EVERY = 15.0
"""Seconds between two lines of progress where the output is no terminal."""
OWN_MACHINE = re.compile(r"--(cores|jobs|executor|profile)(=|$)|-[cje]")
"""Options of Snakemake that say where jobs run, and with how much."""
HANDED_ON = "snakemake"
"""The option that takes what follows ``--`` on the command line."""
NOTHING = "Nothing to be done"
ENGINE = [sys.executable, "-m", "maskdistill.workflow.events"]
"""The command that runs Snakemake; the file for its events and Snakemake's options follow."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", metavar="CONFIG", help="configuration of the run (YAML)")
    parser.add_argument("--cores", type=whole(1), metavar="N", help="CPU cores (default: all available)")
    parser.add_argument(
        HANDED_ON, nargs="*", metavar="OPTION", help="Snakemake's targets, and after -- its options"
    )


def run(args: argparse.Namespace) -> None:
    """Run, watch, and say how it ended."""
    more = ["--", *args.snakemake] if args.snakemake else []
    need_workflow("run", seen_from_checkout(Path(args.config)), *more)
    config = check_file(args.config)
    cores, gpus = args.cores or available_cores(), len(visible_gpus())
    results = Path("results") / run_name(args.snakemake, config.run)
    output = results / "logs/snakemake" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    output.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress(usual_seconds(config, results, cores, gpus), told)
    screen = Screen(sys.stdout)
    screen.keep(f"{args.config}: into {results}; all that Snakemake says: {output}")
    if others := of_other_pictures(results, config):
        screen.keep(others)
    begun = time.time()
    status = follow(snakemake_options(args, cores, gpus), output, progress, screen)
    if status:
        again = ["maskdistill", "run", args.config, "--", "--unlock", *args.snakemake]
        lock = explain_lock(results, ".snakemake/locks", shlex.join(again)) if not progress.done else None
        raise MaskDistillError(bad_end([*progress.failed.values()], progress.total, status, output, lock))
    said = last_lines(output, OF_SNAKEMAKE)
    if not progress.done and not any(NOTHING in line for line in said):
        print("\n".join(said))  # a dry run, or another command of Snakemake's
    else:
        print("\n".join(good_end(results, progress.done, time.time() - begun)))


def run_name(given: Sequence[str], name: str) -> str:
    """The run's name: the configuration's, unless ``--config run=NAME`` is among the options of Snakemake."""
    return next((word.removeprefix("run=") for word in reversed(given) if word.startswith("run=")), name)


def snakemake_options(args: argparse.Namespace, cores: int, gpus: int) -> list[str]:
    """Options of Snakemake: those of the command, then what was handed on, which may be targets too."""
    options = ["--configfile", args.config]
    if not any(map(OWN_MACHINE.match, args.snakemake)):
        if gpus and "--resources" not in args.snakemake:
            options += ["--resources", f"gpu={gpus}"]
        options += ["--cores", str(cores)]
    return [*options, "--nocolor", *args.snakemake]


def told(log: str) -> float | None:
    """What a job's log says of the seconds that remain to it."""
    return seconds_left(last_lines(log, 3, 4096)) if log else None


class Screen:
    """Lines that stay, and below them on a terminal lines that are drawn again, elsewhere one now and then.

    Args:
        stream: where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._redraws = stream.isatty()
        self._drawn = 0
        self._last = time.monotonic()

    def _write(self, lines: Sequence[str]) -> None:
        """In the place of the lines that were drawn before."""
        erase = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        self._stream.write(erase + "".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._drawn = 0

    def keep(self, line: str) -> None:
        """Print a line that stays."""
        self._write([line])

    def show(self, progress: Progress) -> None:
        """Show how far the run is."""
        now = time.time()
        if self._redraws:
            size = shutil.get_terminal_size()
            lines = [line[: size.columns - 1] for line in progress.lines(now)][-(size.lines - 1) :]
            self._write(lines)
            self._drawn = len(lines)
        elif time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            self._write([progress.one_line(now)])

    def clear(self) -> None:
        """Take away what is drawn."""
        self._write([])


def follow(options: Sequence[str], output: Path, progress: Progress, screen: Screen) -> int:
    """Run Snakemake and show how far it is; its exit status, negative for the signal that ended it.

    Args:
        options: of Snakemake.
        output: file that takes all it says.
        progress: takes in its events.
        screen: where to show it.
    """
    with tempfile.TemporaryDirectory(prefix="maskdistill-") as folder, open(output, "wb") as said:
        events = Path(folder) / "events"
        events.touch()
        command = [*ENGINE, str(events), *snakefile(), *options]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, process_group=0
        )
        with ends_with_us(process), open(events, encoding="utf-8") as stream:
            while (status := process.poll()) is None:
                _take(stream, progress, screen)
                screen.show(progress)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK)
            _take(stream, progress, screen)
            screen.clear()
    return status


def _take(stream: TextIO, progress: Progress, screen: Screen) -> None:
    """Take in the events that are written since the last look; half a line is left for the next one."""
    place = stream.tell()
    while (line := stream.readline()).endswith("\n"):
        place = stream.tell()
        event: dict[str, Any] = json.loads(line)
        if kept := progress.take(event):
            screen.keep(kept)
    stream.seek(place)


@contextmanager
def ends_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Where Ctrl-C, SIGTERM or a closed terminal ends this command, end Snakemake and its jobs first.

    They are in a process group of their own, so that each of them is told once, as a terminal does it.
    """

    def hang_up(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    heard = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # Snakemake ignores what is ignored here
    usual = signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    if usual:
        signal.signal(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT if heard else signal.SIGTERM)
            print("ending: Snakemake waits for its jobs", file=sys.stderr)
            process.wait()
        if usual:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
