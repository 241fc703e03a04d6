"""Whether a result can be trusted, without labels: the verdict, its reasons and its signals.

Judges what the stage consistency found, together with the detector's candidates for the same pictures.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np

from maskdistill.cli.common import add_common, start
from maskdistill.clusters.assignments import shard_number
from maskdistill.config import PseudoLabelsConfig, parse_section
from maskdistill.formats import rle
from maskdistill.pseudo_labels.confidence import passes
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.runtime.provenance import make_provenance
from maskdistill.trust import signals

log = logging.getLogger("maskdistill")
PICTURED = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. --params is the section pseudo_labels: tau and compare are used."""
    parser.add_argument(
        "--consistency", required=True, metavar="JSON", help="what the stage consistency wrote"
    )
    parser.add_argument(
        "--candidates", required=True, nargs="+", metavar="JSON", help="candidates of all shards"
    )
    parser.add_argument("--output", required=True, metavar="JSON")
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Judge and write."""
    start(args, "trust")
    config = parse_section(PseudoLabelsConfig, args.params)
    record = read_json(args.consistency)
    files = {shard_number(path): path for path in args.candidates}
    before = signals.read_evidence(record)
    frames, confident = [], []
    for mask, candidates in zip(before.masks, candidates_of(record["images"], files), strict=True):
        passing = [one for one in candidates if passes(one["score"], config.tau, config.compare)]
        frames.append(matching(mask, passing or candidates[:1]))
        confident.append(bool(passing))
    evidence = signals.with_detector(before, signals.stacked(frames), np.array(confident, bool))
    verdict = signals.judge(evidence)
    used = sorted({image["shard"] for image in record["images"]})
    inputs = {f"candidates/{Path(files[shard]).name}": Path(files[shard]) for shard in used}
    content = verdict.record() | {
        "provenance": make_provenance(
            "trust", config.model_dump(mode="json", include={"tau", "compare"}),
            inputs | {"consistency": Path(args.consistency)},
        ),
        "before_training": signals.judge(before).record(),
        "images": len(record["images"]),
        "pictures": pictured(evidence, record["images"]),
    }  # fmt: skip
    write_json(args.output, content)
    said = verdict.sentence("without labels")
    log.log(logging.INFO if verdict.level == signals.USE else logging.WARNING, "%s", said)


def candidates_of(images: list[dict[str, Any]], files: dict[int, str]) -> list[list[dict[str, Any]]]:
    """The candidates of each sampled picture, by falling score.

    Raises:
        MaskDistillError: a shard is missing.
    """
    found: dict[int, list[dict[str, Any]]] = {image["image_id"]: [] for image in images}
    for shard in sorted({image["shard"] for image in images}):
        if shard not in files:
            raise MaskDistillError(
                f"--candidates: shard {shard} is missing; give the candidates of every shard"
            )
        for candidate in read_json(files[shard])["candidates"]:
            if candidate["image_id"] in found:
                found[candidate["image_id"]].append(candidate)
    return [sorted(candidates, key=lambda one: -one["score"]) for candidates in found.values()]


def matching(mask: signals.Mask, candidates: list[dict[str, Any]]) -> signals.Mask:
    """Of some candidates the one that overlaps a mask most, bool (FRAME, FRAME); empty where there are none.

    A picture shows several objects, and the detector may be surer of another than the one that the mask is
    of.
    """
    frames = [signals.to_frame(rle.decode(one["segmentation"])) for one in candidates]
    if not frames:
        return signals.empty()
    agree = signals.overlaps(np.stack([mask] * len(frames)), np.stack(frames))
    return frames[int(agree.argmax())]


def pictured(evidence: signals.Evidence, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pictures at even steps from the least to the most agreement of their masks."""
    agree = (
        signals.overlaps(evidence.masks, evidence.mirrored)
        + signals.overlaps(evidence.masks, evidence.rescaled)
    ) / 2
    order = np.argsort(agree, kind="stable")
    places = order[np.unique(np.linspace(0, len(order) - 1, min(PICTURED, len(order))).round().astype(int))]
    found = []
    for place in places.tolist():
        frames = {name: images[place][name] for name in signals.LOOKS}
        if evidence.found is not None:
            frames["candidate"] = rle.encode(evidence.found[place])
        image = {name: images[place][name] for name in ("image_id", "key")}
        found.append(image | {"agreement": float(agree[place]), "frames": frames})
    return found
