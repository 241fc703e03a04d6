"""Run the trained detector over every usable image of a shard.

--params may hold the detector's whole section or only what inference uses: engine, score_thresh, nms,
max_dets, min_size_test, max_size, rpn_pre_nms, rpn_post_nms. Other settings are those stored with the model,
or the defaults: the workflow does not tell a training what only inference uses.
"""

import argparse
import logging

from torchvision.transforms.functional import pil_to_tensor

from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.option_types import whole
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.detector.inference import TEST_KEYS, detect
from maskdistill.detector.trained import load_detector
from maskdistill.detector.types import Candidate
from maskdistill.runtime.files import write_json
from maskdistill.runtime.job_record import note_settings
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import initial_weights, make_provenance

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
    detector = load_detector(args.model, args.params, device)
    note_settings(detector.config.model_dump(mode="json"))
    rows = image_rows(ok_images(read_manifest(args.manifest, args.shard), support=False))
    candidates: list[Candidate] = []
    empty = 0
    for row in progress(rows, len(rows), f"candidates {args.shard}"):
        found = detect(detector.model, pil_to_tensor(load_rgb(row.file)), device)
        candidates += [{"image_id": row.image_id, **one} for one in found]
        empty += not found
    log.info("%d candidates in %d images, %d without any", len(candidates), len(rows), empty)
    params = detector.config.model_dump(mode="json", include=set(TEST_KEYS)) | {"shard": args.shard}
    provenance = make_provenance("candidates", params, {"manifest": args.manifest, "model": args.model})
    provenance["inputs"] |= initial_weights(detector.provenance)
    write_json(args.output, {"provenance": provenance, "candidates": candidates})
