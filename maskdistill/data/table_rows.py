"""Read pictures out of the rows of Parquet and Arrow files: a piece of the column in memory at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from maskdistill.data.picture_files import PictureError
from maskdistill.data.picture_refs import Row
from maskdistill.data.tables import batches, is_arrow, need_pyarrow, open_arrow
from maskdistill.data.turns import Turns

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE = 64 * 2**20
"""Bytes, uncompressed, up to which the pictures of a row group are read at once and kept until another is
wanted.
"""
PIECE = 16
"""Rows of a larger group that are read at once."""
_GONE = "a row that is not in the table any more: it was replaced"


class RowReader:
    """An open table.

    Attributes:
        pieces: how many were read so far, for tests.
    """

    def __init__(self, path: str, column: str) -> None:
        need_pyarrow()
        self._path, self._column, self.pieces = path, column, 0
        self._group, self._first, self._stop = -1, 0, 0
        self._coming: Iterator[pa.RecordBatch] = iter(())
        self._pictures: Any = None
        self._file = None if is_arrow(path) else self._parquet(path)
        self._begun: Iterator[pa.RecordBatch] = iter(())

    def close(self) -> None:
        """Close it."""
        if self._file is not None:
            self._file.close()

    def read(self, place: tuple[int, int]) -> bytes:
        """The picture in a row of a row group.

        Raises:
            PictureError: there is none, or it cannot be read.
        """
        import pyarrow as pa

        try:
            return self._read(*place)
        except (pa.ArrowException, KeyError, IndexError, StopIteration):
            raise PictureError("cannot be read from the table, which is damaged or was replaced") from None
        except OSError as error:
            if error.errno:
                raise
            raise PictureError("cannot be read from the table, which is damaged") from None

    def _read(self, group: int, row: int) -> bytes:
        if group != self._group or row < self._first:
            self._to_group(group)
        while row >= self._stop:
            self._take(next(self._coming))
        value = self._pictures[row - self._first].as_py()
        if not value:
            raise PictureError(
                "the row holds no picture: where it has a path alone, embed the pictures"
                " (Dataset.push_to_hub and to_parquet do so with embed_external_files=True)"
            )
        return bytes(value)

    def _to_group(self, group: int) -> None:
        """Stand before the first row of a group."""
        if self._file is None:
            self._arrow_group(group)
        else:
            meta = self._file.metadata.row_group(group)
            leaves = [meta.column(number) for number in range(meta.num_columns)]
            own = (leaf for leaf in leaves if leaf.path_in_schema in (self._column, f"{self._column}.bytes"))
            whole = sum(leaf.total_uncompressed_size for leaf in own) <= WHOLE
            rows = max(1, meta.num_rows) if whole else PIECE
            self._coming = self._file.iter_batches(rows, [group], columns=[self._leaf()], use_threads=False)
        self._group, self._first, self._stop = group, 0, 0

    def _arrow_group(self, group: int) -> None:
        """A batch of an index at once; in a stream by passing over those before it, which are not read."""
        if group <= self._group or self._group < 0:
            self._begun, self._group = batches(open_arrow(self._path)), -1
        for _ in range(group - self._group - 1):
            next(self._begun)
        self._coming = iter([next(self._begun)])

    def _take(self, batch: "pa.RecordBatch") -> None:
        import pyarrow as pa

        column = batch.column(self._column)
        self._pictures = column.field("bytes") if pa.types.is_struct(column.type) else column
        self._first, self._stop = self._stop, self._stop + batch.num_rows
        self.pieces += 1

    def _leaf(self) -> str:
        """The column's part that holds the bytes."""
        import pyarrow as pa

        assert self._file is not None
        kind = self._file.schema_arrow.field(self._column).type
        return f"{self._column}.bytes" if pa.types.is_struct(kind) else self._column

    def _parquet(self, path: str) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(path, buffer_size=2**20)
        except pa.ArrowException:
            raise PictureError("not a Parquet file any more: replace it with a complete copy") from None


_tables: Turns[Any] = Turns(lambda key: RowReader(*key))


def row_bytes(row: Row) -> bytes:
    """The picture in a row of a table, as it is stored.

    Raises:
        PictureError: the table, or the row, is not there any more, or the row holds no picture.
        OSError: the file cannot be read.
    """
    return _tables.read((row.archive, row.column), (row.group, row.row))
