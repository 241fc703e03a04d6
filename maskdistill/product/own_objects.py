"""Objects of a run's photographs: as its rule or a user writes them, and their folder's state."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskdistill.clusters.assignments import shard_number
from maskdistill.config import OwnObjectsConfig
from maskdistill.data.manifest import image_rows, ok_images, read_index, read_manifest
from maskdistill.formats.export.records import Picture
from maskdistill.formats.export.registry import export_formats
from maskdistill.formats.written import FolderRecord, ObjectsRecord, remark
from maskdistill.product.objects import (
    Choice,
    Counts,
    Job,
    chosen_formats,
    context_of,
    is_changed,
    known,
    missing,
    pictures,
    state_of,
    usual_choice,
    write_objects,
)
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, sha256_file, write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")


@dataclass(frozen=True)
class Own:
    """What a run's own objects are made from.

    Attributes:
        manifest: of the run.
        candidates: a file per shard, in any order.
        names: category 1..K -> name.
        settings: which objects, how, and what passes tau.
        record: ``objects.json``, which gets a folder per format beside it.
    """

    manifest: Path
    candidates: Iterable[Path]
    names: Mapping[int, str]
    settings: OwnObjectsConfig
    record: Path

    @property
    def shards(self) -> dict[int, Path]:
        """The file of each shard that the manifest has.

        Raises:
            MaskDistillError: one is missing.
        """
        files = {shard_number(path): path for path in self.candidates}
        wanted = sorted(map(int, read_index(self.manifest)["shards"]))
        if absent := [shard for shard in wanted if shard not in files]:
            raise MaskDistillError(
                f"candidates of shard {absent[0]} are missing; run the candidates stage first"
            )
        return {shard: files[shard] for shard in wanted}

    @property
    def inputs(self) -> dict[str, Path]:
        """The files that are read."""
        return {"manifest": self.manifest} | {path.stem: path for path in self.shards.values()}

    @property
    def choice(self) -> Choice:
        """Which candidates are handed out."""
        return usual_choice(self.settings.objects, self.settings.pseudo_labels)

    def job(self) -> Job:
        """What is to be written."""
        inputs = {name: sha256_file(path) for name, path in self.inputs.items()}
        return Job(
            out=self.record.parent,
            formats=chosen_formats(self.settings.objects),
            context=context_of(self.settings.objects, self.names),
            choice=self.choice,
            inputs=inputs,
            state=state_of(inputs, self.names, self.settings.pseudo_labels),
            copy=self.settings.objects.pictures == "copy",
        )

    def pictures(self) -> Iterator[Picture]:
        """All pictures of the run with their objects, one shard in memory at a time."""
        for shard, path in self.shards.items():
            rows = image_rows(ok_images(read_manifest(self.manifest, shard), support=False))
            yield from pictures(rows, read_json(path)["candidates"], self.names, self.choice)


def write_own(own: Own, keep_changed: bool) -> ObjectsRecord:
    """Write each format, unless that is done, and ``objects.json``.

    Args:
        own: what they are made from.
        keep_changed: leave a folder that was changed by hand as it is and say so; else it is refused.

    Raises:
        MaskDistillError: a folder would be replaced that was changed by hand.
    """
    job = own.job()
    if keep_changed:
        todo = [one for one in job.formats if not job.is_written(one)]
        todo = [one for one in todo if not is_changed(job.folder(one), job.record(one))]
    else:
        todo = missing(job)
    told = [known(job.record(one)) for one in job.formats if job.is_written(one)]
    if todo or not told:
        counts = write_objects(job, own.pictures(), todo)
    else:
        counts = Counts(told[0]["pictures"], told[0]["objects"])
    new = {one.format.name for one in todo}
    folders = {name: _folder(job, name, name in new) for name in _names_there(job)}
    params = own.settings.objects.model_dump(mode="json") | {
        "min_score": job.choice.min_score,
        "compare": job.choice.compare,
    }
    record = ObjectsRecord(
        formats=list(folders),
        folders=folders,
        pictures=counts.pictures,
        objects=counts.objects,
        provenance=make_provenance("own_objects", params, own.inputs),  # type: ignore[typeddict-item]
    )
    write_json(own.record, record)
    _say(job, record, new)
    return record


def _names_there(job: Job) -> list[str]:
    """Names of the formats that lie in the folder, of this job or written by hand before."""
    records = {path.name[1:].removesuffix(".json") for path in job.out.glob(".*.json")}
    wanted = {one.format.name for one in job.formats}
    return sorted(name for name in records | wanted if (job.out / name).is_dir())


def _folder(job: Job, name: str, new: bool) -> FolderRecord:
    """What is known of a format's folder; of a new one its files need not be read again."""
    folder, record = job.out / name, job.out / f".{name}.json"
    told: dict[str, Any] = known(record)
    of_job = [one for one in job.formats if one.format.name == name]
    found = export_formats().get(name)
    return FolderRecord(
        reader=found.reader if found else "",
        pictures=told.get("pictures"),
        objects=sum(told["objects"].values()) if "objects" in told else None,
        current=job.is_written(of_job[0]) if of_job else told.get("state") == job.state,
        changed=not new and is_changed(folder, record),
    )


def _say(job: Job, record: ObjectsRecord, new: set[str]) -> None:
    """Log what lies where; warn of a folder that was kept although the run has other objects now."""
    log.info("%d pictures, %d objects", record["pictures"], sum(record["objects"].values()))
    for name, folder in record["folders"].items():
        said = remark(folder) or ("" if name in new else "written before")
        log.info("%s%s", job.out / name, f" ({said})" if said else "")
        if folder["changed"] and not folder["current"]:
            log.warning(
                "%s: was changed since it was written, or holds something else, and is kept as it is; to "
                "have the run's objects too move it elsewhere and give maskdistill objects %s",
                job.out / name,
                job.out.parent,
            )
