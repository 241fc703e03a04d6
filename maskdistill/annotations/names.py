"""Names that people gave to clusters in the report: shown in outputs, never learnt from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from maskdistill.annotations.coco import categories
from maskdistill.annotations.types import Category
from maskdistill.runtime.errors import MaskDistillError

LONGEST = 100
REMEDY = "save it anew from the report's section on categories, or correct it"


@dataclass(frozen=True)
class ClusterNames:
    """Content of a file of names.

    Attributes:
        names: cluster 0..K-1 -> name; clusters may lack one, and several may share one.
        sizes: masks of each cluster when they were named, by which the clustering is known again; None if not
            told.
    """

    names: dict[int, str]
    sizes: list[int] | None = None

    def fit(self, sizes: Sequence[int]) -> bool:
        """Whether the names were given to a clustering with these sizes."""
        return self.sizes is None or self.sizes == list(sizes)


def is_name(text: str) -> bool:
    """Whether a text can be a cluster's name: not blank, of at most 100 characters, all of them printable."""
    return bool(text.strip()) and len(text) <= LONGEST and text.isprintable()


def parse_names(values: Any, source: str, num_clusters: int) -> ClusterNames:
    """Check the content of a file: ``names`` and, if told, ``clusters`` (K) and ``sizes``.

    Args:
        values: as read from YAML.
        source: file to name in an error message.
        num_clusters: K of the run.

    Raises:
        MaskDistillError: something else than that, an unknown cluster, or a name that is no text.
    """

    def wrong(what: str) -> MaskDistillError:
        return MaskDistillError(f"{source}: {what}; {REMEDY}")

    if isinstance(values, dict) and "names" in values and values["names"] is None:
        values = values | {"names": {}}  # all that stands below it is commented out
    if not isinstance(values, dict) or not isinstance(values.get("names"), dict):
        raise wrong("no names in it: it holds 'names:' and below it lines such as '0: mushroom'")
    if strange := sorted(str(key) for key in values.keys() - {"names", "clusters", "sizes"}):
        raise wrong(f"unknown entries {', '.join(strange)} beside names, clusters and sizes")
    if values.get("clusters", num_clusters) != num_clusters:
        raise wrong(f"it names clusters of {values['clusters']}, and this run has {num_clusters}")
    sizes = values.get("sizes")
    if sizes is not None and (
        not isinstance(sizes, list)
        or len(sizes) != num_clusters
        or any(type(size) is not int for size in sizes)
    ):
        raise wrong(f"sizes must be {num_clusters} whole numbers, one a cluster")
    for cluster, name in values["names"].items():
        if type(cluster) is not int or not 0 <= cluster < num_clusters:
            raise wrong(f"{cluster!r} is no cluster: they are numbered from 0 to {num_clusters - 1}")
        if not isinstance(name, str):
            raise wrong(f"the name of cluster {cluster} is {name!r}, not text: put it in quotes")
        if not is_name(name):
            raise wrong(f"the name of cluster {cluster} must be 1 to {LONGEST} printable characters")
    return ClusterNames({cluster: name.strip() for cluster, name in sorted(values["names"].items())}, sizes)


def read_names(path: str | Path, num_clusters: int) -> ClusterNames:
    """Read a file of names; see :func:`parse_names`.

    Raises:
        MaskDistillError: also if there is no such file, or it is not YAML.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MaskDistillError(
            f"{path}: no such file; save it from the report's section on categories, or leave clusters.names "
            "out"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise MaskDistillError(
            f"{path}: cannot be read as YAML ({' '.join(str(error).split())}); {REMEDY}"
        ) from None
    return parse_names(values, str(path), num_clusters)


def named_categories(num_clusters: int, names: Mapping[int, str]) -> list[Category]:
    """COCO categories of K clusters, ids 1 + cluster, unnamed ones called ``cluster-00``."""
    return [
        {"id": entry["id"], "name": names.get(cluster, entry["name"])}
        for cluster, entry in enumerate(categories(num_clusters))
    ]
