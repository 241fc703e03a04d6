"""Composition of the report's pictures: arrays in, arrays out, no files.

Pictures are ``(H, W, 3)`` uint8 RGB; label maps ``(H, W)`` uint8 with 0 background and 255 ignore.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Rgb: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
Color: TypeAlias = tuple[int, int, int]

IGNORE = 255
NEUTRAL: Color = (142, 142, 147)
VEIL = 128.0


def category_colors(count: int) -> list[Color]:
    """``count`` colours that stay apart: hue steps of the golden angle, lightness in three levels, in OKLCH.

    OKLCH: B. Ottosson, "A perceptual color space for image processing", 2020. Out-of-gamut values are
        clipped.
    """
    index = np.arange(count)
    hue = np.deg2rad((28.0 + 137.50776405 * index) % 360.0)
    light = np.array([0.68, 0.60, 0.77])[index % 3]
    chroma = 0.165
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=1,
    ).clip(0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [(int(red), int(green), int(blue)) for red, green, blue in (srgb * 255).round()]


def matched_colors(
    num_clusters: int, matching: dict[int, int], classes: dict[int, Color]
) -> dict[int, Color]:
    """Colours of the label values of a map of clusters.

    Args:
        num_clusters: K; label values are 1..K.
        matching: label value -> class id, 0 being background on both sides; empty without ground truth.
        classes: class id -> colour.

    Returns:
        Label value -> colour. With a matching: the colour of the matched class, or :data:`NEUTRAL` for a
        cluster that is matched to background or to nothing. Without: one colour a cluster.
    """
    if not matching:
        return dict(enumerate(category_colors(num_clusters), start=1))
    colors = {label: classes.get(matching.get(label, 0), NEUTRAL) for label in range(1, num_clusters + 1)}
    if matching.get(0, 0) in classes:
        colors[0] = classes[matching[0]]
    return colors


LARGE = 6000
"""Sides of photos from which on only every second pixel is looked at where a square is cut out, and so on."""


def fit(photo: Image.Image, side: int) -> Rgb:
    """The photo, uint8 (H, W, 3), scaled so that its longer side measures ``side`` pixels."""
    scale = side / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    return np.asarray(photo.convert("RGB").resize(size, Image.Resampling.LANCZOS))


def fit_labels(labels: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Label map (H, W) resampled to ``(height, width)`` by nearest neighbour."""
    return np.asarray(Image.fromarray(labels).resize((hw[1], hw[0]), Image.Resampling.NEAREST))


def fit_mask(mask: Mask, hw: tuple[int, int]) -> Mask:
    """Mask (H, W) resampled to ``(height, width)``: true where at least half of the area is."""
    soft = Image.fromarray(mask.astype(np.float32)).resize((hw[1], hw[0]), Image.Resampling.BILINEAR)
    return np.asarray(np.asarray(soft) >= 0.5)


def outline(labels: NDArray[np.uint8] | Mask) -> Mask:
    """Pixels, bool (H, W), whose right, lower or diagonal neighbour has another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return edge


def grown(mask: Mask) -> Mask:
    """The mask, bool (H, W), and the pixels that touch it at a side or a corner."""
    height, width = mask.shape
    wide = np.pad(mask, 1)
    shifted = [wide[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.asarray(np.logical_or.reduce(shifted), dtype=np.bool_)


def subdue(photo: Rgb, strength: float = 0.5) -> NDArray[np.float64]:
    """A photo (H, W, 3) in subdued grey, on which colours stand out."""
    grey = photo @ np.array([0.299, 0.587, 0.114])
    return np.repeat(((1 - strength) * grey + strength * VEIL)[..., None], 3, axis=2)


def label_tile(photo: Rgb, labels: NDArray[np.uint8], colors: dict[int, Color], alpha: float = 0.68) -> Rgb:
    """Label map over a subdued photo, with white outlines.

    Args:
        photo: (H, W, 3).
        labels: (H, W); values without a colour, among them background 0, stay uncoloured; 255 is hatched.
        colors: label value -> colour.
        alpha: opacity of the colours.
    """
    canvas = subdue(photo)
    grey = canvas.copy()
    for value in np.unique(labels):
        where = labels == value
        if value == IGNORE:
            rows, columns = np.nonzero(where)
            stripe = (rows + columns) % 6 < 2
            canvas[rows[stripe], columns[stripe]] = 235.0
        elif (color := colors.get(int(value))) is not None:
            canvas[where] = (1 - alpha) * grey[where] + alpha * np.array(color)
    canvas[outline(np.where(labels == IGNORE, 0, labels).astype(np.uint8))] = 255.0
    return canvas.round().astype(np.uint8)


def mask_tile(photo: Rgb, mask: Mask, color: Color) -> Rgb:
    """Photo in colour inside the mask, subdued outside, with an outline of two pixels in ``color``."""
    canvas = np.where(mask[..., None], photo.astype(np.float64), subdue(photo, 0.62))
    edge = outline(mask)
    edge[1:] |= edge[:-1]
    edge[:, 1:] |= edge[:, :-1]
    canvas[edge] = color
    return canvas.round().astype(np.uint8)


def overlay_tile(photo: Rgb, masks: Sequence[Mask], colors: Sequence[Color], alpha: float = 0.4) -> Rgb:
    """Objects over a photo: tinted and outlined, also in white on grounds of like colour.

    Args:
        photo: (H, W, 3).
        masks: (H, W) each, best first: where they overlap the better one is seen.
        colors: of each mask.
        alpha: opacity of the tint.
    """
    canvas = photo.astype(np.float64)
    for mask, color in zip(reversed(masks), reversed(colors), strict=True):
        canvas[mask] = (1 - alpha) * photo[mask] + alpha * np.array(color)
        canvas[grown(mask) & ~mask] = 255.0
        canvas[grown(~mask) & mask] = color
    return canvas.round().astype(np.uint8)


def candidate_tile(
    photo: Rgb,
    boxes: Sequence[Sequence[float]],
    masks: Sequence[Mask | None],
    scores: Sequence[float],
    colors: Sequence[Color],
    confident: Sequence[bool],
) -> Rgb:
    """Boxes with scores over a photo; confident candidates have a filled mask, others a thin box.

    Args:
        photo: (H, W, 3).
        boxes: x, y, width, height in pixels of ``photo``, best first.
        masks: (H, W) each, or None.
        scores, colors, confident: of each candidate.
    """
    canvas = photo.astype(np.float64)
    for mask, color, sure in zip(masks, colors, confident, strict=True):
        if mask is not None and sure:
            canvas[mask] = 0.5 * canvas[mask] + 0.5 * np.array(color)
    image = Image.fromarray(canvas.round().astype(np.uint8))
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(10, max(photo.shape[:2]) // 22))
    order = range(len(boxes) - 1, -1, -1)
    for place in order:
        x, y, width, height = boxes[place]
        corners = (x, y, max(x, x + width - 1), max(y, y + height - 1))
        pen.rectangle(corners, outline=colors[place], width=3 if confident[place] else 1)
    for place in order:
        x, y = boxes[place][:2]
        text = f"{scores[place]:.2f}"
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        wide, high = right - left + 6, bottom - top + 5
        x, y = min(max(0.0, x), image.width - wide), min(max(0.0, y - high + 1), image.height - high)
        pen.rectangle((x, y, x + wide - 1, y + high - 1), fill=colors[place])
        pen.text((x + 3 - left, y + 2 - top), text, font=font, fill=readable_on(colors[place]))
    return np.asarray(image)


def box_tile(photo: Rgb, boxes: Sequence[Sequence[float]], colors: Sequence[Color]) -> Rgb:
    """Boxes alone, ``x, y, width, height`` in pixels of the (H, W, 3) photo."""
    image = Image.fromarray(photo)
    pen = ImageDraw.Draw(image)
    for (x, y, width, height), color in zip(boxes, colors, strict=True):
        pen.rectangle((x, y, max(x, x + width - 1), max(y, y + height - 1)), outline=color, width=3)
    return np.asarray(image)


def readable_on(color: Color) -> Color:
    """Black or white, whichever has more contrast on ``color`` (WCAG relative luminance)."""
    channel = np.array(color) / 255.0
    linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    return (0, 0, 0) if float(linear @ np.array([0.2126, 0.7152, 0.0722])) > 0.179 else (255, 255, 255)


def object_tile(photo: Rgb, mask: Mask, color: Color, side: int, margin: float = 0.12) -> Rgb:
    """Square crop around a masked object, the rest subdued.

    Args:
        photo: (H, W, 3), original size.
        mask: (H, W); an empty one shows the whole photo.
        color: of the outline.
        side: side of the result in pixels.
        margin: border as a share of the object's longer side. Beyond the photo the crop is mid-grey.
    """
    if (step := 1 + (max(mask.shape) - 1) // LARGE) > 1:
        # of a panorama, the square around an object would fill the memory
        photo, mask = photo[::step, ::step], mask[::step, ::step]
    height, width = mask.shape
    top, bottom, left, right = 0, height, 0, width
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    extent = max(1, round(max(bottom - top, right - left) * (1 + 2 * margin)))
    y, x = (top + bottom - extent) // 2, (left + right - extent) // 2
    crop = np.full((extent, extent, 3), int(VEIL), dtype=np.uint8)
    part = np.zeros((extent, extent), dtype=bool)
    source = np.s_[max(0, y) : min(height, y + extent), max(0, x) : min(width, x + extent)]
    target = np.s_[max(0, -y) : min(height, y + extent) - y, max(0, -x) : min(width, x + extent) - x]
    crop[target], part[target] = photo[source], mask[source]
    return mask_tile(fit(Image.fromarray(crop), side), fit_mask(part, (side, side)), color)
