"""The pages of the last successful run are kept, even if the jobs that rewrite them fail.

Snakemake removes a job's outputs before it starts and after it failed. So during a run its pages have a
second name in a hidden folder, and missing ones are put back at the end.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

KEPT = ".last_good"
SUFFIXES = (".html", ".json")
OLDEST_INPUT = "data/manifest.csv"
"""The first file of a run, on which every page depends."""


def keep_pages(folder: str | Path) -> None:
    """Give each page and summary of a results folder a second name, when a run begins.

    If the page itself is gone, what a killed run left under that name stays.
    """
    folder = Path(folder)
    for page in _pages(folder):
        kept = folder / KEPT / page.name
        kept.parent.mkdir(exist_ok=True)
        kept.unlink(missing_ok=True)
        try:
            os.link(page, kept)
        except OSError:  # a file system without links
            shutil.copy2(page, kept)


def put_pages_back(folder: str | Path) -> list[str]:
    """Put back missing pages, when a run has failed; returns their paths.

    They are dated before their inputs, so the next run rewrites them.
    """
    folder = Path(folder)
    found = []
    for kept in _pages(folder / KEPT):
        page = folder / kept.name
        if not page.exists():
            kept.replace(page)
            with suppress(FileNotFoundError):
                before = min(page.stat().st_mtime_ns, (folder / OLDEST_INPUT).stat().st_mtime_ns - 10**9)
                os.utime(page, ns=(before, before))
            found.append(str(page))
    forget_pages(folder)
    return found


def forget_pages(folder: str | Path) -> None:
    """Remove the second names, when a run has ended."""
    shutil.rmtree(Path(folder) / KEPT, ignore_errors=True)


def _pages(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file())
