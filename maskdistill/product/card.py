"""A model card (Mitchell et al. 2019) of what is exported, in Markdown."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from maskdistill.backbones.registry import find_backbone
from maskdistill.config import Config

STAGE_SCORES = ("miou", "pixel_accuracy", "ap50", "corloc")


def model_card(
    segmenter: Mapping[str, str],
    detector: Mapping[str, str],
    config: Config | None,
    summary: Mapping[str, Any],
    names: Sequence[str],
    agreement: str,
    compared_on: str,
    files: Mapping[str, str],
) -> str:
    """The card's text; equal arguments give equal text.

    Args:
        segmenter, detector: metadata of the model files.
        config: of the run; None where models were named without a run.
        summary: the run's ``summary.json``; empty without a run.
        names: of the label values, background first.
        agreement: how ONNX was checked, in words.
        compared_on: pictures that it was checked on.
        files: name -> SHA-256.
    """
    settings = json.loads(segmenter["params"])
    run = f" of the run `{config.run}`" if config else ""
    parts = [
        f"# Model card: segmenter and detector{run}\n",
        "Trained by MaskDistill (Van Gansbeke, Vandenhende and Van Gool, 2022, arXiv 2206.06363) on photographs"
        " without labels. Masks were distilled from a self-supervised transformer, clustered into categories, and"
        " taught to a detector (Mask R-CNN) and a segmenter (DeepLab-v3).\n",
        "## Files\n",
        "\n".join(["| file | SHA-256 |", "|---|---|", *(f"| `{name}` | {value} |" for name, value in files.items())])
        + "\n",
        "## Using the segmenter\n",
        f"`segmenter.onnx`: input `pixels`, float32 (B, 3, {settings['size']}, {settings['size']}), RGB values 0 to"
        f" 255; a picture is squashed to that size (bicubic, aspect not kept). Output `logits`, float32 (B,"
        f" {len(names)}, {settings['size']}, {settings['size']}); the most likely of the {len(names)} values, enlarged"
        f" by nearest neighbour, is the label map. Normalisation is inside. Label values: "
        + ", ".join(f"{value} {name}" for value, name in enumerate(names))
        + ".\n",
        f"Check of this export: {agreement}. Compared on: {compared_on}.\n",
        "## The detector\n",
        "There is no ONNX of the detector: its proposals, non-maximum suppression and mask pasting follow detectron2"
        " in Python and have no ONNX counterpart with equal results. Use it with"
        " `maskdistill predict PHOTOS/ --detector detector.safetensors --segmenter segmenter.safetensors --out DIR`."
        f" It is a Mask R-CNN with C4 trunk `{detector['arch']}`.\n",
        "## Scores\n",
        _scores(summary),
        "## Provenance\n",
        _provenance(segmenter, detector, summary),
        "## Licence\n",
        _licence(config),
        "## Limits\n",
        "Categories are clusters: they have numbers, not meanings, may mix several kinds of thing or split one, and say"
        " nothing about what is absent from the photographs they were found in. No label was used, so no accuracy is"
        " known for pictures of another kind. Small, crowded or cut-off objects are found poorly. Not for decisions"
        " about people.\n",
    ]
    if config is not None:
        text = yaml.safe_dump(config.model_dump(mode="json", exclude={"ablations"}), sort_keys=False)
        parts += ["## Configuration\n", f"```yaml\n{text}```\n"]
    return "\n".join(parts)


def _scores(summary: Mapping[str, Any]) -> str:
    stages = {name: summary.get("stages", {}).get(name, {}) for name in ("detector", "segmenter")}
    rows = [f"| {name} | {score} | {value:.1f} |" for name, scores in stages.items() for score in STAGE_SCORES
            if (value := scores.get(score)) is not None]  # fmt: skip
    if not rows:
        return "None: there was no ground truth to compare with.\n"
    note = "In percent, on the run's own evaluation images; ground truth entered these scores and nothing else.\n"
    return "\n".join([note, "| stage | score | value |", "|---|---|---|", *rows]) + "\n"


def _provenance(segmenter: Mapping[str, str], detector: Mapping[str, str], summary: Mapping[str, Any]) -> str:
    lines = []
    for name, metadata in (("segmenter", segmenter), ("detector", detector)):
        record = json.loads(metadata["provenance"])
        start = record["inputs"].get("weights")
        begun = f"weights with SHA-256 {start}" if start else "random weights"
        lines.append(
            f"- {name}: `{metadata['arch']}`, seed {record['params'].get('seed')}, began with {begun}; manifest"
            f" {record['inputs'].get('manifest')}; maskdistill {record['version']},"
            f" torch {record['libraries'].get('torch')}"
        )
    images = summary.get("images", {})
    if images:
        lines.append(f"- photographs: {images['train']} to train on, {images['quarantined']} unusable ones left out")
    weights = summary.get("provenance", {}).get("weights", {})
    lines += [f"- {name}: SHA-256 {value}" for name, value in sorted(weights.items())]
    return "\n".join(lines) + "\n"


def _licence(config: Config | None) -> str:
    text = (
        "The code is Apache-2.0. The models follow from the photographs and from the weights that training began with:"
        " who owns those says what may be done with these."
    )
    networks = [config.backbone, config.clusters.backbone] if config else []
    for network in networks:
        if network and network.weights == "official" and (official := find_backbone(network.arch).official):
            text += f" `{network.arch}`: {official.licence}, {official.page}."
    return text + "\n"
