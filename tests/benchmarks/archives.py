"""Peak memory and seconds of manifest and features over a video, tar shards and Parquet files, by number of
pictures.

    python tests/benchmarks/archives.py [--count 10000 100000] [--kinds video tar parquet]

Made-up pictures of 32 x 32: one video of as many frames, tar shards of 10,000 pictures, Parquet files of
10,000 rows in row groups of 100. All are decoded for the manifest, and the features of all are computed by
one process, shard after shard of 500, at short side 32 with a random ViT-micro. The manifest of a video
decodes it twice: to choose frames, here all, and to read them.
"""

import argparse
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from memory import PER_SHARD, peak
from PIL import Image

SIDE = 32
PER_FILE = 10_000


def pictures(count: int) -> Iterator[np.ndarray]:
    """uint8 (32, 32, 3): smooth noise that moves on."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    ground = np.asarray(Image.fromarray(coarse).resize((4 * SIDE, 4 * SIDE), Image.Resampling.BICUBIC))
    for number in range(count):
        top, left = number % (3 * SIDE), number // 7 % (3 * SIDE)
        yield ground[top : top + SIDE, left : left + SIDE]


def jpeg(picture: np.ndarray) -> bytes:
    """The bytes of a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG")
    return buffer.getvalue()


def write_video(folder: Path, count: int) -> None:
    """One video, 25 frames a second, a frame to begin at every 4 s."""
    import av

    with av.open(str(folder / "v.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = SIDE
        stream.options = {"g": "100", "bf": "2"}
        for picture in pictures(count):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"))
            )
        container.mux(stream.encode())


def write_tar(folder: Path, count: int) -> None:
    """Shards as of WebDataset."""
    made = pictures(count)
    for first in range(0, count, PER_FILE):
        with tarfile.open(folder / f"s-{first // PER_FILE:04d}.tar", "w") as tar:
            for number in range(first, min(count, first + PER_FILE)):
                content = jpeg(next(made))
                info = tarfile.TarInfo(f"{number:08d}.jpg")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def write_parquet(folder: Path, count: int) -> None:
    """Files as of Hugging Face ``datasets``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind, made = pa.struct([("bytes", pa.binary()), ("path", pa.string())]), pictures(count)
    for first in range(0, count, PER_FILE):
        rows = [{"bytes": jpeg(next(made)), "path": None} for _ in range(min(count - first, PER_FILE))]
        table = pa.table({"image": pa.array(rows, kind)})
        pq.write_table(table, folder / f"t-{first // PER_FILE:04d}.parquet", row_group_size=100)


WRITERS = {"video": write_video, "tar": write_tar, "parquet": write_parquet}


def measure(kind: str, count: int) -> dict[str, tuple[float, float]]:
    """Stage -> MiB at its peak, seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        WRITERS[kind](folder / "data", count)
        every = {"fps": None, "min_change": 0} if kind == "video" else {}
        params = json.dumps({"kind": kind, "root": str(folder / "data"), **every})
        manifest, shards = folder / "run/manifest.csv", -(-count // PER_SHARD)
        options = [f"--params={params}", f"--output={manifest}", "--threads=1"]
        network = ["--arch=vit_micro_patch8", "--weights=random", "--device=cpu", "--threads=1"]
        settings = '--params={"short_side": 32, "workers": 0, "batch_size": 32}'
        output = f"--output={folder}/f-{{shard}}.h5"
        found = {"manifest": peak(["manifest", *options, f"--num-shards={shards}"])}
        each = ["--each", f"0000-{shards - 1:04d}", "--shard={shard}"]
        found["features"] = peak(["features", *each, f"--manifest={manifest}", *network, settings, output])
        return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--kinds", choices=WRITERS, nargs="+", default=list(WRITERS))
    given = parser.parse_args()
    print(
        f"{'peak MiB (seconds)':24}" + "".join(f"{count:>18,}" for count in given.count) + "    last / first"
    )
    for kind in given.kinds:
        rows = [measure(kind, count) for count in given.count]
        for stage in rows[0]:
            cells = "".join(f"{row[stage][0]:8.0f} ({row[stage][1]:6.1f})" for row in rows)
            print(
                f"{kind + ' ' + stage:24}{cells}  {rows[-1][stage][0] / rows[0][stage][0]:12.3f}", flush=True
            )
