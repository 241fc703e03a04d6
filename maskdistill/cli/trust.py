"""Whether a run's result can be trusted, by signals that need no label: the verdict, its reasons and the signals.

Judges what the stage consistency found, together with the detector's candidates for the same pictures.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np

from maskdistill import rle, trust
from maskdistill.assignments import shard_number
from maskdistill.cli.common import add_common, start
from maskdistill.confidence import passes
from maskdistill.config import PseudoLabelsConfig, parse_section
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
PICTURED = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. --params is the section pseudo_labels: tau and compare are used."""
    parser.add_argument("--consistency", required=True, metavar="JSON", help="what the stage consistency wrote")
    parser.add_argument("--candidates", required=True, nargs="+", metavar="JSON", help="candidates of all shards")
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Judge and write."""
    start(args, "trust")
    config = parse_section(PseudoLabelsConfig, args.params)
    record = read_json(args.consistency)
    files = {shard_number(path): path for path in args.candidates}
    best = best_candidates(record["images"], files)
    confident = [bool(one and passes(one["score"], config.tau, config.compare)) for one in best]
    frames = [trust.empty() if one is None else trust.to_frame(rle.decode(one["segmentation"])) for one in best]
    before = trust.read_evidence(record)
    evidence = trust.with_detector(before, trust.stacked(frames), np.array(confident, bool))
    verdict = trust.judge(evidence)
    used = sorted({image["shard"] for image in record["images"]})
    inputs = {f"candidates/{Path(files[shard]).name}": Path(files[shard]) for shard in used}
    content = verdict.record() | {
        "provenance": make_provenance(
            "trust", config.model_dump(mode="json", include={"tau", "compare"}),
            inputs | {"consistency": Path(args.consistency)},
        ),
        "before_training": trust.judge(before).record(),
        "images": len(record["images"]),
        "pictures": pictured(evidence, record["images"]),
    }  # fmt: skip
    write_json(args.output, content)
    said = verdict.sentence("without labels")
    log.log(logging.INFO if verdict.level == trust.USE else logging.WARNING, "%s", said)


def best_candidates(images: list[dict[str, Any]], files: dict[int, str]) -> list[dict[str, Any] | None]:
    """The candidate of the highest score of each sampled picture, the first of equal ones; None where there is none.

    Raises:
        MaskDistillError: a shard is missing.
    """
    best: dict[int, dict[str, Any]] = {}
    for shard in sorted({image["shard"] for image in images}):
        if shard not in files:
            raise MaskDistillError(f"--candidates: shard {shard} is missing; give the candidates of every shard")
        for candidate in read_json(files[shard])["candidates"]:
            number = candidate["image_id"]
            if number not in best or candidate["score"] > best[number]["score"]:
                best[number] = candidate
    return [best.get(image["image_id"]) for image in images]


def pictured(evidence: trust.Evidence, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pictures at even steps from where the masks agree least to where they agree most: frames and agreement."""
    agree = (trust.overlaps(evidence.masks, evidence.mirrored) + trust.overlaps(evidence.masks, evidence.rescaled)) / 2
    order = np.argsort(agree, kind="stable")
    places = order[np.unique(np.linspace(0, len(order) - 1, min(PICTURED, len(order))).round().astype(int))]
    found = []
    for place in places.tolist():
        frames = {name: images[place][name] for name in trust.LOOKS}
        if evidence.found is not None:
            frames["candidate"] = rle.encode(evidence.found[place])
        image = {name: images[place][name] for name in ("image_id", "key")}
        found.append(image | {"agreement": float(agree[place]), "frames": frames})
    return found
