"""Peak memory and seconds of manifest and features over a tar of 10,000 and of 100,000 tiny pictures.

    python tests/benchmarks/tar_source.py [--images 10000 100000]

One picture of 64 x 64 under many names in one archive, with a text beside each. The manifest decodes all of
them; features are those of the last shard of 500. Also the seconds to read the headers, and to list the
pictures again by the index that is kept.
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from memory import PER_SHARD, SIDE, peak
from PIL import Image

from maskdistill.data.tar_index import pictures_of


def write_archive(path: Path, images: int) -> None:
    """The archive."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    with tarfile.open(path, "w") as tar:
        for number in range(images):
            for suffix, content in ((".jpg", buffer.getvalue()), (".txt", b"a caption")):
                info = tarfile.TarInfo(f"{number:08d}{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            tar.members.clear()


def measure(images: int) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_archive(folder / "s.tar", images)
        params, output = json.dumps({"kind": "tar", "root": str(folder)}), folder / "data/manifest.csv"
        seconds = []
        for _ in range(2):
            start = time.process_time()
            assert sum(1 for _ in pictures_of(folder / "s.tar", output.parent, Counter())) == images
            seconds.append(time.process_time() - start)
        shards = images // PER_SHARD
        made = peak(
            ["manifest", f"--params={params}", f"--output={output}", f"--num-shards={shards}", "--threads=1"]
        )
        network = ["--arch=vit_micro_patch8", "--weights=random", "--device=cpu", "--threads=1"]
        settings = [
            '--params={"short_side": 32, "workers": 0}',
            f"--shard={shards - 1}",
            f"--output={folder / 'f.h5'}",
        ]
        seen = peak(["features", f"--manifest={output}", *network, *settings])
        cells = [f"{images:8,}", *(f"{value:8.2f} s" for value in seconds)]
        return "  ".join(
            [*cells, *(f"{mebibytes:5.0f} MiB ({taken:5.1f} s)" for mebibytes, taken in (made, seen))]
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    print("  images     headers       index           manifest           features")
    for count in parser.parse_args().images:
        print(measure(count), flush=True)
