"""How many processor cores this process may use; possibly fewer than the machine has."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")


def available_cores(proc: Path = PROC) -> int:
    """Number of cores that this process may use, by its affinity and the quotas of its control groups,
    rounded up; at least 1.

    A container's ``--cpus``, Kubernetes' limits and systemd's CPUQuota are quotas: they leave every core
    visible, and threads beyond them only wait. Slurm and ``taskset`` set the affinity.

    Args:
        proc: this process's folder in the proc file system.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(quota) for quota in _quotas(proc))]))


def _quotas(proc: Path) -> Iterator[float]:
    """Number of cores that each control group of this process grants, if it sets a limit; versions 1 and
    2.
    """
    for mount, group in _groups(proc):
        for folder in (mount / group, *(mount / parent for parent in group.parents)):
            words = _words(folder / "cpu.max")
            if not words:
                words = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
            if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]) > 0:
                yield int(words[0]) / int(words[1])  # "max" and -1 mean no quota


def _groups(proc: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Mount point of each hierarchy that may limit processors, and this process's group within it."""
    member: dict[str, str] = {}
    for line in _lines(proc / "cgroup"):
        number, controllers, name = [*line.split(":", 2), "", ""][:3]
        if number == "0" or "cpu" in controllers.split(","):
            member["cgroup2" if number == "0" else "cgroup"] = name
    for line in _lines(proc / "mountinfo"):
        place, _, kind = line.partition(" - ")
        fields, (system, *rest) = place.split(), (kind.split() or [""])
        if (
            system not in member
            or len(fields) < 5
            or (system == "cgroup" and "cpu" not in rest[-1].split(","))
        ):
            continue
        # A container often sees its group under the host's name, or a name outside its root, but has that
        # very group mounted.
        group, root = PurePosixPath(member[system]), PurePosixPath(fields[3])
        known = group.is_relative_to(root) and ".." not in group.parts
        yield Path(fields[4].replace("\\040", " ")), group.relative_to(root) if known else PurePosixPath()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:  # no such file system, as on macOS
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()
