"""Names for clusters that a model of pictures and words suggests: what a person may begin with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskdistill.annotations.names import is_name
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.user_files import shown

MAJORITY = 0.5
"""At least so many of a cluster's objects have to be most like the suggested word."""
CLOSE = 0.75
"""A runner-up with more than this share of the suggestion's probability could as well be the name."""
FEW = 5
"""Fewer objects say little of a cluster."""


@dataclass(frozen=True)
class Suggestion:
    """The word that fits a cluster's objects best.

    Attributes:
        word, probability: with the highest mean probability over the objects, and that mean, in [0, 1].
        runner_up, its_probability: the next one.
        objects: of the cluster that were looked at.
        agreeing: share of these whose own most probable word it is.
    """

    word: str
    probability: float
    runner_up: str
    its_probability: float
    objects: int
    agreeing: float

    @property
    def doubt(self) -> str:
        """Why it is doubtful; empty where it is not."""
        reasons = {
            f"only {self.objects} object{'s' if self.objects > 1 else ''}": self.objects < FEW,
            "no majority": self.agreeing < MAJORITY,
            "close runner-up": self.its_probability > CLOSE * self.probability,
        }
        return ", ".join(reason for reason, holds in reasons.items() if holds)


class Tally:
    """How probable words are for the objects of each cluster, counted up batch by batch.

    Memory is that of K x W numbers, however many objects there are.

    Args:
        num_clusters: K.
        words: the W words, at least two.
    """

    def __init__(self, num_clusters: int, words: Sequence[str]) -> None:
        self._words = words
        self._probabilities = np.zeros((num_clusters, len(words)), dtype=np.float64)
        self._votes = np.zeros((num_clusters, len(words)), dtype=np.int64)

    def add(self, similarities: NDArray[np.float64], clusters: NDArray[np.int64]) -> None:
        """Count objects.

        Args:
            similarities: (N, W) of objects and words, scaled as the model's softmax over words wants them.
            clusters: (N,) in 0..K-1.
        """
        odds = np.exp(similarities - similarities.max(axis=1, keepdims=True))
        np.add.at(self._probabilities, clusters, odds / odds.sum(axis=1, keepdims=True))
        np.add.at(self._votes, (clusters, similarities.argmax(axis=1)), 1)

    def suggestions(self) -> list[Suggestion | None]:
        """One a cluster; None for one without objects. Of equally probable words the first is taken."""
        return [self._suggestion(cluster) for cluster in range(len(self._votes))]

    def _suggestion(self, cluster: int) -> Suggestion | None:
        votes = self._votes[cluster]
        if not (objects := int(votes.sum())):
            return None
        mean = self._probabilities[cluster] / objects
        best, second = np.argsort(-mean, kind="stable")[:2].tolist()
        return Suggestion(
            self._words[best], float(mean[best]), self._words[second], float(mean[second]),
            objects, int(votes[best]) / objects,
        )  # fmt: skip


def parse_words(text: str, source: str) -> list[str]:
    """Words to choose among: one a line, in order; blank lines and those that begin with # are passed over.

    A word that stands twice would share its probability with itself, so it counts once, whatever its case.

    Args:
        text: content of the file.
        source: file to name in an error message.

    Raises:
        MaskDistillError: a line that could not be a cluster's name, or fewer than two words.
    """
    words: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if not is_name(word):
            raise MaskDistillError(
                f"{source}, line {number}: {shown(word)} is no name of 1 to 100 printable characters; give "
                "one word or a few, such as mushroom or traffic light"
            )
        words.setdefault(word.casefold(), word)
    if len(words) < 2:
        raise MaskDistillError(
            f"{source}: {'one word' if words else 'no words'} to choose among; give at least two, one a "
            "line, also of what may be seen beside the objects you look for"
        )
    return list(words.values())


def names_yaml(
    suggestions: Sequence[Suggestion | None], sizes: Sequence[int], head: Sequence[str], foot: str = ""
) -> str:
    """A file of names as ``clusters.names`` takes it; doubtful suggestions are comments.

    Args:
        suggestions: one a cluster.
        sizes: masks of each cluster, by which the clustering is known again.
        head: lines of the comment that it begins with.
        foot: a last line of comment.
    """
    lines = [f"# {line}".rstrip() for line in head]
    lines += [f"clusters: {len(sizes)}", f"sizes: [{', '.join(map(str, sizes))}]", "names:"]
    for cluster, suggestion in enumerate(suggestions):
        if suggestion is None:
            lines.append(f"  # {cluster}: no objects")
            continue
        begin, doubt = ("  # ", f"doubtful ({suggestion.doubt}): ") if suggestion.doubt else ("  ", "")
        name = json.dumps(suggestion.word, ensure_ascii=False)
        lines.append(f"{begin}{cluster}: {name}  # {doubt}{_seen(suggestion)}")
    return "\n".join([*lines, *([f"# {foot}"] if foot else [])]) + "\n"


def _seen(one: Suggestion) -> str:
    """What a suggestion rests on, in words."""
    return (
        f"{one.agreeing:.0%} of {one.objects} objects; probability {one.probability:.2f}, then "
        f"{one.runner_up} with {one.its_probability:.2f}"
    )


def table(suggestions: Sequence[Suggestion | None]) -> list[str]:
    """Lines for a terminal, one a cluster below their titles."""
    rows = [("cluster", "objects", "suggestion", "agree", "probability", "runner-up", "")]
    for cluster, one in enumerate(suggestions):
        if one is None:
            rows.append((f"{cluster:02d}", "0", "-", "-", "-", "-", "no objects"))
            continue
        rows.append(
            (
                f"{cluster:02d}", str(one.objects), one.word, f"{one.agreeing:.0%}", f"{one.probability:.2f}",
                f"{one.runner_up} {one.its_probability:.2f}", f"doubtful: {one.doubt}" if one.doubt else "",
            )
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    texts = {2, 5, 6}
    return [
        "  ".join(
            cell.ljust(width) if column in texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
