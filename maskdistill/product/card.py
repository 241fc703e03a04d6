"""A model card (Mitchell et al. 2019) of what is exported, in Markdown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from maskdistill.config import Config
from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.product.export_agreement import Agreement
from maskdistill.product.kinds.types import ExportKind
from maskdistill.product.verdict import UNKNOWN
from maskdistill.product.web import page
from maskdistill.trust.signals import SIGNALS, USE
from maskdistill.workflow.needed_weights import licences


@dataclass(frozen=True)
class Checked:
    """A kind of model that was exported, and how far it is from ``predict``.

    Attributes:
        kind: which one.
        agreement: on pictures that it was compared on.
    """

    kind: ExportKind
    agreement: Agreement

    def sentence(self) -> str:
        """How far they agree, in words."""
        return f"{self.kind.name} against predict: {self.agreement.sentence()}"


def model_card(
    segmenter: Mapping[str, str],
    detector: Mapping[str, str],
    exported: Sequence[Checked],
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
        segmenter, detector: metadata of their files.
        exported: in which forms, the plain one first.
        config: of the run; None where models were named without a run.
        summary: the run's ``summary.json``; empty without a run.
        names: of the label values, background first.
        compared_on: pictures that it was checked on.
        files: name -> SHA-256.
        verdict: whether the run's result can be trusted; None where nothing says so.
        rehearsal: see :attr:`maskdistill.product.trained_run.TrainedRun.rehearsal`.
    """
    settings, detecting = json.loads(segmenter["params"]), json.loads(detector["params"])
    run = f" of the run `{config.run}`" if config else ""
    parts = [
        f"# Model card: segmenter and detector{run}\n",
        *([] if rehearsal is None else [f"**This is {rehearsal}.**\n"]),
        "Trained by MaskDistill (Van Gansbeke, Vandenhende and Van Gool, 2022, arXiv 2206.06363) on "
        "photographs without labels. Masks were distilled from a self-supervised transformer, clustered into "
        "categories, and taught to a detector (Mask R-CNN) and a segmenter"
        f" ({'DeepLab-v3' if settings['head'] == 'aspp' else settings['head']} on {settings['arch']}).\n",
        "## Verdict\n",
        _verdict(verdict),
        "## Files\n",
        "\n".join(
            ["| file | SHA-256 |", "|---|---|", *(f"| `{name}` | {value} |" for name, value in files.items())]
        )
        + "\n",
        "## Use\n",
        f"The segmenter sees a picture squashed to {settings['size']} x {settings['size']} pixels; the "
        f"detector with its shortest side at {detecting['min_size_test']}, or its longest at "
        f"{detecting['max_size']} if that is"
        " smaller. Label values: " + ", ".join(f"{value} {name}" for value, name in enumerate(names)) + ".\n",
        *(
            f"### {one.kind.name}\n\n{one.kind.use}\n\nCheck of this export, {one.sentence()}.\n"
            for one in exported
        ),
        f"Compared on: {compared_on}.\n",
        *([f"### web\n\n{page.USE}\n"] if f"{page.FOLDER}/{page.PAGE}" in files else []),
        "### MaskDistill\n",
        "Without ONNX: `maskdistill predict PHOTOS/ --detector detector.safetensors"
        " --segmenter segmenter.safetensors --out DIR`.\n",
        "## Scores\n",
        _scores(summary),
        "## Provenance\n",
        _provenance(segmenter, detector, summary),
        "## Licence\n",
        _licence(config),
        "## Limits\n",
        "Categories are clusters: they have numbers, not meanings, may mix several kinds of thing or split "
        "one, and say nothing about what is absent from the photographs they were found in. No label was "
        "used, so no accuracy is known for pictures of another kind. Small, crowded or cut-off objects are "
        "found poorly. Not for decisions about people.\n",
    ]
    if config is not None:
        text = yaml.safe_dump(config.model_dump(mode="json", exclude={"ablations"}), sort_keys=False)
        parts += ["## Configuration\n", f"```yaml\n{text}```\n"]
    return "\n".join(parts)


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
            for key, metric in metrics("card",
            name).items() if (value := scores.get(key)) is not None]  # fmt: skip
    if not rows:
        return "None: there was no ground truth to compare with.\n"
    note = (
        "In percent, on the run's own evaluation images; ground truth entered these scores and nothing "
        "else.\n"
    )
    return "\n".join([note, "| stage | score | value |", "|---|---|---|", *rows]) + "\n"


def _provenance(segmenter: Mapping[str, str], detector: Mapping[str, str], summary: Mapping[str, Any]) -> str:
    lines = []
    for name, metadata in (("segmenter", segmenter), ("detector", detector)):
        record = json.loads(metadata["provenance"])
        start = record["inputs"].get("weights")
        begun = f"weights with SHA-256 {start}" if start else "random weights"
        lines.append(
            f"- {name}: `{metadata['arch']}`, seed {record['params'].get('seed')}, began with {begun}; "
            f"manifest {record['inputs'].get('manifest')}; maskdistill {record['version']},"
            f" torch {record['libraries'].get('torch')}"
        )
    images = summary.get("images", {})
    if images:
        lines.append(
            f"- photographs: {images['train']} to train on, {images['quarantined']} unusable ones left out"
        )
    weights = summary.get("provenance", {}).get("weights", {})
    lines += [f"- {name}: SHA-256 {value}" for name, value in sorted(weights.items())]
    return "\n".join(lines) + "\n"


def _licence(config: Config | None) -> str:
    text = (
        "The code is Apache-2.0. The models follow from the photographs and from the weights that training "
        "began with: who owns those says what may be done with these."
    )
    begun = (
        []
        if config is None
        else ["", "Training began with:", "", *(f"- {line}" for line in licences(config))]
    )
    return "\n".join([text, *begun]) + "\n"
