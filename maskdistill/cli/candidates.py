"""Run the trained detector over every usable image of a shard.

--params may hold the detector's whole section or only what inference uses: engine, score_thresh, nms, max_dets,
min_size_test, max_size, rpn_pre_nms, rpn_post_nms. What is not given is as stored with the model, or the default: the
workflow trains detectors without telling them what they are used with.
"""

import argparse
import logging

from torchvision.transforms.functional import pil_to_tensor

from maskdistill.backbones.students import build_student
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.option_types import whole
from maskdistill.config import DetectorConfig, parse_section
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.detector.engines import with_engine
from maskdistill.detector.inference import TEST_KEYS, detect, inference_config
from maskdistill.detector.model import build_detector
from maskdistill.detector.types import Candidate
from maskdistill.runtime.files import write_json
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import initial_weights, make_provenance
from maskdistill.training.checkpoint import load_model, model_metadata

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--shard", type=whole(0), required=True, help="number of the shard")
    parser.add_argument("--model", required=True, help="model of the detector stage (.safetensors)")
    parser.add_argument("--output", required=True, help="candidates of the shard (.json)")
    add_common(parser, device=True)


def run(args: argparse.Namespace) -> None:
    """Detect objects in one shard."""
    device = start_on_device(args, "candidates")
    metadata = model_metadata(args.model, "detector")
    trained = parse_section(DetectorConfig, metadata["params"])
    config = inference_config(trained, args.params)
    num_clusters = int(metadata["num_clusters"])
    detector = load_model(args.model, build_detector(config, num_clusters, build_student(config.arch)))
    model = with_engine(detector, config, num_clusters).eval().to(device)
    rows = image_rows(ok_images(read_manifest(args.manifest, args.shard), support=False))
    candidates: list[Candidate] = []
    empty = 0
    for row in progress(rows, len(rows), f"candidates {args.shard}"):
        found = detect(model, pil_to_tensor(load_rgb(row.file)), device)
        candidates += [{"image_id": row.image_id, **one} for one in found]
        empty += not found
    log.info("%d candidates in %d images, %d without any", len(candidates), len(rows), empty)
    params = config.model_dump(mode="json", include=set(TEST_KEYS)) | {"shard": args.shard}
    provenance = make_provenance("candidates", params, {"manifest": args.manifest, "model": args.model})
    provenance["inputs"] |= initial_weights(metadata["provenance"])
    write_json(args.output, {"provenance": provenance, "candidates": candidates})
