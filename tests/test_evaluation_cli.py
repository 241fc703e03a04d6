"""The entry points ``evaluation`` and ``baselines`` on a small run with four evaluation images."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from maskdistill.cli import main
from maskdistill.clusters.assignments import open_assignments, write_assignments
from maskdistill.data.manifest import write_manifest
from maskdistill.evaluation.instances import image_instances
from maskdistill.formats import rle
from maskdistill.formats.label_png import write_label_png
from maskdistill.runtime.files import read_json, write_json

HEIGHT, WIDTH = 24, 32
KEYS = ["a/one", "a/two", "b/three", "b/four", "train", "broken"]
CLASSES = {1: 1, 2: 2, 3: 1, 4: 3}
CLUSTER = {1: 3, 2: 1, 3: 2}
COLORS = {1: (250, 230, 40), 2: (60, 250, 240), 3: (250, 170, 250)}


def square(number: int) -> np.ndarray:
    """The one object of an image, apart from the frame."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[2 + number : 14 + number, 3 : 13 + 2 * number] = True
    return mask


def semantic(number: int) -> np.ndarray:
    labels = square(number) * np.uint8(CLASSES[number])
    labels[:2] = 255
    return labels


def painted(number: int) -> np.ndarray:
    """The perfect prediction under permuted cluster numbers."""
    return square(number) * np.uint8(CLUSTER[CLASSES[number]])


def write(path: Path, value: Any) -> str:
    write_json(path, value)
    return str(path)


def detection(number: int, mask: np.ndarray, score: float = 1.0, category: int = 1) -> dict[str, Any]:
    encoded = rle.encode(mask)
    return {
        "image_id": number, "key": KEYS[number - 1], "category_id": category, "score": score,
        "segmentation": encoded, "bbox": rle.bbox(encoded), "area": rle.area(encoded),
    }  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run whose masks, candidates and label maps are all perfect."""
    n = len(KEYS)
    table = pd.DataFrame(
        {
            "image_id": range(1, n + 1), "key": KEYS, "path": [f"images/{number}.png" for number in range(1,
            n + 1)],
            "width": WIDTH, "height": HEIGHT, "mode": "RGB", "sha256": "", "shard": [0, 0, 1, 1, 1, 1],
            "train": True, "eval": [True] * 4 + [False, True], "status": ["ok"] * 5 + ["quarantined"],
            "reason": "",
        }
    )  # fmt: skip
    write_manifest(tmp_path / "manifest.csv", table)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in (1, 2, 3, 4, 6):
        images.append(
            {
                "id": number, "file_name": KEYS[number - 1], "width": WIDTH, "height": HEIGHT,
                "has_masks": number != 4, "has_semantic": True, "evaluated": True,
            }
        )  # fmt: skip
    for number, category in CLASSES.items():
        entry = {**detection(number, square(number)), "id": number, "category_id": category, "iscrowd": 0}
        if number == 4:
            del entry["segmentation"]
        annotations.append(entry)
        write_label_png(tmp_path / f"truth/semantic/{KEYS[number - 1]}.png", semantic(number))
        write_label_png(
            tmp_path / f"labels/shard-000{(number - 1) // 2}/{KEYS[number - 1]}.png", painted(number)
        )
        picture = np.where(square(number)[..., None], COLORS[category], (20, 30, 60))
        picture = np.clip(picture + rng.integers(-4, 5, picture.shape), 0, 255)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"images/{number}.png")
    names = ["apple", "pear", "plum"]
    categories = [{"id": index, "name": name} for index, name in enumerate(names, start=1)]
    write(
        tmp_path / "truth/instances.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )

    assignments = []
    for shard, numbers in enumerate([(1, 2), (5, 3, 4)]):
        masks = [detection(number, square(number)) for number in numbers]
        write(tmp_path / f"masks/shard-000{shard}.json", {"masks": masks})
        write(tmp_path / f"candidates/shard-000{shard}.json", {"candidates": masks})
        write(tmp_path / f"labels/shard-000{shard}/summary.json", {})
        assignments += [
            {
                "image_id": number, "mask_index": index, "shard": shard, "distance": 0.0,
                "cluster": CLUSTER[CLASSES.get(number, 1)] - 1,
            }
            for index, number in enumerate(numbers)
        ]  # fmt: skip
    write_rows(tmp_path / "assignments.h5", assignments)
    return tmp_path


def arguments(root: Path, stage: str) -> list[str]:
    shards = ["shard-0000", "shard-0001"]
    common = [
        "--manifest", f"{root}/manifest.csv", "--ground-truth", f"{root}/truth/instances.json",
        "--num-clusters", "3", "--output", f"{root}/out.json", "--params", '{"bootstrap": 20}',
    ]  # fmt: skip
    if stage == "baselines":
        return ["baselines", *common]
    masks = [
        "--masks",
        *(f"{root}/masks/{s}.json" for s in shards),
        "--assignments",
        f"{root}/assignments.h5",
    ]
    labels = ["--label-dirs", *(f"{root}/labels/{s}" for s in shards)]
    candidates = ["--candidates", *(f"{root}/candidates/{s}.json" for s in shards)]
    own = {"masks": masks, "detector": labels + candidates, "segmenter": labels}[stage]
    return ["evaluation", "--stage", stage, *own, *common]


def score(root: Path, stage: str) -> dict[str, Any]:
    assert main(arguments(root, stage)) == 0
    result: dict[str, Any] = read_json(root / "out.json")
    return result


def write_rows(path: Path, rows: list[dict[str, Any]], num_clusters: int = 3) -> None:
    with write_assignments(path, len(rows), num_clusters, {}) as writer:
        for row in rows:
            writer.append(
                row["shard"], *([row[name]] for name in ("image_id", "mask_index", "cluster", "distance"))
            )


def edit_rows(root: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    with open_assignments(root / "assignments.h5") as table:
        columns = {name: values.tolist() for name, values in table.rows(0, len(table))._asdict().items()}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    change(rows)
    write_rows(root / "assignments.h5", rows)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = read_json(path)
    change(value)
    write_json(path, value)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["masks", "detector", "segmenter"])
def test_a_perfect_run_under_permuted_clusters_scores_one_hundred(run_dir: Path, stage: str) -> None:
    result = score(run_dir, stage)
    assert result["stage"] == stage
    assert result["miou"] == pytest.approx(100)
    assert result["pixel_accuracy"] == pytest.approx(100)
    assert result["boundary_iou"] == pytest.approx(100)
    assert result["iou"] == pytest.approx({"background": 100, "apple": 100, "pear": 100, "plum": 100})
    assert result["matching"] == {"0": 0, "3": 1, "1": 2, "2": 3}
    assert result["corloc"] == 100
    assert result["images"] == 4
    assert result["intervals"] == {"miou": pytest.approx([100, 100]), "corloc": [100, 100]}
    ap = {name: result[name] for name in ("ap", "ap50", "ap75")}
    if stage == "segmenter":
        assert ap == {"ap": None, "ap50": None, "ap75": None}
        assert result["counts"] == {"semantic": 4, "instances": 0, "localisation": 4}
    else:
        assert ap == pytest.approx({"ap": 100, "ap50": 100, "ap75": 100})
        assert result["counts"] == {"semantic": 4, "instances": 3, "localisation": 4}
    clusters = {name: result.get(name) for name in ("purity", "cluster_accuracy", "nmi", "ari")}
    assert clusters == {name: pytest.approx(100) if stage == "masks" else None for name in clusters}
    assert result["provenance"]["params"]["stage"] == stage


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["masks", "detector", "segmenter", "baselines"])
def test_equal_work_gives_equal_bytes(run_dir: Path, stage: str) -> None:
    score(run_dir, stage)
    first = (run_dir / "out.json").read_bytes()
    score(run_dir, stage)
    assert (run_dir / "out.json").read_bytes() == first
    assert str(run_dir).encode() not in first


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["masks", "detector", "segmenter"])
def test_more_processes_give_equal_bytes(run_dir: Path, stage: str) -> None:
    score(run_dir, stage)
    first = (run_dir / "out.json").read_bytes()
    assert main([*arguments(run_dir, stage), "--threads", "3"]) == 0
    assert (run_dir / "out.json").read_bytes() == first


@pytest.mark.slow
def test_label_maps_score_as_loops_over_pixels_say(run_dir: Path) -> None:
    """The best of all one-to-one matchings of 4 labels with 4 classes, in three processes; 255
    in pseudo-labels is background.
    """
    rng = np.random.default_rng(3)
    pairs: dict[tuple[int, int], int] = {}
    for number in (1, 2, 3, 4):
        target = rng.integers(0, 4, (HEIGHT, WIDTH)).astype(np.uint8)
        labels = np.where(rng.random(target.shape) < 0.5, np.array([2, 0, 3, 1])[target], target).astype(
            np.uint8
        )
        target[rng.random(target.shape) < 0.1] = 255
        write_label_png(run_dir / f"truth/semantic/{KEYS[number - 1]}.png", target)
        unsure = rng.random(target.shape) < 0.1
        written = np.where(unsure, np.uint8(255), labels)
        write_label_png(run_dir / f"labels/shard-000{(number - 1) // 2}/{KEYS[number - 1]}.png", written)
        labels[unsure] = 0
        for pair in zip(labels.ravel().tolist(), target.ravel().tolist(), strict=True):
            pairs[pair] = pairs.get(pair, 0) + 1

    def iou(label: int, wanted: int) -> float:
        either = sum(n for (p, g), n in pairs.items() if g != 255 and (p == label or g == wanted))
        return pairs.get((label, wanted), 0) / either

    best = max(itertools.permutations(range(4)), key=lambda order: sum(map(iou, order, range(4))))
    assert main([*arguments(run_dir, "detector"), "--threads", "3"]) == 0
    result = read_json(run_dir / "out.json")
    expected = [100 * iou(*pair) for pair in zip(best, range(4), strict=True)]
    assert [result["iou"][name] for name in ("background", "apple", "pear", "plum")] == pytest.approx(
        expected
    )
    assert result["matching"] == {str(label): wanted for wanted, label in enumerate(best)}
    hits = sum(pairs[pair] for pair in zip(best, range(4), strict=True))
    scored = sum(n for (_, g), n in pairs.items() if g != 255)
    assert result["pixel_accuracy"] == pytest.approx(100 * hits / scored)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["masks", "detector"])
def test_instances_are_scored_by_every_protocol(run_dir: Path, stage: str) -> None:
    """Of three images with masks, one loses its detection."""
    if stage == "masks":
        edit(run_dir / "masks/shard-0000.json", lambda v: v["masks"].pop(1))
    else:
        edit(run_dir / "candidates/shard-0000.json", lambda v: v["candidates"].pop(1))
    result = score(run_dir, stage)
    assert result["images_without_detections"] == 1
    apples = "3" if stage == "masks" else "1"
    assert result["instance_matching"][apples] == 1 and sorted(result["instance_matching"].values()) == [
        1,
        2,
        3,
    ]
    scores = result["protocols"]
    assert {name: scores["agnostic_multi"][name] for name in ("ap", "ap50", "ap75")} == {
        name: result[name] for name in ("ap", "ap50", "ap75")
    }
    assert scores["agnostic_multi"]["ap"] == pytest.approx(100 * 67 / 101)
    assert scores["semantic_single"]["ap"] == pytest.approx(100)
    for name in ("semantic_multi", "semantic_single_strict"):
        assert scores[name]["ap"] == pytest.approx(50)
        assert {c: v["ap50"] for c, v in scores[name]["classes"].items()} == pytest.approx(
            {"apple": 100, "pear": 0}
        )
    assert scores["semantic_single"]["images"] == 2
    score(run_dir, "segmenter")
    assert "protocols" not in read_json(run_dir / "out.json")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["masks", "detector", "segmenter"])
def test_an_image_for_instances_alone_changes_no_other_score(run_dir: Path, stage: str) -> None:
    """The training image, which has no label map at all: VOC's instance list is longer than its list for
    mIoU.
    """
    before = score(run_dir, stage)

    def add(truth: dict[str, Any]) -> None:
        size = {
            "width": WIDTH,
            "height": HEIGHT,
            "has_masks": True,
            "has_semantic": False,
            "evaluated": False,
        }
        truth["images"].append({"id": 5, "file_name": "train", **size})
        found = {**detection(5, square(5)), "id": 50, "category_id": 1, "iscrowd": 0}
        missed = {**detection(5, square(2)), "id": 51, "category_id": 1, "iscrowd": 0}
        truth["annotations"] += [found, missed]

    edit(run_dir / "truth/instances.json", add)
    after = score(run_dir, stage)
    counts = {"semantic": 4, "instances": 0 if stage == "segmenter" else 4, "localisation": 4}
    assert after["counts"] == counts
    others = ("miou", "iou", "corloc", "images", "boundary_iou", "intervals", "purity", "nmi")
    assert {key: after.get(key) for key in others} == {key: before.get(key) for key in others}
    if stage != "segmenter":  # four of five objects, all detections right
        assert (before["ap50"], after["ap50"]) == (pytest.approx(100), pytest.approx(100 * 81 / 101))


@pytest.mark.slow
def test_protocols_are_a_choice_that_leaves_other_scores_alone(run_dir: Path) -> None:
    whole = score(run_dir, "detector")
    params = json.dumps({"bootstrap": 20, "protocols": ["semantic_single"]})
    assert main([*arguments(run_dir, "detector"), "--params", params]) == 0
    chosen = read_json(run_dir / "out.json")
    assert list(chosen["protocols"]) == ["semantic_single"]
    rest = {key for key in whole if key not in ("protocols", "provenance")}
    assert {key: chosen[key] for key in rest} == {key: whole[key] for key in rest}
    assert main([*arguments(run_dir, "detector"), "--params", '{"protocols": ["single"]}']) == 1


@pytest.mark.parametrize("category", [0, 4])
def test_a_candidate_of_no_cluster_is_named(
    run_dir: Path, category: int, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run_dir / "candidates/shard-0001.json", lambda v: v["candidates"][1].update(category_id=category))
    assert main(arguments(run_dir, "detector")) == 1
    assert re.search(
        r"shard-0001\.json: holds categories from [01] to [14] where 3 clusters", capsys.readouterr().err
    )


@pytest.mark.parametrize("stage, kind", [("masks", "masks"), ("detector", "candidates")])
def test_an_image_in_two_shards_is_named(
    run_dir: Path, stage: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run_dir / f"{kind}/shard-0001.json", lambda v: v[kind].append(detection(1, square(1))))
    row = {"image_id": 1, "mask_index": 3, "shard": 1, "distance": 0.0, "cluster": 1}
    edit_rows(run_dir, lambda rows: rows.append(row))
    assert main(arguments(run_dir, stage)) == 1
    assert re.search(r"shard-0001\.json: image 1 stands in an earlier shard", capsys.readouterr().err)


def test_no_more_than_one_shard_is_read_ahead(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shard's masks are scored before the next shard is opened."""
    events: list[str] = []

    def reading(path: str) -> Any:
        events.append(Path(path).stem)
        return read_json(path)

    def comparing(number: int, *rest: Any) -> Any:
        events.append(str(number))
        return image_instances(number, *rest)

    for module in ("evaluation_inputs", "detections"):
        monkeypatch.setattr(f"maskdistill.cli.{module}.read_json", reading)
    monkeypatch.setattr("maskdistill.evaluation.metrics.instances.image_instances", comparing)
    assert main([*arguments(run_dir, "detector"), "--threads", "1"]) == 0
    assert events == ["instances", "shard-0000", "1", "2", "shard-0001", "3"]


def test_masks_that_are_missing_or_misplaced_cost_as_much_as_they_should(run_dir: Path) -> None:
    shifted = np.roll(square(1), 10, axis=1)

    def change(shard: dict[str, Any]) -> None:
        shard["masks"][1] = detection(1, shifted)

    edit(run_dir / "masks/shard-0000.json", change)
    edit_rows(run_dir, lambda rows: rows[1].update(image_id=1, cluster=CLUSTER[1] - 1))
    edit(run_dir / "masks/shard-0000.json", lambda v: v["masks"].pop(0))
    edit_rows(run_dir, lambda rows: (rows.pop(0), rows[0].update(mask_index=0)))
    result = score(run_dir, "masks")

    scored = semantic(1) != 255
    sets: dict[str, tuple[int, int]] = {}
    for name, category in (("apple", 1), ("pear", 2)):
        both = either = 0
        for number in (1, 2, 3, 4):
            predicted = np.zeros((HEIGHT, WIDTH), dtype=bool)
            if number == 1:
                predicted = shifted & (category == 1)
            elif number != 2:
                predicted = square(number) & (CLASSES[number] == category)
            wanted = square(number) & (CLASSES[number] == category)
            both += (predicted & wanted & scored).sum()
            either += ((predicted | wanted) & scored).sum()
        sets[name] = (both, either)
    assert result["iou"]["apple"] == pytest.approx(100 * sets["apple"][0] / sets["apple"][1])
    assert 0 < result["iou"]["apple"] < 100
    assert result["iou"]["pear"] == 0
    assert "1" in result["matching"] and result["matching"]["1"] is None
    assert result["corloc"] == 50
    assert result["ap50"] == pytest.approx(
        100 / 101 * (1 / 2) * 34
    )  # second of two masks, one of three objects
    low, high = result["intervals"]["corloc"]
    assert low < 50 < high


@pytest.mark.slow
def test_overlapping_masks_and_the_first_of_equal_scores(run_dir: Path) -> None:
    whole = np.ones((HEIGHT, WIDTH), dtype=bool)
    edit(run_dir / "masks/shard-0000.json", lambda v: v["masks"].append(detection(2, whole)))
    row = {"image_id": 2, "mask_index": 2, "shard": 0, "distance": 0.0, "cluster": 1}
    edit_rows(run_dir, lambda rows: rows.insert(2, row))
    result = score(run_dir, "masks")
    assert result["corloc"] == 100
    assert result["iou"]["pear"] == pytest.approx(100)
    plum, painted_over = semantic(4) == 3, semantic(2) == 0
    assert result["iou"]["plum"] == pytest.approx(100 * plum.sum() / (plum.sum() + painted_over.sum()))


@pytest.mark.slow
def test_the_top_candidate_locates_and_all_candidates_count_for_ap(run_dir: Path) -> None:
    corner = np.zeros((HEIGHT, WIDTH), dtype=bool)
    corner[-3:, -3:] = True
    extra = [detection(1, corner, 0.4), detection(2, corner, 1.5, 3)]
    edit(run_dir / "candidates/shard-0000.json", lambda v: v["candidates"].extend(extra))
    result = score(run_dir, "detector")
    assert result["corloc"] == 75
    assert result["ap50"] == pytest.approx(
        75
    )  # one miss ranks before the three hits: precision 1/2, 2/3, 3/4
    assert result["miou"] == pytest.approx(100)


@pytest.mark.slow
@pytest.mark.hostile("ground truth: crowd regions in scoring", outcome="neither wanted nor punished")
def test_crowd_regions_neither_locate_nor_count(run_dir: Path) -> None:
    def change(truth: dict[str, Any]) -> None:
        crowd = {**detection(1, crowd_mask()), "id": 9, "category_id": 2, "iscrowd": 1}
        truth["annotations"] += [crowd]
        truth["annotations"][2]["iscrowd"] = 1

    edit(run_dir / "truth/instances.json", change)
    edit(
        run_dir / "candidates/shard-0000.json",
        lambda v: v["candidates"].insert(0, detection(1, crowd_mask(), 2.0)),
    )
    result = score(run_dir, "detector")
    assert result["counts"]["localisation"] == 3
    assert result["corloc"] == pytest.approx(200 / 3)
    assert result["ap"] == pytest.approx(100)


def crowd_mask() -> np.ndarray:
    return np.ones((HEIGHT, WIDTH), dtype=bool)


def test_the_segmenter_is_located_by_its_largest_region(run_dir: Path) -> None:
    labels = painted(1)
    labels[labels > 0] = 0
    labels[-3:, -3:] = 2
    write_label_png(run_dir / "labels/shard-0000/a/one.png", labels)
    write_label_png(run_dir / "labels/shard-0000/a/two.png", np.zeros_like(labels))
    assert score(run_dir, "segmenter")["corloc"] == 50


@pytest.mark.slow
def test_boxes_alone_score_localisation_only(run_dir: Path) -> None:
    def change(truth: dict[str, Any]) -> None:
        for image in truth["images"]:
            image.update(has_masks=False, has_semantic=False)

    edit(run_dir / "truth/instances.json", change)
    for stage in ("masks", "detector", "segmenter"):
        result = score(run_dir, stage)
        assert (result["miou"], result["iou"], result["ap"], result["corloc"]) == (None, {}, None, 100)


@pytest.mark.hostile(
    "hdf5: label map missing, of another size or no indexed PNG", outcome="the scoring stops and names it"
)
@pytest.mark.parametrize("stage", ["detector", "segmenter"])
@pytest.mark.parametrize(
    "labels, complaint",
    [
        (None, r"b/three\.png: no label map"),
        (
            np.zeros((HEIGHT, WIDTH + 1), np.uint8),
            r"shard-0001/b/three\.png: 33 x 24 pixels .* b/three has 32 x 24",
        ),
        (
            np.full((HEIGHT, WIDTH), 4, np.uint8),
            r"shard-0001/b/three\.png: holds label 4, above the 3 clusters",
        ),
    ],
)
def test_a_bad_label_map_is_named(
    run_dir: Path, stage: str, labels: np.ndarray | None, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_dir / "labels/shard-0001/b/three.png"
    path.unlink()
    if labels is not None:
        write_label_png(path, labels)
    fails(run_dir, stage, complaint, capsys)


def test_a_segmenter_is_sure_of_every_pixel(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_label_png(run_dir / "labels/shard-0001/b/three.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    fails(run_dir, "segmenter", r"three\.png: holds label 255, above the 3 clusters", capsys)


def fails(root: Path, stage: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:

    assert main(arguments(root, stage)) == 1
    message = capsys.readouterr().err
    assert re.search(complaint, message), message
    assert "Traceback" not in message
    assert not (root / "out.json").exists()


def other_size(shard: dict[str, Any], name: str) -> None:
    shard[name][0]["segmentation"] = rle.encode(np.ones((HEIGHT, 5), dtype=bool))


@pytest.mark.hostile(
    "ground truth: instances.json or results that do not fit the manifest",
    outcome="the scoring stops and names file and entry",
)
@pytest.mark.parametrize(
    "stage, file, change, complaint",
    [
        (
            "masks",
            "masks/shard-0001.json",
            lambda v: v.pop("masks"),
            r"masks/shard-0001\.json: has no 'masks'",
        ),
        (
            "masks",
            "masks/shard-0000.json",
            lambda v: other_size(v, "masks"),
            r"masks/shard-0000\.json: 5 x 24",
        ),
        (
            "detector",
            "candidates/shard-0000.json",
            lambda v: other_size(v, "candidates"),
            r"candidates/shard-0000\.json: 5 x 24",
        ),
        (
            "masks",
            "truth/instances.json",
            lambda v: v["categories"].pop(0),
            r"instances\.json: category ids must be",
        ),
        (
            "masks",
            "truth/instances.json",
            lambda v: v["annotations"][0].pop("segmentation"),
            r"instances\.json: annotation 1 has no mask",
        ),
        (
            "segmenter",
            "truth/instances.json",
            lambda v: v["annotations"][2].pop("iscrowd"),
            r"instances\.json: annotation 3 lacks iscrowd",
        ),
        (
            "segmenter",
            "truth/instances.json",
            lambda v: v["annotations"][2].update(image_id=77),
            r"instances\.json: annotation 3 names an unknown image",
        ),
        (
            "masks",
            "truth/instances.json",
            lambda v: v.pop("images"),
            r"instances\.json: key 'images' is missing",
        ),
        (
            "masks",
            "truth/instances.json",
            lambda v: v["images"].clear(),
            r"instances\.json: annotation 1 names",
        ),
        (
            "baselines",
            "truth/instances.json",
            lambda v: v["images"][1].update(width=31),
            r"images/2\.png: 32 x 24 pixels",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    run_dir: Path,
    stage: str,
    file: str,
    change: Callable[[Any], object],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(run_dir / file, change)
    fails(run_dir, stage, complaint, capsys)


def test_assignments_that_do_not_fit_are_named(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_rows(run_dir, lambda rows: rows.pop())
    fails(
        run_dir, "masks", r"assignments\.h5: no cluster for mask 2 of .*shard-0001\.json \(image 4\)", capsys
    )
    edit_rows(run_dir, lambda rows: rows[0].update(image_id=2))
    fails(
        run_dir, "masks", r"assignments\.h5: no cluster for mask 0 of .*shard-0000\.json \(image 1\)", capsys
    )
    write_rows(run_dir / "assignments.h5", [], 4)
    fails(run_dir, "masks", r"assignments\.h5: has 4 clusters", capsys)
    (run_dir / "assignments.h5").write_bytes((run_dir / "truth/semantic/a/two.png").read_bytes())
    fails(run_dir, "masks", r"assignments\.h5: damaged: it has no digest", capsys)


@pytest.mark.slow
@pytest.mark.hostile(
    "ground truth: label map of another size, or with labels that are no class",
    outcome="the scoring stops and names it",
)
def test_ground_truth_maps_are_checked_too(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_dir / "truth/semantic/a/two.png"
    write_label_png(path, np.full((HEIGHT, WIDTH), 4, np.uint8))
    fails(run_dir, "masks", r"semantic/a/two\.png: holds a class above 3", capsys)
    write_label_png(path, np.zeros((HEIGHT + 1, WIDTH), np.uint8))
    fails(run_dir, "segmenter", r"semantic/a/two\.png: 32 x 25", capsys)
    path.unlink()
    fails(run_dir, "baselines", r"semantic/a/two\.png: no such file", capsys)


def test_missing_options_and_unfinished_folders_are_named(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = arguments(run_dir, "baselines")[1:]
    assert main(["evaluation", "--stage", "detector", *common]) == 1
    assert "--stage detector needs --candidates" in capsys.readouterr().err
    (run_dir / "labels/shard-0001/summary.json").unlink()
    fails(run_dir, "segmenter", r"shard-0001/summary\.json: no such file", capsys)


@pytest.mark.slow
def test_bootstrap_can_be_off(run_dir: Path) -> None:
    command = arguments(run_dir, "masks")
    command[command.index("--params") + 1] = '{"bootstrap": 0}'
    assert main(command) == 0
    assert read_json(run_dir / "out.json")["intervals"] == {}


def test_baselines_solve_pictures_that_colour_alone_solves(run_dir: Path) -> None:
    result = score(run_dir, "baselines")
    reference = score(run_dir, "segmenter")
    described = {"classes", "confusion", "worst_images"}
    assert np.sum(reference["confusion"]) > 0 and described <= reference.keys()
    for name in ("color_kmeans", "otsu"):
        assert result[name]["miou"] == pytest.approx(100)
        assert result[name]["ap"] is None
        assert result[name].keys() == reference.keys() - {"stage", "provenance"} - described
    assert result["otsu"]["corloc"] == 100
    assert result["color_kmeans"]["corloc"] is None
    assert sorted(result["color_kmeans"]["matching"].values()) == [0, 1, 2, 3]


def test_baselines_fail_where_colour_misleads(run_dir: Path) -> None:
    for number in (1, 2, 3, 4):
        noise = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        Image.fromarray(noise).save(run_dir / f"images/{number}.png")
    result = score(run_dir, "baselines")
    assert result["color_kmeans"]["miou"] < 40
    assert result["otsu"]["miou"] < 40
    low, high = result["otsu"]["intervals"]["miou"]
    assert low <= high
