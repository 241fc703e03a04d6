"""Pasted objects: against a slow reference that goes pixel by pixel, and what is drawn for them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import examples, scenes, write_run

from maskdistill.detector.copy_paste import LEAST_LEFT, Annotated, Piece, draw_pieces, paste
from maskdistill.detector.data import AnnotatedImages

HEIGHT, WIDTH = 20, 26


def tight(mask: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(mask)
    return [float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)]


def annotated(rng: np.random.Generator, count: int) -> Annotated:
    """Noise with random rectangles, which may overlap."""
    masks = np.zeros((count, HEIGHT, WIDTH), np.uint8)
    for mask in masks:
        top, left = rng.integers(0, (HEIGHT - 6, WIDTH - 6))
        mask[top : top + rng.integers(3, 12), left : left + rng.integers(3, 12)] = 1
    boxes = torch.tensor([tight(mask) for mask in masks])
    image = torch.from_numpy(rng.integers(0, 256, (3, HEIGHT, WIDTH), np.uint8))
    return Annotated(image, boxes, torch.from_numpy(rng.integers(1, 9, count)), torch.from_numpy(masks))


def slow(scene: Annotated, pieces: list[Piece]) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Image, and labels with masks: pixel by pixel; each piece takes what is below it."""
    image = scene.image.numpy().copy()
    before = [
        (int(label), mask.copy()) for label, mask in zip(scene.labels, scene.masks.numpy(), strict=True)
    ]
    objects = [(label, mask.copy()) for label, mask in before]
    for piece in pieces:
        own = np.zeros((HEIGHT, WIDTH), np.uint8)
        for y in range(piece.mask.shape[0]):
            for x in range(piece.mask.shape[1]):
                if piece.mask[y, x]:
                    image[:, piece.top + y, piece.left + x] = piece.image[:, y, x]
                    own[piece.top + y, piece.left + x] = 1
                    for _, mask in objects:
                        mask[piece.top + y, piece.left + x] = 0
        before.append((int(piece.label), own.copy()))
        objects.append((int(piece.label), own))
    pairs = zip(objects, before, strict=True)
    return image, [now for now, then in pairs if now[1].sum() >= LEAST_LEFT * then[1].sum()]


def test_against_pixels() -> None:
    rng = np.random.default_rng(3)
    cut = gone = 0
    for _ in range(15):
        scene, source = annotated(rng, int(rng.integers(1, 4))), annotated(rng, 5)
        pieces = [piece for _ in range(4) for piece in draw_pieces(rng, source, (HEIGHT, WIDTH))]
        untouched = scene.image.clone(), scene.masks.clone()
        found = paste(scene, pieces)
        assert torch.equal(scene.image, untouched[0]) and torch.equal(scene.masks, untouched[1])
        image, objects = slow(scene, pieces)
        np.testing.assert_array_equal(found.image.numpy(), image)
        assert found.labels.tolist() == [label for label, _ in objects]
        np.testing.assert_array_equal(found.masks.numpy(), np.stack([mask for _, mask in objects]))
        assert found.boxes.tolist() == [tight(mask) for _, mask in objects]
        assert found.masks.dtype == torch.uint8 and found.boxes.dtype == torch.float32
        gone += len(scene.labels) + len(pieces) - len(objects)
        cut += int(found.masks.sum()) < int(scene.masks.sum()) + sum(int(one.mask.sum()) for one in pieces)
    assert gone > 5 and cut > 10


def test_an_object_that_nothing_covers_keeps_its_box() -> None:
    """Boxes that the annotations name need not be the masks' own."""
    scene = annotated(np.random.default_rng(0), 1)
    wider = Annotated(scene.image, scene.boxes + torch.tensor([-1.0, 0, 1, 0]), scene.labels, scene.masks)
    y, x = (scene.masks[0] == 0).nonzero()[0].tolist()
    dot = Piece(
        torch.zeros(3, 1, 1, dtype=torch.uint8), torch.ones(1, 1, dtype=torch.bool), torch.tensor(4), y, x
    )
    found = paste(wider, [dot])
    assert torch.equal(found.boxes[0], wider.boxes[0]) and found.boxes[1].tolist() == [x, y, x + 1, y + 1]
    assert found.labels.tolist() == [int(scene.labels[0]), 4]


def test_pieces_fit_and_are_the_objects_made_smaller() -> None:
    rng = np.random.default_rng(5)
    source = annotated(rng, 4)
    shares, counts, places = [], set(), set()
    for _ in range(80):
        pieces = draw_pieces(rng, source, (9, WIDTH))
        counts.add(len(pieces))
        for piece in pieces:
            height, width = piece.mask.shape
            assert piece.image.shape[1:] == piece.mask.shape and piece.mask.any()
            assert 0 <= piece.top <= 9 - height and 0 <= piece.left <= WIDTH - width
            places.add((piece.top, piece.left))
            (one,) = (source.labels == piece.label).nonzero().flatten()[:1].tolist()
            shares.append(height / float(source.boxes[one, 3] - source.boxes[one, 1]))
    assert counts == {1, 2, 3, 4} and len(places) > 40
    assert min(shares) < 0.4 and max(shares) <= 1.01
    whole = Annotated(source.image, source.boxes[:1], source.labels[:1], source.masks[:1])
    left, top, right, bottom = source.boxes[0].int().tolist()
    means = [
        (piece.image.float().mean(), source.image[:, top:bottom, left:right].float().mean())
        for piece in draw_pieces(np.random.default_rng(1), whole, (HEIGHT, WIDTH))
    ]
    assert all(abs(float(small - large)) < 12 for small, large in means)  # antialiased, not sampled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pasted")


def test_the_draw_alone_decides_and_without_it_nothing_changes(folder: Path) -> None:
    drawn = scenes(4)
    write_run(folder, drawn)
    given = examples(folder, drawn)
    plain, pasted = AnnotatedImages(given, 0.5, 7), AnnotatedImages(given, 0.5, 7, copy_paste=0.5)
    always = AnnotatedImages(given, 0.5, 7, copy_paste=1.0)
    changed = 0
    for draw in range(16):
        (image, target), (again, same) = pasted[draw % 4, draw], pasted[draw % 4, draw]
        before, old = plain[draw % 4, draw]
        assert torch.equal(image, again) and all(torch.equal(target[name], same[name]) for name in target)
        assert int(target["seed"]) == int(old["seed"])
        new = not torch.equal(image, before)
        changed += new
        assert new or all(torch.equal(target[name], old[name]) for name in old)
        assert len(always[draw % 4, draw][1]["labels"]) == len(always[draw % 4, draw][1]["boxes"]) > 0
    assert 3 <= changed <= 13
    alone = AnnotatedImages(given[:1], 0.0, 7, copy_paste=1.0)
    assert torch.equal(alone[0, 3][0], plain[0, 3][0]) or torch.equal(alone[0, 3][0].flip(-1), plain[0, 3][0])
