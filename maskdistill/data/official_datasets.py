"""The official datasets: addresses, sizes, checksums, and what a complete copy holds. Data only.

Sums and sizes are those of [method §0.4], which says who states them; a file without a sum has none that its
authors or several independent users state.
"""

from dataclasses import dataclass
from pathlib import Path

from maskdistill.runtime.errors import MaskDistillError


@dataclass(frozen=True)
class OfficialFile:
    """A file to download.

    Attributes:
        url: official address.
        size: in bytes; about, where ``size_source`` says so.
        size_source: who states the size.
        md5: hex, None where nobody states it reliably.
        top: folder that all members of the archive lie below; empty: not an archive, kept as it is.
    """

    url: str
    size: int
    size_source: str
    md5: str | None
    top: str = ""

    @property
    def name(self) -> str:
        """File name in the address."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class OfficialDataset:
    """A dataset as its authors publish it.

    Attributes:
        files: what is downloaded.
        root: folder of the data below the unpacked files, ``.`` if they are not in one.
        needed: files and folders below ``root`` without which the copy is not complete.
        terms: licence or terms of use, in a few words.
    """

    files: tuple[OfficialFile, ...]
    root: str
    needed: tuple[str, ...]
    terms: str


_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
_VOC_TERMS = "research use; the photographs are under Flickr's terms"
_MIRROR = "a public mirror"

DATASETS: dict[str, OfficialDataset] = {
    "voc2007": OfficialDataset(
        (
            OfficialFile(
                f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar", 460_032_000, _MIRROR,
                "c52e279531787c972589f7e41ab4ae64", "VOCdevkit",
            ),
        ),
        "VOCdevkit/VOC2007", ("JPEGImages", "Annotations", "ImageSets/Main/trainval.txt"), _VOC_TERMS,
    ),
    "voc2012": OfficialDataset(
        (
            OfficialFile(
                f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar", 1_999_639_040, _MIRROR,
                "6cd6e144f989b92b3379bac3b3de84fd", "VOCdevkit",
            ),
        ),
        "VOCdevkit/VOC2012",
        (
            "JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject",
            "ImageSets/Main/trainval.txt",
            "ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt",
            "ImageSets/Segmentation/trainval.txt",
        ),
        _VOC_TERMS,
    ),
    "sbd": OfficialDataset(
        (
            OfficialFile(
                "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
                1_400_000_000, "about, unconfirmed", "82b4d87ceb2ed10f6038a1cba92111cb", "benchmark_RELEASE",
            ),
        ),
        "benchmark_RELEASE/dataset", ("cls", "train.txt", "val.txt"), "see the archive; photographs as VOC",
    ),
    "coco2014": OfficialDataset(
        (
            OfficialFile(
                "http://images.cocodataset.org/zips/train2014.zip", 13_000_000_000, "about, COCO's site",
                "0da8c0bd3d6becc4dcb32757491aca88", "train2014",
            ),
            OfficialFile(
                "http://images.cocodataset.org/annotations/annotations_trainval2014.zip", 241_000_000,
                "about, unconfirmed", None, "annotations",
            ),
        ),
        ".", ("train2014", "annotations/instances_train2014.json"),
        "annotations CC BY 4.0; the photographs are under Flickr's terms",
    ),
    "coco20k": OfficialDataset(
        (
            OfficialFile(
                "https://raw.githubusercontent.com/valeoai/LOST/master/datasets/coco_20k_filenames.txt",
                832_314, "19,817 lines of 42 bytes", "133cea5ffcea93dccbaeb62c38b24e7c",
            ),
        ),
        ".", ("coco_20k_filenames.txt",), "Apache-2.0 (LOST)",
    ),
}  # fmt: skip

BUILDS: dict[str, tuple[str, ...]] = {
    "voc": ("voc2012", "voc2007", "sbd"),
    "coco20k": ("coco2014", "coco20k"),
}
"""Data that the workflow builds, and the datasets that each is made of."""

BUILT_IMAGES = {"voc": (17_191, 0), "coco20k": (19_817, 62_966)}
"""Pictures of a build, and those that are its support set.

VOC: 5,011 of 2007 and 12,180 of 2012, the union of Main/trainval (11,540) with 313 of train_aug and 327 of
val outside it [method §0.2]. COCO: 19,817 of the 82,783 of train2014, and the others.
"""


def find_dataset(name: str) -> OfficialDataset:
    """Entry of a name.

    Raises:
        MaskDistillError: listing the known names.
    """
    if name not in DATASETS:
        raise MaskDistillError(f"unknown dataset {name!r}; take one of {', '.join(DATASETS)}")
    return DATASETS[name]


def missing_parts(dataset: OfficialDataset, root: Path) -> list[str]:
    """What a complete copy holds and the folder ``root`` does not."""
    return [name for name in dataset.needed if not (root / name).exists()]


def find_root(dataset: OfficialDataset, path: Path) -> Path:
    """The folder of an existing copy that holds the data: ``path``, or below it as the archive has it.

    Raises:
        MaskDistillError: no folder there, or what a complete copy holds is missing.
    """
    if not path.is_dir():
        raise MaskDistillError(
            f"{path}: no such folder; give the folder of a copy, or leave path out to download one"
        )
    parts = Path(dataset.root).parts
    candidates = [path.joinpath(*parts[start:]) for start in range(len(parts), -1, -1)]
    absent = {candidate: missing_parts(dataset, candidate) for candidate in candidates}
    best = min(candidates, key=lambda candidate: len(absent[candidate]))
    if absent[best]:
        raise MaskDistillError(
            f"{best}: not a complete copy: {', '.join(absent[best])} missing; unpack the official archive "
            "again"
        )
    return best
