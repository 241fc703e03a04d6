"""Parquet: a table with one row per object, for pandas, DuckDB, Spark."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from maskdistill.formats.export.records import Context, Picture
from maskdistill.formats.export.registry import Append, ExportFormat, NoOptions
from maskdistill.runtime.errors import MaskDistillError

ROWS = 10_000
"""Objects per row group: as many are in memory at a time, and partial readers need read no more."""


@contextmanager
def write(folder: Path, context: Context, options: NoOptions) -> Iterator[Append]:
    """Write ``objects.parquet`` in row groups of at least :data:`ROWS` objects; pictures without objects have
    no row.

    Raises:
        MaskDistillError: pyarrow is not installed.
    """
    pyarrow, parquet = _libraries()
    schema = _schema(pyarrow)
    rows: list[dict[str, Any]] = []
    with parquet.ParquetWriter(folder / "objects.parquet", schema) as table:

        def append(picture: Picture) -> None:
            rows.extend(_rows(picture))
            if len(rows) >= ROWS:
                flush()

        def flush() -> None:
            table.write_table(pyarrow.Table.from_pylist(rows, schema=schema), row_group_size=len(rows))
            rows.clear()

        yield append
        if rows:
            flush()


def _libraries() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise MaskDistillError(
            "the format parquet needs pyarrow, which is not installed; run make parquet, or pip install"
            " 'maskdistill[parquet]'"
        ) from None


def _schema(pyarrow: Any) -> Any:
    """Types of the columns; a mask is COCO's compressed run lengths with their height and width."""
    number, real, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    mask = pyarrow.struct([("size", pyarrow.list_(number, 2)), ("counts", text)])
    kinds = {
        "image_id": number, "key": text, "file_name": text, "width": number, "height": number,
        "category_id": number,
        "category": text, "score": real, "bbox": pyarrow.list_(real, 4), "area": number, "segmentation": mask,
    }  # fmt: skip
    return pyarrow.schema([pyarrow.field(name, kind, nullable=False) for name, kind in kinds.items()])


def _rows(picture: Picture) -> Iterator[dict[str, Any]]:
    for item in picture.objects:
        yield {
            "image_id": picture.image_id, "key": picture.key, "file_name": picture.file,
            "width": picture.width,
            "height": picture.height, "category_id": item.category_id, "category": item.name,
            "score": item.score,
            "bbox": item.box, "area": item.area, "segmentation": item.mask,
        }  # fmt: skip


FORMAT = ExportFormat("parquet", "pandas, DuckDB, Spark: `pandas.read_parquet('.../objects.parquet')`", write)
