"""A JSON object written item by item, in the bytes that ``write_json`` would give, sealed, with a flat
memory.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from maskdistill.runtime.files import canonical_json, sealed_path

CHUNK = 2**20
"""Characters that are read at once."""


class JsonObject:
    """One object whose keys come in ascending order; its long arrays are written one item at a time."""

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
        """Write a key whose value is an array: the block appends items, and learns where each begins and
        ends.

        Yields:
            A function that writes one item and returns its first byte and the byte behind its last in the
            file.
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
    """Open a JSON object for writing; it appears under ``path`` when the block ends well."""
    with sealed_path(path) as temporary, open(temporary, "wb", buffering=2**20) as stream:
        content = JsonObject(stream)
        yield content
        content.close()


def read_array(path: str | Path, name: str) -> Iterator[dict[str, Any]]:
    """The items of an array that :func:`write_json_object` wrote first, one at a time, with a flat memory.

    Args:
        path: the file; its seal is the caller's affair.
        name: key of the array, the first of the object; its items are objects.

    Raises:
        ValueError: there is no such array, or it has no end.
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
