"""What the stage ``clusters`` hands on beside its table of assignments."""

from typing import TypedDict


class ClustersRecord(TypedDict):
    """``clusters.json``.

    Attributes:
        num_clusters: K.
        inertia: sum of the squared distances of the masks that were fitted to their centroids.
        masks: how many were assigned.
        fitted: how many K-means was fitted on.
        sizes: masks of each cluster.
    """

    num_clusters: int
    inertia: float
    masks: int
    fitted: int
    sizes: list[int]
