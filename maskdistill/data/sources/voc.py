"""The folders of PASCAL VOC."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from maskdistill.config.paths import UserPath
from maskdistill.config.types import Text
from maskdistill.data.listed import ListedImage
from maskdistill.data.sources.base import ImageSource, Look, absolute
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, sha256_text
from maskdistill.runtime.seal import stamp
from maskdistill.runtime.user_files import read_user_text

TRUTH = (("SegmentationClass", "png"), ("SegmentationObject", "png"), ("Annotations", "xml"))
"""Folders of ground truth, and suffixes of their files."""


class VocData(ImageSource):
    """PASCAL VOC directory layout (JPEGImages, ImageSets, SegmentationClass, ...)."""

    LABELS: ClassVar[frozenset[str]] = frozenset({"instance_list"})
    SCORED: ClassVar[frozenset[str]] = frozenset({"eval_list"})

    kind: Literal["voc"]
    root: UserPath = Field(description="folder that holds JPEGImages, e.g. VOCdevkit/VOC2012")
    train_list: Text = Field("Main/trainval", description="list below ImageSets: unlabelled training images")
    segmenter_list: Text | None = Field(
        None,
        description="list below ImageSets: images whose pseudo-labels the segmenter learns from; null: "
        "train_list",
    )
    eval_list: Text = Field("Segmentation/val", description="list below ImageSets: images that are scored")
    instance_list: Text | None = Field(
        None,
        description="list below ImageSets: images whose instances are scored (AP), all of them in the other "
        "lists too; null: eval_list",
    )

    @property
    def place(self) -> str:
        """The folder that holds JPEGImages."""
        return self.root

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """The union of the lists by id, each with its flags."""
        root = absolute(self.root)
        if not (root / "JPEGImages").is_dir():
            raise MaskDistillError(f"data.root: {root} has no folder JPEGImages; give e.g. VOCdevkit/VOC2012")
        train = self._keys("train_list")
        scored = self._keys("eval_list")
        labelled = train if self.segmenter_list is None else self._keys("segmenter_list")
        trained = train | labelled
        for key in sorted(trained | scored):
            path = root / "JPEGImages" / f"{key}.jpg"
            yield ListedImage(key, path, key in train, key not in trained, key in labelled)

    def count_fitted(self) -> int | None:
        """Those of ``train_list``."""
        return sum(image.train for image in self.pictures(Look()))

    def describe(self) -> str:
        """The folder, the list of what is scored, and that of instances."""
        instances = f", instances of {self.instance_list}" if self.instance_list else ""
        return f"{Path(self.root).name} {self.eval_list}{instances}"

    @property
    def has_truth(self) -> bool:
        """Always: its lists are of labelled pictures."""
        return True

    def truth_listing(self) -> str:
        """Stamps of the listed images' files, and the content of the lists of images to score."""
        root = Path(self.root).expanduser()
        found: list[Any] = [sorted(self.scored_keys() or ()), sorted(self.instance_keys() or ())]
        for image in self.pictures(Look()):
            for folder, suffix in TRUTH:
                try:
                    seen = stamp(root / folder / f"{image.key}.{suffix}")
                except OSError:
                    continue
                found.append([folder, image.key, *seen])
        return sha256_text(canonical_json(found))

    def scored_file(self) -> Path | None:
        """That of ``eval_list``."""
        return Path(self.root).expanduser() / "ImageSets" / f"{self.eval_list}.txt"

    def scored_keys(self) -> set[str] | None:
        """Those of ``eval_list``."""
        return self._keys("eval_list")

    def instance_keys(self) -> set[str] | None:
        """Those of ``instance_list``, if it is given."""
        return None if self.instance_list is None else self._keys("instance_list")

    def _keys(self, setting: str) -> set[str]:
        return _read_list(absolute(self.root), f"data.{setting}", getattr(self, setting))


def _read_list(root: Path, setting: str, name: str) -> set[str]:
    path = root / "ImageSets" / f"{name}.txt"
    try:
        lines = read_user_text(path).splitlines()
    except FileNotFoundError:
        have = sorted(
            p.relative_to(root / "ImageSets").with_suffix("").as_posix()
            for p in root.glob("ImageSets/*/*.txt")
        )
        shown = ", ".join(have[:10]) or "none"
        raise MaskDistillError(f"{setting}: {name}: no list {path}; lists there: {shown}") from None
    ids = {line.split()[0] for line in lines if line.strip()}
    if not ids:
        raise MaskDistillError(f"{setting}: {path} lists no image; choose another list")
    if wrong := sorted(key for key in ids if Path(key).name != key):
        raise MaskDistillError(
            f"{setting}: {path} names {wrong[0]!r}, but ids are file names without a folder; correct it"
        )
    return ids
