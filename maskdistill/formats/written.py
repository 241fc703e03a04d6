"""``objects.json``, which tells the report and the user what lies in a folder of objects."""

from pathlib import Path
from typing import TypedDict

from maskdistill.runtime.files import read_json
from maskdistill.runtime.types import Provenance


class FolderRecord(TypedDict):
    """The folder of one format.

    Attributes:
        reader: which tool reads it, and how.
        pictures, objects: their numbers when it was written; None if something else lies there.
        current: whether it was made from the same candidates, names and settings as the others.
        changed: whether it was changed since it was written; such a folder is never replaced.
    """

    reader: str
    pictures: int | None
    objects: int | None
    current: bool
    changed: bool


class ObjectsRecord(TypedDict):
    """``objects.json``.

    Attributes:
        formats: names of the formats present.
        folders: what is known about each.
        pictures: number of all, with objects or without.
        objects: their numbers by category, as they were written last.
        provenance: of the newest files.
    """

    formats: list[str]
    folders: dict[str, FolderRecord]
    pictures: int
    objects: dict[str, int]
    provenance: Provenance


def read_objects(path: str | Path) -> ObjectsRecord:
    """Read what the stage ``own_objects`` or ``maskdistill objects`` wrote.

    Raises:
        MaskDistillError: it is missing or damaged.
    """
    content: ObjectsRecord = read_json(path)
    if "folders" not in content:  # by version 0.2.0, which rewrote all formats or none
        pictures, objects = content["pictures"], sum(content["objects"].values())
        usual = FolderRecord(reader="", pictures=pictures, objects=objects, current=True, changed=False)
        content["folders"] = dict.fromkeys(content["formats"], usual)
    return content


def remark(folder: FolderRecord) -> str:
    """What a user should know about a format's folder; empty if it is unchanged and up to date with the
    run.
    """
    if folder["changed"]:
        return (
            "changed by hand, kept"
            if folder["current"]
            else "changed by hand, kept; the run has other objects now"
        )
    return "" if folder["current"] else "of an earlier state of the run"


def object_lines(path: Path) -> list[str]:
    """One line per format in ``objects.json``: its folder, how much it holds, and anything notable.

    Args:
        path: path of ``objects.json``; if it is missing, there are no lines.
    """
    folders = read_objects(path)["folders"] if path.is_file() else {}
    lines = []
    for name, folder in folders.items():
        counts = (
            ""
            if folder["objects"] is None
            else f" ({folder['objects']} objects, {folder['pictures']} pictures)"
        )
        said = remark(folder)
        lines.append(f"{path.parent / name}{counts}{f': {said}' if said else ''}")
    return lines
