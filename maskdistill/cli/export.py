"""Write a run's models for use without MaskDistill: ONNX, a script that runs them, and a model card.

In --out: segment.py (numpy, Pillow and onnxruntime) with segment.json, the models of --kinds, both models as
safetensors, check.json and README.md. The script is run on the run's pictures and must give the same masks as
predict. With --web there is also a page that segments pictures in a browser. Needs the extra [export].
`maskdistill predict` can use both models without the run (--detector DIR/detector.safetensors --segmenter
DIR/segmenter.safetensors).
"""

import argparse
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskdistill.backbones.students import build_student
from maskdistill.backbones.weights import read_state_dict
from maskdistill.cli.common import add_common, start
from maskdistill.cli.option_types import whole
from maskdistill.config import DetectorConfig, SegmenterConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.detector.inference import detect, inference_config
from maskdistill.detector.model import build_detector
from maskdistill.formats import rle
from maskdistill.product.card import Checked, model_card
from maskdistill.product.export_agreement import Seen, compare
from maskdistill.product.export_pictures import copy_pictures
from maskdistill.product.kinds.onnx import SCRIPT
from maskdistill.product.kinds.registry import KINDS, parse_kinds
from maskdistill.product.kinds.types import ExportKind, Networks
from maskdistill.product.onnx_detector import write_network
from maskdistill.product.onnx_segmenter import OPSET
from maskdistill.product.trained_run import TrainedRun, find_models
from maskdistill.product.verdict import as_metadata, in_lines, is_good
from maskdistill.product.web import page, runtime
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, canonical_json, sha256_file, write_json
from maskdistill.runtime.provenance import make_provenance
from maskdistill.segmenter.build import build_segmenter
from maskdistill.segmenter.inference import segment
from maskdistill.training.checkpoint import load_model, model_metadata, save_model

log = logging.getLogger("maskdistill")
for noisy in ("onnxscript", "onnx_ir"):
    logging.getLogger(noisy).setLevel(logging.WARNING)
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
SOURCE = Path(__file__).parents[1] / "product" / SCRIPT
CPU = torch.device("cpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--run", metavar="DIR", help="folder of a finished run, e.g. results/mine")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write; its content is replaced"
    )
    parser.add_argument(
        "--kinds", default="onnx", metavar="A,B",
        help=f"any of {', '.join(KINDS)}; int8 is a quarter of the size and loses some accuracy, pt2 is the "
        "segmenter by torch.export (default: onnx, which is always written)",
    )  # fmt: skip
    parser.add_argument(
        "--web", action="store_true",
        help="also a page, web/index.html, that segments pictures in a browser without a network; ONNX "
        f"Runtime Web ({runtime.VERSION}, 14 MB) is fetched once",
    )  # fmt: skip
    parser.add_argument("--seed", type=whole(0), help="which seed's models, if the run has several seeds")
    parser.add_argument("--detector", metavar="FILE", help="a detector other than the run's (.safetensors)")
    parser.add_argument("--segmenter", metavar="FILE", help="a segmenter other than the run's (.safetensors)")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Export, compare, describe."""
    start(args, "export")
    kinds = parse_kinds(args.kinds)
    need_libraries()
    if args.web:
        runtime.fetch_runtime(runtime.runtime_folder())
    models = find_models(args.run, args.detector, args.segmenter, args.seed)
    if models.rehearsal:
        log.warning("these models are %s", models.rehearsal)
    if not is_good(models.trust):
        log.warning("%s", in_lines(models.trust))
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "check.json").is_file())):
        raise MaskDistillError(f"{out}: holds something other than an export; give another folder as --out")
    with tempfile.TemporaryDirectory() as temporary, atomic_directory(out) as folder:
        _export(models, kinds, args.run, args.web, Path(temporary), folder)
    log.info("wrote %s", out)


def need_libraries() -> None:
    """Refuse before any work where a library is missing."""
    if absent := [name for name in LIBRARIES if find_spec(name) is None]:
        raise MaskDistillError(
            f"export needs {' and '.join(absent)}, which are not installed: pip install 'maskdistill[export]'"
            " (in a checkout: make export)"
        )


def _export(
    models: TrainedRun,
    kinds: Sequence[ExportKind],
    run: str | None,
    web: bool,
    temporary: Path,
    folder: Path,
) -> None:
    """Fill the folder."""
    metadata = {
        "segmenter": model_metadata(models.segmenter, "segmenter", "probe"),
        "detector": _with_test_settings(model_metadata(models.detector, "detector"), models.test_settings),
    }
    names = [
        "background",
        *(entry["name"] for entry in models.categories(int(metadata["segmenter"]["num_clusters"]))),
    ]
    inputs = {"detector": models.detector, "segmenter": models.segmenter}
    provenance = make_provenance("export", {"opset": OPSET, "kinds": [kind.name for kind in kinds]}, inputs)
    verdict = as_metadata(models.trust)
    pictures, calibration, source = copy_pictures(run, temporary)
    stored = {"classes": names, "provenance": provenance} | verdict
    networks = _networks(models, metadata, stored, calibration, temporary)
    files = {kind.name: kind.write(networks, folder) for kind in kinds}
    shutil.copyfile(SOURCE, folder / SCRIPT)
    least = {"least_score": networks.detector_config.score_thresh,
             "min_score": models.config.pseudo_labels.tau if models.config else 0.5}  # fmt: skip
    write_json(folder / "segment.json", {"classes": names, **least, **files, "provenance": provenance})
    if web:
        onnx_files = {name: folder / file for name, file in files["onnx"].items()}
        shown = {"classes": names, **least, "about": page.about(models)}
        page.write_web_page(onnx_files, shown, runtime.runtime_folder(), folder / page.FOLDER)
    exported = _check(kinds, networks, pictures, folder)
    for name, weights in inputs.items():
        save_model(folder / f"{name}.safetensors", read_state_dict(weights), metadata[name] | _texts(verdict))
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
    agreements = {one.kind.name: asdict(one.agreement) for one in exported}
    record = {"files": sums, "compared_on": source, "agreement": agreements, "trust": models.trust}
    write_json(folder / "check.json", record | {"provenance": provenance})
    card = model_card(
        metadata["segmenter"], metadata["detector"], exported, models.config, models.summary, names, source,
        sums,
        models.trust, models.rehearsal,
    )  # fmt: skip
    (folder / "README.md").write_text(card, encoding="utf-8")


def _with_test_settings(metadata: dict[str, str], settings: str) -> dict[str, str]:
    """A detector's metadata with what it is used with at test time: the file is to do without its run."""
    config = inference_config(parse_section(DetectorConfig, metadata["params"]), settings)
    return metadata | {"params": canonical_json(config.model_dump(mode="json"))}


def _networks(
    models: TrainedRun,
    metadata: Mapping[str, Mapping[str, str]],
    stored: Mapping[str, Any],
    calibration: Sequence[Path],
    temporary: Path,
) -> Networks:
    """Both networks in float32: autocast would leave conversions in the files."""
    params = {name: found["params"] for name, found in metadata.items()}
    plain = {"precision": "float32"}
    segmenting = parse_section(SegmenterConfig, params["segmenter"]).model_copy(update=plain)
    detecting = parse_section(DetectorConfig, params["detector"]).model_copy(update=plain)
    segmenter = build_segmenter(segmenting, int(metadata["segmenter"]["num_clusters"]))
    built = build_detector(
        detecting, int(metadata["detector"]["num_clusters"]), build_student(detecting.arch)
    )
    detector = load_model(models.detector, built).eval()
    network = temporary / "network.onnx"
    side = write_network(detector, detecting, network)
    texts = _texts(stored)
    trained = load_model(models.segmenter, segmenter).eval()
    return Networks(trained, segmenting, detector, detecting, network, side, texts, calibration)


def _check(
    kinds: Sequence[ExportKind], networks: Networks, pictures: Sequence[Path], folder: Path
) -> list[Checked]:
    """Look at pictures with every kind of model and as ``predict`` does.

    Raises:
        MaskDistillError: a kind does not give the same masks and has to.
    """
    expected = [_predicted(networks, picture) for picture in pictures]
    exported = []
    for kind in kinds:
        pairs = [
            (one, found) for one, found in zip(expected, kind.look(folder, pictures), strict=True) if found
        ]
        if not pairs:
            raise MaskDistillError(
                f"{kind.name}: {SCRIPT} can read none of {len(pictures)} pictures of the run"
            )
        checked = Checked(kind, compare([one for one, _ in pairs], [found for _, found in pairs]))
        if kind.exact and not checked.agreement.holds:
            raise MaskDistillError(
                f"{checked.sentence()}: too far apart; nothing was written, try another version"
            )
        log.info("%s", checked.sentence())
        exported.append(checked)
    return exported


def _predicted(networks: Networks, picture: Path) -> Seen:
    """What ``predict`` sees in a picture."""
    photo = np.asarray(load_rgb(picture))
    (labels,) = segment(networks.segmenter, [photo], networks.segmenter_config, CPU)
    objects = detect(networks.detector, torch.tensor(photo).permute(2, 0, 1), CPU)
    for one in objects:
        one["bbox"] = rle.bbox(one["segmentation"])  # as in predict's files
    return Seen(labels, objects)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: canonical_json(value) for name, value in values.items()}
