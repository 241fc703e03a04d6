"""The dense CRF against pydensecrf's own pictures and against mean field over all pairs of pixels."""

import builtins
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskdistill.config import CrfConfig
from maskdistill.runtime.background import in_processes
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.segmenter.crf import refine, refine_pair

pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed")
FIXTURES = Path(__file__).parents[2] / "shared/data/fixtures/densecrf"
PUBLISHED = CrfConfig.model_validate(
    {"iters": 5, "gaussian": {"sxy": 3, "compat": 3}, "bilateral": {"sxy": 80, "srgb": 13, "compat": 10}}
)


def rgb(name: str) -> np.ndarray:
    return np.asarray(Image.open(FIXTURES / f"{name}.png").convert("RGB"))


def test_defaults_are_the_papers() -> None:
    """The values of [method §8]."""
    assert CrfConfig().model_dump() == {
        "rounds": 1,
        "iters": 10,
        "channels": "rgb",
        "gaussian": {"sxy": 1, "compat": 3},
        "bilateral": {"sxy": 67, "srgb": 3, "compat": 4},
    }


@pytest.mark.parametrize(
    ("image", "annotation", "expected"),
    [
        ("im1", "anno1", "out1"),
        ("im1", "anno1-b", "out1-b"),
        ("im2", "anno2", "out2"),
        ("im3", "anno3", "out3"),
    ],
)
def test_published_pictures(image: str, annotation: str, expected: str) -> None:
    """The examples of pydensecrf: colours are labels, black is unknown, an annotation is right with
    probability 0.7.
    """
    if not FIXTURES.exists():
        pytest.skip(f"{FIXTURES} is not on this machine")
    painted = rgb(annotation)
    colors, labels = np.unique(painted.reshape(-1, 3), axis=0, return_inverse=True)
    labels = labels.reshape(painted.shape[:2])
    known = colors.any(axis=1)
    classes = int(known.sum())
    index: np.ndarray = np.cumsum(known) - 1
    probabilities = np.full((classes, *labels.shape), 0.3 / (classes - 1), np.float32)
    for color in np.flatnonzero(known):
        probabilities[index[color], labels == color] = 0.7
    probabilities[:, np.isin(labels, np.flatnonzero(~known))] = 1 / classes
    found = colors[known][refine(rgb(image), probabilities, PUBLISHED)]
    agreement, alone = (float(np.all(one == rgb(expected), axis=2).mean()) for one in (found, painted))
    assert agreement >= 0.998 > alone


def slow_mean_field(image: np.ndarray, probabilities: np.ndarray, config: CrfConfig) -> np.ndarray:
    """Mean field over all pairs of pixels in float64: Krähenbühl and Koltun 2011, Eq. 3 and Algorithm 1.

    Kernels are normalised symmetrically, K / sqrt(row sums), and keep their diagonal, as in the authors'
    code.
    """
    classes, height, width = probabilities.shape
    y, x = (grid.ravel().astype(float) for grid in np.mgrid[:height, :width])
    place, color = np.stack([x, y]), image.reshape(-1, 3).T.astype(float)
    features = {
        config.gaussian.compat: place / config.gaussian.sxy,
        config.bilateral.compat: np.concatenate(
            [place / config.bilateral.sxy, color / config.bilateral.srgb]
        ),
    }
    kernel = np.zeros((height * width, height * width))
    for weight, values in features.items():
        squares = ((values[:, :, None] - values[:, None, :]) ** 2).sum(axis=0)
        near = np.exp(-squares / 2)
        scale = 1 / np.sqrt(near.sum(axis=1))
        kernel += weight * scale[:, None] * near * scale[None, :]
    unary = np.log(np.clip(probabilities.reshape(classes, -1).astype(float), 1e-5, 1))
    score = unary
    for _ in range(config.iters + 1):
        belief = np.exp(score - score.max(axis=0))
        belief /= belief.sum(axis=0)
        score = unary + belief @ kernel
    return np.asarray(belief.argmax(axis=0).reshape(height, width))


def noisy(seed: int, size: tuple[int, int] = (28, 36)) -> tuple[np.ndarray, np.ndarray]:
    """Three regions of different colour with a little noise, and blurred, noisy probabilities of their
    labels.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, dtype=np.int64)
    labels[5:20, 4:18] = 1
    labels[12:26, 20:33] = 2
    colors = np.array([(60, 90, 60), (200, 60, 50), (70, 70, 210)])
    image = np.clip(colors[labels] + rng.normal(0, 4, (*size, 3)), 0, 255).astype(np.uint8)
    logits = np.stack([labels == label for label in range(3)]) * 1.0 + rng.normal(0, 0.8, (3, *size))
    probabilities = np.exp(logits)
    return image, (probabilities / probabilities.sum(axis=0)).astype(np.float32)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gaussian": {"sxy": 3, "compat": 3}, "bilateral": {"sxy": 20, "srgb": 13, "compat": 6}, "iters": 5},
        {
            "gaussian": {"sxy": 2, "compat": 1.5},
            "bilateral": {"sxy": 10, "srgb": 30, "compat": 0.5},
            "iters": 1,
        },
    ],
)
def test_mean_field_over_all_pairs_of_pixels(settings: dict[str, Any]) -> None:
    config = CrfConfig.model_validate(settings)
    for seed in range(3):
        image, probabilities = noisy(seed)
        found, expected = refine(image, probabilities, config), slow_mean_field(image, probabilities, config)
        assert (found == expected).mean() > 0.985
        assert (probabilities.argmax(axis=0) != expected).mean() > 0.1


@pytest.mark.slow
def test_it_repeats_itself_bit_for_bit_in_any_number_of_processes() -> None:
    items = [noisy(seed) for seed in range(5)]
    alone, shared = (list(in_processes(partial(refine_pair, config=CrfConfig()), items, n)) for n in (1, 2))
    for pair, one, other in zip(items, alone, shared, strict=True):
        assert one.dtype == np.uint8 and one.shape == pair[0].shape[:2]
        assert np.array_equal(one, other)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_channels_is_a_setting(seed: int) -> None:
    """bgr is rgb of the picture with its channels swapped; the filter's lattice makes a few pixels differ."""
    image, probabilities = noisy(seed)
    rgb_order, bgr_order = (
        refine(image, probabilities, CrfConfig(channels=order)) for order in ("rgb", "bgr")
    )
    assert np.array_equal(bgr_order, refine(image[..., ::-1], probabilities, CrfConfig()))
    assert (rgb_order == bgr_order).mean() > 0.995
    grey = np.repeat(image[..., :1], 3, axis=2)
    assert np.array_equal(
        *(refine(grey, probabilities, CrfConfig(channels=order)) for order in ("rgb", "bgr"))
    )


def test_certain_probabilities_stay_finite() -> None:
    image, _ = noisy(1)
    certain = np.zeros((2, *image.shape[:2]), np.float32)
    certain[1] = 1
    assert (refine(image, certain, CrfConfig()) == 1).all()


def test_a_picture_of_another_size_is_refused() -> None:
    image, probabilities = noisy(0)
    with pytest.raises(ValueError, match="uint8"):
        refine(image[:-1], probabilities, CrfConfig())


def test_without_the_library_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pydensecrf"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MaskDistillError, match="pip install pydensecrf2"):
        refine(*noisy(0), CrfConfig())
