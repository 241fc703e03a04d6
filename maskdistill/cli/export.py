"""Write a run's segmenter as ONNX, checked against torch, both models as safetensors, and a model card.

Needs the extra [export]. What is written can be taken elsewhere: `maskdistill predict` takes both models
without their run (--detector DIR/detector.safetensors --segmenter DIR/segmenter.safetensors).
"""

import argparse
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskdistill.backbones.resnet import build_resnet
from maskdistill.cli.common import add_common, start
from maskdistill.cluster_names import named_categories
from maskdistill.config import SegmenterConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.product.card import model_card
from maskdistill.product.onnx_export import OPSET, TOLERANCE, compare, need_libraries, write_onnx
from maskdistill.product.trained_run import find_models
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, canonical_json, sha256_file, write_json
from maskdistill.runtime.provenance import make_provenance
from maskdistill.segmenter.data import squash
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab
from maskdistill.training.checkpoint import load_model, model_metadata

log = logging.getLogger("maskdistill")
logging.getLogger("onnxscript").setLevel(logging.WARNING)
logging.getLogger("onnx_ir").setLevel(logging.WARNING)
PICTURES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--run", metavar="DIR", help="folder of a finished run, e.g. results/mine")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; what it holds is replaced")
    parser.add_argument("--seed", type=int, help="whose models, where the run has several seeds")
    parser.add_argument("--detector", metavar="FILE", help="another detector than the run's (.safetensors)")
    parser.add_argument("--segmenter", metavar="FILE", help="another segmenter than the run's (.safetensors)")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Export, compare, describe."""
    start(args, "export")
    need_libraries()
    models = find_models(args.run, args.detector, args.segmenter, args.seed)
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "check.json").is_file())):
        raise MaskDistillError(f"{out}: holds something else than an export; remove it or give another --out")
    metadata = model_metadata(models.segmenter, "segmenter", "probe")
    detector = model_metadata(models.detector, "detector")
    config = parse_section(SegmenterConfig, metadata["params"])
    num_clusters = int(metadata["num_clusters"])
    names = ["background", *(entry["name"] for entry in named_categories(num_clusters, models.names))]
    network = DeepLab(config, num_clusters, build_resnet(config.arch, OUTPUT_STRIDE))
    model = load_model(models.segmenter, network)
    provenance = make_provenance(
        "export", {"opset": OPSET}, {"detector": models.detector, "segmenter": models.segmenter}
    )
    with atomic_directory(out) as folder:
        stored = {"classes": names, "size": config.size, "provenance": provenance}
        stored_text = {name: canonical_json(value) for name, value in stored.items()}
        write_onnx(model, config.size, folder / "segmenter.onnx", stored_text)
        pictures, source = _pictures(args.run, config.size)
        agreement = compare(model, folder / "segmenter.onnx", pictures)
        if not agreement.holds:
            raise MaskDistillError(f"{agreement.sentence()}: too far apart; nothing was written, try another version")
        log.info("%s", agreement.sentence())
        shutil.copyfile(models.detector, folder / "detector.safetensors")
        shutil.copyfile(models.segmenter, folder / "segmenter.safetensors")
        files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
        figures = {
            "pictures": agreement.pictures, "source": source, "largest_difference": agreement.largest,
            "largest_logit": agreement.scale, "tolerance": TOLERANCE, "equal_labels": agreement.equal_labels,
        }  # fmt: skip
        write_json(folder / "check.json", {"files": files, "onnxruntime": figures, "provenance": provenance})
        card = model_card(metadata, detector, models.config, models.summary, names, agreement.sentence(), source, files)
        (folder / "README.md").write_text(card, encoding="utf-8")
    log.info("wrote %s", out)


def _pictures(run: str | None, size: int) -> tuple[npt.NDArray[np.uint8], str]:
    """Squashed pictures (N, size, size, 3) to compare on, the run's own if they are there, and what they are."""
    manifest = Path(run or ".") / "data/manifest.csv"
    rows: list[Any] = []
    if run is not None and manifest.is_file():
        rows = [row for row in image_rows(ok_images(read_manifest(manifest))) if Path(row.file).is_file()]
    if rows:
        places = np.linspace(0, len(rows) - 1, min(PICTURES, len(rows))).astype(int)
        found = [squash(np.asarray(load_rgb(rows[place].file)), size) for place in places]
        return np.stack(found), "pictures of the run"
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (PICTURES, 12, 12, 3), dtype=np.uint8)
    return np.stack([squash(picture, size) for picture in coarse]), "generated colour patches"
