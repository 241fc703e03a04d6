"""The pages of the last good run stay, whatever becomes of the jobs that make them anew.

Snakemake removes the outputs of a job before it starts and after it failed. So while a run is under way its
pages have a second name in a hidden folder, and what is missing at its end is put back.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

KEPT = ".last_good"
SUFFIXES = (".html", ".json")
OLDEST_INPUT = "data/manifest.csv"
"""The first file of a run that every page goes back to."""


def keep_pages(folder: str | Path) -> None:
    """Give each page and summary of a results folder its second name, when a run begins.

    What a run that was killed has left under that name stays where the page itself is gone.
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
    """Put back what is missing, when a run has failed; the paths of these.

    They are dated before what they were made of, so the next run makes them anew.
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
    """Drop the second names, when a run has ended."""
    shutil.rmtree(Path(folder) / KEPT, ignore_errors=True)


def _pages(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file())
