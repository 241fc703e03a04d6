"""COCO20k and the rest of train2014 as two folders of links; COCO20k's ground truth apart."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from maskdistill.data.build_voc import link_all
from maskdistill.data.splits import COCO_NAME, coco_file, read_coco_names
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.user_files import read_user_json

KEYS = ("images", "annotations", "categories")


def build_coco20k(
    roots: Mapping[str, Path], folder: Path, check: Callable[[str, Sequence[str]], str]
) -> dict[str, dict[str, int | str]]:
    """Fill a folder: ``images`` (COCO20k) and ``support`` (the others of train2014); no label is read.

    Args:
        roots: folders of ``coco2014`` and ``coco20k``.
        folder: an empty folder.
        check: takes a list's name and its images, raises if it is not the published one, returns its MD5.

    Returns:
        Count and MD5 by list.

    Raises:
        MaskDistillError: a list or a listed file is missing or wrong.
    """
    pictures = roots["coco2014"] / "train2014"
    chosen = read_coco_names(roots["coco20k"] / "coco_20k_filenames.txt")
    found = (COCO_NAME.fullmatch(path.name) for path in pictures.iterdir())
    others = sorted({int(name[1]) for name in found if name} - set(chosen))
    lists = {"COCO20k": chosen, "COCO train2014": sorted({*chosen, *others})}
    splits: dict[str, dict[str, int | str]] = {
        name: {"count": len(numbers), "md5": check(name, [str(number) for number in numbers])}
        for name, numbers in lists.items()
    }
    link_all(pictures, folder / "images", [coco_file(number) for number in chosen], "", "datasets.coco2014")
    link_all(pictures, folder / "support", [coco_file(number) for number in others], "", "datasets.coco2014")
    return splits


def build_coco20k_truth(roots: Mapping[str, Path], built: Path, folder: Path) -> None:
    """Write ``instances.json``, COCO20k's part of train2014's, which only evaluation reads.

    Args:
        roots: as for :func:`build_coco20k`.
        built: what that filled.
        folder: an empty folder.

    Raises:
        MaskDistillError: the JSON is another one.
    """
    found = (COCO_NAME.fullmatch(path.name) for path in (built / "images").iterdir())
    chosen = {int(name[1]) for name in found if name}
    source = roots["coco2014"] / "annotations/instances_train2014.json"
    content = read_user_json(source)
    if not isinstance(content, dict) or not set(KEYS) <= content.keys():
        raise MaskDistillError(f"{source}: not a COCO instances JSON; unpack the archive again")
    try:
        entries = [image for image in content["images"] if image["id"] in chosen]
        if absent := chosen - {image["id"] for image in entries}:
            raise MaskDistillError(
                f"{source}: has no entry for image {min(absent)}; give the JSON of train2014"
            )
        annotations = [item for item in content["annotations"] if item["image_id"] in chosen]
        values = (entries, annotations, content["categories"])
        write_json(folder / "instances.json", dict(zip(KEYS, values, strict=True)))
    except (
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # an entry without ids, or of a value that JSON does not have
        raise MaskDistillError(f"{source}: not train2014's ({error!r}); unpack the archive again") from None
