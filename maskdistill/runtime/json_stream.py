"""Sealed JSON objects written item by item in constant memory, with the same bytes as ``write_json``."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from maskdistill.runtime.files import canonical_json, sealed_path

CHUNK = 2**20
"""Characters read at a time."""


class JsonObject:
    """An object whose keys come in ascending order; long arrays are written one item at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._place, self._last = stream, 0, ""
        self._write("{")

    def _write(self, text: str) -> None:
        self._place += self._stream.write(text.encode())

    def _key(self, name: str) -> None:
        if self._last and name <= self._last:
            raise ValueError(f"key {name!r} after {self._last!r}: canonical JSON has ascending keys")
        self._write(f"{',' if self._last else ''}{canonical_json(name)}:")
        self._last = name

    def value(self, name: str, value: Any) -> None:
        """Write a key with its value."""
        self._key(name)
        self._write(canonical_json(value))

    @contextmanager
    def array(self, name: str) -> Iterator[Callable[[Any], tuple[int, int]]]:
        """Write a key whose value is an array; the block appends items and learns where each begins and ends.

        Yields:
            A function that writes one item and returns the offset of its first byte and the offset after its
            last.
        """
        self._key(name)
        self._write("[")
        empty = True

        def append(item: Any) -> tuple[int, int]:
            nonlocal empty
            if not empty:
                self._write(",")
            empty = False
            start = self._place
            self._write(canonical_json(item))
            return start, self._place

        yield append
        self._write("]")

    def close(self) -> None:
        """End the object."""
        self._write("}\n")


@contextmanager
def write_json_object(path: str | Path) -> Iterator[JsonObject]:
    """Open a JSON object for writing; it appears at ``path`` when the block ends without error."""
    with sealed_path(path) as temporary, open(temporary, "wb", buffering=2**20) as stream:
        content = JsonObject(stream)
        yield content
        content.close()


def read_array(path: str | Path, name: str) -> Iterator[dict[str, Any]]:
    """The items of an array, the first that :func:`write_json_object` wrote, one at a time in constant
    memory.

    Args:
        path: the file; the caller checks its seal.
        name: key of the array, which must be the object's first; its items are objects.

    Raises:
        ValueError: there is no such array, or it does not end.
    """
    decoder, head = json.JSONDecoder(), f"{{{canonical_json(name)}:["
    with open(path, encoding="utf-8") as stream:
        if stream.read(len(head)) != head:
            raise ValueError(f"{path}: its first key is not {name!r}")
        text = ""
        while chunk := stream.read(CHUNK):
            text, place = text + chunk, 0
            with suppress(json.JSONDecodeError):  # the rest of an item comes with the next chunk
                while not text.startswith("]", place):
                    item, place = decoder.raw_decode(text, place + text.startswith(",", place))
                    yield item
                return
            text = text[place:]
    raise ValueError(f"{path}: the array {name!r} has no end")
