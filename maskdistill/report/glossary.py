"""Technical terms explained at their first use on a page: buttons with notes, no script."""

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

WORDS = {
    "ground truth": "What people said is in a picture. It is used to score a result, never to train one.",
    "signals?": "A number measured on the result itself, without any labelled picture.",
    "above chance": "Minus what masks of unrelated pictures would reach: 0 is no better than chance, 1 is "
    "perfect.",
    "clusters?": "A group of objects that look alike to the network. It has a number until you give it a "
    "name.",
    "K-means": "A method that divides items into K groups, so that each item is near the middle of its "
    "group.",
    "centroids?": "The middle of a cluster: the mean of the descriptions of all its objects.",
    "masks?": "The pixels that belong to one object.",
    "self-supervised": "Trained on pictures alone: nobody told the network what is in them.",
    "transformer": "A kind of network that looks at a picture as a grid of patches and compares each with "
    "all others.",
    "detector": "A network that finds several objects in a picture: for each a box, a mask, a cluster and a "
    "score.",
    "segmenter": "A network that gives every pixel of a picture a cluster, or background.",
    "candidates?": "An object that the detector found, with a score from 0 to 1 for how sure it is.",
    "τ": "Tau, the threshold of confidence: what the detector scores higher becomes a pseudo-label.",
    "pseudo-labels?": "A label map that was painted from the detector's sure objects, for the segmenter to "
    "learn from.",
    "IoU": "Intersection over union: pixels that two masks share, divided by the pixels in either. 1 where "
    "they are equal, 0 where they do not touch.",
    "quarantined": "Set aside because the file could not be read as a picture. It stays where it is.",
    "affinity": "How alike the network's descriptions of two patches of a picture are.",
    "patch(?:es)?": "A small square of a picture, the smallest part that a transformer sees.",
    "coverage": "Share of a picture's pixels that masks or labels cover.",
    "seeds?": "A number that fixes everything random in a run. Several seeds show how much of a score is "
    "luck.",
    "bootstrap": "The score of many random draws of the same images: 95 % of the draws lie in the interval.",
    "CRF": "Conditional random field: moves the outlines of a label map to edges that are visible in the "
    "picture.",
    "Otsu": "A threshold on grey values that divides a picture into light and dark: the simplest rival.",
    "protocol": "The settings that a score was made with. Compare scores of the same protocol only.",
    "center": "Whether the mean patch was subtracted before patches were compared.",
    "short side": "The pixels that the shorter side of a picture was scaled to.",
    "top-k": "Share of the patches that may grow into a mask.",
    "K": "The number of clusters. You choose it; the run cannot know it.",
    "hard pixels": "Share of the pixels that the segmenter learned from: those where it was most wrong.",
    "[Pp]recision": "Of what was found, the share that is right.",
    "[Rr]ecall": "Of what there is, the share that was found.",
    "silhouettes?": "How much nearer objects are to their own cluster than to the next: 1 is far apart, 0 is "
    "mixed.",
    "[Ii]nertia": "Mean squared distance of objects to the middle of their cluster; it always falls as K "
    "grows.",
}
"""Pattern of a word -> what it means, in words of daily use. Metrics say their own (``Metric.meaning``)."""
VOID = {"img", "br", "hr", "input", "meta", "link", "col", "wbr"}
_PIECES = re.compile(r"(<[^>]*>)")
_TAG = re.compile(r"<(/?)([a-zA-Z][\w-]*)([^>]*?)(/?)>", re.DOTALL)


def explained(page: str, meanings: Mapping[str, str]) -> Markup:
    """HTML with each term as a button at its first use in text, labels or table heads.

    Looked at is text directly inside ``p``, ``dt``, ``th`` of a column, and elements of the class
    ``explained``; file names, class names and the like are left alone. The meaning is a popover at the end of
    the same element.

    Args:
        page: well-formed HTML, escaped.
        meanings: pattern -> meaning.
    """
    left = dict(meanings)
    stack: list[tuple[str, bool]] = []
    waiting: list[list[str]] = []
    done: list[str] = []
    for piece in _PIECES.split(page):
        found = _TAG.match(piece)
        if found is None:
            open_to = bool(stack) and stack[-1][1]
            done.append(_marked(piece, left, waiting[-1]) if open_to and piece.strip() else piece)
            continue
        closing, name, attributes, alone = found.groups()
        if closing:
            stack.pop()
            done += waiting.pop()
        elif not alone and name not in VOID:
            stack.append((name, _is_text(name, attributes)))
            waiting.append([])
        done.append(piece)
    return Markup("".join(done))


def _is_text(name: str, attributes: str) -> bool:
    column = name == "th" and 'scope="col' in attributes
    return name in ("p", "dt") or column or bool(re.search(r'class="[^"]*\bexplained\b', attributes))


def _marked(text: str, left: dict[str, str], notes: list[str]) -> str:
    """A text with new terms as buttons; moves their notes from ``left`` to ``notes``."""
    if not left:
        return text
    # longer words first: "boundary IoU" is not the word "IoU"
    order = sorted(left, key=len, reverse=True)
    pattern = re.compile(r"(?<![\w-])(?:" + "|".join(f"({word})" for word in order) + r")(?![\w-])")

    def button(match: re.Match[str]) -> str:
        word = order[(match.lastindex or 1) - 1]
        if word not in left:
            return match[0]
        slug = "word-" + re.sub(r"[^\w]+", "-", match[0].lower()).strip("-")
        notes.append(f'<span popover id="{slug}" class="meaning">{escape(left.pop(word))}</span>')
        return f'<button type="button" class="word" popovertarget="{slug}">{match[0]}</button>'

    return pattern.sub(button, text)
