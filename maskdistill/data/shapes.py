"""Outlines and textures that generated scenes are made of: pure drawing, no layout."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
Polygon = npt.NDArray[np.float64]

TEXTURES = ("plain", "noise", "stripes", "dots", "checker", "rings")


@dataclass(frozen=True)
class Part:
    """A filled outline in object coordinates (x right, y down, the object fits in [-1, 1]).

    Attributes:
        polygon: (p, 2) vertices.
        tone: brightness factor of the part; 1 for the body.
        hole: True cuts the part out of what was drawn before.
    """

    polygon: Polygon
    tone: float = 1.0
    hole: bool = False


def _ellipse(
    cx: float,
    cy: float,
    rx: float,
    ry: float,
    start: float = 0.0,
    stop: float = 2 * np.pi,
) -> Polygon:
    angle = np.linspace(start, stop, 28)
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


def _fish(rng: np.random.Generator) -> list[Part]:
    height, tail = rng.uniform(0.36, 0.52), rng.uniform(0.32, 0.5)
    fork = rng.uniform(0.0, 0.2)
    return [
        Part(np.array([[-0.5, 0], [-1, -tail], [-0.95 + fork, 0], [-1, tail]]), 0.8),
        Part(
            np.array([[-0.2, -height * 0.8], [0.15, -height - 0.28], [0.35, -height * 0.8]]),
            0.75,
        ),
        Part(_ellipse(0.15, 0, 0.82, height)),
        Part(_ellipse(0.62, -height * 0.25, 0.1, 0.1), 1.7),
        Part(_ellipse(0.64, -height * 0.25, 0.05, 0.05), 0.1),
    ]


def _mushroom(rng: np.random.Generator) -> list[Part]:
    cap, width = rng.uniform(0.75, 1.0), rng.uniform(0.2, 0.32)
    stem = np.array([[-width, -0.1], [width, -0.1], [width * 1.25, 0.95], [-width * 1.25, 0.95]])
    return [
        Part(stem, 1.35),
        Part(np.array([[-0.42, 0.12], [0.42, 0.12], [0.3, 0.24], [-0.3, 0.24]]), 0.6),
        Part(_ellipse(0, 0.0, 0.98, cap, np.pi, 2 * np.pi)),
        Part(_ellipse(0, 0.0, 0.98, 0.16, 0, np.pi), 0.8),
    ]


def _star(rng: np.random.Generator) -> list[Part]:
    inner = rng.uniform(0.36, 0.48)
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radius = inner + (1 - inner) * np.abs(np.cos(2.5 * angle)) ** 1.6
    return [
        Part(np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)),
        Part(_ellipse(0, 0, 0.14, 0.14), 0.65),
    ]


def _bottle(rng: np.random.Generator) -> list[Part]:
    width, neck, shoulder = (
        rng.uniform(0.34, 0.46),
        rng.uniform(0.12, 0.18),
        rng.uniform(-0.35, -0.1),
    )
    body = np.array(
        [[-neck, -0.9], [neck, -0.9], [neck, shoulder - 0.2], [width, shoulder + 0.1], [width, 0.95],
         [-width, 0.95], [-width, shoulder + 0.1], [-neck, shoulder - 0.2]]
    )  # fmt: skip
    return [
        Part(body),
        Part(np.array([[-width, 0.2], [width, 0.2], [width, 0.62], [-width, 0.62]]), 1.5),
        Part(
            np.array(
                [
                    [-neck - 0.05, -1],
                    [neck + 0.05, -1],
                    [neck + 0.05, -0.84],
                    [-neck - 0.05, -0.84],
                ]
            ),
            0.5,
        ),
    ]


def _butterfly(rng: np.random.Generator) -> list[Part]:
    upper, lower = rng.uniform(0.42, 0.55), rng.uniform(0.3, 0.4)
    wings = [
        Part(_ellipse(side * 0.5, y, 0.5, radius), tone)
        for y, radius, tone in ((-0.4, upper, 1.0), (0.48, lower, 0.85))
        for side in (-1, 1)
    ]
    spots = [Part(_ellipse(side * 0.58, -0.42, 0.16, 0.16), 1.6) for side in (-1, 1)]
    return [*wings, *spots, Part(_ellipse(0, 0.05, 0.09, 0.75), 0.35)]


def _mug(rng: np.random.Generator) -> list[Part]:
    height, handle = rng.uniform(0.62, 0.8), rng.uniform(0.32, 0.42)
    return [
        Part(_ellipse(0.42, 0.08, handle + 0.14, handle + 0.12), 0.9),
        Part(_ellipse(0.42, 0.08, handle - 0.06, handle - 0.06), hole=True),
        Part(np.array([[-0.92, -height], [0.45, -height], [0.38, height], [-0.85, height]])),
        Part(_ellipse(-0.235, -height, 0.685, 0.14), 0.55),
    ]


SHAPES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "fish": _fish,
    "mushroom": _mushroom,
    "star": _star,
    "bottle": _bottle,
    "butterfly": _butterfly,
    "mug": _mug,
}


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cells: int, octaves: int = 3
) -> FloatImage:
    """Fractal noise in [0, 1], float32 (height, width); ``cells`` blobs along the shorter side."""
    total = np.zeros((height, width), np.float32)
    short = min(height, width)
    for octave in range(octaves):
        count = cells * 2**octave
        grid = rng.random(
            (max(2, count * height // short), max(2, count * width // short)),
            dtype=np.float32,
        )
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def texture(rng: np.random.Generator, kind: str, height: int, width: int, period: float) -> FloatImage:
    """Pattern in [0, 1], float32 (height, width).

    Args:
        kind: one of :data:`TEXTURES`.
        period: length in pixels of one repetition.
    """
    if kind == "plain":
        return 0.5 + 0.2 * (smooth_noise(rng, height, width, 2, 1) - 0.5)
    if kind == "noise":
        return smooth_noise(rng, height, width, max(2, round(min(height, width) / (2 * period))))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2)
    u = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period) + phase[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / period) + phase[1]
    if kind == "rings":
        u = np.hypot(x - width * rng.uniform(0.2, 0.8), y - height * rng.uniform(0.2, 0.8)) * (
            2 * np.pi / period
        )
    sharp = 2.5
    if kind in ("stripes", "rings"):
        wave = np.sin(u)
    elif kind == "dots":
        wave = np.sin(u) * np.sin(v) * 1.6 - 0.5
    elif kind == "checker":
        wave = np.sin(u) * np.sin(v)
    else:
        raise ValueError(f"unknown texture {kind!r}")
    pattern: FloatImage = (0.5 + 0.5 * np.tanh(sharp * wave)).astype(np.float32)
    return pattern
