"""The report's section on files for other tools: the folder of each format, with a link to it."""

import os
from dataclasses import dataclass
from pathlib import Path

from maskdistill.formats.written import ObjectsRecord, remark
from maskdistill.report.html import Context
from maskdistill.report.tables import NONE


@dataclass(frozen=True)
class OwnFiles:
    """What lies in a run's folder of objects.

    Attributes:
        record: ``objects.json``.
        folder: where that lies, from the page's own folder.
        run: the page's own folder, as commands name it.
    """

    record: ObjectsRecord
    folder: str
    run: str


def own_files(record: ObjectsRecord, path: str, page: str) -> OwnFiles:
    """The files as a page links them.

    Args:
        record: what is in ``objects.json``.
        path: of that file.
        page: path of the page.
    """
    run = Path(page).parent
    return OwnFiles(record, Path(os.path.relpath(Path(path).parent, run)).as_posix(), str(run))


def files_section(files: OwnFiles | None) -> Context:
    """What the template shows; empty where the page was told of no files."""
    if files is None:
        return {}
    rows = [
        {
            "name": name,
            "folder": f"{files.folder}/{name}/",
            "reader": folder["reader"],
            "pictures": _count(folder["pictures"]),
            "objects": _count(folder["objects"]),
            "remark": remark(folder),
        }
        for name, folder in files.record["folders"].items()
    ]
    total = sum(files.record["objects"].values())
    return {
        "rows": rows,
        "objects": f"{total:,}",
        "pictures": f"{files.record['pictures']:,}",
        "run": files.run,
    }


def _count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"
