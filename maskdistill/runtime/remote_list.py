"""The content of a bucket below a prefix, one page at a time, ordered by name.

Uses Amazon's ListObjectsV2, which Google's XML interface supports too
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html).
"""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.remote_read import ObjectRefused, check, get, patiently
from maskdistill.runtime.remote_urls import quoted, shown, split

PAGE_BYTES = 16 << 20
"""Limit of a page's size; a thousand names of at most 1024 bytes are far smaller."""


class Listed(NamedTuple):
    """An object of a bucket.

    Attributes:
        name: what follows ``s3://BUCKET/``.
        size: in bytes.
        etag: the store's mark of the content.
    """

    name: str
    size: int
    etag: str


def list_objects(url: str) -> Iterator[Listed]:
    """Objects whose names begin with the path of a checked ``s3://`` or ``gs://`` URL; one page in memory at
    a time.

    Raises:
        MaskDistillError: there is no such bucket, it may not be listed, or network or server failed.
    """
    token = ""
    while True:
        page, token = _page(url, token)
        yield from page
        if not token:
            return


def _page(url: str, token: str) -> tuple[list[Listed], str]:
    found = split(url)
    query = f"list-type=2&encoding-type=url&prefix={quoted(found.name).replace('/', '%2F')}"
    if token:
        query = f"continuation-token={quoted(token).replace('/', '%2F')}&{query}"
    bucket = f"{found.scheme}://{found.host}/"

    def attempt() -> bytes:
        with get(bucket, {}, query) as answer:
            check(bucket, answer)
            return b"".join(_bounded(answer.iter_content(1 << 16), url))

    try:
        return _read(patiently(url, attempt))
    except ObjectRefused as error:
        raise MaskDistillError(f"{shown(url)}: cannot be listed: {error}; correct the URL") from None
    except (ElementTree.ParseError, ValueError, AttributeError):
        raise MaskDistillError(
            f"{shown(url)}: the answer is not that of an object store; correct AWS_ENDPOINT_URL"
        ) from None


def _bounded(parts: Iterator[bytes], url: str) -> Iterator[bytes]:
    size = 0
    for part in parts:
        size += len(part)
        if size > PAGE_BYTES:
            raise MaskDistillError(f"{shown(url)}: a page of the list has more than {PAGE_BYTES} bytes")
        yield part


def _read(content: bytes) -> tuple[list[Listed], str]:
    """The objects of a page, and the token for requesting the next one; empty at the end."""
    if b"<!DOCTYPE" in content:
        raise ValueError("a list defines no entities")
    top = ElementTree.fromstring(content)
    if not top.tag.endswith("ListBucketResult"):
        raise ValueError(top.tag)
    encoded = top.findtext("{*}EncodingType") == "url"
    page = []
    for entry in top.iterfind("{*}Contents"):
        name = entry.findtext("{*}Key") or ""
        size, etag = entry.findtext("{*}Size") or "0", entry.findtext("{*}ETag") or ""
        page.append(Listed(unquote_plus(name) if encoded else name, int(size), etag))
    return page, top.findtext("{*}NextContinuationToken") or ""
