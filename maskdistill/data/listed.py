"""What a source says of one of its pictures."""

from pathlib import Path
from typing import NamedTuple


class ListedImage(NamedTuple):
    """One picture of a source.

    Attributes:
        key: unique and stable name, used for every file that is derived from the picture.
        path: absolute path; of a picture in an archive its place there
            (:mod:`maskdistill.data.picture_refs`).
        train: unsupervised stages train on it.
        eval: it is there to be scored. Of VOC that is said of pictures in no other list: which ones are
            scored (``scored_keys``) is not the manifest's affair, so that another list of pictures that are
            there anyway trains nothing again.
        segmenter: the segmenter learns from its pseudo-labels; None: as ``train``.
    """

    key: str
    path: Path
    train: bool
    eval: bool
    segmenter: bool | None = None
