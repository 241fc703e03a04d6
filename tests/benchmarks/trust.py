"""Signals of trust beside real scores: on scenes that the verdict's limits are fixed on, and on photographs.

    .venv/bin/python tests/benchmarks/trust.py --into /tmp/worlds    # writes results/benchmarks/trust.md

Every world is a run up to its clusters (maskdistill/cli, in this process) with one of several weights: those
of the configuration, mixtures of these with random ones, which stand for trainings that went half the way,
and random ones alone. Nothing is trained. Ground truth enters the score columns alone. What lies in --into is
not made again, so that other limits cost seconds.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from maskdistill.backbones.vit import load_vit
from maskdistill.backbones.weights import save_weights
from maskdistill.cli import run_stage
from maskdistill.config import Config, load_config
from maskdistill.config.roles import label_free
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.formats import rle
from maskdistill.runtime.files import canonical_json, read_json
from maskdistill.trust import signals as trust
from maskdistill.trust.signals import SIGNALS, Evidence, Verdict, judge

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "results/benchmarks/trust.md"
ARCH = "vit_micro_patch8"
TEXT = """# Whether a verdict without labels is right

`tests/benchmarks/trust.py` makes this page. Shares of 1. Signals and verdict see no label, the scores right
of them do. "weights 1": those of the configuration, "0": random ones, between: mixtures of both. Masks and
clusters alone, as before a training: the detector's signal comes later.

## Limits

| signal | what | do not use below | use from |
|---|---|---|---|
{limits}

The worst signal decides.

## Development scenes: the limits were fixed on these

Rows without scores hold masks that are wrong for certain, with perfect steadiness.

{development}

## Photographs: the limits hold on these, and were not fixed on them

{held_out}
"""
SCORES = {
    "iou": "IoU with an object",
    "miou": "mIoU",
    "otsu": "Otsu's",
    "corloc": "CorLoc",
    "purity": "purity",
}


class World(NamedTuple):
    """A data set, weights of masks and clusters, and whether limits may be fixed on it.

    Attributes:
        share: of the weights of the configuration in a mixture with random ones: 1 themselves, 0 random.
    """

    name: str
    example: str
    data: dict[str, Any]
    share: float
    development: bool

    def config(self, folder: Path) -> Config:
        """The example's settings, on this data, with these weights; mixtures go into the folder."""
        values = yaml.safe_load((ROOT / "config" / self.example).read_text())
        values["data"] |= self.data
        for network in (
            values["backbone"],
            values["clusters"].setdefault("backbone", dict(values["backbone"])),
        ):
            network["weights"] = mixed(network["weights"], self.share, folder)
        return load_config(values, self.example)


def worlds(folder: Path) -> Iterator[World]:
    """Scenes of development seeds at several difficulties and by several weights, and photographs."""
    counts = {"num_train": 60, "num_eval": 30}

    def scenes(seed: int, difficulty: float, share: float) -> World:
        data = counts | {"seed": seed, "difficulty": difficulty}
        return World(f"scenes {seed}, {difficulty}", "demo.yaml", data, share, development=True)

    yield scenes(77, 0.3, 1.0)
    yield World("pets", "examples/pets.yaml", {}, 1.0, development=False)
    yield from (scenes(77, difficulty, 1.0) for difficulty in (0.8, 0.1, 0.5))
    yield World(
        "VOC excerpt", "examples/voc2007.yaml", {"root": fewer(folder / "voc")}, 1.0, development=False
    )
    yield from (scenes(77, 0.3, share) for share in (0.85, 0.7, 0.0))
    yield scenes(78, 0.3, 1.0)
    yield World("pets", "examples/pets.yaml", {}, 0.0, development=False)


def fewer(folder: Path) -> str:
    """The pictures of the VOC excerpt that have masks, and every eighth of the others, in VOC's layout."""
    root = (
        ROOT / yaml.safe_load((ROOT / "config/examples/voc2007.yaml").read_text())["data"]["root"]
    ).resolve()
    (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for name in (
        "JPEGImages",
        "Annotations",
        "SegmentationClass",
        "SegmentationObject",
        "ImageSets/Segmentation",
    ):
        if not (folder / name).exists():
            (folder / name).symlink_to(root / name)
    masked = (root / "ImageSets/Segmentation/train.txt").read_text().split()
    others = [line.split()[0] for line in (root / "ImageSets/Main/trainval.txt").read_text().splitlines()]
    listed = [*masked, *[key for key in others if key not in masked][::8]]
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(listed) + "\n")
    return str(folder)


def mixed(weights: str, share: float, folder: Path) -> str:
    """Path of weights between random ones (share 0) and those of a file (share 1)."""
    if share in (0.0, 1.0):
        return weights if share else "random"
    path = folder / f"{Path(weights).stem}-{share:g}.safetensors"
    if not path.is_file():
        own, random = (load_vit(ARCH, name).state_dict() for name in (str(ROOT / weights), "random"))
        mixed = {
            name: torch.lerp(random[name], own[name], share) for name in own if own[name].is_floating_point()
        }
        save_weights(own | mixed, path, {})
    return str(path)


def make(folder: Path, config: Config) -> None:
    """All stages of a run up to the clusters' consistency, and the scores of masks and of Otsu's
    threshold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    k, scenes = str(config.clusters.total), config.data.kind == "scenes"
    clusters = config.clusters.backbone or config.backbone
    manifest, threads = f"--manifest={folder}/manifest.csv", "--threads=1"
    network = {
        "features": [
            f"--arch={config.backbone.arch}",
            f"--weights={config.backbone.weights}",
            "--device=cpu",
        ],
        "embeddings": [f"--arch={clusters.arch}", f"--weights={clusters.weights}", "--device=cpu"],
    }
    sections = {
        name: json.loads(getattr(config, name).model_dump_json())
        for name in ("features", "masks", "clusters")
    }
    params = {name: f"--params={canonical_json(values)}" for name, values in sections.items()}
    masks, embeddings, truth = f"{folder}/masks/shard-0.json", f"{folder}/e/shard-0.h5", f"{folder}/truth"
    if scenes:
        run_stage(
            "scenes", [f"--params={config.data.model_dump_json()}", f"--output={folder}/scenes", threads]
        )
    source = [f"--params={canonical_json(label_free(config.data))}", "--num-shards=1"]
    source += [f"--scenes-dir={folder}/scenes"] if scenes else []
    run_stage("manifest", [*source, f"--output={folder}/manifest.csv", threads])
    run_stage("features", [manifest, "--shard=0", *network["features"], params["features"], threads,
                           f"--output={folder}/f.h5"])  # fmt: skip
    run_stage(
        "masks",
        [f"--features={folder}/f.h5", manifest, "--shard=0", params["masks"], f"--output={masks}", threads],
    )
    (folder / "f.h5").unlink()
    run_stage("embeddings", [manifest, "--shard=0", f"--masks={masks}", *network["embeddings"],
    params["clusters"],
                             f"--output={embeddings}", threads])  # fmt: skip
    fitted = [
        manifest,
        f"--embeddings={embeddings}",
        f"--num-clusters={k}",
        "--seed=0",
        "--device=cpu",
        threads,
    ]
    run_stage("clusters", [*fitted, params["clusters"], f"--output={folder}/clusters.json",
                           f"--assignments={folder}/assignments.h5"])  # fmt: skip
    run_stage("consistency", [*fitted, *network["features"], f"--masks={masks}",
    f"--params={canonical_json(sections)}",
                              f"--output={folder}/consistency.json"])  # fmt: skip
    run_stage("ground_truth", [f"--params={config.data.model_dump_json()}", manifest, "--max-dropped=1",
                               f"--output={truth}", threads])  # fmt: skip
    scored = [manifest, f"--ground-truth={truth}/instances.json", f"--num-clusters={k}", threads,
              f"--params={config.evaluation.model_copy(update={'bootstrap': 0}).model_dump_json()}",
    ]  # fmt: skip
    run_stage("evaluation", ["--stage=masks", *scored, f"--masks={masks}",
    f"--assignments={folder}/assignments.h5",
                             f"--output={folder}/score.json"])  # fmt: skip
    run_stage("baselines", [*scored, f"--output={folder}/baselines.json"])


def scores(folder: Path) -> dict[str, float]:
    """Of a world: what ground truth says, as shares of 1."""
    masks, otsu = read_json(folder / "score.json"), read_json(folder / "baselines.json")["otsu"]
    found = {name: masks[name] for name in ("miou", "corloc", "purity")} | {"otsu": otsu["miou"]}
    return {"iou": best_overlap(folder)} | {
        name: value / 100 for name, value in found.items() if value is not None
    }


def best_overlap(folder: Path) -> float:
    """Mean over the pictures with ground truth of the largest IoU of their first mask with an object."""
    truth = read_json(folder / "truth/instances.json")
    objects: dict[int, list[Any]] = {image["id"]: [] for image in truth["images"]}
    for item in truth["annotations"]:
        if "segmentation" in item:
            objects[item["image_id"]].append(item["segmentation"])
    first: dict[int, Any] = {}
    for record in read_json(folder / "masks/shard-0.json")["masks"]:
        first.setdefault(record["image_id"], record["segmentation"])
    known = {number: found for number, found in objects.items() if found and number in first}
    alone = np.zeros(max(map(len, known.values())), bool)
    return float(
        np.mean(
            [rle.iou([first[number]], found, alone[: len(found)]).max() for number, found in known.items()]
        )
    )


def wrong_masks(folder: Path, evidence: Evidence) -> Iterator[tuple[str, Evidence]]:
    """The same pictures with masks that are wrong for certain: what is around the object, a shifted one,
    Otsu's, a box.

    They are as steady as can be; only what lies in the pictures tells.
    """
    files = {row.image_id: row.file for row in image_rows(ok_images(read_manifest(folder / "manifest.csv")))}
    images = read_json(folder / "consistency.json")["images"]
    photos = [np.asarray(load_rgb(files[image["image_id"]])) for image in images]
    wrong = {
        "the rest of the picture": ~evidence.masks,
        "masks shifted by a quarter": np.roll(evidence.masks, trust.FRAME // 4, axis=(1, 2)),
        "Otsu's threshold": evidence.otsu,
        "one centred box": trust.centre_boxes(
            evidence.masks.mean(axis=(1, 2)).mean() * np.ones(len(evidence.masks))
        ),
    }
    for name, masks in wrong.items():
        edges = [trust.edge_contrast(photo, mask) for photo, mask in zip(photos, masks, strict=True)]
        yield name, replace(evidence, masks=masks, mirrored=masks, rescaled=masks, edges=np.array(edges))


def table(rows: list[tuple[str, Verdict, dict[str, float]]]) -> list[str]:
    """Lines of a table: worlds, signals, verdict, scores."""
    names = [
        signal.name for signal in SIGNALS if any(signal.name in verdict.signals for _, verdict, _ in rows)
    ]
    lines = [f"| world | {' | '.join(names)} | verdict | {' | '.join(SCORES.values())} |"]
    lines += ["|" + "---|" * (2 + len(names) + len(SCORES))]
    for name, verdict, real in rows:
        told = [f"{verdict.signals[name]:.2f}" if name in verdict.signals else "" for name in names]
        scored = [f"{real[name]:.2f}" if name in real else "" for name in SCORES]
        lines.append(f"| {name} | {' | '.join(told)} | {verdict.level} | {' | '.join(scored)} |")
    return lines


def page(found: list[tuple[World, Path]]) -> str:
    """The page of the worlds that were made."""
    rows: dict[bool, list[tuple[str, Verdict, dict[str, float]]]] = {True: [], False: []}
    for world, folder in found:
        evidence = trust.read_evidence(read_json(folder / "consistency.json"))
        rows[world.development].append(
            (f"{world.name}, weights {world.share:g}", judge(evidence), scores(folder))
        )
        if world.development and world.share == 1 and world.data["difficulty"] == 0.3:
            for name, other in wrong_masks(folder, evidence):
                rows[True].append((f"{world.name}, {name}", judge(other), {}))
    limits = [f"| {signal.name} | {signal.title} | {signal.avoid:.2f} | {signal.use:.2f} |"
              for signal in SIGNALS if signal.avoid is not None and signal.use is not None]  # fmt: skip
    return TEXT.format(
        development="\n".join(table(rows[True])),
        held_out="\n".join(table(rows[False])),
        limits="\n".join(limits),
    )


def main() -> None:
    """Make the worlds that are not there, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True, help="folder for the worlds")
    parser.add_argument("--output", type=Path, default=PAGE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.chdir(ROOT)
    found = []
    for world in worlds(args.into):
        folder = args.into / f"{world.name} {world.share:g}".replace(",", "").replace(" ", "-")
        if not (folder / "baselines.json").is_file():
            make(folder, world.config(args.into))
        found.append((world, folder))
        args.output.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
