"""List the pictures of a source without opening any of them, and cut the list into shards."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from maskdistill.config.data import DataConfig, FolderData, SupportConfig
from maskdistill.config.messages import explain
from maskdistill.data.listed import ListedImage
from maskdistill.data.sources.base import Look
from maskdistill.data.sources.registry import image_sources
from maskdistill.runtime.errors import MaskDistillError

IMAGES_PER_SHARD = 500
JOBS_PER_STAGE = 1000
SUPPORT = "support/"


def parse_data(text: str) -> DataConfig:
    """Validate the ``data`` section given as JSON to an entry point's ``--params``.

    Raises:
        MaskDistillError: listing every unknown, missing or ill-typed key.
    """
    data: DataConfig = _parse(TypeAdapter(DataConfig), text, "--params")
    return data


def parse_support(text: str | None) -> SupportConfig | None:
    """Validate the ``support`` section given as JSON; None and ``null`` are no support set."""
    found: SupportConfig | None = _parse(TypeAdapter(SupportConfig | None), text or "null", "--support")
    return found


def _parse(adapter: TypeAdapter[Any], text: str, option: str) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise explain(error, option, adapter.json_schema()) from None


def iter_images(
    data: DataConfig,
    scenes_dir: str | Path | None = None,
    left_out: Counter[str] | None = None,
    section: str = "data",
    kept: Path | None = None,
) -> Iterator[ListedImage]:
    """List a source's pictures in a fixed order, one at a time; none is opened, so none need be readable.

    Args:
        data: the ``data`` or ``support`` section.
        scenes_dir, left_out, section, kept: as of :class:`maskdistill.data.sources.base.Look`.

    Raises:
        MaskDistillError: if a folder, list or archive is missing or wrong, or there is no picture.
    """
    return data.pictures(_look(section, left_out, kept, scenes_dir))


def count_images(
    data: DataConfig, left_out: Counter[str] | None = None, section: str = "data", kept: Path | None = None
) -> int:
    """Number of pictures of a source, readable or not; arguments as of :func:`iter_images`."""
    return data.count(_look(section, left_out, kept))


def listing_fingerprint(data: DataConfig, section: str = "data", kept: Path | None = None) -> str:
    """Hex SHA-256 that changes when a picture is added, removed, renamed or rewritten; reads none of them."""
    return data.fingerprint(_look(section, None, kept))


def source_of(path: Path) -> DataConfig:
    """A folder or file as a source: photographs if it holds some, else what another source takes."""
    photographs = FolderData(kind="folder", root=str(path))
    try:
        next(iter_images(photographs))
    except MaskDistillError:
        made = (source.made_of(path) for source in image_sources().values())
        return next((source for source in made if source is not None), photographs)
    return photographs


def _look(
    section: str, left_out: Counter[str] | None, kept: Path | None, scenes: str | Path | None = None
) -> Look:
    folder = None if scenes is None else Path(scenes)
    return Look(section, Counter() if left_out is None else left_out, folder, kept)


def with_support(
    images: Iterator[ListedImage],
    support: SupportConfig | None,
    left_out: Counter[str] | None = None,
    kept: Path | None = None,
) -> Iterator[ListedImage]:
    """The pictures to train on or score, then the support set, for K-means alone [method §3].

    Raises:
        MaskDistillError: the former lie in a folder under whose name the support set is kept.
    """
    if support is None:
        yield from images
        return
    for image in images:
        if image.key.startswith(SUPPORT):
            raise MaskDistillError(
                f"{image.path}: the folder {SUPPORT} would hold results of the support set too; rename it in "
                "data"
            )
        yield image
    for image in iter_images(support, left_out=left_out, section="support", kept=kept):
        yield ListedImage(f"{SUPPORT}{image.key}", image.path, False, False)


def default_num_shards(num_images: int) -> int:
    """Number of shards when the configuration names none: one for each 500 pictures begun, at least 1."""
    return max(1, math.ceil(num_images / IMAGES_PER_SHARD))


def plan_shards(num_images: int, num_shards: int | None, per_job: int | None) -> tuple[int, int]:
    """Number of shards, and of shards that one job works through: 1, 10 or 100.

    Args:
        num_shards: None for :func:`default_num_shards`; at most one shard a picture is made.
        per_job: None for the least that leaves at most :data:`JOBS_PER_STAGE` jobs a stage.

    Returns:
        The number of shards, lowered to a multiple of the second number, and that number.
    """
    shards = min(num_shards or default_num_shards(num_images), num_images)
    if per_job is None:
        per_job = next((n for n in (1, 10) if shards <= JOBS_PER_STAGE * n), 100)
    while per_job > shards:
        per_job //= 10
    return shards - shards % per_job, per_job
