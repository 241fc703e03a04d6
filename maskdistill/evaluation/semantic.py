"""Semantic scores from one confusion matrix over the whole evaluation set [P §4.1, §A.3]: mean IoU over all
classes, including background, and pixel accuracy, after matching clusters with classes.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import scipy.sparse

from maskdistill.evaluation.matching import UNMATCHED, Matching, match_clusters

IGNORE = 255
FLOOR = 1e-8
COLUMNS = IGNORE + 1


@dataclass(frozen=True)
class SemanticScores:
    """Scores of one confusion matrix, as fractions of 1.

    Attributes:
        matching: int64 (P,) class of each predicted label, -1 where it has none.
        class_iou: float64 (G,) IoU of each class with the union of its labels.
        miou: mean of ``class_iou`` over all G classes; a class that is absent, or has no label, counts as 0.
        pixel_accuracy: share of the scored pixels whose label is matched with their class.
    """

    matching: npt.NDArray[np.int64]
    class_iou: npt.NDArray[np.float64]
    miou: float
    pixel_accuracy: float


def confusion_matrix(
    predicted: npt.NDArray[np.integer], target: npt.NDArray[np.integer], num_labels: int, num_classes: int
) -> npt.NDArray[np.int64]:
    """Count pixels by predicted label and class, leaving out those whose target is 255.

    Args:
        predicted: integers (H, W) in 0..num_labels-1, 0 is background.
        target: integers (H, W) in 0..num_classes-1, or 255 where nothing is scored.
        num_labels: P, clusters and background.
        num_classes: G, classes and background.

    Returns:
        int64 (P, G).

    Raises:
        ValueError: the shapes differ or a value is out of range.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"prediction {predicted.shape} and ground truth {target.shape} differ in size")
    if predicted.dtype != np.uint8 or target.dtype != np.uint8 or predicted.max(initial=0) >= num_labels:
        predicted = np.where(target == IGNORE, 0, predicted)
        for name, values, low, high in (
            ("prediction", predicted, 0, num_labels),
            ("ground truth", target, 0, 256),
        ):
            if values.min(initial=low) < low or values.max(initial=low) >= high:
                raise ValueError(f"{name} holds values outside 0..{high - 1}")
    cells = np.multiply(predicted, COLUMNS, dtype=np.intp)
    cells += target
    counts = np.bincount(cells.ravel(), minlength=num_labels * COLUMNS).reshape(num_labels, COLUMNS)
    if counts[:, num_classes:IGNORE].any():
        raise ValueError(f"ground truth holds values outside 0..{num_classes - 1}")
    return counts[:, :num_classes].copy()


def iou_matrix(confusion: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    """IoU of labels and classes, ``M[p, g] / (row_p + column_g - M[p, g])``, over at least 1e-8.

    Args:
        confusion: (P, G) pixel counts.

    Returns:
        float64 (P, G).
    """
    counts = confusion.astype(np.float64)
    union = counts.sum(axis=1, keepdims=True) + counts.sum(axis=0, keepdims=True) - counts
    iou: npt.NDArray[np.float64] = counts / np.maximum(union, FLOOR)
    return iou


def semantic_scores(confusion: npt.NDArray[np.number], mode: Matching = "iou") -> SemanticScores:
    """Match labels with classes, then score.

    Args:
        confusion: (P, G) pixel counts; row and column 0 are background.
        mode: see :func:`maskdistill.evaluation.matching.match_clusters`.
    """
    return matched_scores(confusion, match_clusters(iou_matrix(confusion), mode))


def matched_scores(confusion: npt.NDArray[np.number], matching: npt.NDArray[np.int64]) -> SemanticScores:
    """Merge the labels of each class, then score.

    Args:
        confusion: (P, G) pixel counts.
        matching: int64 (P,) class of each label, -1 where it has none.
    """
    counts = confusion.astype(np.float64)
    merged = np.zeros((counts.shape[1], counts.shape[1]))
    used = matching != UNMATCHED
    np.add.at(merged, matching[used], counts[used])
    intersection = merged.diagonal()
    union = merged.sum(axis=1) + counts.sum(axis=0) - intersection
    class_iou = intersection / np.maximum(union, FLOOR)
    accuracy = intersection.sum() / max(counts.sum(), FLOOR)
    return SemanticScores(matching, class_iou, float(class_iou.mean()), float(accuracy))


def nonzero_cells(confusion: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """The non-zero cells of a matrix (P, G): their indices in the flattened matrix, and their counts.

    They are plain numbers, because thousands of small arrays, each allocated between two large ones, would
    keep the memory of the large ones from being reused.
    """
    cells = np.flatnonzero(confusion)
    return cells.tolist(), confusion.ravel()[cells].tolist()


class Confusions:
    """A data set's confusion matrix, filled image by image; each image's part is kept, sparse, for the
    bootstrap.

    Args:
        num_labels: P, clusters and background.
        num_classes: G, classes and background.
    """

    def __init__(self, num_labels: int, num_classes: int) -> None:
        self.shape = (num_labels, num_classes)
        self.total = np.zeros(self.shape, dtype=np.int64)
        self._cells: list[list[int]] = []
        self._counts: list[list[int]] = []

    def __len__(self) -> int:
        """Number of images."""
        return len(self._cells)

    def add(self, predicted: npt.NDArray[np.integer], target: npt.NDArray[np.integer]) -> None:
        """Count one image's (H, W) label maps; see :func:`confusion_matrix`."""
        self.add_cells(*nonzero_cells(confusion_matrix(predicted, target, *self.shape)))

    def add_cells(self, cells: list[int], counts: list[int]) -> None:
        """Add one image's matrix as :func:`nonzero_cells` gives it."""
        self.total.ravel()[np.array(cells, dtype=np.int64)] += np.array(counts, dtype=np.int64)
        self._cells.append(cells)
        self._counts.append(counts)

    def per_image(self) -> scipy.sparse.csr_array:
        """Int64 (n, P * G) sparse array: row i is image i's confusion matrix, flattened."""
        starts = np.cumsum([0, *(len(cells) for cells in self._cells)])
        data, indices = (np.fromiter(chain.from_iterable(v), np.int64) for v in (self._counts, self._cells))
        return scipy.sparse.csr_array(
            (data, indices, starts), shape=(len(self), self.shape[0] * self.shape[1])
        )
