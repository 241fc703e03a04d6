"""What it costs to write annotations and to read those of one image: JSON with an index, or Parquet.

    python tests/benchmarks/annotations.py [--annotations 50000 400000]

Each measurement has a process of its own. The annotations are made up: two an image, run lengths of 120
characters. Parquet needs the extra parquet (make parquet).
"""

import argparse
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

IMAGES = 2000
"""Images whose annotations are read, at random."""
GROUPS = (100, 1000)
"""Rows of a row group, which Parquet reads as one."""
ALPHABET = "0123456789abcdefghijklmnoPQRSTUVW"


def main() -> None:
    """Print one row for each way and number of annotations."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--annotations", type=int, nargs="+", default=[50_000, 400_000])
    args = parser.parse_args()
    print("annotations  way                   CPU s to write   ms an image to read   peak MiB     MB")
    for count in args.annotations:
        for name, way, group in (
            ("JSON and index", _json, 0),
            *((f"Parquet, groups of {group}", _parquet, group) for group in GROUPS),
        ):  # fmt: skip
            with multiprocessing.get_context("spawn").Pool(1) as alone, tempfile.TemporaryDirectory() as at:
                written, read, peak, size = alone.apply(_measured, (way, count, group, Path(at)))
            print(
                f"{count:11,d}  {name:22s} {written:13.1f} {1e3 * read / IMAGES:21.2f} {peak:10.0f}"
                f" {size / 1e6:6.1f}",
                flush=True,
            )


def made_up(count: int) -> Iterator[dict[str, Any]]:
    """Annotations, two an image."""
    chance = random.Random(0)
    for place in range(count):
        counts = "".join(chance.choices(ALPHABET, k=120))
        yield {
            "id": place + 1, "image_id": place // 2, "category_id": place % 80 + 1, "iscrowd": 0, "area": 900,
            "bbox": [1.0, 2.0, 30.0, 40.0], "segmentation": {"size": [480, 640], "counts": counts},
        }  # fmt: skip


def _measured(
    way: Callable[[int, int, Path], Callable[[int], int]], count: int, group: int, folder: Path
) -> tuple[float, float, float, int]:
    """Seconds of CPU to write and to read, peak memory (MiB), and bytes on the disk."""
    before = time.process_time()
    image_of = way(count, group, folder)
    middle = time.process_time()
    for image in np.random.default_rng(0).integers(0, count // 2, IMAGES).tolist():
        assert image_of(image) == image
    after = time.process_time()
    size = sum(path.stat().st_size for path in folder.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return middle - before, after - middle, peak, size


def _json(count: int, _: int, folder: Path) -> Callable[[int], int]:
    from maskdistill.annotations.index import IndexBuilder, read_index
    from maskdistill.runtime.json_stream import write_json_object

    places = IndexBuilder()
    with write_json_object(folder / "a.json") as content, content.array("annotations") as append:
        for item in made_up(count):
            places.add(item["image_id"], *append(item))
    places.write(folder / "a.h5", 80)
    index = read_index(folder / "a.json", folder / "a.h5")
    return lambda image: index.read(image)[0]["image_id"]


def _parquet(count: int, group: int, folder: Path) -> Callable[[int], int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pa.int64()
    mask = pa.struct([("size", pa.list_(whole, 2)), ("counts", pa.string())])
    kinds = {"bbox": pa.list_(pa.float64(), 4), "segmentation": mask}
    names = ("id", "image_id", "category_id", "iscrowd", "area", *kinds)
    schema = pa.schema([(name, kinds.get(name, whole)) for name in names])
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(folder / "a.parquet", schema) as writer:
        for item in made_up(count):
            rows.append(item)
            if len(rows) == group or item["id"] == count:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows = []
    file = pq.ParquetFile(folder / "a.parquet")

    def image_of(image: int) -> int:
        first = 2 * image
        found = file.read_row_group(first // group).slice(first % group, 2).to_pylist()
        return int(found[0]["image_id"])

    return image_of


if __name__ == "__main__":
    main()
