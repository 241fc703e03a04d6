"""Signals of trust against slow references and extremes, and the stages that measure and judge them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from maskdistill.cli import consistency, main
from maskdistill.cli import trust as trust_stage
from maskdistill.clusters.kmeans import normalise
from maskdistill.config import ClustersConfig
from maskdistill.data.scenes import generate_scene
from maskdistill.formats import rle
from maskdistill.product.verdict import (
    UNKNOWN,
    as_metadata,
    in_lines,
    in_words,
    stored_verdict,
    verdict_at_the_end,
)
from maskdistill.runtime.files import canonical_json, write_json
from maskdistill.trust import signals as trust
from maskdistill.trust.signals import FRAME, Evidence, Signal, judge

Masks = npt.NDArray[np.bool_]


def squares(places: list[tuple[int, int]], side: int = 24) -> Masks:
    masks = np.zeros((len(places), FRAME, FRAME), np.bool_)
    for mask, (top, left) in zip(masks, places, strict=True):
        mask[top : top + side, left : left + side] = True
    return masks


def evidence(masks: Masks, clusters: tuple[float, ...] = (1.0,), **changed: Any) -> Evidence:
    looks = dict.fromkeys(("mirrored", "rescaled", "otsu"), masks) | changed
    return Evidence(masks, **looks, edges=np.full(len(masks), 3.0), clusters=clusters)


CORNERS = squares([(5, 5), (5, 60), (60, 5), (60, 60)])


def test_overlaps_against_sets_of_pixels() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 5, FRAME, FRAME)) < 0.3
    one[3:] = False
    other[4] = False
    expected = []
    for mask, second in zip(one, other, strict=True):
        here, there = ({tuple(place) for place in np.argwhere(found).tolist()} for found in (mask, second))
        expected.append(len(here & there) / len(here | there) if here | there else 0.0)
    assert trust.overlaps(one, other) == pytest.approx(expected)


def test_agreement_counts_what_a_fixed_place_reaches_as_nothing() -> None:
    """One for objects that are found again wherever they lie, nought for one and the same square in every
    picture.
    """
    fixed = squares([(30, 30)] * 4)
    assert trust.agreement(CORNERS, CORNERS) == 1
    assert trust.agreement(fixed, fixed) == pytest.approx(0)
    assert trust.agreement(CORNERS, np.roll(CORNERS, 1, axis=0)) < 0  # type: ignore[operator]
    half = CORNERS.copy()
    half[2:] = False
    assert trust.agreement(CORNERS, half) == pytest.approx(0.5)
    assert trust.agreement(CORNERS[:1], CORNERS[:1]) is None
    shared = squares(
        [(5, 5), (5, 5), (60, 60), (60, 60)]
    )  # of the other pictures one in three lies at the same place
    assert trust.by_chance(shared, shared) == pytest.approx(1 / 3)


def test_the_centre_box_has_the_masks_area() -> None:
    boxes = trust.centre_boxes(np.array([0.25, 1.0]))
    assert boxes[0].sum() == 48 * 48 and boxes[0, 24:72, 24:72].all() and boxes[1].all()


def test_inside_counts_the_rim_against_the_area() -> None:
    whole = np.ones((2, FRAME, FRAME), np.bool_)
    assert trust.inside(whole) == 0 and trust.inside(CORNERS) == 1 and trust.inside(whole & False) == 0
    frame = whole.copy()
    frame[:, 1:-1, 1:-1] = False
    assert trust.inside(frame) == pytest.approx(1 - FRAME**2 / (4 * FRAME - 4))
    half = whole.copy()
    half[:, FRAME // 2 :] = False  # all of one side, half of two
    assert trust.inside(half) == pytest.approx(0)


def test_edges_are_where_the_picture_has_them() -> None:
    """A bright square: of the outline around it all of the picture's gradient, of one elsewhere none."""
    (mask, other) = squares([(30, 30), (0, 65)])
    rgb = np.repeat(np.where(mask, 200, 40).astype(np.uint8)[..., None], 3, axis=2)
    widened = 28**2 - 20**2  # two pixels to each side of a square of 24
    assert trust.edge_contrast(rgb, mask) == pytest.approx(FRAME**2 / widened, rel=0.01)
    assert trust.edge_contrast(np.kron(rgb, np.ones((3, 2, 1), np.uint8)), mask) > 9, "a larger picture"
    assert trust.edge_contrast(rgb, other) == 0
    assert trust.edge_contrast(rgb, trust.empty()) == trust.edge_contrast(np.zeros_like(rgb), mask) == 1


@pytest.mark.parametrize(
    ("values", "level", "reasons"),
    [
        ({"a": 0.9, "b": 0.8}, "use", []),
        ({"a": 0.6, "b": 0.3}, "look first", ["a is low"]),
        ({"a": 0.6, "b": 0.1}, "do not use", ["b is low", "a is low"]),
        ({"a": None, "b": 0.3}, "use", []),
        ({"a": None, "b": None}, "look first", ["too few"]),
    ],
)
def test_the_worst_signal_decides(values: dict[str, float | None], level: str, reasons: list[str]) -> None:
    limits = {"a": (0.5, 0.7), "b": (0.2, 0.3)}
    signals = [
        Signal(name, name, lambda _, n=name: values[n], *limits[name], f"{name} is low") for name in limits
    ]
    shown = Signal("shown", "", lambda _: 0.0)
    found = judge(evidence(CORNERS), [shown, *signals])
    assert found.level == level and found.signals.pop("shown") == 0
    assert [reason[: len(start)] for reason, start in zip(found.reasons, reasons, strict=True)] == reasons
    assert found.signals == {name: value for name, value in values.items() if value is not None}


def test_without_a_detector_masks_and_clusters_are_judged() -> None:
    before = evidence(CORNERS)
    assert judge(before).level == "use" and "detector" not in judge(before).signals
    after = judge(trust.with_detector(before, np.zeros_like(CORNERS), np.zeros(4, np.bool_)))
    assert after.level == "do not use" and "the detector finds something else" in after.reasons[0]
    assert judge(evidence(CORNERS, (0.05, 0.1))).level == "do not use"
    assert judge(evidence(np.zeros_like(CORNERS))).level == "do not use", "no mask at all"


def test_clusters_that_are_there_are_found_again_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16))
    near = centres[rng.integers(4, size=200)] + rng.normal(scale=0.05, size=(200, 16))
    points, noise = (
        normalise(np.asarray(found, np.float32), None, True) for found in (near, rng.normal(size=(200, 16)))
    )
    config = ClustersConfig(nredo=3)
    found = consistency.resampled_agreement(points, 4, 0, config)
    assert len(found) == 15 and min(found) == 1
    assert found == consistency.resampled_agreement(points, 4, 0, config)
    assert np.mean(consistency.resampled_agreement(noise, 4, 0, config)) < 0.4


SIZE, COUNT = 48, 6
SETTINGS: dict[str, Any] = {
    "features": {"short_side": SIZE, "batch_size": 4, "workers": 0},
    "masks": {"affinity": {"center": True}},
    "clusters": {"workers": 0, "short_side": 32, "nredo": 2},
}  # fmt: skip


def run_until_embeddings(folder: Path, mirrored: bool) -> list[str]:
    """Masks and embeddings of a few scenes by random weights, in two shards; options that name them."""
    (folder / "photos").mkdir(parents=True)
    for number in range(COUNT):
        scene = generate_scene(77, number, SIZE, 0.3)
        image = Image.fromarray(scene.image)
        (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image).save(
            folder / f"photos/{number}.png"
        )
    data = canonical_json({"kind": "folder", "root": str(folder / "photos")})
    network = ["--arch=vit_micro_patch8", "--weights=random", "--device=cpu", "--threads=1"]
    manifest = f"--manifest={folder}/manifest.csv"
    each = ["--each", "0-1", "--shard", "{shard}"]
    settings = {name: f"--params={canonical_json(values)}" for name, values in SETTINGS.items()}
    assert main(["manifest", f"--params={data}", "--num-shards=2", f"--output={folder}/manifest.csv"]) == 0
    kinds = {"f": "h5", "m": "json", "e": "h5"}
    shards = {name: f"{folder}/{name}/shard-{{shard}}.{kind}" for name, kind in kinds.items()}
    assert main(["features", manifest, *each, *network, settings["features"], f"--output={shards['f']}"]) == 0
    options = [settings["masks"], f"--features={shards['f']}", f"--output={shards['m']}", "--threads=1"]
    assert main(["masks", "--each", "0-1", *options]) == 0
    options = [settings["clusters"], f"--masks={shards['m']}", f"--output={shards['e']}"]
    assert main(["embeddings", manifest, *each, *network, *options]) == 0
    named = {"masks": shards["m"], "embeddings": shards["e"]}
    return [
        manifest,
        *(f"--{name}={path.replace('{shard}', '{0..1}')}" for name, path in named.items()),
        *network,
    ]


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with what the stage consistency wrote, and its content."""
    folder = tmp_path_factory.mktemp("trust")
    options = run_until_embeddings(folder / "plain", mirrored=False)
    own = [
        "--num-clusters=2",
        "--seed=0",
        f"--params={canonical_json(SETTINGS)}",
        f"--output={folder}/consistency.json",
    ]
    assert main(["consistency", *options, *own]) == 0
    return folder, json.loads((folder / "consistency.json").read_text())


def first_masks(folder: Path) -> dict[str, trust.Mask]:
    """Key -> first mask in the common square."""
    records = [
        record
        for shard in "01"
        for record in json.loads((folder / f"m/shard-{shard}.json").read_text())["masks"]
    ]
    return {record["key"]: trust.to_frame(rle.decode(record["segmentation"])) for record in records[::-1]}


@pytest.mark.slow
def test_a_mirrored_pictures_mask_is_mirrored_back(looked: tuple[Path, dict[str, Any]]) -> None:
    """As if the files had been mirrored and the run made of those."""
    folder, record = looked
    run_until_embeddings(folder / "mirrored", mirrored=True)
    plain, mirrored = first_masks(folder / "plain"), first_masks(folder / "mirrored")
    assert [image["key"] for image in record["images"]] == [str(number) for number in range(COUNT)]
    for image in record["images"]:
        assert (rle.decode(image["mask"]) == plain[image["key"]]).all()
        assert (rle.decode(image["mirrored"]) == mirrored[image["key"]][:, ::-1]).all()
    other = np.stack([rle.decode(image["rescaled"]) for image in record["images"]])
    assert other.any() and not (other == trust.read_evidence(record).masks).all()
    assert len(record["clusters"]) == 15


def test_the_verdict_takes_the_nearest_candidate_that_passes(
    looked: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, record = looked
    good, bad = np.zeros((SIZE, SIZE), bool), np.ones((SIZE, SIZE), bool)
    good[:10, :10] = True
    found: dict[int, list[dict[str, Any]]] = {0: [], 1: []}
    for image in record["images"][1:]:
        for mask, score in ((bad, 0.4), (good, 0.6), (~good, 0.6)):
            candidate = {"image_id": image["image_id"], "score": score, "segmentation": rle.encode(mask)}
            found[image["shard"]].append(candidate)
    for shard, candidates in found.items():
        write_json(tmp_path / f"shard-{shard}.json", {"candidates": candidates})
    command = [
        "trust",
        f"--consistency={folder}/consistency.json",
        f"--output={tmp_path}/trust.json",
        "--threads=1",
    ]
    tau = ["--params", '{"tau": 0.5}']
    assert (
        main([*command, *tau, "--candidates", *(str(tmp_path / f"shard-{shard}.json") for shard in (1, 0))])
        == 0
    )
    content = json.loads((tmp_path / "trust.json").read_text())
    masks = trust.read_evidence(record).masks
    choice = [trust.to_frame(good), trust.to_frame(~good)]
    nearest = [max(choice, key=lambda one: (one & mask).sum() / (one | mask).sum()) for mask in masks[1:]]
    frames = np.stack([trust.empty(), *nearest])
    assert content["signals"]["detector"] == pytest.approx(trust.agreement(masks, frames))
    assert content["signals"]["confident"] == pytest.approx(5 / 6)
    assert content["verdict"] == "do not use" and "detector" not in content["before_training"]["signals"]
    agreements = [picture["agreement"] for picture in content["pictures"]]
    assert agreements == sorted(agreements) and len(agreements) == COUNT
    assert main([*command, *tau, "--candidates", str(tmp_path / "shard-0.json")]) == 1


def test_what_is_said_of_a_verdict(tmp_path: Path) -> None:
    record = {"verdict": "do not use", "reasons": ["x is low", "y too"], "signals": {"x": 0.1}}
    assert in_words(record) == "verdict: do not use (by signals that need no label): x is low; y too"
    assert in_lines(record) == (
        "verdict: do not use (by signals that need no label):\n  - x is low\n  - y too"
    )
    assert in_words(None) == in_lines(None) == UNKNOWN
    assert stored_verdict({}) is None
    stored = {key: canonical_json(value) for key, value in as_metadata(record | {"provenance": {}}).items()}
    assert stored_verdict(stored) == record and as_metadata(None) == {}
    assert verdict_at_the_end(tmp_path) == ""
    write_json(
        tmp_path / "summary.json",
        {"trust": record | {"verdict": "use", "reasons": []}, "worse_steps": ["Down."]},
    )
    said = verdict_at_the_end(tmp_path).splitlines()
    assert said[0].startswith("verdict: use (") and said[0].endswith(
        "nothing that can be seen without labels speaks against it"
    )
    assert said[1:] == ["Down."]
    write_json(tmp_path / "summary.json", {})
    assert verdict_at_the_end(tmp_path) == UNKNOWN


def test_of_several_candidates_the_nearest_to_the_mask_is_taken() -> None:
    side = len(trust.empty())
    masks = [np.zeros((side, side), bool) for _ in range(3)]
    masks[0][10:30, 10:30], masks[1][12:30, 10:30], masks[2][60:90, 60:90] = True, True, True
    candidates = [
        {"segmentation": rle.encode(masks[2]), "score": 0.9},
        {"segmentation": rle.encode(masks[1]), "score": 0.6},
    ]
    assert np.array_equal(trust_stage.matching(masks[0], candidates), masks[1])
    assert np.array_equal(trust_stage.matching(masks[0], candidates[:1]), masks[2])
    assert not trust_stage.matching(masks[0], []).any()
