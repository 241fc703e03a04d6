"""VOC2007 and VOC2012 as links in one folder of VOC's layout, with train_aug."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from maskdistill.data.splits import make_train_aug, read_list
from maskdistill.formats.label_png import write_label_png
from maskdistill.runtime.errors import MaskDistillError

log = logging.getLogger("maskdistill")


def build_voc(
    roots: Mapping[str, Path], folder: Path, check: Callable[[str, Sequence[str]], str]
) -> dict[str, dict[str, int | str]]:
    """Fill a folder with links to pictures and with lists; no label is read.

    Pictures keep their names, which differ between the years. The lists below ``ImageSets``:
    ``Main/trainval2007``, ``Main/trainval2012``, ``Main/trainval`` (both), and below ``Segmentation``
    VOC2012's ``train``, ``val``, ``trainval`` and the rebuilt ``train_aug``.

    Args:
        roots: folders of ``voc2007``, ``voc2012`` and ``sbd``.
        folder: an empty folder.
        check: takes a list's name and its images, raises if it is not the published one, returns its MD5.

    Returns:
        Count and MD5 by list.

    Raises:
        MaskDistillError: a list or a listed file is missing or wrong.
    """
    lists = _lists(roots)
    pictures = sorted(path.stem for path in (roots["voc2012"] / "JPEGImages").glob("*.jpg"))
    splits: dict[str, dict[str, int | str]] = {}
    for name, images in {**lists, "VOC2012 JPEGImages": pictures}.items():
        splits[name] = {"count": len(images), "md5": check(name, images)}
        log.info("%s: %s images", name, f"{len(images):,}")
    main = [lists["VOC2007 Main/trainval"], lists["VOC2012 Main/trainval"]]
    written = {
        "Main/trainval2007": main[0],
        "Main/trainval2012": main[1],
        "Main/trainval": sorted({*main[0], *main[1]}),
        "Segmentation/train_aug": lists["train_aug"],
        **{
            f"Segmentation/{part}": lists[f"VOC2012 Segmentation/{part}"]
            for part in ("train", "val", "trainval")
        },
    }
    for name, images in written.items():
        path = folder / "ImageSets" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{image}\n" for image in images), encoding="utf-8")
    for year, names in {
        "voc2007": main[0],
        "voc2012": sorted(set().union(*written.values()) - set(main[0])),
    }.items():
        link_all(roots[year] / "JPEGImages", folder / "JPEGImages", names, ".jpg", f"datasets.{year}")
    return splits


def build_voc_truth(roots: Mapping[str, Path], built: Path, folder: Path) -> None:
    """Fill a folder with the ground truth of what :func:`build_voc` made, which only evaluation reads.

    ``Annotations`` and ``SegmentationObject`` are links; ``SegmentationClass`` holds VOC2012's maps as links
    and, for the rest of ``train_aug``, SBD's.

    Args:
        roots: as for :func:`build_voc`.
        built: what that filled.
        folder: an empty folder.

    Raises:
        MaskDistillError: a file is missing, or is no label map.
    """
    names = sorted(path.stem for path in (built / "JPEGImages").iterdir())
    for year in ("voc2007", "voc2012"):
        have = {path.stem for path in (roots[year] / "Annotations").glob("*.xml")}
        boxes = [name for name in names if name in have]
        link_all(roots[year] / "Annotations", folder / "Annotations", boxes, ".xml", f"datasets.{year}")
    masks = read_list(built / "ImageSets/Segmentation/trainval.txt")
    for kind in ("SegmentationClass", "SegmentationObject"):
        link_all(roots["voc2012"] / kind, folder / kind, masks, ".png", "datasets.voc2012")
    for name in sorted(set(read_list(built / "ImageSets/Segmentation/train_aug.txt")) - set(masks)):
        labels = read_sbd_labels(roots["sbd"] / "cls" / f"{name}.mat")
        write_label_png(folder / "SegmentationClass" / f"{name}.png", labels)


def _lists(roots: Mapping[str, Path]) -> dict[str, list[str]]:
    sets = roots["voc2012"] / "ImageSets"
    lists = {"VOC2007 Main/trainval": read_list(roots["voc2007"] / "ImageSets/Main/trainval.txt")}
    for name in ("Main/trainval", "Segmentation/train", "Segmentation/val", "Segmentation/trainval"):
        lists[f"VOC2012 {name}"] = read_list(sets / f"{name}.txt")
    sbd = [read_list(roots["sbd"] / f"{part}.txt") for part in ("train", "val")]
    train, val = (lists[f"VOC2012 Segmentation/{part}"] for part in ("train", "val"))
    lists["train_aug"] = make_train_aug(train, val, *sbd)
    return lists


def link_all(source: Path, folder: Path, names: Sequence[str], suffix: str, setting: str) -> None:
    """Link the named files of a folder into another.

    Links are relative, so that the project's folder may be moved, unless the data lies outside of it.

    Raises:
        MaskDistillError: naming the first file that is missing, and how many are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    have = {entry.name for entry in os.scandir(source)}
    missing = [name for name in names if name + suffix not in have]
    if missing:
        raise MaskDistillError(
            f"{setting}: {source / (missing[0] + suffix)} is missing, and {len(missing) - 1} others that are "
            "listed; give a complete copy"
        )
    real, here = Path(os.path.realpath(source)), os.path.realpath(folder)
    inside = real.is_relative_to(os.path.realpath("."))
    begin = Path(os.path.relpath(real, here)) if inside else real
    for name in names:
        (folder / f"{name}{suffix}").symlink_to(begin / f"{name}{suffix}")


def read_sbd_labels(path: Path) -> npt.NDArray[np.uint8]:
    """Label map uint8 (H, W) of SBD: 0 background, 1..20 VOC's classes.

    Raises:
        MaskDistillError: no such file, or not SBD's.
    """
    try:
        labels = loadmat(str(path))["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise MaskDistillError(
            f"{path}: no such file, but its image is listed; unpack the archive again"
        ) from None
    except (MatReadError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise MaskDistillError(
            f"{path}: not a label map of SBD ({error}); unpack the archive again"
        ) from None
    if labels.ndim != 2 or labels.max(initial=0) > 20:
        raise MaskDistillError(f"{path}: not a label map with classes 0..20; unpack the archive again")
    return np.asarray(labels, np.uint8)
