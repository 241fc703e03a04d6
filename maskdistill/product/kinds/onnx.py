"""ONNX in float32: the models that ``segment.py`` runs."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from maskdistill.formats.label_png import read_label_png
from maskdistill.product.export_agreement import Seen
from maskdistill.product.kinds.types import ExportKind, Networks
from maskdistill.product.onnx_detector import write_detector_onnx
from maskdistill.product.onnx_segmenter import write_segmenter_onnx
from maskdistill.runtime.errors import MaskDistillError

SCRIPT, SEGMENTER, DETECTOR = "segment.py", "segmenter.onnx", "detector.onnx"


def _write(networks: Networks, folder: Path) -> dict[str, str]:
    segmenter = networks.segmenter, networks.segmenter_config
    write_segmenter_onnx(*segmenter, folder / SEGMENTER, networks.metadata)
    wrapped = networks.detector_network, networks.detector_config, networks.mask_side
    write_detector_onnx(*wrapped, folder / DETECTOR, networks.metadata)
    return {"segmenter": SEGMENTER, "detector": DETECTOR}


def look_by_script(folder: Path, pictures: Sequence[Path], *options: str) -> list[Seen | None]:
    """What the exported script sees in pictures, run as a user runs it; None of a picture that it refuses.

    Args:
        folder: the exported one.
        pictures: files of different names.
        options: further ones of the script.

    Raises:
        MaskDistillError: it fails.
    """
    with tempfile.TemporaryDirectory() as out:
        program = [sys.executable, "-I", str(folder / SCRIPT), f"--out={out}", "--min-score=0"]
        ran = subprocess.run(
            [*program, *options, *map(str, pictures)], capture_output=True, text=True, check=False
        )
        if not (Path(out) / "objects.json").is_file():
            last = ran.stderr.strip().rpartition("\n")[2] or f"it ended with {ran.returncode}"
            raise MaskDistillError(f"the exported {SCRIPT} does not run: {last}")
        content = json.loads((Path(out) / "objects.json").read_text(encoding="utf-8"))
        places = {image["file_name"]: image["id"] for image in content["images"]}
        seen: list[Seen | None] = []
        for picture in pictures:
            found = [one for one in content["annotations"] if one["image_id"] == places.get(picture.name)]
            labels = Path(out) / "labels" / f"{picture.stem}.png"
            seen.append(Seen(read_label_png(labels, made=False), found) if picture.name in places else None)
    return seen


KIND = ExportKind(
    name="onnx",
    write=_write,
    look=look_by_script,
    use=(
        "`segment.py` needs numpy, Pillow and onnxruntime alone: `python segment.py PICTURES... --out DIR` "
        "opens pictures upright and in RGB, and writes label maps (PNG) and objects (COCO). Resizing and "
        "normalisation are in the models.\n\n"
        "`segmenter.onnx`: input `picture`, uint8 (B, H, W, 3), RGB, upright, any size and number. Outputs "
        "`labels`, uint8 (B, H, W), and `logits`, float32 (B, K + 1, size, size).\n\n"
        "`detector.onnx`: inputs `picture` as above, and `least_score`, float32 without a"
        " dimension. Outputs of all n objects, picture by picture, best first: `boxes` (n, 4), x1 y1 x2 y2 "
        "in pixels; `labels` (n), 1 the first category; `scores` (n); `masks` (n, S, S), probabilities on a "
        "grid that fills the box, to be enlarged bilinearly and cut at 0.5 (`paste` in `segment.py`); "
        "`pictures` (n), the place in the batch."
    ),
)
