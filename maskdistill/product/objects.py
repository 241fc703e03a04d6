"""Objects of pictures: chosen from the candidates and written in other tools' formats."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from maskdistill.config import Compare, ObjectsConfig, PseudoLabelsConfig
from maskdistill.data.manifest import ImageRow
from maskdistill.data.picture_files import open_picture
from maskdistill.data.picture_refs import inside, remote_url, shown_name
from maskdistill.formats import rle
from maskdistill.formats.export.records import Context, ObjectRecord, Picture
from maskdistill.formats.export.registry import Chosen, parse_formats
from maskdistill.pseudo_labels.confidence import passes
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import (
    atomic_directory,
    canonical_json,
    read_json,
    sha256_file,
    sha256_text,
    write_json,
)
from maskdistill.runtime.provenance import code_hash

MOST_IOU = 0.6
"""Two objects of any categories that overlap more are one."""


@dataclass(frozen=True)
class Choice:
    """Which candidates are handed out.

    Attributes:
        min_score, compare: threshold on the score, and whether one that equals it is kept.
        min_area: least pixels of a mask.
        most_iou: of two objects above this IoU the less confident one is left out, whatever their categories;
            None: both stay, as the detector keeps them.
    """

    min_score: float
    compare: Compare
    min_area: int = 0
    most_iou: float | None = None


def chosen_formats(config: ObjectsConfig) -> list[Chosen]:
    """The formats that a section names.

    Raises:
        MaskDistillError: it names one that there is not, or a wrong option.
    """
    return parse_formats(",".join(config.formats), "objects.formats") if config.formats else []


def state_of(inputs: Mapping[str, str], names: Mapping[int, str], labels: PseudoLabelsConfig) -> str:
    """Hash of what a run has: its candidates, the names of its categories, and from which score it is sure.

    Args:
        inputs: SHA-256 of the run's files, by name.
        names: category 1..K -> name.
        labels: the threshold.
    """
    return sha256_text(canonical_json([dict(inputs), sorted(names.items()), labels.tau, labels.compare]))


def choice_of(config: ObjectsConfig, min_score: float, compare: Compare) -> Choice:
    """Which candidates are handed out, by a section and a threshold."""
    return Choice(min_score, compare, config.min_area, config.class_agnostic_nms)


def usual_choice(config: ObjectsConfig, labels: PseudoLabelsConfig) -> Choice:
    """Which candidates of a run are handed out: by the section's least score, or where it has none by tau."""
    if config.min_score is None:
        return choice_of(config, labels.tau, labels.compare)
    return choice_of(config, config.min_score, "ge")


def picked(
    candidates: Iterable[Mapping[str, Any]], names: Mapping[int, str], choice: Choice
) -> tuple[ObjectRecord, ...]:
    """The objects of one picture, in the candidates' order.

    Args:
        candidates: ``category_id``, ``score`` and ``segmentation`` each, the most confident first.
        names: category 1..K -> name.
        choice: what is kept.
    """
    found = [
        ObjectRecord(item["category_id"], names[item["category_id"]], item["score"], item["segmentation"])
        for item in candidates
        if passes(item["score"], choice.min_score, choice.compare)
    ]
    found = [item for item in found if item.area >= max(1, choice.min_area)]
    return tuple(found if choice.most_iou is None else without_doubles(found, choice.most_iou))


def without_doubles(objects: Sequence[ObjectRecord], most_iou: float) -> list[ObjectRecord]:
    """Objects, the most confident first, of which no two overlap by more than an IoU."""
    if not objects:
        return []
    masks = [item.mask for item in objects]
    near = rle.iou(masks, masks, np.zeros(len(masks), dtype=bool)) > most_iou
    kept: list[int] = []
    for place in range(len(objects)):
        if not near[place, kept].any():
            kept.append(place)
    return [objects[place] for place in kept]


def pictures(
    rows: Iterable[ImageRow],
    candidates: Iterable[Mapping[str, Any]],
    names: Mapping[int, str],
    choice: Choice,
    name_of: Callable[[ImageRow], str] | None = None,
) -> Iterator[Picture]:
    """Pictures with their objects, one in memory at a time.

    Args:
        rows: usable pictures by ascending id.
        candidates: of all of them, by ascending ``image_id``; see :func:`picked`.
        names: category -> name.
        choice: what is kept.
        name_of: gives a picture's :attr:`Picture.file`; by default :func:`relative_name`.

    Raises:
        MaskDistillError: a candidate's image is not among the pictures.
    """
    groups = groupby(candidates, key=lambda item: int(item["image_id"]))
    waiting = next(groups, None)
    for row in rows:
        objects: tuple[ObjectRecord, ...] = ()
        if waiting is not None and waiting[0] == row.image_id:
            objects, waiting = picked(waiting[1], names, choice), next(groups, None)
        name = (name_of or relative_name)(row)
        yield Picture(row.image_id, row.key, name, Path(row.file), row.height, row.width, objects)
    if waiting is not None:
        raise MaskDistillError(
            f"candidates of image {waiting[0]}, which the manifest does not list as usable; run the "
            "candidates stage again"
        )


def relative_name(row: ImageRow) -> str:
    """A picture's name with its ending below the folder of photographs, which the key was made of."""
    shown = shown_name(row.file)
    ending = PurePosixPath(shown.rpartition("::")[2]).suffix
    for name in (row.key, f"{row.key}{ending}"):
        if shown.endswith(f"/{name}"):
            return name
    return f"{row.key}{ending}"


def placer(copy: bool) -> Callable[[Picture, Path], None]:
    """Function that copies or links a picture; pictures in archives and stores are copied."""

    def place(picture: Picture, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if copy or inside(picture.source) or remote_url(picture.source):
            with open_picture(picture.source) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
        else:
            path.symlink_to(picture.source)

    return place


def context_of(config: ObjectsConfig, names: Mapping[int, str]) -> Context:
    """What formats know, by a section."""
    return Context(names, placer(config.pictures == "copy"), config.simplify)


@dataclass(frozen=True)
class Job:
    """What is to be written.

    Attributes:
        out: gets a folder per format, and a hidden record beside each.
        formats: with their options.
        context: for the formats.
        choice: what is handed out.
        inputs: SHA-256 of what it is made from, by name.
        copy: whether pictures are copied where a format wants them.
        state: hash of what the run has now, whichever of its objects are chosen and however they are written;
            empty where they are of no run.
    """

    out: Path
    formats: Sequence[Chosen]
    context: Context
    choice: Choice
    inputs: Mapping[str, str]
    copy: bool
    state: str = ""

    def key(self, chosen: Chosen) -> str:
        """Hash of all that a format's files depend on."""
        settings = {"format": chosen.format.name, "options": chosen.options.model_dump(mode="json")}
        context = [sorted(self.context.names.items()), self.context.simplify, self.copy]
        return sha256_text(
            canonical_json([settings, context, asdict(self.choice), dict(self.inputs), code_hash()])
        )

    def folder(self, chosen: Chosen) -> Path:
        """Where a format is written."""
        return self.out / chosen.format.name

    def record(self, chosen: Chosen) -> Path:
        """What says which content a format's folder was given."""
        return self.out / f".{chosen.format.name}.json"

    def is_written(self, chosen: Chosen) -> bool:
        """Whether a format lies there as it would be written now, corrected or not."""
        return self.folder(chosen).exists() and known(self.record(chosen)).get("key") == self.key(chosen)


def known(record: Path) -> dict[str, Any]:
    """What is recorded of a format's folder; nothing of one that was never written."""
    return dict(read_json(record)) if record.is_file() else {}


def is_changed(folder: Path, record: Path) -> bool:
    """Whether a folder was corrected, or was never written by us."""
    told = known(record)
    return folder.exists() and content_of(folder) not in (told.get("content"), told.get("coming"))


def missing(job: Job) -> list[Chosen]:
    """Formats still to be written; up-to-date ones stay, corrected or not.

    Raises:
        MaskDistillError: a folder that would be replaced was changed by hand, or holds something else.
    """
    wanted = [chosen for chosen in job.formats if not job.is_written(chosen)]
    for chosen in wanted:
        if is_changed(folder := job.folder(chosen), job.record(chosen)):
            raise MaskDistillError(
                f"{folder}: was changed since it was written, or holds something else, and would be "
                "replaced; move it elsewhere, or give another folder as --out"
            )
    return wanted


class Counts(NamedTuple):
    """Number of pictures, and of objects by category."""

    pictures: int
    objects: dict[str, int]


def write_objects(job: Job, found: Iterable[Picture], formats: Sequence[Chosen]) -> Counts:
    """Write formats in one pass over the pictures; each folder appears when it is whole, then its record.

    Args:
        job: what :func:`missing` was asked about.
        found: the pictures.
        formats: those of the job that are to be written; without any the pictures are counted.
    """
    objects, count = Counter[str](), 0
    with ExitStack() as outer:
        folders = [outer.enter_context(atomic_directory(job.folder(chosen))) for chosen in formats]
        with ExitStack() as stack:
            appends = [
                stack.enter_context(chosen.write(folder, job.context))
                for chosen, folder in zip(formats, folders, strict=True)
            ]
            for picture in found:
                objects.update(item.name for item in picture.objects)
                count += 1
                for append in appends:
                    append(picture)
        contents = [content_of(folder) for folder in folders]
        for chosen, content in zip(
            formats, contents, strict=True
        ):  # a kill between folder and record corrects nothing
            before = known(job.record(chosen)).get("content")
            write_json(job.record(chosen), {"content": before, "coming": content})
    for chosen, content in zip(formats, contents, strict=True):
        told = {"key": job.key(chosen), "content": content, "inputs": dict(job.inputs), "state": job.state}
        write_json(job.record(chosen), told | {"pictures": count, "objects": dict(objects)})
    return Counts(count, dict(objects))


def content_of(folder: Path) -> str:
    """Hash of names and content of all files below a folder; of a link where it leads."""
    digests = []
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file()):
        name = path.relative_to(folder).as_posix()
        digests.append([name, os.readlink(path) if path.is_symlink() else sha256_file(path)])
    return sha256_text(canonical_json(digests))
