"""Resizing, padding, batching, cluster inputs and HDF5 shards; the entry points features, masks and
embeddings.
"""

import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from maskdistill.backbones import vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.backbones.weights import save_weights
from maskdistill.cli import STAGES, main
from maskdistill.config import MasksConfig
from maskdistill.data.listed import ListedImage
from maskdistill.data.manifest import ImageRow, build_manifest, read_manifest, write_manifest
from maskdistill.data.scenes import generate_scene
from maskdistill.features import extraction, store
from maskdistill.features.store import HW, ImageFeatures
from maskdistill.formats import rle
from maskdistill.masks.refine import refine
from maskdistill.masks.rules import maskdistill as rule
from maskdistill.masks.upsample import upsample
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json
from maskdistill.runtime.hdf5 import write_hdf5

Array = np.ndarray[Any, np.dtype[Any]]
MICRO = "vit_micro_patch8"
CPU = torch.device("cpu")
MICRO_BACKBONE = find_backbone(MICRO)
SHAPES = {
    "portrait": (85, 64),
    "landscape": (48, 70),
    "square": (64, 64),
    "long": (20, 150),
    "tall": (131, 17),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def random_features(grid: HW, seed: int = 0, dim: int = 8, heads: int = 2) -> ImageFeatures:
    rng = np.random.default_rng(seed)
    keys = rng.normal(size=(grid[0] * grid[1], dim)).astype(np.float32)
    query = rng.normal(size=(heads, dim // heads)).astype(np.float32)
    cls_key = rng.normal(size=query.shape).astype(np.float32)
    return ImageFeatures(query, cls_key, keys, grid, (8 * grid[0], 8 * grid[1] - 3))


def extract(model: vit.ViT, images: list[torch.Tensor], precision: str = "float32") -> list[ImageFeatures]:
    return extraction.extract(model, MICRO_BACKBONE, images, CPU, precision).get()


def embed(model: vit.ViT, images: list[torch.Tensor]) -> Array:
    return extraction.embed(model, 8, images, CPU)


def image_rows(ids: list[int], keys: list[str], hw: HW = (10, 20)) -> list[ImageRow]:
    return [ImageRow(i, key, f"/{key}.png", hw[1], hw[0], 0) for i, key in zip(ids, keys, strict=True)]


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("size", "short_side"),
    [
        *((size, short_side) for size in SHAPES.values() for short_side in (16, 61, 64)),
        *(
            ((375, 500), 640),
            ((500, 375), 640),
            ((333, 500), 224),
            ((500, 333), 97),
            ((16, 1000), 16),
            ((16, 999), 31),
        ),
    ],
)
def test_resizing_is_torchvisions(size: HW, short_side: int) -> None:
    image = picture(*size)
    expected = v2.functional.pil_to_tensor(v2.Resize(short_side)(image))
    found = extraction.resize(image, short_side)
    assert found.dtype == torch.uint8 and found.shape[1:] == extraction.resized_hw(size, short_side)
    assert torch.equal(found, expected)


def test_the_papers_example_of_sizes() -> None:
    """500 x 375 -> 853 x 640 -> padded to 864 -> 54 x 40 patches, 2,160 of them."""
    assert extraction.resized_hw((375, 500), 640) == (640, 853)
    assert extraction.grid_of((640, 853), 16) == (40, 54)


def test_native_size_is_kept() -> None:
    image = picture(33, 47)
    assert extraction.resized_hw((33, 47), None) == (33, 47)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(extraction.resize(image, None), pixels)


def test_the_network_sees_the_normalised_picture_on_mean_colour() -> None:
    """Padding is 0 after normalisation; mean and standard deviation are the backbone's own."""
    backbone = replace(MICRO_BACKBONE, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.25))
    pixels = extraction.resize(picture(13, 17), None)
    (batch,) = extraction.batch_of([pixels], backbone, CPU)
    expected = np.zeros((3, 16, 24), np.float32)
    for channel, (mean, std) in enumerate(zip(backbone.mean, backbone.std, strict=True)):
        expected[channel, :13, :17] = (pixels[channel].numpy() / 255 - mean) / std
    np.testing.assert_allclose(batch.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_grid_tokens_and_mask_fit_the_picture(name: str) -> None:
    """R * C is the number of tokens but CLS, and the mask has the picture's shape."""
    size = SHAPES[name]
    model = vit.load_vit(MICRO, "random")
    tokens: list[int] = []
    hook = model.blocks[0].register_forward_hook(lambda module, args, out: tokens.append(out.shape[1]))
    (found,) = extract(model, [extraction.resize(picture(*size), 60)])
    hook.remove()
    resized = extraction.resized_hw(size, 60)
    assert found.resized_hw == resized and found.grid == extraction.grid_of(resized, 8)
    assert found.grid == (int(np.ceil(resized[0] / 8)), int(np.ceil(resized[1] / 8)))
    assert found.keys.shape == (tokens[0] - 1, 128) and found.grid[0] * found.grid[1] == tokens[0] - 1
    assert found.cls_query.shape == (4, 32) and found.keys.dtype == found.cls_query.dtype == np.float32
    patches = rule.distil(found.keys, found.cls_query, found.grid, MasksConfig())
    for how in ("nearest", "bicubic_nonzero"):
        assert upsample(patches.mask, 8, found.resized_hw, size, how).shape == size


# ---------------------------------------------------------------- the network


def test_a_batch_equals_one_by_one() -> None:
    model = vit.load_vit(MICRO, "random")
    images = [extraction.resize(picture(40, 56, seed), 37) for seed in range(3)]
    images.append(images[0][:, :, :-2])  # another size before padding, the same after
    together = extract(model, images)
    embedded = embed(model, [vit.normalize(image) for image in images])
    assert embedded.shape == (4, 128) and embedded.dtype == np.float32
    for image, found, vector in zip(images, together, embedded, strict=True):
        (alone,) = extract(model, [image])
        assert found.grid == alone.grid and found.resized_hw == alone.resized_hw == tuple(image.shape[1:])
        np.testing.assert_allclose(found.keys, alone.keys, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.cls_query, alone.cls_query, rtol=0, atol=1e-5)
        np.testing.assert_allclose(vector, embed(model, [vit.normalize(image)])[0], rtol=0, atol=1e-5)
    assert np.abs(together[0].keys - together[1].keys).max() > 1e-3


def test_an_image_of_another_padded_size_does_not_join_a_batch() -> None:
    model = vit.load_vit(MICRO, "random")
    with pytest.raises(RuntimeError):
        extract(model, [torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(3, 16, 17, dtype=torch.uint8)])


def test_bucketed_groups_by_size_and_loses_nothing() -> None:
    items = [(number, int(size)) for number, size in enumerate(np.random.default_rng(0).integers(1, 4, 50))]
    pulled = []

    def source() -> Iterator[tuple[int, int]]:
        for item in items:
            pulled.append(item)
            yield item

    batches, waiting = [], []
    for batch in extraction.bucketed(source(), lambda item: (item[1], 8), 4):
        batches.append(batch)
        waiting.append(len(pulled) - sum(map(len, batches)))
    assert sorted(item for batch in batches for item in batch) == items
    assert all(len({size for _, size in batch}) == 1 and 1 <= len(batch) <= 4 for batch in batches)
    assert sum(len(batch) < 4 for batch in batches) <= 3
    assert max(waiting) <= 3 * 3  # of 3 sizes
    for size in (1, 2, 3):
        assert [n for b in batches for n, s in b if s == size] == [n for n, s in items if s == size]


def test_the_square_around_a_mask() -> None:
    """Pixel by pixel: half a side is 0.62 of the box's longer side, rounded up; outside of the image there is
    0.
    """
    image = torch.arange(3 * 10 * 12, dtype=torch.float32).reshape(3, 10, 12) + 1
    mask = np.zeros((10, 12), bool)
    mask[2:6, 3:9], mask[2, 3] = True, False
    for box, half, middle in [
        ((3, 2, 6, 4), 4, (4, 6)),
        ((0, 2, 12, 4), 8, (4, 6)),
        ((3, 2, 1, 2), 2, (3, 4)),
    ]:
        found = extraction.cluster_input(image, mask, tuple(map(float, box)), "masked_square")
        assert found.shape == (3, 2 * half, 2 * half)
        for row, column in np.ndindex(2 * half, 2 * half):
            y, x = middle[0] - half + row, middle[1] - half + column
            seen = 0 <= y < 10 and 0 <= x < 12 and mask[y, x]
            assert torch.equal(found[:, row, column], image[:, y, x] if seen else torch.zeros(3))


@pytest.mark.parametrize("mode", ["masked_image", "masked_crop", "crop"])
def test_cluster_inputs(mode: str) -> None:
    image = torch.arange(3 * 10 * 12, dtype=torch.float32).reshape(3, 10, 12) + 1
    mask = np.zeros((10, 12), bool)
    mask[2:6, 3:9], mask[2, 3] = True, False
    found = extraction.cluster_input(image, mask, (3.0, 2.0, 6.0, 4.0), mode)
    masked = torch.where(torch.from_numpy(mask), image, torch.zeros(()))
    expected = {"masked_image": masked, "masked_crop": masked[:, 2:6, 3:9], "crop": image[:, 2:6, 3:9]}[mode]
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2.4, 1.6, 3.2, 2.2), slice(2, 4), slice(2, 6)),  # edges rounded, not sides
        ((5.0, 5.0, 0.0, 0.0), slice(5, 6), slice(5, 6)),  # at least one pixel
        ((11.8, 9.7, 0.2, 0.3), slice(9, 10), slice(11, 12)),  # also at the border
        ((0.0, 0.0, 12.0, 10.0), slice(0, 10), slice(0, 12)),
    ],
)
def test_crops_round_the_edges_of_the_box(
    box: tuple[float, float, float, float], rows: slice, columns: slice
) -> None:
    image = torch.rand(3, 10, 12)
    assert torch.equal(
        extraction.cluster_input(image, np.ones((10, 12), bool), box, "crop"), image[:, rows, columns]
    )


# ---------------------------------------------------------------- HDF5


GRIDS = [(5, 4), (2, 9), (40, 31)]


def write_shard(path: Path, order: tuple[int, ...] = (0, 1, 2), dtype: str = "float32") -> None:
    provenance = {"stage": "features", "params": {"b": 1, "a": 2}}
    with store.write_features(
        path, image_rows([4, 5, 9], ["x/a", "ü b", "c"]), GRIDS, 8, provenance
    ) as writer:
        writer.create(8, 2, dtype)
        for index in order:
            writer.put(index, random_features(GRIDS[index], index))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_shard_comes_back(tmp_path: Path, dtype: str) -> None:
    write_shard(tmp_path / "shard.h5", dtype=dtype)
    with store.open_shard(tmp_path / "shard.h5") as file:
        assert file.attrs["patch_size"] == 8
        assert json.loads(file.attrs["provenance"]) == {"stage": "features", "params": {"b": 1, "a": 2}}
        assert file["offsets"].dtype == np.int64 and file["grid"].dtype == np.int32
        np.testing.assert_array_equal(file["offsets"], [0, 20, 38, 38 + 1240])
        assert file["keys"].dtype == dtype
        back = list(store.read_features(file))
    assert [image[:3] for image in back] == [(4, "x/a", (10, 20)), (5, "ü b", (10, 20)), (9, "c", (10, 20))]
    for index, (*_, found) in enumerate(back):
        expected = random_features(GRIDS[index], index)
        assert found.grid == expected.grid and found.resized_hw == expected.resized_hw
        np.testing.assert_array_equal(found.cls_query, expected.cls_query)
        np.testing.assert_array_equal(found.cls_key, expected.cls_key)
        assert found.keys.dtype == np.float32
        np.testing.assert_array_equal(found.keys, expected.keys.astype(dtype).astype(np.float32))


def test_equal_features_give_equal_bytes_in_whatever_order(tmp_path: Path) -> None:
    written = set()
    for order in permutations(range(3)):
        write_shard(tmp_path / "shard.h5", order)
        written.add((tmp_path / "shard.h5").read_bytes())
    assert len(written) == 1


def test_embeddings_come_back_and_give_equal_bytes(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for name in "ab":
        store.write_embeddings(tmp_path / name, vectors, [3, 3, 4, 7, 9], range(5), {"stage": "embeddings"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with store.open_shard(tmp_path / "a") as file:
        np.testing.assert_array_equal(file["embeddings"], vectors)
        assert file["image_id"][:].tolist() == [3, 3, 4, 7, 9] and file["mask_index"][:].tolist() == [
            0,
            1,
            2,
            3,
            4,
        ]
        assert json.loads(file.attrs["provenance"]) == {"stage": "embeddings"}


def test_an_empty_shard_is_written_and_read(tmp_path: Path) -> None:
    with store.write_features(tmp_path / "shard.h5", [], [], 8, {}) as writer:
        writer.create(8, 2, "float32")
    with store.open_shard(tmp_path / "shard.h5") as file:
        assert list(store.read_features(file)) == [] and file["keys"].shape == (0, 8)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError, match="stop"),
        store.write_features(tmp_path / "shard.h5", image_rows([1], ["a"]), [(2, 2)], 8, {}) as writer,
    ):
        writer.create(8, 2, "float32")
        raise KeyError("stop")
    assert list(tmp_path.iterdir()) == []


def test_putting_before_creating_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="create"),
        store.write_features(tmp_path / "shard.h5", image_rows([1], ["a"]), [(2, 2)], 8, {}) as writer,
    ):
        writer.put(0, random_features((2, 2)))


@pytest.mark.hostile("hdf5: truncated, or 0 bytes", outcome="the stage stops: --forcerun FILE")
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.999])
def test_a_truncated_shard_is_a_clear_error(tmp_path: Path, share: float) -> None:
    path = tmp_path / "shard.h5"
    write_shard(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with (
        pytest.raises(MaskDistillError, match=r"shard\.h5: damaged: it has no digest.*--forcerun"),
        store.open_shard(path),
    ):
        pass


@pytest.mark.hostile("hdf5: missing", outcome="the stage stops and says which one makes it")
def test_a_missing_shard_is_a_clear_error(tmp_path: Path) -> None:
    with (
        pytest.raises(MaskDistillError, match=r"shard\.h5: no such file"),
        store.open_shard(tmp_path / "shard.h5"),
    ):
        pass


# ---------------------------------------------------------------- entry points


class Run:
    """Four scenes, a grey picture and a broken file in two shards, the second of which holds the broken one
    alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, folder / "manifest.csv"
        for index in range(1, 5):
            Image.fromarray(generate_scene(0, index, 64, 0.5).image).save(folder / f"{index}.png")
        picture(70, 64).convert("L").save(folder / "5.png")
        (folder / "6.png").write_bytes(b"nothing")
        listed = [ListedImage(str(i), folder / f"{i}.png", True, True) for i in range(1, 7)]
        table = pd.concat(build_manifest(listed, len(listed), 2, folder, max_quarantined=0.5))
        table["shard"] = [0, 0, 0, 0, 0, 1]
        write_manifest(self.manifest, table)

    def command(
        self, stage: str, output: str, *given: str, params: dict[str, Any] | None = None
    ) -> list[str]:
        rest = ["--output", str(self.folder / output), "--params", json.dumps(params or {}), "--threads", "1"]
        return [stage, "--manifest", str(self.manifest), *given, *rest]

    def features(self, output: str = "f.h5", *given: str, weights: str = "random", **params: Any) -> int:
        model = ["--arch", MICRO, "--weights", weights, "--device", "cpu", *(given or ("--shard", "0"))]
        return main(
            self.command("features", output, *model, params={"short_side": 60, "workers": 0} | params)
        )

    def masks(self, output: str = "m.json", source: str = "f.h5", **params: Any) -> int:
        rest = ["--output", str(self.folder / output), "--params", json.dumps(params), "--threads", "1"]
        pictures = ["--manifest", str(self.manifest), "--shard", "0"] if "refine" in params else []
        return main(["masks", "--features", str(self.folder / source), *pictures, *rest])

    def embeddings(self, output: str = "e.h5", source: str = "m.json", **params: Any) -> int:
        model = [
            "--arch",
            MICRO,
            "--weights",
            "random",
            "--device",
            "cpu",
            "--masks",
            str(self.folder / source),
            "--shard=0",
        ]
        return main(self.command("embeddings", output, *model, params=params))

    def read_masks(self, output: str = "m.json") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.folder / output).read_text())["masks"]
        return found

    def alone(self, index: int) -> ImageFeatures:
        """Features of one picture, extracted by themselves."""
        image = Image.open(self.folder / f"{index}.png").convert("RGB")
        return extract(vit.load_vit(MICRO, "random"), [extraction.resize(image, 60)])[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with features, masks and embeddings of shard 0; tests add outputs of other names."""
    run = Run(tmp_path_factory.mktemp("run"))
    assert run.features() == run.masks() == run.embeddings() == 0
    return run


@pytest.fixture
def fresh(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_features_of_a_shard(made: Run) -> None:
    with store.open_shard(made.folder / "f.h5") as file:
        back = list(store.read_features(file))
        provenance = json.loads(file.attrs["provenance"])
    assert [(image.image_id, image.key) for image in back] == [(i, str(i)) for i in range(1, 6)]
    for number, key, image_hw, found in back:
        with Image.open(made.folder / f"{key}.png") as stored:
            assert image_hw == (stored.height, stored.width)
        expected = made.alone(number)
        assert found.grid == expected.grid and found.resized_hw == expected.resized_hw
        np.testing.assert_allclose(found.keys, expected.keys, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.cls_query, expected.cls_query, rtol=0, atol=1e-5)
    assert provenance["stage"] == "features" and provenance["params"]["random_weights"]
    assert str(made.folder) not in json.dumps(provenance)


@pytest.mark.parametrize("params", [{}, {"workers": 2}, {"batch_size": 2}])
def test_features_again_give_equal_results(made: Run, params: dict[str, Any]) -> None:
    assert made.features("again.h5", **params) == 0
    if "batch_size" not in params:  # which may change the last bit
        assert (made.folder / "again.h5").read_bytes() == (made.folder / "f.h5").read_bytes()
    with h5py.File(made.folder / "again.h5") as again, h5py.File(made.folder / "f.h5") as first:
        np.testing.assert_allclose(again["keys"], first["keys"], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(again["image_id"], first["image_id"])


def test_a_shard_of_quarantined_pictures_passes_through(made: Run) -> None:
    assert made.features("f1.h5", "--shard", "1") == made.masks("m1.json", "f1.h5") == 0
    assert made.read_masks("m1.json") == []
    assert made.embeddings("e1.h5", "m1.json") == 0
    with h5py.File(made.folder / "e1.h5") as file:
        assert file["embeddings"].shape == (0, 128)


def test_masks_of_a_shard(made: Run) -> None:
    found = made.read_masks()
    assert [mask["image_id"] for mask in found] == [1, 2, 3, 4, 5]
    for mask in found:
        image = made.alone(mask["image_id"])
        patches = rule.distil(image.keys, image.cls_query, image.grid, MasksConfig())
        with Image.open(made.folder / f"{mask['key']}.png") as stored:
            size = (stored.height, stored.width)
        full = upsample(patches.mask, 8, image.resized_hw, size)
        decoded = rle.decode(mask["segmentation"])
        np.testing.assert_array_equal(decoded, full)
        rows, columns = np.flatnonzero(full.any(axis=1)), np.flatnonzero(full.any(axis=0))
        assert mask["bbox"] == [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert mask["area"] == full.sum() and mask["score"] == 1.0
        assert mask["source_patch"] == list(patches.source)
        assert mask["coverage"] == pytest.approx(patches.mask.mean())


@pytest.mark.slow
def test_masks_with_refined_outlines(made: Run) -> None:
    """Each is :func:`refine`'s of what the rule gives, without what earlier masks have; patches are of the
    picture.
    """
    assert made.masks("fine.json", refine="grabcut", max_masks=3, affinity={"center": True}) == 0
    assert made.masks("coarse.json", max_masks=3, affinity={"center": True}) == 0
    found, plain = made.read_masks("fine.json"), made.read_masks("coarse.json")
    assert [mask["source_patch"] for mask in found] == [mask["source_patch"] for mask in plain]
    changed, free = 0, {}
    for mask, before in zip(found, plain, strict=True):
        photo = np.asarray(Image.open(made.folder / f"{mask['key']}.png").convert("RGB"))
        free.setdefault(mask["key"], np.ones(photo.shape[:2], bool))
        start = rle.decode(before["segmentation"])
        expected = refine(
            photo, start & free[mask["key"]], 8 * photo.shape[0] / made.alone(mask["image_id"]).resized_hw[0]
        )
        expected &= free[mask["key"]]
        np.testing.assert_array_equal(rle.decode(mask["segmentation"]), expected)
        free[mask["key"]] &= ~expected
        changed += int((expected != start).any())
    assert changed


def test_refined_masks_need_the_pictures(made: Run, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ["--output", str(made.folder / "no.json"), "--params", '{"refine": "grabcut"}']
    assert main(["masks", "--features", str(made.folder / "f.h5"), *rest]) == 1
    assert "refine needs the photographs; give --manifest and --shard" in said(capsys)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"topk": 0.1, "max_masks": 3, "resize_mask": "bicubic_nonzero"},
        {"refine": "grabcut", "max_masks": 2},
    ],
)
def test_distilling_in_one_go_gives_the_same_masks(made: Run, params: dict[str, Any]) -> None:
    """Features and masks without a file of keys between them: equal records in equal order."""
    assert made.masks("stored.json", **params) == 0
    settings = {"features": {"short_side": 60, "workers": 1}, "masks": params}
    model = ["--arch", MICRO, "--weights", "random", "--device", "cpu", "--shard", "0"]
    assert main(made.command("distil", "straight.json", *model, params=settings)) == 0
    assert made.read_masks("straight.json") == made.read_masks("stored.json")
    assert len(made.read_masks("straight.json")) >= 5


def test_masks_follow_the_settings_and_repeat_exactly(made: Run) -> None:
    assert made.masks("again.json") == 0
    assert (made.folder / "again.json").read_bytes() == (made.folder / "m.json").read_bytes()
    settings: dict[str, Any] = {"topk": 0.1, "component": "all", "affinity": {"center": True}}
    assert made.masks("centred.json", resize_mask="bicubic_nonzero", **settings) == 0
    config = MasksConfig.model_validate(settings)
    for mask in made.read_masks("centred.json"):
        image = made.alone(mask["image_id"])
        patches = rule.distil(image.keys, image.cls_query, image.grid, config)
        assert mask["coverage"] == pytest.approx(patches.mask.mean())
    assert made.read_masks("centred.json") != made.read_masks()


def test_the_mass_rule_says_how_often_it_has_no_meaning(made: Run, caplog: pytest.LogCaptureFixture) -> None:
    with h5py.File(made.folder / "f.h5") as file, write_hdf5(made.folder / "negative.h5") as changed:
        for name in file:
            file.copy(name, changed)
        changed.attrs.update(file.attrs)
        sums = [float(rule.cls_affinity(f.cls_query, f.keys).sum()) for *_, f in store.read_features(changed)]
        for index, total in enumerate(sums):
            changed["cls_query"][index] *= (-1 if index < 2 else 1) * np.sign(total)
    said = {}
    for mass in (0.5, None):
        caplog.clear()
        # The entry point sets up logging anew, which would remove pytest's handler from the root logger.
        logging.getLogger("maskdistill").addHandler(caplog.handler)
        assert made.masks("mass.json", "negative.h5", cls_mass=mass) == 0
        logging.getLogger("maskdistill").removeHandler(caplog.handler)
        said[mass] = [record.getMessage() for record in caplog.records if "cls_mass" in record.getMessage()]
    assert (
        said[None] == []
        and len(said[0.5]) == 2
        and said[0.5][1].endswith("do not sum to a positive number, in 2 images")
    )
    assert re.search(
        r"chose \d+\.\d % of the candidate patches, some of them in \d of 5 images", said[0.5][0]
    )


def test_the_mass_rule_says_how_much_of_p_are_ties(made: Run) -> None:
    """In the records, beside each mask; and in the report's facts, see tests/test_report_masks.py."""
    assert made.masks("mass.json", cls_mass=0.05) == 0
    for mask in made.read_masks("mass.json"):
        image = made.alone(mask["image_id"])
        affinity = rule.cls_affinity(image.cls_query, image.keys)
        chosen = max(int(0.4 * len(affinity)), 1)
        kept = rule.keep_mass(affinity, 0.05)
        above = min(chosen, int((kept > 0).sum()))
        assert mask["tied"] == pytest.approx(
            (chosen - above) / chosen if affinity.sum() > 0 else mask["tied"]
        )
    assert all("tied" not in mask for mask in made.read_masks())


@pytest.mark.parametrize(
    ("mode", "short_side"),
    [("masked_image", None), ("masked_crop", 40), ("crop", None), ("masked_square", 48)],
)
def test_embeddings_of_a_shard(made: Run, mode: str, short_side: int | None) -> None:
    assert made.embeddings("mode.h5", input=mode, short_side=short_side) == 0
    with store.open_shard(made.folder / "mode.h5") as file:
        vectors = file["embeddings"][:]
        assert file["image_id"][:].tolist() == [1, 2, 3, 4, 5] and file["mask_index"][:].tolist() == [
            0,
            1,
            2,
            3,
            4,
        ]
    model = vit.load_vit(MICRO, "random")
    for vector, mask in zip(vectors, made.read_masks(), strict=True):
        image = vit.normalize(
            extraction.resize(Image.open(made.folder / f"{mask['key']}.png").convert("RGB"), None)
        )
        view = extraction.cluster_input(image, rle.decode(mask["segmentation"]), mask["bbox"], mode)
        if short_side:
            view = v2.functional.resize(view, [short_side], antialias=True)
        np.testing.assert_allclose(vector, embed(model, [view])[0], rtol=0, atol=1e-5)


def test_embeddings_repeat_exactly(made: Run) -> None:
    assert made.embeddings("again-e.h5") == 0
    assert (made.folder / "again-e.h5").read_bytes() == (made.folder / "e.h5").read_bytes()


def test_half_precision_keys_are_stored_and_used(made: Run) -> None:
    assert made.features("half.h5", dtype="float16") == made.masks("half.json", "half.h5") == 0
    with h5py.File(made.folder / "half.h5") as half, h5py.File(made.folder / "f.h5") as full:
        np.testing.assert_array_equal(half["keys"][:], full["keys"][:].astype(np.float16))
    assert len(made.read_masks("half.json")) == 5


# ---------------------------------------------------------------- clear errors


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_a_missing_manifest(fresh: Run, capsys: pytest.CaptureFixture[str]) -> None:
    fresh.manifest.unlink()
    assert fresh.features() == 1
    assert "manifest.csv: no such file" in said(capsys) and not (fresh.folder / "f.h5").exists()


def test_missing_weights(fresh: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fresh.features(weights="/no/where.pth") == 1
    assert "weights file /no/where.pth: no such file" in said(capsys)


def test_a_shard_that_the_manifest_lacks(fresh: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fresh.features("f.h5", "--shard", "2") == 1
    assert "has no shard 2; take one of 0..1" in said(capsys) and not (fresh.folder / "f.h5").exists()


@pytest.mark.hostile(
    "photo: replaced by another after the manifest was made",
    outcome="the stage that wants it stops and names it",
)
def test_a_picture_that_changed_its_size(made: Run, fresh: Run, capsys: pytest.CaptureFixture[str]) -> None:
    picture(64, 90).save(fresh.folder / "3.png")
    assert fresh.features() == 1
    assert "3.png: its content has changed since" in said(capsys) and not (fresh.folder / "f.h5").exists()
    (fresh.folder / "m.json").write_bytes((made.folder / "m.json").read_bytes())
    assert fresh.embeddings() == 1
    assert "3.png: its content has changed since" in said(capsys) and not (fresh.folder / "e.h5").exists()


@pytest.mark.hostile("hdf5: masks JSON of another manifest", outcome="the stage stops and names the image")
def test_masks_of_another_manifest(made: Run, fresh: Run, capsys: pytest.CaptureFixture[str]) -> None:
    table: pd.DataFrame = read_manifest(fresh.manifest)
    write_manifest(fresh.manifest, table[table["image_id"] != 2])
    (fresh.folder / "m.json").write_bytes((made.folder / "m.json").read_bytes())
    assert fresh.embeddings() == 1
    assert "m.json: 2 is not in shard 0" in said(capsys)


@pytest.mark.hostile("hdf5: JSON truncated", outcome="the stage stops: --forcerun FILE")
def test_truncated_inputs(made: Run, fresh: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (fresh.folder / "f.h5").write_bytes((made.folder / "f.h5").read_bytes()[:-100])
    assert fresh.masks() == 1
    assert "f.h5: damaged: it has no digest" in said(capsys)
    (fresh.folder / "m.json").write_bytes((made.folder / "m.json").read_bytes()[:-100])
    assert fresh.embeddings() == 1
    assert "m.json: damaged: it has no digest" in said(capsys)


@pytest.mark.parametrize("stage", STAGES)
def test_every_entry_point_has_help(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([stage, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"usage: maskdistill {stage}" in text and len(text.splitlines()) > 8 and "--" in text


def replace_picture(path: Path) -> None:
    """Another picture of the same size in pixels and bytes, with the same modification time, in the same
    place.
    """
    stat, content = path.stat(), path.read_bytes()
    with Image.open(path) as image:
        other = Image.fromarray(np.asarray(image.convert("RGB"))[::-1])
    data = io.BytesIO()
    other.save(data, "PNG")
    path.write_bytes(data.getvalue().ljust(len(content), b"\0")[: max(len(content), len(data.getvalue()))])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.hostile(
    "photo: replaced by another of the same size after the manifest", outcome="the stage stops"
)
@pytest.mark.parametrize("stage", ["features", "distil", "embeddings"])
def test_a_picture_that_was_replaced_is_noticed(
    fresh: Run, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    assert fresh.features() == 0 and fresh.masks() == 0
    replace_picture(fresh.folder / "2.png")
    params = {"features": {"short_side": 60, "workers": 0}, "masks": {}}
    model = ["--arch", MICRO, "--weights", "random", "--device", "cpu", "--shard", "0"]
    runs = {
        "features": lambda: fresh.features(),
        "distil": lambda: main(fresh.command("distil", "d.json", *model, params=params)),
        "embeddings": lambda: fresh.embeddings(workers=0),
    }
    assert runs[stage]() == 1
    told = said(capsys)
    assert (
        "2.png: its content has changed since the manifest was made" in told and "--forcerun manifest" in told
    )


def test_masks_and_clusters_know_the_weights_that_the_features_were_made_with(
    fresh: Run, tmp_path: Path
) -> None:
    """So the report need not look at the file that lies there by then."""
    model = vit.load_vit(MICRO, "random", torch.device("cpu"), "float32")
    save_weights(model.state_dict(), tmp_path / "w.safetensors", {"arch": MICRO})
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert fresh.features(weights=str(tmp_path / "w.safetensors")) == 0
    (tmp_path / "w.safetensors").unlink()
    assert fresh.masks() == 0
    inputs = read_json(fresh.folder / "m.json")["provenance"]["inputs"]
    assert inputs["weights"] == digest and set(inputs) == {"features", "weights"}
