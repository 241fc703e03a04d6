"""Tar archives in object stores, which are neither copied nor unpacked."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator, Field

from maskdistill.data.containers import kept_lines
from maskdistill.data.keys import RESERVED, key_of_path
from maskdistill.data.listed import ListedImage
from maskdistill.data.object_index import files_below
from maskdistill.data.picture_refs import has_odd_parts, remote_name
from maskdistill.data.sources.base import ImageSource, Look
from maskdistill.data.sources.in_tars import TarPicture, pictures_in_tars
from maskdistill.data.tar_index import COMPRESSED, FORMAT, compressed, index_lines, members
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, sha256_text
from maskdistill.runtime.remote_list import Listed
from maskdistill.runtime.remote_read import ObjectRefused, probe
from maskdistill.runtime.remote_stream import open_object
from maskdistill.runtime.remote_urls import STORES, checked, quoted, shown, split

SUFFIX = ".tar"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_NAMED = 1_000_000
"""Archives that ranges may name."""


def _shards(text: str) -> str:
    """A prefix or pattern as it is written.

    Raises:
        ValueError: no URL of a store, or ranges that name nothing, or too many.
    """
    if split(checked(text)).scheme not in STORES:
        raise ValueError("give a root that begins with s3:// or gs://: a web server does not list its files")
    count = 1
    for first, last in _RANGE.findall(text):
        count *= int(last) - int(first) + 1
        if not 0 < count <= MOST_NAMED:
            raise ValueError(f"the ranges in {text!r} name no archive, or more than {MOST_NAMED}")
    if count > 1 and not text.lower().endswith(SUFFIX):
        raise ValueError(f"{text!r}: a root with a range ends in {SUFFIX}")
    return text.rstrip("/")


class _Shard(NamedTuple):
    """An archive: what its pictures' keys begin with, its checked URL, bytes, the store's mark."""

    prefix: str
    url: str
    size: int
    etag: str


class RemoteTarData(ImageSource):
    """Tar archives (WebDataset shards) in a bucket (s3://, gs://), no ground truth: pictures are read at
    their places, through a cache on this machine.
    """

    SUPPORT: ClassVar[bool] = True

    kind: Literal["remote_tar"]
    root: Annotated[
        str, AfterValidator(_shards), Field(min_length=1, json_schema_extra={"format": "uri"})
    ] = Field(
        description="s3://BUCKET/FOLDER or gs://BUCKET/FOLDER: every .tar below it; or one .tar, or several "
        "by number, as s3://BUCKET/shard-{0000..0009}.tar"
    )

    @property
    def place(self) -> str:
        """Empty: nothing of it lies on this machine."""
        return ""

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """The picture of each sample, archive by archive, all to train on; keys are ``ARCHIVE/SAMPLE``."""
        return pictures_in_tars(self._members, look, self.root)

    def fingerprint(self, look: Look) -> str:
        """Of each archive's name, size and mark, which cover the pictures in it."""
        return sha256_text(canonical_json([self.kind, *self._archives(look)]))

    def describe(self) -> str:
        """The prefix or pattern."""
        return self.root

    def reach(self, look: Look) -> str:
        """Reads a byte of the first archive."""
        url = self._archives(look)[0].url
        try:
            probe(url)
        except ObjectRefused as error:
            raise MaskDistillError(f"{shown(url)}, the first archive, cannot be read: {error}") from None
        return f"{shown(url)}, the first one, can be read"

    def _members(self, look: Look) -> Iterator[TarPicture]:
        for shard in self._archives(look):
            told, name = shown(shard.url), remote_name(shard.url)
            settings: list[object] = [FORMAT, shard.size, shard.etag]
            lines = kept_lines(Path(name), look.kept, settings, partial(_lines, shard), marked=lambda _: ())
            for member in members(lines, look.left_out):
                yield TarPicture(shard.prefix, name, told, member)

    def _archives(self, look: Look) -> list[_Shard]:
        """The archives in the order of their names.

        Raises:
            MaskDistillError: there is none, or one that is named is missing, compressed or cannot be named.
        """
        folder, named = self._named()
        start = f"{split(folder).name}/".lstrip("/")
        listed = {entry.name: entry for entry in files_below(folder, look.kept, (SUFFIX, *COMPRESSED))}
        names = sorted(listed) if named is None else named
        if missing := next((name for name in names if name not in listed), None):
            raise MaskDistillError(
                f"{look.section}.root: {_told(folder, missing)}: not in the bucket; correct the range or the "
                "name"
            )
        if not names:
            raise MaskDistillError(
                f"{look.section}.root: no {SUFFIX} file below {self.root}; correct the path"
            )
        stems = Counter(name[: -len(SUFFIX)] for name in names)
        return [_shard(folder, listed[name], start, stems) for name in names]

    def _named(self) -> tuple[str, list[str] | None]:
        """The checked folder that is listed, and the names that are wanted of it; None for all."""
        if not split(checked(self.root)).path.lower().endswith(SUFFIX):
            return checked(self.root), None
        pieces = _RANGE.split(self.root)
        folder = pieces[0].rpartition("/")[0]
        texts, ranges = pieces[::3], zip(pieces[1::3], pieces[2::3], strict=True)
        numbers = [
            [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
            for first, last in ranges
        ]
        start = len(f"{split(checked(folder)).scheme}://{split(checked(folder)).host}/")
        urls = (
            "".join(itertools.chain.from_iterable(zip(texts, (*chosen, ""), strict=True)))
            for chosen in itertools.product(*numbers)
        )
        return checked(folder), [url[start:] for url in urls]


def _told(folder: str, name: str) -> str:
    return f"{split(folder).scheme}://{split(folder).host}/{name}"


def _shard(folder: str, entry: Listed, start: str, stems: Counter[str]) -> _Shard:
    """An archive of the list; compressed ones, and names that no key can have, are refused."""
    told, url = (
        _told(folder, entry.name),
        f"{split(folder).scheme}://{split(folder).host}/{quoted(entry.name)}",
    )
    if entry.name.lower().endswith(COMPRESSED):
        raise compressed(told, entry.name.rpartition(".")[2])
    stem = entry.name[: -len(SUFFIX)]
    prefix = key_of_path((stem if stems[stem] == 1 else entry.name)[len(start) :])
    if has_odd_parts(url) or f"{prefix}/".startswith(tuple(f"{name}/" for name in RESERVED)):
        raise MaskDistillError(f"{told}: results cannot have its name; rename the archive")
    return _Shard(prefix, url, entry.size, entry.etag)


def _lines(shard: _Shard) -> Iterator[object]:
    """The index of an archive, of which little but the headers is read."""
    try:
        yield from index_lines(shown(shard.url), lambda: open_object(shard.url, shard.size))
    except ObjectRefused as error:
        raise MaskDistillError(f"{shown(shard.url)}: cannot be read: {error}") from None
