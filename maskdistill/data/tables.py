"""Parquet and Arrow files that hold pictures, as Hugging Face ``datasets`` writes them: which rows there are.

The column of pictures is a struct of ``bytes`` and ``path``, or plain binary. No other column is read.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from maskdistill.data.picture_names import SUFFIXES, printable
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import LONGEST_NAME

if TYPE_CHECKING:
    import pyarrow as pa

USUAL = ".jpg"
_ENDINGS = {
    b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif",
}  # fmt: skip
ROWS = 10_000
"""Names that are in memory at a time."""


class TableRow(NamedTuple):
    """A row of a table.

    Attributes:
        group, row: number of the row group or record batch, and of the row in it, from 0.
        name: of the picture, with its ending; where not every row has a name of its own the row's number in
            the file, with the ending that fits the file's first picture.
        stem: the name without its ending.
    """

    group: int
    row: int
    name: str
    stem: str


class Layout(NamedTuple):
    """What a table's head tells.

    Attributes:
        groups: rows in each row group or record batch.
        named: the column is a struct with a field ``path``.
        others: columns that are not read.
    """

    groups: tuple[int, ...]
    named: bool
    others: tuple[str, ...]


def need_pyarrow() -> None:
    """Refuse tables where pyarrow is missing."""
    if find_spec("pyarrow") is None:
        raise MaskDistillError(
            "Parquet and Arrow files need pyarrow, which is not installed: pip install 'maskdistill[parquet]'"
            " (in a checkout: make parquet)"
        )


def layout_of(path: Path, column: str, setting: str) -> Layout:
    """Look at a table's head.

    Args:
        setting: that names the column, for messages.

    Raises:
        MaskDistillError: the file is not one, cannot be read, or has no such column of pictures.
    """
    import pyarrow.parquet as pq

    with _reading(path):
        if is_arrow(path):
            schema, groups = _arrow_groups(path)
        else:
            with pq.ParquetFile(path) as file:
                schema, meta = file.schema_arrow, file.metadata
                groups = tuple(meta.row_group(number).num_rows for number in range(meta.num_row_groups))
    fitting = [field.name for field in schema if _holds_pictures(field.type)]
    if column not in fitting:
        there = f"columns that may: {', '.join(fitting)}" if fitting else "no column of it does"
        raise MaskDistillError(
            f"{setting}: {path}: has no column {column!r} of pictures (a struct with bytes, or binary); "
            f"{there}"
        )
    kind = schema.field(column).type
    return Layout(
        groups,
        not _is_bytes(kind) and "path" in {field.name for field in kind},
        tuple(name for name in schema.names if name != column),
    )


def rows_of(path: Path, column: str, layout: Layout) -> Iterator[TableRow]:
    """The rows of a table in order, by their names if all are distinct and fit for a file."""
    named = layout.named and _are_distinct(_names(path, column))
    names = _names(path, column) if named else None
    number, ending = 0, "" if names else _ending(path, column)
    for group, rows in enumerate(layout.groups):
        for row in range(rows):
            name = next(names) or "" if names else f"{number:08d}{ending}"
            yield TableRow(group, row, name, _stem(name))
            number += 1


def is_arrow(path: str | Path) -> bool:
    """Whether a table is an Arrow file by its name, else it is Parquet."""
    return str(path).lower().endswith(".arrow")


def open_arrow(path: str | Path) -> "pa.RecordBatchStreamReader | pa.RecordBatchFileReader":
    """Record batches of an Arrow file, streamed or indexed, without a copy."""
    import pyarrow as pa

    source = pa.memory_map(str(path))
    head = source.read(6)
    source.seek(0)
    return pa.ipc.open_file(source) if head == b"ARROW1" else pa.ipc.open_stream(source)


def batches(reader: "pa.RecordBatchStreamReader | pa.RecordBatchFileReader") -> "Iterator[pa.RecordBatch]":
    """All of them in order."""
    if hasattr(reader, "num_record_batches"):
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        yield from reader


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        told = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise MaskDistillError(
            f"{path}: cannot be read as a{'n Arrow' if is_arrow(path) else ' Parquet'} file ({told}); "
            f"replace it with a complete copy"
        ) from None


def _arrow_groups(path: Path) -> "tuple[pa.Schema, tuple[int, ...]]":
    reader = open_arrow(path)
    return reader.schema, tuple(batch.num_rows for batch in batches(reader))


def _is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_pictures(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return _is_bytes(kind) or (
        pa.types.is_struct(kind) and any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    )


def _names(path: Path, column: str) -> Iterator[str | None]:
    """What the field ``path`` of each row says, a few thousand in memory at a time."""
    import pyarrow.parquet as pq

    with _reading(path):
        if is_arrow(path):
            for batch in batches(open_arrow(path)):
                yield from batch.column(column).field("path").to_pylist()
            return
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=[f"{column}.path"], use_threads=False):
                yield from batch.column(0).field("path").to_pylist()


def _ending(path: Path, column: str) -> str:
    """What the file's first picture begins with, as the ending of a name: other tools want one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reading(path):
        if is_arrow(path):
            first = next(batches(open_arrow(path)), None)
        else:
            with pq.ParquetFile(path) as file:
                first = next(file.iter_batches(1, columns=[column], use_threads=False), None)
    if first is None or not first.num_rows:
        return USUAL
    pictures = first.column(column)
    head = (pictures.field("bytes") if pa.types.is_struct(pictures.type) else pictures)[0].as_py() or b""
    return next((ending for begin, ending in _ENDINGS.items() if head.startswith(begin)), USUAL)


def _are_distinct(names: Iterator[str | None]) -> bool:
    """Whether each row has a name that a file may have, and no two are alike but for their endings."""
    seen = set[int]()
    for name in names:
        if not name or not _is_fit(name):
            return False
        seen_before = len(seen)
        seen.add(hash(_stem(name)))
        if len(seen) == seen_before:
            return False
    return True


def _is_fit(name: str) -> bool:
    parts = name.split("/")
    return (
        "\0" not in name
        and "::" not in name
        and printable(name) == name
        and all(part not in ("", ".", "..") and len(os.fsencode(part)) <= LONGEST_NAME for part in parts)
    )


def _stem(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in SUFFIXES else name
