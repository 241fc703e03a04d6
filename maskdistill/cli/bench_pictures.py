"""A few images as every rule of the bench sees them, side by side: its masks, and label maps learnt from
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maskdistill.cli.detections import Detections, paint, read_masks
from maskdistill.cli.label_strips import (
    Column,
    Labels,
    class_colors,
    label_strip,
    read_label_map,
    strip_pictures,
)
from maskdistill.clusters.assignments import shard_number
from maskdistill.config import Config
from maskdistill.data.manifest import ImageRow
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.evaluation.stages import STAGES
from maskdistill.masks.folders import is_folder
from maskdistill.report import montage
from maskdistill.report.bench import rule_name
from maskdistill.report.images import find_images
from maskdistill.report.masks import pick_evenly
from maskdistill.report.scores import Evaluation, ScoreRow
from maskdistill.runtime.errors import MaskDistillError

MOST = 100
"""Masks of an image that have a colour."""


@dataclass(frozen=True)
class Pictured:
    """Files of what is shown, of the first seed.

    Attributes:
        manifest: table of the images.
        ground_truth: ``instances.json``.
        masks: shards of all rules.
        assignments: clusters of each rule's masks.
        labels: folders with shards of label maps, one a rule; empty for none.
    """

    manifest: str
    ground_truth: str
    masks: Sequence[str]
    assignments: Sequence[str]
    labels: Sequence[str]


def folder_of(path: str) -> str:
    """The rule's folder that a path leads through: ``lost-400`` of ``results/run/lost-400/masks/x.json``.

    Raises:
        MaskDistillError: there is none.
    """
    found = [part for part in Path(path).parts if is_folder(part)]
    if not found:
        raise MaskDistillError(f"{path}: expected a path through a folder of masks, such as lost-400/masks/")
    return found[-1]


def pictures(
    files: Pictured, rows: Sequence[ScoreRow], truth: GroundTruth, config: Config
) -> list[dict[str, Any]]:
    """Of each image its key and its strips: the masks, then the label maps of the last stage there is."""
    scored = [image for image in truth.images if image.has_semantic] or list(truth.images)
    shown = [scored[place] for place in pick_evenly(config.bench.examples, len(scored))]
    photos = find_images(files.manifest, {image.id for image in shown})
    subset = GroundTruth(tuple(shown), truth.class_names)
    strips = {"masks": _mask_columns(files, photos, subset, config)}
    if files.labels:
        stage = "segmenter" if Path(files.labels[0]).name == "predictions" else "detector"
        first = {
            rule_name(row, config): min(row.runs, key=lambda run: run.seed != config.seeds[0])
            for row in rows
            if row.stage == stage and row.detector_round == config.detector.rounds
        }
        strips[f"label maps of the {STAGES[stage].title}"] = _label_columns(files, first, truth, config)
    return [
        {
            "key": image.key,
            "strips": [
                strip_pictures(f"{image.key}, {title}", label_strip(
                    photos[image.id].file, image, columns, truth, files.ground_truth,
                )) | {"key": title}
                for title, columns in strips.items()
            ],
        }
        for image in shown
    ]  # fmt: skip


def _mask_columns(
    files: Pictured, photos: Mapping[int, ImageRow], shown: GroundTruth, config: Config
) -> list[Column]:
    """A column a rule, in the order of the files: its masks, a colour each."""
    shards = {row.shard for row in photos.values()}
    clusters = {folder_of(path): path for path in files.assignments}
    found: dict[str, list[str]] = {}
    for path in files.masks:
        if shard_number(path) in shards:
            found.setdefault(folder_of(path), []).append(path)
    columns, colors = [], dict(enumerate(montage.category_colors(MOST), start=1))
    for rule, paths in found.items():
        if rule not in clusters:
            raise MaskDistillError(f"--assignments: none of {rule}; give those of each rule in --masks")
        masks = read_masks(paths, clusters[rule], config.clusters.total, shown)
        columns.append(Column(rule, partial(_objects, masks), colors))
    return columns


def _objects(masks: Detections, image: TruthImage) -> Labels:
    """The masks of an image as a map of their numbers, from 1."""
    numbered = [{**mask, "category_id": number} for number, mask in enumerate(masks[image.id], start=1)]
    return paint(image, numbered).astype(np.uint8)  # type: ignore[arg-type]


def _label_columns(
    files: Pictured, first: Mapping[str, Evaluation], truth: GroundTruth, config: Config
) -> list[Column]:
    """A column a rule: its label maps in the colours of the classes that clusters are matched with."""
    classes, columns = class_colors(truth), []
    for folder in files.labels:
        rule = folder_of(folder)
        if rule not in first:
            raise MaskDistillError(f"--labels {folder}: --evaluations has none of its stage for {rule}")
        colors = montage.matched_colors(config.clusters.total, first[rule].matching, classes)
        columns.append(Column(rule, partial(_label_map, Path(folder)), colors))
    return columns


def _label_map(folder: Path, image: TruthImage) -> Labels:
    return read_label_map(folder, image.key)
