"""Generated scenes: equal draws, exact ground truth, pairs of views without a common background; the entry
point.
"""

import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from maskdistill.cli import main
from maskdistill.data import scenes, shapes
from maskdistill.data.scenes import (
    CATEGORIES,
    ObjectSpec,
    Scene,
    generate_scene,
    make_objects,
    render,
    view_pair,
)

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


@pytest.fixture(scope="module")
def collection() -> list[Scene]:
    return [
        generate_scene(3, index, 64, difficulty) for difficulty in (0.0, 0.5, 1.0) for index in range(1, 13)
    ]


# ---------------------------------------------------------------- scenes


def test_a_scene_depends_on_its_arguments_alone() -> None:
    first = generate_scene(1, 5, 64, 0.5)
    np.random.default_rng(9).random(100)
    again = generate_scene(1, 5, 64, 0.5)
    for name in ("image", "masks", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    for other in ((2, 5, 64, 0.5), (1, 6, 64, 0.5), (1, 5, 64, 0.9), (1, 5, 72, 0.5)):
        changed = generate_scene(*other)
        assert changed.image.shape != first.image.shape or (changed.image != first.image).mean() > 0.5


def test_images_masks_and_labels_fit_together(collection: list[Scene]) -> None:
    for scene in collection:
        height, width = scene.image.shape[:2]
        assert scene.image.shape[2] == 3 and scene.image.dtype == np.uint8 and scene.image.std() > 5
        assert (height, width) in {(64, 64), (64, 80), (80, 64)}
        assert scene.masks.dtype == bool and scene.masks.shape == (len(scene.labels), height, width)
        assert 1 <= len(scene.labels) <= 4
        assert (
            scene.labels.dtype == np.int64
            and scene.labels.min() >= 1
            and scene.labels.max() <= len(CATEGORIES) == 6
        )


def test_masks_are_disjoint_and_none_is_tiny(collection: list[Scene]) -> None:
    for scene in collection:
        assert scene.masks.sum(axis=0).max() == 1
        assert (scene.masks.mean(axis=(1, 2)) >= 0.004).all()


def test_the_semantic_map_says_what_the_masks_say(collection: list[Scene]) -> None:
    for scene in collection:
        semantic = scene.semantic
        assert semantic.dtype == np.uint8
        expected = np.zeros(semantic.shape, int)
        for mask, label in zip(scene.masks, scene.labels, strict=True):
            for y, x in zip(*np.nonzero(mask), strict=True):
                expected[y, x] = label
        np.testing.assert_array_equal(semantic, expected)
    empty = Scene(np.zeros((4, 5, 3), np.uint8), np.zeros((0, 4, 5), bool), np.zeros(0, np.int64))
    np.testing.assert_array_equal(empty.semantic, np.zeros((4, 5)))


def test_every_category_count_and_aspect_occurs(collection: list[Scene]) -> None:
    assert set(np.concatenate([scene.labels for scene in collection])) == set(range(1, 7))
    assert {scene.image.shape[:2] for scene in collection} == {(64, 64), (64, 80), (80, 64)}
    assert {len(scene.labels) for scene in collection} >= {1, 2, 3}


def plain_photograph(rng: np.random.Generator, image: Array, difficulty: float) -> Array:
    """No light fall-off, blur or noise."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def grown(mask: Array) -> Array:
    """The mask and the pixels that touch it."""
    return ndimage.binary_dilation(mask, np.ones((3, 3), bool))


def test_masks_lie_where_the_objects_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a plain green a shadow keeps the ratio of the channels and an object changes it, but for its
    outline.
    """

    def green(rng: np.random.Generator, height: int, width: int, difficulty: float) -> Array:
        return np.full((height, width, 3), (0.2, 0.8, 0.2), np.float32)

    monkeypatch.setattr(scenes, "_background", green)
    monkeypatch.setattr(scenes, "_photograph", plain_photograph)
    for index in range(10):
        scene = generate_scene(0, index, 96, 0.0)
        red, middle, blue = scene.image.astype(float).transpose(2, 0, 1)
        changed = np.abs(red / middle - 0.25) + np.abs(blue / middle - 0.25) > 0.03
        inside = np.asarray(scene.masks.any(axis=0))
        core = ~grown(~inside)
        around = grown(inside)
        assert changed[core].mean() > 0.98
        assert changed[~around].mean() < 0.002


def test_an_occluded_object_keeps_its_visible_part_only() -> None:
    rng = np.random.default_rng(0)
    hidden = 0
    for index in range(20):
        objects = make_objects(np.random.default_rng([index, 1]), 1.0)
        scene = render(rng, objects, 96, 96, 1.0)
        outlines = [grown(mask) for mask in scene.masks]
        hidden += any((a & b).any() for i, a in enumerate(outlines) for b in outlines[:i])
        assert scene.masks.sum(axis=0).max(initial=0) <= 1
    assert hidden > 1  # objects do touch at difficulty 1, so that disjointness says something


def test_rendering_is_fast() -> None:
    """A thousand scenes in well under a minute of one core; the best of several is compared, for a busy
    machine.
    """
    seconds = []
    for index in range(12):
        start = time.process_time()
        generate_scene(0, index, 128, 0.5)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.04


# ---------------------------------------------------------------- pairs


def correlation(first: Array, second: Array) -> float:
    return float(abs(np.corrcoef(first, second)[0, 1]))


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[ObjectSpec], Scene]]:
    """What :func:`render` is given and returns, with the ground truth that a pair of views leaves out."""
    seen: list[tuple[list[ObjectSpec], Scene]] = []
    plain = scenes.render

    def recorded(rng: np.random.Generator, objects: list[ObjectSpec], *rest: Any) -> Scene:
        seen.append((objects, plain(rng, objects, *rest)))
        return seen[-1][1]

    monkeypatch.setattr(scenes, "render", recorded)
    return seen


def background_differences(rendered: list[tuple[list[ObjectSpec], Scene]], pairs: int) -> Array:
    """Per pair: mean difference of the chromaticity, which shadows leave alone, outside the objects of both
    views.
    """
    found = []
    for index in range(pairs):
        rendered.clear()
        view_pair(7, index, 64, 0.5)
        pair = [scene for _, scene in rendered]
        outside = ~grown((pair[0].semantic > 0) | (pair[1].semantic > 0))
        colors = [scene.image[outside] + 1.0 for scene in pair]
        first, second = (color / color.sum(axis=1, keepdims=True) for color in colors)
        found.append(np.abs(first - second).mean())
    return np.array(found)


def test_views_of_a_pair_share_no_background(
    monkeypatch: pytest.MonkeyPatch, rendered: list[tuple[list[ObjectSpec], Scene]]
) -> None:
    monkeypatch.setattr(scenes, "_photograph", plain_photograph)
    apart = background_differences(rendered, 16)
    plain, calls = scenes._background, count()

    def shared(rng: np.random.Generator, height: int, width: int, difficulty: float) -> Array:
        plain(rng, height, width, difficulty)
        return plain(np.random.default_rng(next(calls) // 2), height, width, difficulty)

    monkeypatch.setattr(scenes, "_background", shared)
    together = background_differences(rendered, 16)
    assert together.max() < 0.005  # the measure would show a shared background
    assert apart.min() > 0.015


def test_the_two_backgrounds_are_drawn_anew_and_not_moved_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Array] = []
    plain = scenes._background

    def recorded(rng: np.random.Generator, height: int, width: int, difficulty: float) -> Array:
        drawn.append(plain(rng, height, width, difficulty).copy())
        return drawn[-1].copy()

    monkeypatch.setattr(scenes, "_background", recorded)
    peaks = []
    for index in range(12):
        drawn.clear()
        view_pair(7, index, 64, 0.5)
        assert len(drawn) == 2
        first, second = (image.mean(axis=2) - image.mean() for image in drawn)
        everywhere = np.fft.ifft2(np.fft.fft2(first) * np.conj(np.fft.fft2(second))).real
        peaks.append(np.abs(everywhere).max() / np.sqrt((first**2).sum() * (second**2).sum()))
    assert np.median(peaks) < 0.7 and max(peaks) < 0.99  # a moved copy has 1


def test_views_of_a_pair_show_the_same_individuals(rendered: list[tuple[list[ObjectSpec], Scene]]) -> None:
    lengths = set()
    for index in range(8):
        rendered.clear()
        views = view_pair(7, index, 64, 0.5)
        assert len(views) == len(rendered) == 2
        (first, _), (second, _) = rendered
        assert first is second or all(a is b for a, b in zip(first, second, strict=True))
        lengths.add(len(first))
        for view, (objects, scene) in zip(views, rendered, strict=True):
            assert view.shape == (64, 64, 3) and view.dtype == np.uint8
            np.testing.assert_array_equal(view, scene.image)
            assert not set(scene.labels.tolist()) - {spec.category for spec in objects}
        assert (views[0] != views[1]).mean() > 0.5
    assert len(lengths) > 1


def test_pairs_are_equal_for_equal_arguments() -> None:
    for first, second in zip(view_pair(1, 2, 64, 0.5), view_pair(1, 2, 64, 0.5), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (view_pair(1, 2, 64, 0.5)[0] != view_pair(1, 3, 64, 0.5)[0]).any()


# ---------------------------------------------------------------- shapes and textures


@pytest.mark.parametrize("name", CATEGORIES)
def test_outlines_fit_into_the_unit_box(name: str) -> None:
    for seed in range(20):
        parts = shapes.SHAPES[name](np.random.default_rng(seed))
        solid = np.concatenate([part.polygon for part in parts if not part.hole])
        assert np.abs(solid).max() <= 1.01 and np.ptp(solid, axis=0).min() > 0.5


@pytest.mark.parametrize("kind", shapes.TEXTURES)
def test_textures_lie_in_the_unit_interval_and_vary(kind: str) -> None:
    for seed in range(5):
        found = shapes.texture(np.random.default_rng(seed), kind, 40, 56, 12.0)
        again = shapes.texture(np.random.default_rng(seed), kind, 40, 56, 12.0)
        assert found.shape == (40, 56) and found.dtype == np.float32
        assert found.min() >= -1e-6 and found.max() <= 1 + 1e-6 and found.std() > 0.01
        np.testing.assert_array_equal(found, again)


def test_an_unknown_texture_is_refused() -> None:
    with pytest.raises(ValueError, match="plaid"):
        shapes.texture(np.random.default_rng(0), "plaid", 8, 8, 2.0)


# ---------------------------------------------------------------- the entry point


def test_the_entry_point_writes_equal_pictures_whatever_the_threads(tmp_path: Path) -> None:
    params = {"kind": "scenes", "num_train": 4, "num_eval": 2, "size": 64, "seed": 11}
    for threads in ("1", "2"):
        (tmp_path / threads).mkdir()
        (tmp_path / threads / "left-over.jpg").touch()
        arguments = [
            "--output",
            str(tmp_path / threads),
            "--params",
            json.dumps(params),
            "--threads",
            threads,
        ]
        assert main(["scenes", *arguments]) == 0
    first, second = ({f.name: f.read_bytes() for f in (tmp_path / t).iterdir()} for t in ("1", "2"))
    assert first == second and sorted(first) == [f"scene-{i:05d}.jpg" for i in range(1, 7)]
    for index in range(1, 7):
        picture = np.asarray(Image.open(tmp_path / "1" / f"scene-{index:05d}.jpg"))
        scene = generate_scene(11, index, 64, 0.5)
        assert picture.shape == scene.image.shape
        assert correlation(picture.mean(axis=2).ravel(), scene.image.mean(axis=2).ravel()) > 0.97  # JPEG


def test_wrong_settings_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--output", str(tmp_path / "out"), "--params", '{"size": 16, "difficult": 0.5}']
    assert main(["scenes", *arguments]) == 1
    said = capsys.readouterr().err
    assert "size" in said and "difficult: unknown key" in said and not (tmp_path / "out").exists()
