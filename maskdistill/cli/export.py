"""Write a run's segmenter and detector as ONNX, checked against torch, both as safetensors, and a model card.

A detector on a transformer is written as safetensors alone.
Needs the extra [export]. What is written can be taken elsewhere: `maskdistill predict` takes both models
without their run (--detector DIR/detector.safetensors --segmenter DIR/segmenter.safetensors).
"""

import argparse
import logging
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import nn

from maskdistill.backbones.registry import BACKBONES
from maskdistill.backbones.students import build_student
from maskdistill.backbones.weights import read_state_dict
from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.config import DetectorConfig, SegmenterConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.data.picture_refs import file_of, remote_url
from maskdistill.detector.inference import inference_config
from maskdistill.detector.model import build_detector
from maskdistill.product.card import Checked, model_card
from maskdistill.product.onnx_detector import TOLERANCES, compare_detections, write_detector_onnx
from maskdistill.product.onnx_export import OPSET, TOLERANCE, compare, need_libraries, write_onnx
from maskdistill.product.trained_run import find_models
from maskdistill.product.verdict import as_metadata, in_words, is_good
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, canonical_json, sha256_file, write_json
from maskdistill.runtime.provenance import make_provenance
from maskdistill.segmenter.build import build_segmenter
from maskdistill.segmenter.data import squash
from maskdistill.training.checkpoint import load_model, model_metadata, save_model

log = logging.getLogger("maskdistill")
logging.getLogger("onnxscript").setLevel(logging.WARNING)
logging.getLogger("onnx_ir").setLevel(logging.WARNING)
PICTURES = 8
SIDE = 256
Rgb: TypeAlias = npt.NDArray[np.uint8]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--run", metavar="DIR", help="folder of a finished run, e.g. results/mine")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; what it holds is replaced")
    parser.add_argument("--seed", type=whole(0), help="whose models, where the run has several seeds")
    parser.add_argument("--detector", metavar="FILE", help="another detector than the run's (.safetensors)")
    parser.add_argument("--segmenter", metavar="FILE", help="another segmenter than the run's (.safetensors)")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Export, compare, describe."""
    start(args, "export")
    need_libraries()
    models = find_models(args.run, args.detector, args.segmenter, args.seed)
    if models.rehearsal:
        log.warning("these models are %s", models.rehearsal)
    if not is_good(models.trust):
        log.warning("%s", in_words(models.trust))
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "check.json").is_file())):
        raise MaskDistillError(f"{out}: holds something else than an export; give another folder as --out")
    metadata = {
        "segmenter": model_metadata(models.segmenter, "segmenter", "probe"),
        "detector": _with_test_settings(model_metadata(models.detector, "detector"), models.test_settings),
    }
    names = ["background", *(entry["name"] for entry in models.categories(int(metadata["segmenter"]["num_clusters"])))]
    provenance = make_provenance(
        "export", {"opset": OPSET}, {"detector": models.detector, "segmenter": models.segmenter}
    )
    pictures, source = _pictures(args.run)
    verdict = as_metadata(models.trust)
    stored = {"classes": names, "provenance": provenance} | verdict
    with atomic_directory(out) as folder:
        segmenter = _segmenter(models.segmenter, metadata["segmenter"], stored, pictures, folder / "segmenter.onnx")
        detector = _detector(models.detector, metadata["detector"], stored, pictures, folder / "detector.onnx")
        for checked in (segmenter, detector):
            if not checked.holds:
                raise MaskDistillError(f"{checked.sentence}: too far apart; nothing was written, try another version")
            log.info("%s", checked.sentence)
        for name, weights in (("detector", models.detector), ("segmenter", models.segmenter)):
            save_model(folder / f"{name}.safetensors", read_state_dict(weights), metadata[name] | _texts(verdict))
        files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
        figures = {"source": source, "segmenter": segmenter.figures, "detector": detector.figures}
        record = {"files": files, "onnxruntime": figures, "trust": models.trust, "provenance": provenance}
        write_json(folder / "check.json", record)
        card = model_card(
            segmenter, detector, models.config, models.summary, names, source, files, models.trust, models.rehearsal
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
    log.info("wrote %s", out)


def _with_test_settings(metadata: dict[str, str], settings: str) -> dict[str, str]:
    """A detector's metadata with what it is used with at test time: the file is to do without its run."""
    config = inference_config(parse_section(DetectorConfig, metadata["params"]), settings)
    return metadata | {"params": canonical_json(config.model_dump(mode="json"))}


def _segmenter(
    weights: Path, metadata: dict[str, str], stored: dict[str, Any], pictures: list[Rgb], path: Path
) -> Checked:
    config = parse_section(SegmenterConfig, metadata["params"]).model_copy(update={"precision": "float32"})
    network = build_segmenter(config, int(metadata["num_clusters"]))
    model = load_model(weights, network)
    write_onnx(model, config.size, path, _texts(stored | {"size": config.size}))
    agreement = compare(model, path, np.stack([squash(picture, config.size) for picture in pictures]))
    figures = {
        "pictures": agreement.pictures, "largest_difference": agreement.largest, "largest_logit": agreement.scale,
        "tolerance": TOLERANCE, "equal_labels": agreement.equal_labels,
    }  # fmt: skip
    return Checked(metadata, agreement.holds, agreement.sentence(), figures)


def _detector(
    weights: Path, metadata: dict[str, str], stored: dict[str, Any], pictures: list[Rgb], path: Path
) -> Checked:
    if metadata["arch"] in BACKBONES:
        sentence = (
            f"detector: not written as ONNX, whose trace would fix the pictures' size for the transformer"
            f" {metadata['arch']}; use detector.safetensors with maskdistill predict"
        )
        return Checked(metadata, True, sentence, {"onnx": False})
    # float32 whatever it was trained in: autocast would become conversions in the file.
    config = parse_section(DetectorConfig, metadata["params"]).model_copy(update={"precision": "float32"})
    network = build_detector(config, int(metadata["num_clusters"]), build_student(config.arch))
    model: nn.Module = load_model(weights, network).eval()
    resizing = {"short_side": config.min_size_test, "max_size": config.max_size, "least_score": config.score_thresh}
    write_detector_onnx(model, path, _texts(stored | resizing))
    agreement = compare_detections(model, path, pictures, config.score_thresh)
    figures = {
        "pictures": agreement.pictures, "objects": agreement.objects, "equal": agreement.equal,
        "tolerances": TOLERANCES,
    }  # fmt: skip
    return Checked(metadata, agreement.holds, agreement.sentence(), figures)


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: canonical_json(value) for name, value in values.items()}


def _pictures(run: str | None) -> tuple[list[Rgb], str]:
    """Pictures (H, W, 3) to compare on, the run's own if they are there, and what they are."""
    manifest = Path(run or ".") / "data/manifest.csv"
    if run is not None and manifest.is_file():
        rows = image_rows(ok_images(read_manifest(manifest, shard=0)))
        spread = np.linspace(0, len(rows) - 1, min(PICTURES, len(rows))).astype(int)
        files = [rows[place].file for place in spread]
        files = [file for file in files if remote_url(file) or Path(file_of(file)).is_file()]
        if files:
            return [np.asarray(load_rgb(file)) for file in files], "pictures of the run"
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (PICTURES, 12, 12, 3), dtype=np.uint8)
    return [squash(picture, SIDE) for picture in coarse], "generated colour patches"
