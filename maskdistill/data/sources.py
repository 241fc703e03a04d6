"""List the pictures of a source without opening any of them. Ground truth is never looked at here."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from maskdistill.config import CocoData, FolderData, ScenesData, VocData, explain
from maskdistill.data.images import SUFFIXES
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, sha256_text

DataConfig = ScenesData | FolderData | CocoData | VocData

IMAGES_PER_SHARD = 500


class ListedImage(NamedTuple):
    """One picture of a source.

    Attributes:
        key: unique and stable name, used for every file that is derived from the picture.
        path: absolute path.
        train: unsupervised stages train on it.
        eval: evaluation scores it.
    """

    key: str
    path: Path
    train: bool
    eval: bool


def parse_data(text: str) -> DataConfig:
    """Validate the ``data`` section given as JSON to an entry point's ``--params``.

    Raises:
        MaskDistillError: listing every unknown, missing or ill-typed key.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[DataConfig, Field(discriminator="kind")])
    try:
        data: DataConfig = adapter.validate_json(text)
    except ValidationError as error:
        raise explain(error, "--params") from None
    return data


def list_images(data: DataConfig, scenes_dir: str | Path | None = None) -> list[ListedImage]:
    """List a source's pictures in a fixed order; none is opened, so none need be readable.

    Args:
        data: the ``data`` section.
        scenes_dir: folder of the generated scenes, needed for ``kind: scenes`` only.

    Returns:
        scenes: scene-00001 ... in order, the first ``num_train`` to train on, the others to score.
        folder: every picture below ``root`` by relative path, all to train on.
        coco: every picture below ``images``, all to train on, all to score if annotations are given.
        voc: the union of the two lists by id, each with its flags.

    Raises:
        MaskDistillError: if a folder or list is missing, or there is no picture.
    """
    if isinstance(data, ScenesData):
        if scenes_dir is None:
            raise MaskDistillError("data.kind: scenes needs --scenes-dir, the folder that holds the generated scenes")
        folder = _absolute(scenes_dir)
        total = data.num_train + data.num_eval
        return [
            ListedImage(
                f"scene-{i:05d}",
                folder / f"scene-{i:05d}.jpg",
                i <= data.num_train,
                i > data.num_train,
            )
            for i in range(1, total + 1)
        ]
    if isinstance(data, VocData):
        return _list_voc(data)
    if isinstance(data, CocoData):
        return _list_tree(data.images, "data.images", scored=data.annotations is not None)
    return _list_tree(data.root, "data.root", scored=False)


def count_images(data: DataConfig) -> int:
    """Number of pictures of a source, readable or not."""
    return data.num_train + data.num_eval if isinstance(data, ScenesData) else len(list_images(data))


def default_num_shards(num_images: int) -> int:
    """Number of shards when the configuration names none: one for each 500 pictures begun, at least 1."""
    return max(1, math.ceil(num_images / IMAGES_PER_SHARD))


def listing_fingerprint(data: DataConfig) -> str:
    """Hex SHA-256 that changes when a picture is added, removed, renamed or rewritten.

    It covers each picture's relative path, flags, size and modification time, and reads no content.
    Generated scenes follow from the section alone, which is hashed instead.
    """
    if isinstance(data, ScenesData):
        return sha256_text(data.model_dump_json())
    root = _absolute(data.images if isinstance(data, CocoData) else data.root)
    rows = []
    for image in list_images(data):
        name = os.fsencode(image.path.relative_to(root)).hex()
        try:
            stat = image.path.stat()
            rows.append([name, image.train, image.eval, stat.st_size, stat.st_mtime_ns])
        except OSError:
            rows.append([name, image.train, image.eval])
    return sha256_text(canonical_json([data.kind, rows]))


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))


def _list_tree(root: str, setting: str, scored: bool) -> list[ListedImage]:
    top = _absolute(root)
    if not top.is_dir():
        raise MaskDistillError(f"{setting}: {top} is not a folder; correct the path")
    paths = sorted(_walk(top), key=lambda path: path.relative_to(top).as_posix())
    if not paths:
        raise MaskDistillError(f"{setting}: no picture below {top} (looked for {' '.join(SUFFIXES)})")
    names = [path.relative_to(top).as_posix() for path in paths]
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise MaskDistillError(f"{top}: the file name {name!r} is not UTF-8; rename it") from None
    keys = _unique_keys(names)
    return [ListedImage(key, path, True, scored) for key, path in zip(keys, paths, strict=True)]


def _walk(top: Path) -> Iterator[Path]:
    """Picture files below ``top``. Links are followed, but each real folder is visited once (no loops)."""
    seen: set[tuple[int, int]] = set()
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            stat = folder.stat()
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise MaskDistillError(f"{folder}: cannot be listed ({error.strerror}); grant access or move it") from None
        real: list[Path] = []
        linked: list[Path] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                (linked if entry.is_symlink() else real).append(Path(entry.path))
            elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):
                yield Path(entry.path)
        pending = linked[::-1] + pending + real[::-1]


def _unique_keys(names: list[str]) -> list[str]:
    """Relative paths without extension; where that is ambiguous the extension stays."""
    keys = [name.rpartition(".")[0] for name in names]
    while clashes := {key for key, count in Counter(keys).items() if count > 1}:
        keys = [name if key in clashes else key for name, key in zip(names, keys, strict=True)]
    return keys


def _list_voc(data: VocData) -> list[ListedImage]:
    root = _absolute(data.root)
    if not (root / "JPEGImages").is_dir():
        raise MaskDistillError(f"data.root: {root} has no folder JPEGImages; give e.g. VOCdevkit/VOC2012")
    train = _read_voc_list(root, "data.train_list", data.train_list)
    scored = _read_voc_list(root, "data.eval_list", data.eval_list)
    return [
        ListedImage(key, root / "JPEGImages" / f"{key}.jpg", key in train, key in scored)
        for key in sorted(train | scored)
    ]


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
    return ids
