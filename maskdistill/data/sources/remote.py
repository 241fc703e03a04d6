"""Photographs in object stores and on web servers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from maskdistill.config.paths import UserPath
from maskdistill.data.keys import RESERVED, KeyClashes, key_of_path
from maskdistill.data.listed import ListedImage
from maskdistill.data.object_index import digest_of, pictures_below
from maskdistill.data.picture_names import SUFFIXES, left_out_words
from maskdistill.data.picture_refs import remote_name
from maskdistill.data.sources.base import ImageSource, Look, absolute
from maskdistill.data.sources.list import named_lines
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, sha256_file, sha256_text
from maskdistill.runtime.remote_read import ObjectRefused, probe
from maskdistill.runtime.remote_urls import STORES, checked, quoted, shown, split


def _prefix(text: str) -> str:
    """A prefix as it is written: of a store a literal name, which is percent-encoded where it is used.

    Raises:
        ValueError: it is no URL, or holds a secret, or has a query.
    """
    if "?" in text and text.partition("://")[0].lower() not in STORES:
        raise ValueError("a prefix has no query; give the part before the question mark")
    checked(text)
    return text.rstrip("/")


RemoteUrl = Annotated[str, AfterValidator(_prefix), Field(min_length=1, json_schema_extra={"format": "uri"})]


class RemoteData(ImageSource):
    """Pictures in a bucket (s3://, gs://) or on web servers, no ground truth: read through a cache on this
    machine.
    """

    SUPPORT: ClassVar[bool] = True

    kind: Literal["remote"]
    root: RemoteUrl | None = Field(
        None,
        description="s3://BUCKET/FOLDER or gs://BUCKET/FOLDER: every picture below it; with a file, what "
        "its names are relative to, which may also be https://",
    )
    file: UserPath | None = Field(
        None,
        description="text file of this machine: one picture per line, as a URL or by its path below root",
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        """Refuse what names no picture."""
        if self.file is None and (self.root is None or split(self.prefix).scheme not in STORES):
            raise ValueError(
                "give a root that begins with s3:// or gs://, or a file of URLs: a web server does not list "
                "its files"
            )
        return self

    @property
    def prefix(self) -> str:
        """``root`` as a checked URL; empty where there is none."""
        return checked(self.root) if self.root else ""

    @property
    def _below(self) -> str:
        """What URLs of pictures below ``root`` begin with, that of a whole bucket or server too."""
        return f"{self.prefix.rstrip('/')}/"

    @property
    def place(self) -> str:
        """Empty: nothing of it lies on this machine."""
        return ""

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """Every picture below ``root``, or those of ``file``, all to train on."""
        clashes, number = KeyClashes(), 0
        for number, (key, url) in enumerate(self._keys(look), start=1):
            if f"{key}/".startswith(tuple(f"{name}/" for name in RESERVED)):
                raise MaskDistillError(
                    f"{shown(url)}: results have a file called {key.split('/')[0]}; rename the folder"
                )
            clashes.add(key, number)
            yield ListedImage(key, Path(remote_name(url)), True, False)
        if not number:
            others = (
                f"; there are {left_out_words(look.left_out)}, which are not decoded" if look.left_out else ""
            )
            raise MaskDistillError(
                f"{look.section}.root: no picture below {self.describe()} (looked for "
                f"{' '.join(SUFFIXES)}{others})"
            )
        if found := clashes.find(
            lambda: ((n, key) for n, (key, _) in enumerate(self._keys(_again(look)), 1))
        ):
            first, second = (
                shown(url) for n, (_, url) in enumerate(self._keys(_again(look)), 1) if n in found
            )
            raise MaskDistillError(
                f"results of {first} and of {second} would overwrite each other: one is there twice, or "
                "one is called like the folder of the other's results; rename one, or take it out of the list"
            )

    def fingerprint(self, look: Look) -> str:
        """Of the store's list: names, sizes, marks; of a file of URLs, that file alone."""
        if self.file is None:
            return sha256_text(canonical_json([self.kind, self.root, digest_of(self.prefix, look.kept)]))
        return sha256_text(canonical_json([self.kind, self.root, sha256_file(self._list(look))]))

    def describe(self) -> str:
        """The file's name, or the prefix."""
        return Path(self.file).name if self.file else str(self.root)

    def reach(self, look: Look) -> str:
        """Reads a byte of the first picture."""
        _, url = next(self._keys(look))
        try:
            probe(url)
        except ObjectRefused as error:
            raise MaskDistillError(f"{shown(url)}, the first picture, cannot be read: {error}") from None
        return f"{shown(url)}, the first one, can be read"

    def _keys(self, look: Look) -> Iterator[tuple[str, str]]:
        """Key and checked URL of each picture."""
        if self.file is None:
            yield from (
                (found.key, found.url) for found in pictures_below(self.prefix, look.kept, look.left_out)
            )
            return
        path = self._list(look)
        for number, line in named_lines(path, path.parent):
            try:
                url = self._url(line)
                key = self._key(url)
            except ValueError as error:
                raise MaskDistillError(f"{path}: line {number}: {error}") from None
            yield key, url

    def _url(self, line: str) -> str:
        if "://" in line:
            return checked(line)
        if self.root is None:
            raise ValueError(f"{line!r} is not a URL; give one, or set root, which names are relative to")
        return f"{self._below}{quoted(line.lstrip('/'))}"

    def _key(self, url: str) -> str:
        """The name below ``root``, else with server or bucket in front."""
        where = split(url)
        name = f"{where.host}/{where.name}"
        if self.root is not None and url.startswith(self._below):
            name = where.name[len(split(self._below).name) :]
        key = key_of_path(name)
        if ".." in name.split("/") or not key or name.endswith("/"):
            raise ValueError(f"{shown(url)} names no picture; give a URL without '..' that ends in a name")
        return key

    def _list(self, look: Look) -> Path:
        path = absolute(str(self.file))
        if not path.is_file():
            raise MaskDistillError(
                f"{look.section}.file: {path}: no such file; give a text file with one URL per line"
            )
        return path


def _again(look: Look) -> Look:
    """The same look with a count of its own."""
    return Look(look.section, kept=look.kept)
