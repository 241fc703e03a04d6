"""Generated scenes: several objects of six categories over textured backgrounds, with exact ground truth.

Objects and backgrounds draw their colours and textures from the same distributions, so neither tells
one from the other; what sets an object off is its outline, its shading and its shadow. A scene is a
function of ``(seed, index, size, difficulty)`` alone.

The difficulty knob, 0 to 1, scales together: how closely an object's colours follow the background's
(camouflage), contrast, pattern and clutter of the background, occlusion between objects, the range of
lighting, sensor noise, and how little a category says about its texture (0: mostly its own kind, 1: any).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from maskdistill.data.shapes import (
    SHAPES,
    TEXTURES,
    FloatImage,
    Part,
    smooth_noise,
    texture,
)

CATEGORIES: tuple[str, ...] = tuple(SHAPES)
"""Category names; the first has id 1."""

_OWN_TEXTURE = {
    "fish": "stripes", "mushroom": "dots", "star": "noise", "bottle": "plain", "butterfly": "rings",
    "mug": "checker"
}  # fmt: skip
_MIN_AREA = 0.004
_TRIES = 12


@dataclass(frozen=True)
class Scene:
    """A picture with exact ground truth.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        masks: bool (n, H, W), visible part of each object.
        labels: int64 (n,), category ids 1..6.
    """

    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]

    @property
    def semantic(self) -> npt.NDArray[np.uint8]:
        """uint8 (H, W): 0 background, else the category id."""
        layers = self.masks * self.labels.astype(np.uint8)[:, None, None]
        return np.asarray(layers.max(axis=0, initial=0), np.uint8)


@dataclass(frozen=True)
class ObjectSpec:
    """One individual: what stays the same when it is moved and re-lit."""

    category: int
    parts: tuple[Part, ...]
    texture: str
    texture_seed: int
    period: float
    colors: FloatImage
    """float32 (2, 3): the two colours of the texture, linear in [0, 1]."""


def _color(rng: np.random.Generator) -> FloatImage:
    hsv = np.array(
        [[[rng.uniform(0, 360), rng.uniform(0.15, 0.85), rng.uniform(0.25, 0.95)]]],
        np.float32,
    )
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0], np.float32)


def make_object(rng: np.random.Generator, difficulty: float) -> ObjectSpec:
    """Draw one individual of a random category."""
    category = int(rng.integers(len(CATEGORIES)))
    name = CATEGORIES[category]
    own = rng.random() < 0.9 - 0.6 * difficulty
    return ObjectSpec(
        category=category + 1,
        parts=tuple(SHAPES[name](rng)),
        texture=_OWN_TEXTURE[name] if own else str(rng.choice(TEXTURES)),
        texture_seed=int(rng.integers(2**31)),
        period=float(rng.uniform(0.12, 0.3)),
        colors=np.stack([_color(rng), _color(rng)]),
    )


def another_surface(rng: np.random.Generator, spec: ObjectSpec) -> ObjectSpec:
    """The same outline with any texture, period and colours."""
    return replace(
        spec,
        texture=str(rng.choice(TEXTURES)),
        texture_seed=int(rng.integers(2**31)),
        period=float(rng.uniform(0.12, 0.3)),
        colors=np.stack([_color(rng), _color(rng)]),
    )


def make_objects(
    rng: np.random.Generator, difficulty: float, max_objects: int = 4, single: float = 0.1
) -> list[ObjectSpec]:
    """Draw the individuals of a scene: one with probability ``single``, else two to ``max_objects``."""
    count = 1 if rng.random() < single else int(rng.integers(2, max_objects + 1))
    return [make_object(rng, difficulty) for _ in range(count)]


def _background(rng: np.random.Generator, height: int, width: int, difficulty: float) -> FloatImage:
    contrast = 0.25 + 0.6 * difficulty

    def fill() -> FloatImage:
        first, second = _color(rng), _color(rng)
        second = first + (second - first) * contrast
        period = rng.uniform(0.06, 0.25) * min(height, width)
        kind = str(rng.choice(TEXTURES if rng.random() < 0.2 + 0.8 * difficulty else ("plain", "noise")))
        pattern = texture(rng, kind, height, width, period)
        pattern = 0.7 * pattern + 0.3 * smooth_noise(rng, height, width, 4)
        return np.asarray(first + (second - first) * pattern[..., None], np.float32)

    image = fill()
    for _ in range(int(rng.integers(0, 2 + round(2 * difficulty)))):
        edge = smooth_noise(rng, height, width, int(rng.integers(1, 4)), 1)
        weight = 1 / (1 + np.exp(-(edge - rng.uniform(0.45, 0.75)) * 40))
        image = image + (fill() - image) * weight[..., None].astype(np.float32)
    return image


def _outline(
    spec: ObjectSpec,
    center: npt.NDArray[np.float64],
    radius: float,
    angle: float,
    mirror: bool,
    hw: tuple[int, int],
) -> tuple[FloatImage, FloatImage]:
    """Coverage in [0, 1] and tone of one placed object, float32 (H, W) each."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cover: npt.NDArray[np.uint8] = np.zeros(hw, np.uint8)
    tone: FloatImage = np.ones(hw, np.float32)
    for part in spec.parts:
        points = part.polygon * ((-1, 1) if mirror else (1, 1)) @ turn.T * radius + center
        drawn = np.zeros(hw, np.uint8)
        cv2.fillPoly(drawn, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        if part.hole:
            np.minimum(cover, 255 - drawn, out=cover)
        else:
            np.maximum(cover, drawn, out=cover)
            tone[drawn > 127] = part.tone
    return np.divide(cover, 255, dtype=np.float32), tone


def _shade(cover: FloatImage, radius: float, light: npt.NDArray[np.float64]) -> FloatImage:
    """Diffuse shading of a rounded body whose height follows the distance to its outline."""
    distance = cv2.distanceTransform((cover > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    bevel = 0.35 * radius
    height = np.sqrt(np.clip(1 - (1 - np.minimum(distance / bevel, 1)) ** 2, 0, 1)) * bevel
    height = cv2.GaussianBlur(height, (0, 0), max(radius * 0.06, 0.6))
    slope_y, slope_x = np.gradient(height)
    shading = (light[2] - slope_x * light[0] - slope_y * light[1]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    return np.asarray(0.45 + 0.75 * np.clip(shading, 0, 1.2), np.float32)


@dataclass(frozen=True)
class _Placed:
    """One object drawn in its own window: row and column slices, coverage and surface colour."""

    window: tuple[slice, slice]
    cover: FloatImage
    tone: FloatImage
    radius: float


def _place(rng: np.random.Generator, spec: ObjectSpec, height: int, width: int, crowd: float) -> _Placed:
    radius = rng.uniform(0.17, 0.29) * min(height, width) * crowd
    center = rng.uniform([0.9 * radius] * 2, [width - 0.9 * radius, height - 0.9 * radius])
    tilt = rng.uniform(-0.6, 0.6) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
    mirror = bool(rng.random() < 0.5)
    reach = 1.6 * radius
    left, top = (max(0, int(c - reach)) for c in center)
    right, bottom = (
        min(width, int(center[0] + reach) + 1),
        min(height, int(center[1] + reach) + 1),
    )
    cover, tone = _outline(spec, center - (left, top), radius, tilt, mirror, (bottom - top, right - left))
    return _Placed((slice(top, bottom), slice(left, right)), cover, tone, radius)


def _free(placed: _Placed, taken: npt.NDArray[np.uint8], gap: int, overlap: float) -> bool:
    """Whether the object stays ``gap`` pixels from ``taken``, or hides at most ``overlap`` of it."""
    solid = (placed.cover > 0.5).astype(np.uint8)
    if not solid.any():
        return False
    there = taken[placed.window]
    if overlap:
        return float((solid & there).sum()) <= overlap * float(solid.sum())
    grown = cv2.dilate(solid, np.ones((2 * gap + 1,) * 2, np.uint8))
    return not np.logical_and(grown, there).any()


def render(
    rng: np.random.Generator,
    objects: list[ObjectSpec],
    height: int,
    width: int,
    difficulty: float,
    spacing: float = 0.05,
) -> Scene:
    """Place, light and photograph ``objects`` over a fresh background.

    Two calls with the same objects and different generators give two views that share the
    individuals and nothing else: not the place, size, pose, order, background or light.
    An object for which no free place is found is left out.

    Args:
        spacing: distance that objects which do not overlap keep, as a share of the shortest side.
    """
    image = _background(rng, height, width, difficulty)
    palette = image.reshape(-1, 3)
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.1)
    light = np.array(
        [
            np.cos(azimuth) * np.cos(elevation),
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ]
    )
    owner = np.zeros((height, width), np.uint8)
    labels: list[int] = []
    crowd = 1.0 if len(objects) < 3 else 0.85
    gap = max(1, round(spacing * min(height, width)))
    for spec in objects:
        overlap = rng.uniform(0, 0.3) if rng.random() < 0.4 * difficulty else 0.0
        taken = (owner > 0).astype(np.uint8)
        tries = (_place(rng, spec, height, width, crowd) for _ in range(_TRIES))
        placed = next((one for one in tries if _free(one, taken, gap, overlap)), None)
        if placed is None:
            continue
        labels.append(spec.category)
        _paint(rng, image[placed.window], placed, spec, palette, light, difficulty)
        owner[placed.window][placed.cover > 0.5] = len(labels)
    ids = [i for i in range(1, len(labels) + 1) if (owner == i).sum() >= _MIN_AREA * owner.size]
    masks = np.stack([owner == i for i in ids]) if ids else np.zeros((0, height, width), bool)
    return Scene(
        _photograph(rng, image, difficulty),
        masks,
        np.array([labels[i - 1] for i in ids], np.int64),
    )


def _paint(
    rng: np.random.Generator,
    canvas: FloatImage,
    placed: _Placed,
    spec: ObjectSpec,
    palette: FloatImage,
    light: npt.NDArray[np.float64],
    difficulty: float,
) -> None:
    """Draw one object and its shadow into ``canvas``, the object's window of the picture."""
    radius, cover = placed.radius, placed.cover
    look = np.random.default_rng(spec.texture_seed)
    height, width = cover.shape
    pattern = texture(look, spec.texture, height, width, spec.period * 2 * radius)
    nearby = palette[rng.integers(len(palette), size=2)]
    colors = spec.colors + (nearby - spec.colors) * np.float32(rng.uniform(0, 0.7 * difficulty))
    surface = colors[0] + (colors[1] - colors[0]) * pattern[..., None]
    surface = surface * (placed.tone * _shade(cover, radius, light))[..., None]
    shift = np.array(
        [[1, 0, -light[0] * 0.22 * radius], [0, 1, -light[1] * 0.22 * radius]],
        np.float32,
    )
    shadow = cv2.warpAffine(cover, shift, (cover.shape[1], cover.shape[0]))
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.1 * radius + 0.5)
    canvas *= (1 - np.float32(rng.uniform(0.25, 0.55)) * shadow)[..., None]
    canvas += (surface - canvas) * cover[..., None]


def _photograph(rng: np.random.Generator, image: FloatImage, difficulty: float) -> npt.NDArray[np.uint8]:
    """Light fall-off, colour cast, exposure, blur and sensor noise; float RGB to uint8."""
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    strength = 0.1 + 0.35 * difficulty
    angle = rng.uniform(0, 2 * np.pi)
    falloff = (
        1 + strength * rng.uniform(0, 1) * (x * np.cos(angle) + y * np.sin(angle)) - 0.12 * (x**2 + y**2)
    )
    cast = 1 + rng.uniform(-0.5, 0.5, 3) * strength
    exposure = rng.uniform(1 - 0.8 * strength, 1 + 0.8 * strength)
    image = image * (falloff[..., None] * (cast * exposure)).astype(np.float32)
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 0.7))
    noisy = blurred + rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(
        0.005, 0.01 + 0.025 * difficulty
    )
    return np.asarray(np.clip(noisy, 0, 1) * 255 + 0.5, np.uint8)


def generate_scene(seed: int, index: int, size: int = 128, difficulty: float = 0.5) -> Scene:
    """Scene number ``index`` of the collection ``seed``.

    Args:
        size: shortest side in pixels; scenes are square, 5:4 or 4:5.
        difficulty: 0 to 1, see the module.
    """
    rng = np.random.default_rng([seed, index])
    long = size * 5 // 4
    height, width = [(size, size), (size, long), (long, size)][int(rng.integers(3))]
    while True:
        scene = render(rng, make_objects(rng, difficulty), height, width, difficulty, spacing=0.08)
        if len(scene.labels):
            return scene


def view_pair(seed: int, index: int, size: int, difficulty: float) -> tuple[npt.NDArray[np.uint8], ...]:
    """Two square views, uint8 (size, size, 3), of the same one or two individuals over different backgrounds.

    The pair's own difficulty is uniform in [0, ``difficulty``], so that a network that has learned
    nothing yet finds something to hold on to. No category and no mask leaves this function.
    """
    rng = np.random.default_rng([seed, index, 1])
    difficulty = rng.uniform(0, difficulty)
    objects = make_objects(rng, difficulty, max_objects=2, single=0.5)
    return tuple(render(rng, objects, size, size, difficulty).image for _ in range(2))
