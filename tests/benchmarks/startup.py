"""Processor time of a job that only starts and ends: with the garbage collector as Python has it, and
without.

``python tests/benchmarks/startup.py`` prints a line for each entry point: seconds with ``import``, with
``maskdistill.runtime.startup.load``, and their ratio; medians of ``--repeats`` in turn.
"""

import argparse
import os
import statistics
import subprocess
import sys

WAYS = {"import": "import {}", "load": "from maskdistill.runtime.startup import load; load('{}')"}
MODULES = (
    "maskdistill.cli.masks",
    "maskdistill.cli.clusters",
    "maskdistill.cli.features",
    "maskdistill.cli.detector",
)


def seconds(code: str) -> float:
    """Processor time of a process that runs ``code``, user and system."""
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, code
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print("| entry point | `import`, s | `load`, s | ratio |\n|---|---|---|---|")
    for module in MODULES:
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(repeats):
            for way, code in WAYS.items():
                taken[way].append(seconds(code.format(module)))
        plain, quick = (statistics.median(taken[way]) for way in WAYS)
        print(f"| {module} | {plain:.2f} | {quick:.2f} | {quick / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
