"""GeoJSON: a collection of features per picture, in pixels; holes and parts are preserved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from maskdistill.formats.export.outlines import Part, Ring, outlines
from maskdistill.formats.export.records import Context, ObjectRecord, Picture
from maskdistill.formats.export.registry import Append, ExportFormat, NoOptions
from maskdistill.formats.label_png import color_map
from maskdistill.runtime.files import canonical_json


@contextmanager
def write(folder: Path, context: Context, options: NoOptions) -> Iterator[Append]:
    """Write ``<key>.geojson`` per picture; y counts downwards from its upper edge."""

    def append(picture: Picture) -> None:
        path = folder / f"{picture.key}.geojson"
        path.parent.mkdir(parents=True, exist_ok=True)
        features = [_feature(item, context.simplify) for item in picture.objects]
        size = {"file": picture.file, "width": picture.width, "height": picture.height}
        content = {"type": "FeatureCollection", "features": features, "properties": size}
        path.write_text(canonical_json(content) + "\n", encoding="utf-8")

    yield append


def _feature(item: ObjectRecord, simplify: float) -> dict[str, Any]:
    """One object; in addition to plain properties it has those from which QuPath reads class and
    measurement.
    """
    parts = [_rings(part) for part in outlines(item.mask, simplify)]
    one = len(parts) == 1
    geometry = {"type": "Polygon" if one else "MultiPolygon", "coordinates": parts[0] if one else parts}
    color = color_map()[item.category_id % 256].tolist()
    properties = {
        "category": item.name, "category_id": item.category_id, "score": item.score,
        "objectType": "annotation",
        "classification": {"name": item.name, "color": color}, "measurements": {"score": item.score},
    }  # fmt: skip
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _rings(part: Part) -> list[list[list[float]]]:
    """Closed rings, the outer one counterclockwise and holes clockwise (RFC 7946, 3.1.6)."""
    return [_closed(part.outer, 1), *(_closed(hole, -1) for hole in part.holes)]


def _closed(ring: Ring, turn: int) -> list[list[float]]:
    x, y = ring.T
    area = x @ np.roll(y, -1) - y @ np.roll(x, -1)
    turned = ring if area * turn >= 0 else ring[::-1]
    closed: list[list[float]] = np.concatenate([turned, turned[:1]]).round(2).tolist()
    return closed


FORMAT = ExportFormat("geojson", "QuPath, GeoPandas, Shapely: open `NAME.geojson`", write)
