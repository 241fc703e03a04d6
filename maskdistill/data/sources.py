"""List the pictures of a source without opening any of them. Ground truth is never looked at here."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from maskdistill.config import CocoData, DataConfig, ListData, ScenesData, SupportConfig, VocData
from maskdistill.config.messages import explain
from maskdistill.data.images import SUFFIXES, left_out_kind, printable
from maskdistill.data.keys import RESERVED, KeyClashes, key_of_path, parts_of_keys
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, sha256_file, sha256_text
from maskdistill.runtime.seal import stamp
from maskdistill.runtime.user_files import read_user_text

IMAGES_PER_SHARD = 500
JOBS_PER_STAGE = 1000
SUPPORT = "support/"
LONGEST_LINE = 16_384
STATTED = 1_000_000
"""Names of a list up to which each picture's size and times are looked at when a run is planned."""


class ListedImage(NamedTuple):
    """One picture of a source.

    Attributes:
        key: unique and stable name, used for every file that is derived from the picture.
        path: absolute path.
        train: unsupervised stages train on it.
        eval: it is there to be scored. Of VOC that is said of pictures in no other list: which ones are scored
            (:func:`scored_keys`) is not the manifest's affair, so that another list of pictures that are there anyway
            trains nothing again.
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


def iter_images(
    data: DataConfig,
    scenes_dir: str | Path | None = None,
    left_out: Counter[str] | None = None,
    section: str = "data",
) -> Iterator[ListedImage]:
    """List a source's pictures in a fixed order, one at a time; none is opened, so none need be readable.

    Args:
        data: the ``data`` section.
        scenes_dir: folder of the generated scenes, needed for ``kind: scenes`` only.
        left_out: counts files beside the pictures that look like some by their names and are not taken, by suffix.
        section: of the configuration, to name in messages.

    Yields:
        scenes: scene-00001 ... in order, the first ``num_train`` to train on, the others to score.
        folder: every picture below ``root`` by relative path (linked folders last), all to train on.
        list: the lines of ``file``, all to train on.
        coco: every picture below ``images``, all to train on and to score.
        voc: the union of the lists by id, each with its flags.

    Raises:
        MaskDistillError: if a folder or list is missing, or there is no picture.
    """
    if isinstance(data, ScenesData):
        return _iter_scenes(data, scenes_dir)
    if isinstance(data, VocData):
        return _iter_voc(data)
    if isinstance(data, ListData):
        return _iter_list(data, section)
    if isinstance(data, CocoData):
        return _iter_tree(data.images, f"{section}.images", True, left_out)
    return _iter_tree(data.root, f"{section}.root", False, left_out)


def with_support(
    images: Iterator[ListedImage], support: SupportConfig | None, left_out: Counter[str] | None = None
) -> Iterator[ListedImage]:
    """The pictures to train on or score, then the support set's: K-means is fitted on those too, no more [method §3].

    Raises:
        MaskDistillError: the former lie in a folder under whose name the support set is kept.
    """
    if support is None:
        yield from images
        return
    for image in images:
        if image.key.startswith(SUPPORT):
            raise MaskDistillError(
                f"{image.path}: the folder {SUPPORT} would hold results of the support set too; rename it in data"
            )
        yield image
    for image in iter_images(support, left_out=left_out, section="support"):
        yield ListedImage(f"{SUPPORT}{image.key}", image.path, False, False)


def left_out_words(left_out: Mapping[str, int]) -> str:
    """How many files look like pictures and are not taken, such as ``3 .dng, 1 .psd``; empty if none does."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item)))


def count_images(data: DataConfig, left_out: Counter[str] | None = None, section: str = "data") -> int:
    """Number of pictures of a source, readable or not; ``left_out`` and ``section`` as of :func:`iter_images`."""
    if isinstance(data, ScenesData):
        return data.num_train + data.num_eval
    if isinstance(data, ListData):
        path = _list_file(data, section)
        return sum(1 for _ in _lines(path, _list_root(data, path)))
    return sum(1 for _ in iter_images(data, left_out=left_out, section=section))


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


def listing_fingerprint(data: DataConfig, section: str = "data") -> str:
    """Hex SHA-256 that changes when a picture is added, removed, renamed or rewritten.

    It covers each picture's relative path, flags, size, times and inode, and reads no content (see
    :mod:`maskdistill.data.settled`). Of generated scenes the section is hashed instead, which they follow from, and of
    a list of more than :data:`STATTED` names the file of names: that one of ten million pictures was rewritten is
    noticed by the next stage that opens it.
    """
    if isinstance(data, ScenesData):
        return sha256_text(data.model_dump_json())
    if isinstance(data, ListData):
        elsewhere = [] if data.root is None else [data.root]
        names = sha256_text(canonical_json([data.kind, sha256_file(_list_file(data, section)), *elsewhere]))
        return names if _line_ends(_list_file(data, section)) > STATTED else _with_stamps(data, section, names)
    root = _absolute(data.images if isinstance(data, CocoData) else data.root)
    digest = hashlib.sha256(data.kind.encode())
    for image in iter_images(data, section=section):
        row = [os.fsencode(image.path.relative_to(root)).hex(), image.train, image.eval, image.segmenter]
        with suppress(OSError):
            row += stamp(image.path)
        digest.update(canonical_json(row).encode())
    return digest.hexdigest()


def _line_ends(path: Path) -> int:
    with open(path, "rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 24), b""))


def _with_stamps(data: ListData, section: str, names: str) -> str:
    """The fingerprint of a list's names with size, times and inode of each picture."""
    path = _list_file(data, section)
    root, digest = _list_root(data, path), hashlib.sha256(names.encode())
    for _, name in _lines(path, root):
        try:
            found = stamp(os.path.join(root, name))
        except (OSError, ValueError):  # a name that no file can have is refused where the list is read
            found = (0, 0, 0, 0)
        digest.update(b"%d %d %d %d\n" % found)
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


def _list_file(data: ListData, section: str = "data") -> Path:
    path = _absolute(data.file)
    if not path.is_file():
        raise MaskDistillError(f"{section}.file: {path}: no such file; give a text file that names one picture a line")
    return path


def first_listed(path: Path) -> str | None:
    """The first picture that a text names; None if it names none, or is no text."""
    try:
        return next((name for _, name in _lines(path, path.parent)), None)
    except MaskDistillError:
        return None


def _lines(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that names a picture: no empty ones, no comments, no byte order mark."""
    number, found = 0, False
    try:
        with open(path, encoding="utf-8-sig") as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE or "\0" in line:
                    raise MaskDistillError(f"{path}: line {number} is no name of a picture; give a text file")
                name = line.rstrip("\r\n")
                if not name.strip():
                    continue
                if name.startswith("#"):
                    if (root / name).exists():
                        raise MaskDistillError(
                            f"{path}: line {number} ({name!r}) is a comment, and there is a file of this name; write"
                            f" {f'./{name}'!r} for the picture"
                        )
                    continue
                found = True
                yield number, name
    except UnicodeDecodeError:
        raise MaskDistillError(f"{path}: line {number + 1} is not UTF-8; save the list as UTF-8") from None
    if not found:
        raise MaskDistillError(f"{path}: names no picture; name one a line")


def _list_root(data: ListData, path: Path) -> Path:
    return path.parent if data.root is None else _absolute(data.root)


def _iter_list(data: ListData, section: str) -> Iterator[ListedImage]:
    """Pictures named in a text file; their keys are the names as they stand, but for slashes that do not count."""
    path = _list_file(data, section)
    root, clashes = _list_root(data, path), KeyClashes()
    for number, name in _lines(path, root):
        key = key_of_path(name)
        if ".." in name.split("/") or not key:
            raise MaskDistillError(f"{path}: line {number} ({name!r}) names no picture; give a path without '..'")
        if key.startswith(tuple(f"{name}/" for name in RESERVED)):
            raise MaskDistillError(
                f"{path}: line {number} ({name!r}): results have a file of that folder's name; rename the folder"
            )
        clashes.add(key, number)
        yield ListedImage(key, root / name, True, False)
    if found := clashes.find(lambda: ((number, key_of_path(name)) for number, name in _lines(path, root))):
        named = dict(line for line in _lines(path, root) if line[0] in found)
        first, second = (root / named[number] for number in found)
        if first == second:
            raise MaskDistillError(f"{path}: lines {found[0]} and {found[1]} name the same picture; remove one")
        raise MaskDistillError(
            f"{path}: results of lines {found[0]} and {found[1]} would overwrite each other: their names, {first} and"
            f" {second}, are kept as {key_of_path(named[found[0]])!r} and {key_of_path(named[found[1]])!r}; rename or"
            " link one of the pictures, or its folder"
        )


def _iter_tree(root: str, setting: str, scored: bool, left_out: Counter[str] | None) -> Iterator[ListedImage]:
    top = _absolute(root)
    if not top.is_dir():
        raise MaskDistillError(f"{setting}: {top} is not a folder; correct the path")
    found = False
    seen: set[tuple[int, int]] = set()
    linked = [(top, "")]
    left_out = Counter() if left_out is None else left_out
    while linked:
        for key, path in _walk(*linked.pop(0), seen, linked, left_out):
            found = True
            yield ListedImage(key, path, True, scored)
    if not found:
        others = f"; there are {left_out_words(left_out)}, which are not decoded" if left_out else ""
        raise MaskDistillError(f"{setting}: no picture below {top} (looked for {' '.join(SUFFIXES)}{others})")


def _walk(
    folder: Path, prefix: str, seen: set[tuple[int, int]], linked: list[tuple[Path, str]], left_out: Counter[str]
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
    files = [entry.name for entry in entries if entry.name not in folders]
    names = [name for name in files if name.lower().endswith(SUFFIXES)]
    left_out.update(kind for name in files if (kind := left_out_kind(name)))
    parts = parts_of_keys(names, folders, () if prefix else RESERVED)
    for name in sorted([*names, *folders], key=lambda name: f"{name}/" if name in folders else name):
        path = folder / name
        if name not in folders:
            yield printable(prefix + parts[name]), path
        elif folders[name]:
            linked.append((path, f"{prefix}{parts[name]}/"))
        else:
            yield from _walk(path, f"{prefix}{parts[name]}/", seen, linked, left_out)


def _iter_voc(data: VocData) -> Iterator[ListedImage]:
    root = _absolute(data.root)
    if not (root / "JPEGImages").is_dir():
        raise MaskDistillError(f"data.root: {root} has no folder JPEGImages; give e.g. VOCdevkit/VOC2012")
    train = _read_voc_list(root, "data.train_list", data.train_list)
    scored = _read_voc_list(root, "data.eval_list", data.eval_list)
    labelled = train
    if data.segmenter_list is not None:
        labelled = _read_voc_list(root, "data.segmenter_list", data.segmenter_list)
    trained = train | labelled
    for key in sorted(trained | scored):
        path = root / "JPEGImages" / f"{key}.jpg"
        yield ListedImage(key, path, key in train, key not in trained, key in labelled)


def scored_file(data: DataConfig) -> Path | None:
    """The text file that names the pictures to score; None where the manifest's column ``eval`` tells them."""
    if not isinstance(data, VocData):
        return None
    return Path(data.root).expanduser() / "ImageSets" / f"{data.eval_list}.txt"


def scored_keys(data: DataConfig) -> set[str] | None:
    """Keys of the images that are scored; None where the manifest's column ``eval`` tells them.

    Raises:
        MaskDistillError: no such list.
    """
    if not isinstance(data, VocData):
        return None
    return _read_voc_list(_absolute(data.root), "data.eval_list", data.eval_list)


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
        lines = read_user_text(path).splitlines()
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
