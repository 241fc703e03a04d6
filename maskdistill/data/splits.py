"""The paper's image lists, rebuilt and compared with published counts and checksums."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from maskdistill.runtime.errors import MaskDistillError


class KnownSplit(NamedTuple):
    """What a list must be.

    Attributes:
        images: number of them.
        md5: of the sorted names, one a line, each with a newline; of COCO the numbers, sorted as numbers.
            None: unknown.
    """

    images: int
    md5: str | None


SPLITS: dict[str, KnownSplit] = {
    "VOC2007 Main/trainval": KnownSplit(5_011, "010edfa22115c8ca972c09aa4902fd39"),
    "VOC2012 Main/trainval": KnownSplit(11_540, "d19bc52123cf42c618465ecce9640700"),
    "VOC2012 JPEGImages": KnownSplit(17_125, "3daa48d88b633eb379208b65bb44857e"),
    "VOC2012 Segmentation/train": KnownSplit(1_464, None),
    "VOC2012 Segmentation/val": KnownSplit(1_449, "5510db06bbb92848a0bf6109eba6d646"),
    "VOC2012 Segmentation/trainval": KnownSplit(2_913, "f70407d7ffe726e76c1c6751d0de62c1"),
    "train_aug": KnownSplit(10_582, "215992f6fd958f89800449fdb4bbabe6"),
    "COCO train2014": KnownSplit(82_783, None),
    "COCO20k": KnownSplit(19_817, "59f1ad3849e029a24d2ccb3436e5420d"),
}
"""Of [method §0.2].

The sum of VOC2007's list is not there: it is that of the images of LOST's published boxes.
"""

COCO_NAME = re.compile(r"(?:train2014/)?COCO_train2014_(\d{12})\.jpg")


def list_md5(names: Iterable[str]) -> str:
    """MD5 of names, one a line, in the order given."""
    return hashlib.md5("".join(f"{name}\n" for name in names).encode()).hexdigest()


def check_split(name: str, images: Sequence[str]) -> str:
    """Compare a list, in the order in which its checksum is taken, with what is known of it.

    Returns:
        Its MD5.

    Raises:
        MaskDistillError: the count or the sum is another.
    """
    known, found = SPLITS[name], list_md5(images)
    if len(images) != known.images or found != (known.md5 or found):
        raise MaskDistillError(
            f"{name}: {len(images):,} images with MD5 {found}, the published list has {known.images:,}"
            f" with MD5 {known.md5 or '(unknown)'}; use the official data, or for an excerpt set"
            " datasets.check_lists to false"
        )
    return found


def read_list(path: Path) -> list[str]:
    """Sorted image names of a list file: the first word of each line, as VOC's lists by class have more.

    Raises:
        MaskDistillError: no such file, it names no image, or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise MaskDistillError(f"{path}: no such list; unpack the official archive again") from None
    except UnicodeDecodeError:
        raise MaskDistillError(f"{path}: not a text file; unpack the official archive again") from None
    names = sorted(line.split()[0] for line in lines if line.strip())
    if not names:
        raise MaskDistillError(f"{path}: lists no image; unpack the official archive again")
    twice = next((a for a, b in pairwise(names) if a == b), None)
    if twice is not None:
        raise MaskDistillError(f"{path}: lists {twice!r} twice; unpack the official archive again")
    return names


def make_train_aug(
    voc_train: Iterable[str], voc_val: Iterable[str], sbd_train: Iterable[str], sbd_val: Iterable[str]
) -> list[str]:
    """``train_aug``, sorted: training images of VOC2012 and SBD without VOC2012's validation images."""
    return sorted((set(voc_train) | set(sbd_train) | set(sbd_val)) - set(voc_val))


def read_coco_names(path: Path) -> list[int]:
    """Image numbers of LOST's list of COCO20k (``train2014/COCO_train2014_000000000036.jpg``), ascending.

    Raises:
        MaskDistillError: no such file, a line of another form, or an image twice.
    """
    numbers = []
    for name in read_list(path):
        found = COCO_NAME.fullmatch(name)
        if found is None:
            raise MaskDistillError(
                f"{path}: {name!r} is no name such as train2014/COCO_train2014_000000000036.jpg"
            )
        numbers.append(int(found[1]))
    return sorted(numbers)


def coco_file(number: int) -> str:
    """File name of an image of train2014."""
    return f"COCO_train2014_{number:012d}.jpg"
