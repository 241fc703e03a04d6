"""Logging set-up of an entry point."""

import logging
import platform
import sys
from pathlib import Path

import maskdistill

FORMAT = "%(asctime)s %(levelname)s %(message)s"


def setup_logging(stage: str, log_file: str | None, **granted: object) -> None:
    """Log to standard error and to ``log_file``, if given; the first line says what runs where.

    Args:
        stage: name of the entry point.
        log_file: path of a log file that is appended to, or None.
        granted: resources granted to this process (threads, device, gpus).
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_file:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log_file, mode="a"))
    logging.basicConfig(level=logging.INFO, format=FORMAT, datefmt="%H:%M:%S", handlers=handlers, force=True)
    resources = " ".join(f"{name}={value}" for name, value in granted.items())
    logging.getLogger("maskdistill").info(
        "maskdistill %s %s on Python %s, %s: %s",
        maskdistill.__version__, stage, platform.python_version(), platform.machine(), resources,
    )  # fmt: skip


def last_lines(path: str | Path, count: int, most: int = 65536) -> list[str]:
    """The last non-blank lines of a text file, at most ``count``; empty if it cannot be read.

    Args:
        path: the file.
        count: largest number of lines.
        most: number of bytes at its end that are read.
    """
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, Path(path).stat().st_size - most))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]
