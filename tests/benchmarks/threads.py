"""Training steps on a CPU, alone and beside busy processes that the benchmark itself starts.

    python tests/benchmarks/threads.py --rounds 3 --seconds 8 --busy 0 1 2

A ResNet-18 takes pictures of 96 px in batches of 4. Each way of running it is a process that waits for its
turn; in every round each way takes its turn under every load, so that a drift of the machine's speed meets
all alike. Printed are steps a second (median over the rounds, least and most) and the median of the rounds'
ratios.

The ways: ``as it comes`` loads torch before this package can say anything, ``ours`` loads the package first,
``one thread`` is ours with one thread; ``--also NAME=VALUE[,NAME=VALUE]`` adds a way with these variables set
and torch loaded first.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

WAIT = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "MKL_NUM_THREADS"}
BUSY = "while True: pass"


@dataclass
class Way:
    """One way of running the steps, in a process of its own.

    Attributes:
        package_first: import maskdistill before torch.
        variables: environment set for it, on top of one without any setting of threads.
    """

    name: str
    package_first: bool
    threads: int
    variables: dict[str, str] = field(default_factory=dict)

    def start(self) -> "Steps":
        environment = {name: value for name, value in os.environ.items() if name not in WAIT} | self.variables
        command = [sys.executable, __file__, "--worker", str(self.threads)]
        if self.package_first:
            command.append("--package-first")
        return Steps(
            subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )


class Steps:
    """A process that makes training steps when asked."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended early; its traceback is above")
        return line

    def rate(self, seconds: float) -> float:
        """Steps a second over ``seconds``."""
        assert self.process.stdin
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def competition(number: int) -> Iterator[None]:
    """``number`` processes that each keep a core busy."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def work(threads: int, package_first: bool) -> None:
    """Read seconds from standard input, line by line; answer each with steps a second."""
    if package_first:
        import maskdistill  # noqa: F401
    import torch
    import torchvision

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = torchvision.models.resnet18().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, 0.9)
    images = torch.rand(4, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(4)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    for _ in range(5):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        steps, start = 0, time.perf_counter()
        while time.perf_counter() < start + float(line):
            step()
            steps += 1
        print(steps / (time.perf_counter() - start), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="each turn takes")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="busy processes beside it")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--also", nargs="*", default=[], metavar="NAME=VALUE[,...]")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--package-first", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.worker, args.package_first)

    ways = [
        Way("as it comes", False, args.threads),
        Way("ours", True, args.threads),
        Way("one thread", True, 1),
    ]
    ways += [
        Way(text, False, args.threads, dict(pair.split("=") for pair in text.split(",")))
        for text in args.also
    ]
    print(f"{args.threads} threads, {os.cpu_count()} cores, load before the start {os.getloadavg()[0]:.1f}")
    workers = {way.name: way.start() for way in ways}
    rates: dict[tuple[str, int], list[float]] = {(name, busy): [] for name in workers for busy in args.busy}
    for _ in range(args.rounds):
        for busy in args.busy:
            for name, worker in workers.items():
                with competition(busy):
                    rates[name, busy].append(worker.rate(args.seconds))
    for worker in workers.values():
        worker.end()
    report(rates, list(workers), args.busy)


def report(rates: dict[tuple[str, int], list[float]], names: list[str], loads: list[int]) -> None:
    """Steps a second of every way under every load, and how much slower it is than without one."""
    print(
        "\n| steps a second | "
        + " | ".join(f"beside {busy} busy" if busy else "alone" for busy in loads)
        + " |"
    )
    print("|---" * (len(loads) + 1) + "|")
    for name in names:
        cells = [
            f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
            for found in (rates[name, busy] for busy in loads)
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if 0 not in loads:
        return
    comes = rates[names[0], 0]
    print(
        "\n| slower by | alone, than as it comes | "
        + " | ".join(f"beside {busy} than alone" for busy in loads if busy)
    )
    print("|---" * (len(loads) + 1) + "|")
    for name in names:
        alone = rates[name, 0]
        ratios = [
            _median_ratio(comes, alone),
            *(_median_ratio(alone, rates[name, busy]) for busy in loads if busy),
        ]
        print(f"| {name} | " + " | ".join(f"{ratio:.2f}x" for ratio in ratios) + " |")


def _median_ratio(first: list[float], second: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(first, second, strict=True))


if __name__ == "__main__":
    main()
