"""The files of a small finished run, made up by hand: what the report is made from, without running
anything.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from maskdistill.cli import main
from maskdistill.clusters.assignments import write_assignments
from maskdistill.config import load_config
from maskdistill.data.manifest import COLUMNS, read_manifest, write_manifest
from maskdistill.formats import rle
from maskdistill.formats.label_png import write_label_png
from maskdistill.runtime.files import sealed_path, write_json
from maskdistill.trust.signals import FRAME

HEIGHT, WIDTH, K = 48, 64, 3
SEEDS = (11, 12)
CLASSES = {1: "disc", 2: "<b>square</b>"}
MATCHING = {"0": 0, "1": 2, "2": 1, "3": None}
HOSTILE = "<script>alert(1)</script>".replace("/", ":")
MIOU = {"masks": (40.0, 43.0), "detector": (51.5, 50.1), "segmenter": (57.25, 61.0)}
VERDICT = {
    "verdict": "do not use",
    "reasons": ["outlines of masks <do> not follow what is seen (0.90)"],
    "signals": {"mirrored": 0.75, "edges": 0.9, "otsu": 0.3},
}
IOU = {"masks": (30.0, 36.0), "detector": (41.0, 44.0), "segmenter": (52.0, 55.0)}


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo (H, W, 3) and truth (H, W): a disc (1) left and a square (2) right, on noise."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    truth = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    truth[(rows - 22 - number % 20) ** 2 + (columns - 18) ** 2 < 150] = 1
    truth[14:34, 40 : 54 + number % 10] = 2
    photo = rng.integers(90, 130, (HEIGHT, WIDTH, 3))
    photo[truth == 1] = (200, 60, 50)
    photo[truth == 2] = (50, 90, 210)
    return photo.astype(np.uint8), truth


def as_clusters(truth: np.ndarray) -> np.ndarray:
    """The label map that MATCHING turns into ``truth`` exactly."""
    swapped: np.ndarray = np.array([0, 2, 1], dtype=np.uint8)[truth]
    return swapped


def provenance(stage: str, **inputs: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "params": {"seed": 5},
        "inputs": inputs,
        "version": "0.1.0",
        "libraries": {"torch": "9.8.7"},
    }


class Synthetic:
    """Six images, or more, in two shards, a quarantined file, two seeds, three clusters; knows its command
    line.
    """

    def __init__(self, root: Path, images: int = 6, **config: Any) -> None:
        self.root = root
        self.config = {
            "run": "tiny",
            "seeds": list(SEEDS),
            "data": {"kind": "folder", "root": "photos"},
            "backbone": {"weights": "/secret/place/dino_vits16.pth"},
            "clusters": {"num_clusters": K},
            "detector": {"weights": "random"},
            "segmenter": {"weights": "random"},
            "pseudo_labels": {"tau": 0.75},
            "crf": {"rounds": 0},
            "report": {"examples": 4, "per_cluster": 2},
        } | config
        self.seed = root / "topk-0.4" / "k-3" / "seed-11"
        self.tau = self.seed / "tau-0.75"
        self.round = self.tau / "hard-0.2" / "crf-0"
        self.scenes = {number: scene(number) for number in range(1, images + 1)}
        self.keys = {number: HOSTILE if number == 1 else f"sub/photo-{number}" for number in self.scenes}
        self.write_data()
        self.write_stages()
        self.write_scores()

    def finish(self, names: dict[str, str]) -> Path:
        """Make it a finished run of one seed, with a summary and these names of clusters; its folder."""
        config = load_config(self.config | {"seeds": [11], "pseudo_labels": {"tau": 0.75, "compare": "ge"}})
        table = read_manifest(self.root / "manifest.csv")
        write_manifest(self.root / "data/manifest.csv", table.assign(path=table["file"]))
        summary = {"provenance": {"config": config.model_dump(mode="json")}, "clusters": {"names": names}}
        write_json(self.root / "summary.json", summary)
        return self.root

    def shard(self, number: int) -> int:
        return int(number > len(self.scenes) // 2)

    def write_data(self) -> None:
        rows = []
        for number, (photo, truth) in self.scenes.items():
            file = self.root / "photos" / f"{self.keys[number]}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).save(file)
            write_label_png(self.root / "truth" / "semantic" / f"{self.keys[number]}.png", truth)
            rows.append(
                (
                    number,
                    self.keys[number],
                    str(file),
                    WIDTH,
                    HEIGHT,
                    "RGB",
                    "",
                    self.shard(number),
                    True,
                    True,
                    "ok",
                    "",
                )
            )
        reason = "truncated <or> damaged (OSError)"
        rows.append(
            (
                len(self.scenes) + 1,
                "broken",
                "photos/<img src=x>.jpg",
                0,
                0,
                "",
                "",
                1,
                True,
                True,
                "quarantined",
                reason,
            )
        )
        write_manifest(
            self.root / "manifest.csv", pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS), {".dng": 2}
        )
        categories = [{"id": number, "name": name} for number, name in CLASSES.items()]
        content = {
            "images": [{"id": number} for number in self.scenes],
            "annotations": [],
            "categories": categories,
        }
        write_json(self.root / "truth" / "instances.json", content)
        dropped = {
            "kind": "annotation",
            "entry": "t.json: annotations[3] (id <i>)",
            "reason": "its box is empty",
        }
        truth = {
            "counts": {"annotation": 1},
            "dropped": [dropped],
            "of": {"images": 3, "has_masks": 2, "has_semantic": 3},
        }
        write_json(self.root / "truth" / "dropped.json", truth)

    def write_stages(self) -> None:
        assignments = []
        for shard in (0, 1):
            masks: list[dict[str, Any]] = []
            candidates: list[dict[str, Any]] = []
            name = f"shard-{shard:04d}"
            for number, (_, truth) in self.scenes.items():
                if self.shard(number) != shard:
                    continue
                labels = as_clusters(truth)
                write_label_png(self.tau / "pseudo_labels" / name / f"{self.keys[number]}.png", labels)
                write_label_png(self.round / "predictions" / name / f"{self.keys[number]}.png", labels)
                for label, score in ((1, 0.95), (2, 0.75), (3, 0.2)):
                    mask = labels == label if label < 3 else truth > 9
                    mask[0, 0] |= label == 3
                    code = rle.encode(mask)
                    found = {"image_id": number, "bbox": rle.bbox(code), "segmentation": code}
                    candidates.append(found | {"category_id": label, "score": score})
                if number == 6:
                    continue
                code = rle.encode(truth == 1)
                share = float((truth == 1).mean())
                masks.append(
                    found | {"key": self.keys[number], "segmentation": code, "coverage": share, "score": 1.0}
                )
                place = {
                    "image_id": number,
                    "mask_index": len(masks) - 1,
                    "shard": shard,
                    "distance": 1.0 / number,
                }
                assignments.append(place | {"cluster": 1 if number < 5 else 2})
            write_json(
                self.root / "topk-0.4" / "masks" / f"{name}.json",
                {"provenance": provenance("masks", weights="ab" * 32), "masks": masks},
            )
            write_json(
                self.seed / "candidates" / f"{name}.json",
                {"provenance": provenance("candidates"), "candidates": candidates},
            )
            summary = {
                "provenance": provenance("pseudo_labels"),
                "images": 3,
                "kept": 4,
                "fallback": 1,
                "empty": shard,
            }
            summary["mean_coverage"] = 0.5 if shard else 0.25
            summary["mean_unsure"] = 0.2 if shard else 0.1
            write_json(self.tau / "pseudo_labels" / name / "summary.json", summary)
            write_json(
                self.round / "predictions" / name / "summary.json", {"provenance": provenance("predictions")}
            )
        for seed in SEEDS:
            sizes = [0, 4, 1] if seed == SEEDS[0] else [1, 2, 2]
            clusters = {"num_clusters": K, "inertia": 1.0, "sizes": sizes}
            folder = self.root / "topk-0.4" / "k-3" / f"seed-{seed}"
            write_json(folder / "clusters.json", clusters)
            with write_assignments(folder / "assignments.h5", len(assignments), K, {}) as writer:
                for row in assignments:
                    columns = ([row[name]] for name in ("image_id", "mask_index", "cluster", "distance"))
                    writer.append(int(row["shard"]), *columns)
        table = {"num_clusters": [2, 3, 6], "masks": 5, "inertia": [4.0, 2.0, 1.0]}
        scores = {"simplified_silhouette": [0.3, 0.4, 0.2], "silhouette": [0.2, 0.1, 0.3]}
        self.write_csv("choose_k.csv", pd.DataFrame(table | scores))
        row = {"images_kept": 5, "objects_kept": 9, "fallback": 1, "empty": 0, "mean_coverage": 0.3}
        write_json(
            self.root / "label_summary.json", {"by_tau": [{"tau": tau} | row for tau in (0.0, 0.5, 0.9)]}
        )
        for name in ("pretrain-backbone", "detector"):
            steps = {
                "step": range(5),
                "loss": np.arange(5.0),
                "loss_a": 1.0,
                "loss_b": 2.0,
                "feature_std": 0.1,
            }
            self.write_csv(f"{name}.csv", pd.DataFrame(steps))
        for file, seconds in {
            "features/0000": 2.5,
            "features/0001": 3.25,
            "masks/topk-0.4/0000": 60.0,
        }.items():
            target = self.root / "benchmarks" / f"{file}.tsv"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:02\t-\n{seconds}\t0:00:02\t812.5\n")

        square = np.zeros((FRAME, FRAME), dtype=np.bool_)
        square[20:60, 20:60] = True
        frames = {
            "mask": rle.encode(square),
            "mirrored": rle.encode(square),
            "rescaled": rle.encode(square & False),
        }
        pictured = [
            {"image_id": number, "key": self.keys[number], "agreement": 0.1 * number, "frames": frames}
            for number in (1, 3)
        ]
        before = VERDICT | {"verdict": "look first"}
        seen = {
            "before_training": before,
            "images": 6,
            "pictures": pictured,
            "provenance": provenance("trust"),
        }
        write_json(self.tau / "trust.json", VERDICT | seen)

    def write_scores(self) -> None:
        self.evaluations = []
        for stage in MIOU:
            for index, seed in enumerate(SEEDS):
                folder = self.root / "topk-0.4" / "k-3" / f"seed-{seed}"
                folder = folder if stage == "masks" else folder / "tau-0.75"
                folder = folder / "hard-0.2" / "crf-0" if stage == "segmenter" else folder
                record = {
                    "provenance": provenance("evaluation"),
                    "stage": stage,
                    "miou": MIOU[stage][index],
                    "boundary_iou": MIOU[stage][index] - 10,
                    "pixel_accuracy": MIOU[stage][index] + 20,
                    "iou": {"background": 90.0, "disc": IOU[stage][index], "<b>square</b>": 0.0},
                    "matching": MATCHING,
                    "ap": None if stage == "segmenter" else 10.0 + index,
                    "intervals": {"miou": [MIOU[stage][index] - 2, MIOU[stage][index] + 2]},
                }
                write_json(folder / "evaluation" / f"{stage}.json", record)
                self.evaluations.append(str(folder / "evaluation" / f"{stage}.json"))
        scores = {"color_kmeans": {"miou": 12.34, "pixel_accuracy": 45.0, "ap": None}, "otsu": {"miou": 23.4}}
        params = {"num_clusters": K, "seed": 11}
        write_json(
            self.root / "baselines.json", scores | {"provenance": {"stage": "baselines", "params": params}}
        )

    def write_csv(self, name: str, table: pd.DataFrame) -> None:
        with sealed_path(self.root / name) as temporary:
            table.to_csv(temporary, index=False)

    def arguments(self, scored: bool = True) -> list[str]:
        shards = ("shard-0000", "shard-0001")
        found = ["report", "--run-name", "tiny", "--config", json.dumps(self.config)]
        found += ["--manifest", str(self.root / "manifest.csv")]
        found += ["--masks", *(str(self.root / "topk-0.4" / "masks" / f"{name}.json") for name in shards)]
        found += [
            "--clusters",
            *(str(self.seed.parent / f"seed-{seed}" / "clusters.json") for seed in SEEDS[::-1]),
        ]
        found += [
            "--assignments",
            *(str(self.seed.parent / f"seed-{seed}" / "assignments.h5") for seed in SEEDS[::-1]),
        ]
        found += ["--choose-k", str(self.root / "choose_k.csv")]
        found += ["--trust", str(self.tau / "trust.json")]
        found += ["--label-summary", str(self.root / "label_summary.json")]
        found += ["--candidates", *(str(self.seed / "candidates" / f"{name}.json") for name in shards)]
        found += ["--pseudo-labels", *(str(self.tau / "pseudo_labels" / name) for name in shards)]
        found += ["--predictions", *(str(self.round / "predictions" / name) for name in shards)]
        found += [
            "--metrics",
            *(f"{name}={self.root / name}.csv" for name in ("pretrain-backbone", "detector")),
        ]
        found += ["--benchmarks", str(self.root / "benchmarks")]
        found += ["--output", str(self.root / "report.html"), "--summary", str(self.root / "summary.json")]
        if scored:
            found += ["--evaluations", *self.evaluations, "--baselines", str(self.root / "baselines.json")]
            found += ["--ground-truth", str(self.root / "truth")]
        return found

    def build(self, scored: bool = True) -> tuple[str, dict[str, Any]]:
        assert main(self.arguments(scored)) == 0
        return (self.root / "report.html").read_text(), json.loads((self.root / "summary.json").read_text())
