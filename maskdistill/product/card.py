"""A model card (Mitchell et al. 2019) of what is exported, in Markdown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from maskdistill.config import Config
from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.product.verdict import UNKNOWN
from maskdistill.trust.signals import SIGNALS, USE
from maskdistill.workflow.needed_weights import licences


@dataclass(frozen=True)
class Checked:
    """A model that was exported, and what comparing it with torch said.

    Attributes:
        metadata: of the model file.
        holds: whether they agree.
        sentence: how far they agree, in words.
        figures: the same in numbers.
    """

    metadata: Mapping[str, str]
    holds: bool
    sentence: str
    figures: Mapping[str, Any]


def model_card(
    segmenter: Checked,
    detector: Checked,
    config: Config | None,
    summary: Mapping[str, Any],
    names: Sequence[str],
    compared_on: str,
    files: Mapping[str, str],
    verdict: Mapping[str, Any] | None = None,
    rehearsal: str | None = None,
) -> str:
    """The card's text; equal arguments give equal text.

    Args:
        segmenter, detector: what was exported.
        config: of the run; None where models were named without a run.
        summary: the run's ``summary.json``; empty without a run.
        names: of the label values, background first.
        compared_on: pictures that it was checked on.
        files: name -> SHA-256.
        verdict: whether the run's result can be trusted; None where nothing says so.
        rehearsal: see :attr:`maskdistill.product.trained_run.TrainedRun.rehearsal`.
    """
    settings, detecting = json.loads(segmenter.metadata["params"]), json.loads(detector.metadata["params"])
    run = f" of the run `{config.run}`" if config else ""
    parts = [
        f"# Model card: segmenter and detector{run}\n",
        *([] if rehearsal is None else [f"**This is {rehearsal}.**\n"]),
        "Trained by MaskDistill (Van Gansbeke, Vandenhende and Van Gool, 2022, arXiv 2206.06363) on photographs"
        " without labels. Masks were distilled from a self-supervised transformer, clustered into categories, and"
        " taught to a detector (Mask R-CNN) and a segmenter"
        f" ({'DeepLab-v3' if settings['head'] == 'aspp' else settings['head']} on {settings['arch']}).\n",
        "## Verdict\n",
        _verdict(verdict),
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
        f"Check of this export: {segmenter.sentence}. Compared on: {compared_on}.\n",
        "## Using the detector\n",
        _detector_use(detector, detecting, compared_on) if "detector.onnx" in files else f"{detector.sentence}.\n",
        "Without ONNX, the same with masks at full size: `maskdistill predict PHOTOS/ --detector detector.safetensors"
        " --segmenter segmenter.safetensors --out DIR`.\n",
        "## Scores\n",
        _scores(summary),
        "## Provenance\n",
        _provenance(segmenter.metadata, detector.metadata, summary),
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


def _detector_use(detector: Checked, settings: Mapping[str, Any], compared_on: str) -> str:
    return (
        f"`detector.onnx`, a Mask R-CNN on `{detector.metadata['arch']}`: inputs `pixels`, float32 (1, 3, H,"
        " W), RGB values 0 to 255 of a picture that was resized (bilinear, antialiased) to shortest side"
        f" {settings['min_size_test']}, or longest side {settings['max_size']} if that is smaller; and `least_score`,"
        f" float32, no dimension, {settings['score_thresh']} in the run. Outputs of n objects, best first: `boxes` (n,"
        " 4), x1 y1 x2 y2 in pixels of the resized picture, `labels` (n), 1 the first category, `scores` (n), `masks`"
        " (n, S, S), probabilities on a grid that fills the box. Enlarge a mask to its box bilinearly and cut at 0.5:"
        " that, and scaling the boxes back, is left to you. Proposals and non-maximum suppression are inside.\n"
        f"\nCheck of this export: {detector.sentence}. Compared on: {compared_on}.\n"
    )


def _verdict(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return f"{UNKNOWN[0].upper()}{UNKNOWN[1:]}.\n"
    reasons = "\n".join(f"- {reason}" for reason in record["reasons"])
    if record["verdict"] == USE:
        reasons = "Nothing that can be seen without labels speaks against it."
    values = [f"| {signal.title} | {record['signals'][signal.name]:.2f} |" for signal in SIGNALS
              if signal.name in record["signals"]]  # fmt: skip
    table = "\n".join(["| signal, without labels | value |", "|---|---|", *values])
    return f"**{record['verdict']}**\n\n{reasons}\n\n{table}\n"


def _scores(summary: Mapping[str, Any]) -> str:
    stages = {name: summary.get("stages", {}).get(name, {}) for name in ("detector", "segmenter")}
    rows = [f"| {name} | {key} | {metric.text(value)} |" for name, scores in stages.items()
            for key, metric in metrics("card", name).items() if (value := scores.get(key)) is not None]  # fmt: skip
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
    begun = [] if config is None else ["", "Training began with:", "", *(f"- {line}" for line in licences(config))]
    return "\n".join([text, *begun]) + "\n"
