"""A killed job of many shards continues where it stopped.

Snakemake deletes the outputs of an unfinished job before it starts that job again. So each finished shard
also gets a second name, a hard link in a hidden folder beside it, until the whole job is done.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from maskdistill.runtime.files import atomic_directory, canonical_json, sha256_text
from maskdistill.runtime.provenance import code_hash, library_versions
from maskdistill.runtime.seal import BrokenSeal, check_png, stamp, verify

FOLDER = ".finished"


class FinishedShard:
    """The second name of one shard's output.

    It is used only by the same command on the same inputs (sizes, modification times and inodes) with the
    same code and libraries.

    Args:
        output: file or folder that the shard's command writes.
        arguments: arguments of that command; values that are files count as inputs.
    """

    def __init__(self, output: str | Path, arguments: Sequence[str]) -> None:
        self.output = Path(output)
        values = [text.partition("=")[2] if text.startswith("--") else text for text in arguments]
        files = sorted({Path(value) for value in values if value} - {self.output})
        inputs = [[str(file), *_stamp(file)] for file in files if _is_file(file)]
        key = sha256_text(canonical_json([list(arguments), inputs, code_hash(), library_versions()]))
        self.kept = self.output.parent / FOLDER / f"{key[:16]}-{self.output.name}"

    def restore(self) -> bool:
        """Restore the output under its own name; False if it was not finished, or is damaged."""
        if not self.kept.exists() or not is_intact(self.kept):
            return False
        if not self.output.exists():
            _link(self.kept, self.output)
        return True

    def keep(self) -> None:
        """Give the output its second name. On a file system without hard links nothing is kept."""
        self.kept.parent.mkdir(exist_ok=True)
        with suppress(OSError, shutil.Error):
            _link(self.output, self.kept)

    def forget(self) -> None:
        """Remove the second name, and those left behind by other settings."""
        for kept in self.kept.parent.glob(f"*-{self.output.name}"):
            if kept.is_dir():
                shutil.rmtree(kept)
            else:
                kept.unlink()
        with suppress(OSError):  # another job's shards lie there, or nothing was kept
            self.kept.parent.rmdir()


def run_unfinished(shards: Sequence[FinishedShard], runs: Sequence[Callable[[], None]]) -> None:
    """Make each shard that is not finished yet; then remove the second names.

    Args:
        shards: the shards of one job.
        runs: for each shard, the call that writes its output.
    """
    for number, (shard, run) in enumerate(zip(shards, runs, strict=True), 1):
        if shard.restore():
            print(f"shard {number} of {len(shards)}: finished earlier, {shard.output}", file=sys.stderr)
        else:
            run()
            shard.keep()
    for shard in shards:
        shard.forget()


def _is_file(value: Path) -> bool:
    """Whether an argument's value is a file; settings as JSON may be too long for the system to check."""
    try:
        return value.is_file()
    except OSError:
        return False


def _stamp(file: Path) -> tuple[int, ...]:
    """Stamp without the change time, which a second name changes."""
    return stamp(file)[:3]


def is_intact(made: Path) -> bool:
    """Whether a shard, a file or folder, exists as it was written."""
    if not made.exists():
        return False
    try:
        for path in sorted(made.rglob("*")) if made.is_dir() else [made]:
            if path.suffix == ".png":
                check_png(path.read_bytes())
            elif path.suffix in (".json", ".h5"):
                verify(path)
    except (BrokenSeal, OSError):
        return False
    return True


def _link(source: Path, target: Path) -> None:
    if source.is_dir():
        with atomic_directory(target) as temporary:
            shutil.copytree(source, temporary, copy_function=os.link, dirs_exist_ok=True)
    else:
        target.unlink(missing_ok=True)
        os.link(source, target)
