"""How pure the clusters of masks are: reported with the scores, never trained on [P §4.2]."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from maskdistill.evaluation.localisation import box_iou


@dataclass(frozen=True)
class ClusterScores:
    """Agreement of a clustering with classes, as fractions of 1.

    Attributes:
        purity: share of items whose class is the most frequent in their cluster.
        accuracy: share of items that the best one-to-one matching of clusters with classes gets right.
        nmi: mutual information over the arithmetic mean of the two entropies.
        ari: adjusted Rand index (Hubert and Arabie 1985); 0 on average for a random clustering, may be
            negative.
    """

    purity: float
    accuracy: float
    nmi: float
    ari: float


def pseudo_target(box: npt.ArrayLike, truth: npt.ArrayLike, classes: npt.ArrayLike) -> int:
    """Class of the ground-truth object whose box overlaps the mask's box best.

    Ties go to the first object, also if no object overlaps at all.

    Args:
        box: (4,) xywh of the mask.
        truth: (M, 4) xywh, M at least 1.
        classes: int (M,) class of each object.
    """
    return int(np.asarray(classes)[box_iou(box, truth)[0].argmax()])


def contingency(clusters: npt.ArrayLike, classes: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Count items by cluster and class; only values that occur have a row or column.

    Args:
        clusters: int (n,).
        classes: int (n,).

    Returns:
        int64 (occurring clusters, occurring classes).

    Raises:
        ValueError: the lengths differ or there is no item.
    """
    rows, columns = np.asarray(clusters), np.asarray(classes)
    if rows.ndim != 1 or rows.shape != columns.shape or rows.size == 0:
        raise ValueError(f"need one cluster and one class an item, got {rows.shape} and {columns.shape}")
    row_values, row_index = np.unique(rows, return_inverse=True)
    column_values, column_index = np.unique(columns, return_inverse=True)
    table = np.zeros((row_values.size, column_values.size), dtype=np.int64)
    np.add.at(table, (row_index, column_index), 1)
    return table


def cluster_scores(clusters: npt.ArrayLike, classes: npt.ArrayLike) -> ClusterScores:
    """Purity, Hungarian accuracy, NMI and ARI of a clustering; same arguments as :func:`contingency`.

    One cluster and one class agree perfectly: NMI and ARI are then 1.
    """
    table = contingency(clusters, classes)
    total = int(table.sum())
    rows, columns = linear_sum_assignment(table, maximize=True)
    return ClusterScores(
        purity=float(table.max(axis=1).sum() / total),
        accuracy=float(table[rows, columns].sum() / total),
        nmi=_nmi(table),
        ari=_ari(table),
    )


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _nmi(table: npt.NDArray[np.int64]) -> float:
    rows, columns = _entropy(table.sum(axis=1)), _entropy(table.sum(axis=0))
    if rows + columns == 0:
        return 1.0
    mutual = rows + columns - _entropy(table.ravel())
    return max(0.0, 2 * mutual / (rows + columns))


def _ari(table: npt.NDArray[np.int64]) -> float:
    def pairs(counts: npt.NDArray[np.int64]) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    total = int(table.sum())
    expected = rows * columns / max(total * (total - 1) / 2, 1)
    highest = (rows + columns) / 2
    return 1.0 if highest == expected else (both - expected) / (highest - expected)
