"""Several masks an image: the search against double loops, its stopping rule, and the stages after it."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError
from test_masks import Array, Grid, Matrix, flood, integer_case, planted, slow_affinities

from maskdistill.cli import main
from maskdistill.config import AffinityConfig, FurtherMasksConfig, MasksConfig
from maskdistill.data.manifest import image_rows, read_manifest, write_manifest
from maskdistill.features.store import ImageFeatures, write_features
from maskdistill.formats import rle
from maskdistill.formats.label_png import write_label_png
from maskdistill.masks.records import MaskRecorder
from maskdistill.masks.rules import maskdistill as rule
from maskdistill.masks.upsample import upsample
from maskdistill.runtime.files import write_json

GRID = (4, 8)
ANYTHING = FurtherMasksConfig(min_area=0, max_area=1, max_overlap=1)


def slow_search(
    a: list[int], matrix: Matrix, grid: Grid, config: MasksConfig
) -> tuple[list[tuple[set[int], int]], str]:
    """Masks as sets with their sources, by double loops, and why the search ended."""
    n = len(a)
    component = config.component == "source_4conn"
    limits = {name: Fraction(value) for name, value in config.further.model_dump().items()}
    left = sorted(range(n), key=lambda j: (-a[j], j))[: max(int(config.topk * n), 1)]
    covered: set[int] = set()
    found: list[tuple[set[int], int]] = []
    while len(found) < config.max_masks:
        if not left:
            return found, "empty"
        source = left[0]
        related = [j for j in left if matrix[source][j] > 0]
        whole = {source}
        for j in range(n):
            if sum(matrix[i][j] for i in related) > 0:
                whole.add(j)
        whole = flood(whole, source, grid) if component else whole
        mask = whole - covered
        mask = flood(mask, source, grid) if component else mask
        if found:
            if Fraction(len(mask), n) < limits["min_area"]:
                return found, "small"
            if Fraction(len(mask), n) > limits["max_area"]:
                return found, "large"
            if Fraction(len(whole & covered), len(whole)) > limits["max_overlap"]:
                return found, "covered"
        found.append((mask, source))
        covered |= mask
        left = [j for j in left if j not in covered]
    return found, "enough"


def as_sets(found: list[rule.DistilledMask], grid: Grid) -> list[tuple[set[int], int]]:
    return [
        (set(np.flatnonzero(one.mask).tolist()), one.source[0] * grid[1] + one.source[1]) for one in found
    ]


LIMITS = [
    ANYTHING,
    FurtherMasksConfig(min_area=1 / 8, max_area=1, max_overlap=1),
    FurtherMasksConfig(min_area=0, max_area=1 / 4, max_overlap=1),
    FurtherMasksConfig(min_area=1 / 32, max_area=1 / 2, max_overlap=1 / 2),
    FurtherMasksConfig(min_area=1 / 16, max_area=1 / 2, max_overlap=0),
]


def cases() -> list[tuple[int, MasksConfig]]:
    """Random integer keys with ties: seeds with numbers of masks, limits, components, centring and heads."""
    found = []
    for seed in range(40):
        found.append(
            (
                seed,
                MasksConfig(
                    topk=(0.4, 0.7, 1.0)[seed % 3], max_masks=(2, 3, 6)[seed % 3 - seed % 2],
                    cls_heads=seed % 3 + 1,
                    component="all" if seed % 7 == 0 else "source_4conn", further=LIMITS[seed % 5],
                    affinity=AffinityConfig(center=seed % 4 == 1),
                ),
            )
        )  # fmt: skip
    return found


@pytest.mark.parametrize(("seed", "config"), cases())
def test_the_search_agrees_with_double_loops(seed: int, config: MasksConfig) -> None:
    keys, query = integer_case(seed)
    a, matrix = slow_affinities(keys, query, config.cls_heads or 3, config.affinity.center)
    found = rule.distil_several(keys, query, GRID, config)
    assert as_sets(found, GRID) == slow_search(a, matrix, GRID, config)[0]


def test_the_cases_above_end_for_every_reason() -> None:
    reasons, numbers = [], set()
    for seed, config in cases():
        keys, query = integer_case(seed)
        a, matrix = slow_affinities(keys, query, config.cls_heads or 3, config.affinity.center)
        found, why = slow_search(a, matrix, GRID, config)
        reasons.append(why)
        numbers.add(len(found))
    assert set(reasons) == {"empty", "small", "large", "covered", "enough"}
    assert numbers >= {1, 2, 3}


# ---------------------------------------------------------------- invariants


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("component", ["source_4conn", "all"])
def test_masks_are_disjoint_and_few_enough_and_the_first_is_the_single_one(seed: int, component: Any) -> None:
    rng = np.random.default_rng(seed)
    grid = (int(rng.integers(2, 12)), int(rng.integers(2, 12)))
    keys = rng.normal(size=(grid[0] * grid[1], 8)).astype(np.float32)
    query = rng.normal(size=(2, 4)).astype(np.float32)
    single = rule.distil(keys, query, grid, MasksConfig(component=component))
    ranks, before = [], np.zeros((0, *grid), bool)
    for most in (1, 2, 3, 8):
        config = MasksConfig(component=component, max_masks=most, further=ANYTHING)
        found = rule.distil_several(keys, query, grid, config)
        stacked = np.stack([one.mask for one in found])
        assert 1 <= len(found) <= most and stacked.sum(axis=0).max() == 1
        np.testing.assert_array_equal(found[0].mask, single.mask)
        assert found[0].source == single.source
        np.testing.assert_array_equal(stacked[: len(before)], before)  # a higher limit adds at the end
        before = stacked
        ranks = [float(one.cls_affinity[one.source]) for one in found]
        assert all(one.mask[one.source] for one in found)
    assert ranks == sorted(ranks, reverse=True)


def test_one_mask_is_the_default() -> None:
    assert MasksConfig().max_masks == 1
    keys, query = integer_case(1)
    assert len(rule.distil_several(keys, query, GRID, MasksConfig(further=ANYTHING))) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_masks": 0},
        {"further": {"min_area": -0.1}},
        {"further": {"max_overlap": 2}},
        {"further": {"x": 1}},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MasksConfig.model_validate(wrong)


# ---------------------------------------------------------------- planted objects


def five_blobs() -> list[Array]:
    """Five objects apart from each other on a 16 x 20 grid; together less than 40 % of it."""
    corners = [(1, 1, 4, 5), (1, 9, 5, 4), (1, 15, 3, 4), (10, 2, 5, 5), (9, 12, 5, 6)]
    blobs = []
    for row, column, height, width in corners:
        blob = np.zeros((16, 20), bool)
        blob[row : row + height, column : column + width] = True
        blobs.append(blob)
    return blobs


@pytest.mark.parametrize("kind", ["one category", "five categories"])
def test_five_objects_give_five_masks_in_the_order_of_their_affinity(kind: str) -> None:
    blobs = five_blobs()
    strength = np.array([3.0, 5.0, 1.0, 4.0, 2.0], np.float32)
    if kind == "one category":
        keys, query = planted(np.any(blobs, axis=0))
        for blob, factor in zip(blobs, strength, strict=True):
            keys[blob.reshape(-1)] *= factor
    else:
        keys = np.full((320, 8), -0.05, np.float32)
        for index, (blob, factor) in enumerate(zip(blobs, strength, strict=True)):
            keys[blob.reshape(-1)] = factor * np.eye(8, dtype=np.float32)[index]
        query = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], np.float32)
    expected = [blobs[index] for index in np.argsort(-strength)]
    for most, number in ((1, 1), (3, 3), (5, 5), (9, 5)):
        found = rule.distil_several(keys, query, (16, 20), MasksConfig(max_masks=most))
        assert len(found) == number
        for one, blob in zip(found, expected, strict=False):
            np.testing.assert_array_equal(one.mask, blob)


@pytest.mark.parametrize(
    ("limits", "number"),
    [
        ({}, 2),
        ({"min_area": 0.08}, 2),
        ({"min_area": 0.081}, 1),
        ({"max_area": 0.08}, 2),
        ({"max_area": 0.079}, 1),
        ({"max_overlap": 0}, 2),
        ({"max_area": 1.0}, 3),
    ],
)
def test_stopping_rule(limits: dict[str, float], number: int) -> None:
    """Two objects of 9 and 8 of 100 patches; the third, where it may, is the background's 83."""
    first, second = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    first[0:3, 0:3], second[5:9, 5:7] = True, True
    keys, query = planted(first | second)
    found = rule.distil_several(
        keys, query, (10, 10), MasksConfig(max_masks=4, further=FurtherMasksConfig(**limits))
    )
    wanted = [first, second, ~(first | second)][:number]
    assert [one.mask.tolist() for one in found] == [mask.tolist() for mask in wanted]


@pytest.mark.parametrize(("max_overlap", "number"), [(0.5, 1), (0.77, 1), (0.78, 2)])
def test_what_is_mostly_covered_is_no_further_mask(max_overlap: float, number: int) -> None:
    """Ten patches in a row: the first mask is 0 to 7; from 8 grows 1 to 9, of which seven ninths are
    covered.
    """
    keys = np.array([(10, -30), *[(4, 1)] * 7, (1, 2), (1, 2)], np.float32)
    query = np.array([[1, 0]], np.float32)
    config = MasksConfig(topk=1.0, max_masks=2, further=FurtherMasksConfig(max_overlap=max_overlap))
    found = rule.distil_several(keys, query, (1, 10), config)
    assert as_sets(found, (1, 10)) == [(set(range(8)), 0), ({8, 9}, 8)][:number]


# ---------------------------------------------------------------- the stages after the masks


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of 160 x 128 pixels whose keys hold five objects, with ground truth, through all mask
    stages.
    """
    root = tmp_path_factory.mktemp("planted")
    blobs = five_blobs()
    keys, query = planted(np.any(blobs, axis=0))
    image = ImageFeatures(query, query, keys, (16, 20), (128, 160))
    table = pd.DataFrame(
        {
            "image_id": [1, 2], "key": ["one", "two"], "path": ["one.png", "two.png"], "width": 160,
            "height": 128,
            "mode": "RGB", "sha256": "", "shard": 0, "train": True, "eval": True, "status": "ok",
            "reason": "",
        }
    )  # fmt: skip
    write_manifest(root / "manifest.csv", table)
    rows = image_rows(read_manifest(root / "manifest.csv"))
    with write_features(root / "f.h5", rows, [(16, 20)] * 2, 8, {}) as writer:
        writer.create(8, 2, "float32")
        for index in range(2):
            writer.put(index, image)
    rng = np.random.default_rng(0)
    full = [np.kron(blob, np.ones((8, 8), bool)) for blob in blobs]
    for key in ("one", "two"):
        picture = rng.integers(0, 60, (128, 160, 3)) + 150 * np.any(full, axis=0)[..., None]
        Image.fromarray(picture.astype(np.uint8)).save(root / f"{key}.png")
        write_label_png(root / f"truth/semantic/{key}.png", np.any(full, axis=0).astype(np.uint8))
    annotations: list[dict[str, Any]] = []
    for number in (1, 2):
        for mask in full:
            code = rle.encode(mask)
            box = {"bbox": rle.bbox(code), "area": rle.area(code), "segmentation": code}
            annotations.append(
                box | {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            )
    sizes = {"width": 160, "height": 128, "has_masks": True, "has_semantic": True, "evaluated": True}
    images = [{"id": number, "file_name": key} | sizes for number, key in ((1, "one"), (2, "two"))]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "blob"}]}
    write_json(root / "truth/instances.json", truth)
    for most in (1, 5):
        stages(root, most)
    return root


def stages(root: Path, most: int) -> None:
    """masks, embeddings, clusters, annotations and evaluation, in a folder named after the number of
    masks.
    """
    folder, manifest = root / str(most), f"--manifest={root}/manifest.csv"
    masks_file, table = f"{folder}/masks/shard-0000.json", f"{folder}/assignments.h5"
    settings = json.dumps({"max_masks": most})
    assert main(["masks", f"--features={root}/f.h5", f"--output={masks_file}", f"--params={settings}"]) == 0
    network = ["--shard=0", "--arch=vit_micro_patch8", "--weights=random", "--device=cpu"]
    embeddings = f"{folder}/embeddings/shard-0000.h5"
    assert (
        main(
            ["embeddings", manifest, "--shard=0", f"--masks={masks_file}", *network, f"--output={embeddings}"]
        )
        == 0
    )
    common = [manifest, "--num-clusters=1", "--threads=1", f"--assignments={table}"]
    options = [f"--embeddings={embeddings}", "--seed=1", "--device=cpu", f"--output={folder}/clusters.json"]
    assert main(["clusters", *common, *options]) == 0
    common.append(f"--masks={masks_file}")
    index = f"--index={folder}/annotations.h5"
    assert main(["annotations", *common, index, f"--output={folder}/annotations.json"]) == 0
    truth = f"--ground-truth={root}/truth/instances.json"
    assert main(["evaluation", *common, "--stage=masks", truth, f"--output={folder}/scores.json"]) == 0


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.slow
def test_records_stand_in_the_order_of_discovery(planted_run: Path) -> None:
    records = read(planted_run / "5/masks/shard-0000.json")["masks"]
    assert [record["image_id"] for record in records] == [1] * 5 + [2] * 5
    assert [record["source_patch"] for record in records[:5]] == [[1, 1], [1, 9], [1, 15], [9, 12], [10, 2]]
    assert sum(rle.decode(record["segmentation"]).astype(int) for record in records[:5]).max() == 1  # type: ignore[union-attr]
    (first, second) = read(planted_run / "1/masks/shard-0000.json")["masks"]
    assert [first, second] == [records[0], records[5]]


def test_every_mask_reaches_the_annotations(planted_run: Path) -> None:
    records, annotations = (
        read(planted_run / "5/masks/shard-0000.json")["masks"],
        read(planted_run / "5/annotations.json")["annotations"],
    )
    assert [item["segmentation"] for item in annotations] == [record["segmentation"] for record in records]
    assert [item["image_id"] for item in annotations] == [1] * 5 + [2] * 5
    assert read(planted_run / "5/clusters.json")["sizes"] == [10]


def test_five_masks_find_what_one_cannot(planted_run: Path) -> None:
    five, one = read(planted_run / "5/scores.json"), read(planted_run / "1/scores.json")
    assert (five["ap"], five["miou"], five["corloc"]) == pytest.approx((100, 100, 100))
    assert one["ap"] == pytest.approx(
        100 * 21 / 101
    )  # two of ten objects: recall 0.2, thresholds 0.00 to 0.20
    assert one["corloc"] == 100 and one["miou"] < 80


def test_masks_stay_disjoint_where_bicubic_grows_them() -> None:
    """Two objects that touch: each alone would grow over the border."""
    keys = np.full((6, 8, 8), -0.05, np.float32)
    keys[1:5, 1:4], keys[1:5, 4:7] = 3 * np.eye(8, dtype=np.float32)[:2, None, None]
    query = np.array([[1, 0.5, 0, 0], [0, 0, 0, 0]], np.float32)
    image = ImageFeatures(query, query, keys.reshape(48, 8), (6, 8), (48, 64))
    config = MasksConfig(max_masks=2, resize_mask="bicubic_nonzero")
    recorder = MaskRecorder(config, 8)
    records = recorder.records(1, "one", (37, 53), recorder.search(image))
    first, second = (rle.decode(record["segmentation"]) for record in records)
    left, right = np.zeros((6, 8), bool), np.zeros((6, 8), bool)
    left[1:5, 1:4], right[1:5, 4:7] = True, True
    grown = [upsample(mask, 8, (48, 64), (37, 53), "bicubic_nonzero") for mask in (left, right)]
    assert (grown[0] & grown[1]).any()
    np.testing.assert_array_equal(first, grown[0])
    np.testing.assert_array_equal(second, grown[1] & ~grown[0])
