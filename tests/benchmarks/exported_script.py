"""The exported script in an environment of its own, on twenty photographs of every kind, against predict.

    python tests/benchmarks/exported_script.py EXPORTED PHOTOS WORK

EXPORTED is what ``maskdistill export`` wrote, PHOTOS a folder with at least 20 JPEGs. WORK gets the
photographs (EXIF-rotated, grey, RGBA, 5:1, 16 bits, palette, CMYK), an environment with numpy, Pillow and
onnxruntime alone (by uv), and both results. Both are asked for all objects with a score of at least 0.05.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from maskdistill.formats.label_png import read_label_png
from maskdistill.product.export_agreement import Seen, compare

KINDS = ("EXIF", "grey", "RGBA", "5:1", "16 bits", "palette", "CMYK", "plain")
COUNT = 20
LEAST = "0.05"


def draw(source: Path, kind: str, path: Path) -> Path:
    """Save a photograph as one of a kind; ``path`` has no ending."""
    with Image.open(source) as opened:
        photo = opened.convert("RGB")
    width, height = photo.size
    if kind == "EXIF":
        exif = Image.Exif()
        exif[0x0112] = 6
        photo.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), quality=95, exif=exif)
        return path.with_suffix(".jpg")
    if kind == "RGBA":
        alpha = np.full((height, width), 255, np.uint8)
        alpha[: height // 4] = 90
        photo.putalpha(Image.fromarray(alpha))
    elif kind == "grey":
        photo = photo.convert("L")
    elif kind == "5:1":
        photo = photo.crop((0, height // 3, width, height // 3 + width // 5))
    elif kind == "16 bits":
        photo = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    elif kind == "palette":
        photo = photo.quantize(200)
    ending = ".jpg" if kind in ("plain", "CMYK", "5:1") else ".png"
    (photo.convert("CMYK") if kind == "CMYK" else photo).save(path.with_suffix(ending))
    return path.with_suffix(ending)


def seen(folder: Path, objects: str) -> dict[str, Seen]:
    """What was found, by the pictures' names without ending."""
    content = json.loads((folder / objects).read_text())
    return {
        Path(image["file_name"]).stem: Seen(
            read_label_png(folder / "labels" / f"{Path(image['file_name']).stem}.png", made=False),
            [one for one in content["annotations"] if one["image_id"] == image["id"]],
        )
        for image in content["images"]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exported", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("work", type=Path)
    args = parser.parse_args()
    photos = args.work / "photos"
    photos.mkdir(parents=True)
    sources = sorted(args.photos.rglob("*.jpg"))
    kinds = {}
    for number in range(COUNT):
        kind = KINDS[number % len(KINDS)]
        made = draw(sources[number * len(sources) // COUNT], kind, photos / f"{number:02d}")
        kinds[made.stem] = kind
    python = args.work / "environment/bin/python"
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, args.work / "environment"], check=True)
    subprocess.run(
        ["uv", "pip", "install", "-q", "--python", python, "numpy", "pillow", "onnxruntime"], check=True
    )
    listed = subprocess.run(
        ["uv", "pip", "list", "-q", "--python", python], capture_output=True, text=True, check=True
    )
    print(listed.stdout)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    results = {}
    for name in ("onnx",):
        out = args.work / name
        begun = time.monotonic()
        options = ["--out", out, "--min-score", LEAST]
        subprocess.run(
            [python, args.exported / "segment.py", photos, *options], check=True, env=bare, cwd=args.work
        )
        print(f"{name}: {(time.monotonic() - begun) / COUNT:.2f} s a picture")
        results[name] = seen(out, "objects.json")
    models = [f"--{name}={args.exported}/{name}.safetensors" for name in ("detector", "segmenter")]
    common = [f"--out={args.work}/predicted", f"--min-score={LEAST}", "--device=cpu", "--overlays=0"]
    subprocess.run([sys.executable, "-m", "maskdistill", "predict", photos, *models, *common], check=True)
    expected = seen(args.work / "predicted", "coco.json")
    for name, found in results.items():
        print(f"{name}: {compare(list(expected.values()), [found[key] for key in expected]).sentence()}")
        for kind in KINDS:
            keys = [key for key in expected if kinds[key] == kind]
            one = compare([expected[key] for key in keys], [found[key] for key in keys])
            row = (
                kind,
                one.pictures,
                f"{100 * one.labels:.3f}",
                f"{one.foreground:.4f}",
                f"{one.equal}/{one.objects}",
            )
            print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
