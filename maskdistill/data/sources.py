"""List the pictures of a source without opening any of them. Ground truth is never looked at here."""

import hashlib
import math
import os
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from maskdistill.config_data import (
    CocoData,
    DataConfig,
    ListData,
    ScenesData,
    SupportConfig,
    VocData,
)
from maskdistill.config_messages import explain
from maskdistill.data.images import SUFFIXES, printable
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, sha256_file, sha256_text
from maskdistill.runtime.seal import stamp

IMAGES_PER_SHARD = 500
JOBS_PER_STAGE = 1000
STATTED = 1_000_000
"""Names of a list up to which each picture's size and times are looked at when a run is planned."""


class ListedImage(NamedTuple):
    """One picture of a source.

    Attributes:
        key: unique and stable name, used for every file that is derived from the picture.
        path: absolute path.
        train: unsupervised stages train on it.
        eval: evaluation scores it.
        segmenter: the segmenter learns from its pseudo-labels; None: as ``train``.
    """

    key: str
    path: Path
    train: bool
    eval: bool
    segmenter: bool | None = None


def parse_data(text: str) -> DataConfig:
    """Validate the ``data`` section given as JSON to an entry point's ``--params``.

    Raises:
        MaskDistillError: listing every unknown, missing or ill-typed key.
    """
    data: DataConfig = _parse(TypeAdapter(Annotated[DataConfig, Field(discriminator="kind")]), text, "--params")
    return data


def parse_support(text: str | None) -> SupportConfig | None:
    """Validate the ``support`` section given as JSON; None and ``null`` are no support set."""
    found: SupportConfig | None = _parse(
        TypeAdapter(Annotated[SupportConfig, Field(discriminator="kind")] | None), text or "null", "--support"
    )
    return found


def _parse(adapter: TypeAdapter[Any], text: str, option: str) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise explain(error, option, adapter.json_schema()) from None


def iter_images(data: DataConfig, scenes_dir: str | Path | None = None) -> Iterator[ListedImage]:
    """List a source's pictures in a fixed order, one at a time; none is opened, so none need be readable.

    Args:
        data: the ``data`` section.
        scenes_dir: folder of the generated scenes, needed for ``kind: scenes`` only.

    Yields:
        scenes: scene-00001 ... in order, the first ``num_train`` to train on, the others to score.
        folder: every picture below ``root`` by relative path (linked folders last), all to train on.
        list: the lines of ``file``, all to train on.
        coco: every picture below ``images``, all to train on, all to score if annotations are given.
        voc: the union of the lists by id, each with its flags.

    Raises:
        MaskDistillError: if a folder or list is missing, or there is no picture.
    """
    if isinstance(data, ScenesData):
        return _iter_scenes(data, scenes_dir)
    if isinstance(data, VocData):
        return _iter_voc(data)
    if isinstance(data, ListData):
        return _iter_list(data)
    if isinstance(data, CocoData):
        return _iter_tree(data.images, "data.images", scored=data.annotations is not None)
    return _iter_tree(data.root, "data.root", scored=False)


def with_support(images: Iterator[ListedImage], support: SupportConfig | None) -> Iterator[ListedImage]:
    """The pictures to train on or score, then the support set's: K-means is fitted on those too, no more (method 3)."""
    yield from images
    if support is not None:
        for image in iter_images(support):
            yield ListedImage(f"support/{image.key}", image.path, False, False)


def count_images(data: DataConfig) -> int:
    """Number of pictures of a source, readable or not."""
    if isinstance(data, ScenesData):
        return data.num_train + data.num_eval
    if isinstance(data, ListData):
        return sum(1 for _ in _lines(data))
    return sum(1 for _ in iter_images(data))


def count_fitted(data: DataConfig) -> int:
    """Number of pictures that K-means may be fitted on, readable or not."""
    if isinstance(data, ScenesData):
        return data.num_train
    if isinstance(data, VocData):
        return sum(image.train for image in iter_images(data))
    return count_images(data)


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


def listing_fingerprint(data: DataConfig) -> str:
    """Hex SHA-256 that changes when a picture is added, removed, renamed or rewritten.

    It covers each picture's relative path, flags, size, times and inode, and reads no content (see
    :mod:`maskdistill.data.settled`). Of generated scenes the section is hashed instead, which they follow from, and of
    a list of more than :data:`STATTED` names the file of names: that one of ten million pictures was rewritten is
    noticed by the next stage that opens it.
    """
    if isinstance(data, ScenesData):
        return sha256_text(data.model_dump_json())
    if isinstance(data, ListData):
        names = sha256_text(canonical_json([data.kind, sha256_file(_list_file(data))]))
        if count_images(data) > STATTED:
            return names
        root, digest = Path("/"), hashlib.sha256(names.encode())
    else:
        root = _absolute(data.images if isinstance(data, CocoData) else data.root)
        digest = hashlib.sha256(data.kind.encode())
    for image in iter_images(data):
        row = [os.fsencode(image.path.relative_to(root)).hex(), image.train, image.eval, image.segmenter]
        with suppress(OSError):
            row += stamp(image.path)
        digest.update(canonical_json(row).encode())
    return digest.hexdigest()


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))


def _iter_scenes(data: ScenesData, scenes_dir: str | Path | None) -> Iterator[ListedImage]:
    if scenes_dir is None:
        raise MaskDistillError("data.kind: scenes needs --scenes-dir, the folder that holds the generated scenes")
    folder = _absolute(scenes_dir)
    for i in range(1, data.num_train + data.num_eval + 1):
        train = i <= data.num_train
        yield ListedImage(f"scene-{i:05d}", folder / f"scene-{i:05d}.jpg", train, not train)


def _list_file(data: ListData) -> Path:
    path = _absolute(data.file)
    if not path.is_file():
        raise MaskDistillError(f"data.file: {path}: no such file; give a text file that names one picture a line")
    return path


def _lines(data: ListData) -> Iterator[tuple[int, str]]:
    path = _list_file(data)
    number = 0
    try:
        with open(path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise MaskDistillError(f"{path}: line {number + 1} is not UTF-8; rename the picture") from None
    if number == 0:
        raise MaskDistillError(f"{path}: is empty; name one picture a line")


def _iter_list(data: ListData) -> Iterator[ListedImage]:
    """Pictures named in a text file; their keys are the names as they stand. 8 bytes of each find doubles."""
    path = _list_file(data)
    seen = array("Q")
    for number, name in _lines(data):
        parts = Path(name).parts
        if not name.strip() or ".." in parts:
            raise MaskDistillError(f"{path}: line {number} ({name!r}) names no picture; give a path without '..'")
        seen.append(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))
        yield ListedImage(name.lstrip("/"), path.parent / name, True, False)
    order = np.argsort(np.frombuffer(seen, np.uint64), kind="stable")
    same = np.flatnonzero(np.diff(np.frombuffer(seen, np.uint64)[order]) == 0)
    if len(same):
        first, second = sorted(order[same[0] : same[0] + 2] + 1)
        raise MaskDistillError(f"{path}: lines {first} and {second} name the same picture; remove one")


def _iter_tree(root: str, setting: str, scored: bool) -> Iterator[ListedImage]:
    top = _absolute(root)
    if not top.is_dir():
        raise MaskDistillError(f"{setting}: {top} is not a folder; correct the path")
    found = False
    seen: set[tuple[int, int]] = set()
    linked = [(top, "")]
    while linked:
        for key, path in _walk(*linked.pop(0), seen, linked):
            found = True
            yield ListedImage(key, path, True, scored)
    if not found:
        raise MaskDistillError(f"{setting}: no picture below {top} (looked for {' '.join(SUFFIXES)})")


def _walk(
    folder: Path, prefix: str, seen: set[tuple[int, int]], linked: list[tuple[Path, str]]
) -> Iterator[tuple[str, Path]]:
    """Keys and paths of the pictures below ``folder``, in the order of their paths; one folder's names in memory.

    Linked folders are put off into ``linked``, and each real folder is visited once: there are no loops.
    """
    try:
        stat = folder.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            return
        seen.add((stat.st_dev, stat.st_ino))
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise MaskDistillError(f"{folder}: cannot be listed ({error.strerror}); grant access or move it") from None
    folders = {entry.name: entry.is_symlink() for entry in entries if entry.is_dir()}
    names = [entry.name for entry in entries if entry.name not in folders and entry.name.lower().endswith(SUFFIXES)]
    keys = _unique_keys(names)
    for name in sorted([*names, *folders], key=lambda name: f"{name}/" if name in folders else name):
        path = folder / name
        if name in folders:
            if folders[name]:
                linked.append((path, f"{prefix}{name}/"))
            else:
                yield from _walk(path, f"{prefix}{name}/", seen, linked)
        elif path.is_file() or path.is_symlink():
            yield printable(prefix + keys[name]), path


def _unique_keys(names: list[str]) -> dict[str, str]:
    """Keys of one folder's pictures: names without extension; where that is ambiguous the extension stays."""
    keys = {name: name.rpartition(".")[0] for name in names}
    while clashes := {key for key, count in Counter(keys.values()).items() if count > 1}:
        keys = {name: name if key in clashes else key for name, key in keys.items()}
    return keys


def _iter_voc(data: VocData) -> Iterator[ListedImage]:
    root = _absolute(data.root)
    if not (root / "JPEGImages").is_dir():
        raise MaskDistillError(f"data.root: {root} has no folder JPEGImages; give e.g. VOCdevkit/VOC2012")
    train = _read_voc_list(root, "data.train_list", data.train_list)
    scored = _read_voc_list(root, "data.eval_list", data.eval_list)
    labelled = train
    if data.segmenter_list is not None:
        labelled = _read_voc_list(root, "data.segmenter_list", data.segmenter_list)
    for key in sorted(train | scored | labelled):
        path = root / "JPEGImages" / f"{key}.jpg"
        yield ListedImage(key, path, key in train, key in scored, key in labelled)


def instance_keys(data: DataConfig) -> set[str] | None:
    """Keys of the images whose instances are scored; None where they are those that are scored at all.

    Raises:
        MaskDistillError: no such list.
    """
    if not isinstance(data, VocData) or data.instance_list is None:
        return None
    return _read_voc_list(_absolute(data.root), "data.instance_list", data.instance_list)


def _read_voc_list(root: Path, setting: str, name: str) -> set[str]:
    path = root / "ImageSets" / f"{name}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        have = sorted(
            p.relative_to(root / "ImageSets").with_suffix("").as_posix() for p in root.glob("ImageSets/*/*.txt")
        )
        shown = ", ".join(have[:10]) or "none"
        raise MaskDistillError(f"{setting}: {name}: no list {path}; lists there: {shown}") from None
    ids = {line.split()[0] for line in lines if line.strip()}
    if not ids:
        raise MaskDistillError(f"{setting}: {path} lists no image; choose another list")
    if wrong := sorted(key for key in ids if Path(key).name != key):
        raise MaskDistillError(
            f"{setting}: {path} names {wrong[0]!r}, but ids are file names without a folder; correct it"
        )
    return ids
