"""Whether two runs ended in the same artefacts."""

import json
from pathlib import Path
from typing import Any

VOLATILE = {"seconds", "~sha256"}  # the seal of a file that holds seconds
NOT_COMPARED = ("logs", "benchmarks", ".lock")


def artefacts(results: Path) -> dict[str, bytes]:
    """Relative path -> content of all that a run leaves, but logs and benchmarks; what may differ is taken
    out.
    """
    found = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results)
        if path.is_file() and name.parts[0] not in NOT_COMPARED and path.name != ".snakemake_timestamp":
            found[name.as_posix()] = _content(path)
    return found


def _content(path: Path) -> bytes:
    if path.name == "report.html":  # holds seconds; what it shows stands in summary.json
        return b"a report" if path.stat().st_size > 10_000 else path.read_bytes()
    if path.name == "summary.json":
        return json.dumps(_without_volatile(json.loads(path.read_text())), sort_keys=True).encode()
    return path.read_bytes()


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_volatile(item) for key, item in value.items() if key not in VOLATILE}
    return value


def differences(expected: Path, found: Path) -> list[str]:
    """Artefacts that are missing, left over or different; none where the runs are equal."""
    left, right = artefacts(expected), artefacts(found)
    lines = [f"missing: {name}" for name in left.keys() - right.keys()]
    lines += [f"left over: {name}" for name in right.keys() - left.keys()]
    return sorted(
        lines + [f"different: {name}" for name in left.keys() & right.keys() if left[name] != right[name]]
    )
