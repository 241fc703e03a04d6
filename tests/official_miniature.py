"""Miniatures of VOC2007, VOC2012, SBD and COCO in their official layouts, as folders and as archives."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from maskdistill.formats.label_png import encode_label_png

VOC2007 = ["000005", "000007", "000009"]
MAIN2012 = ["2008_000001", "2008_000002", "2008_000003", "2008_000004", "2008_000008"]
SEG_TRAIN = ["2007_000032", "2008_000003"]
SEG_VAL = ["2007_000033", "2008_000008"]
SBD_TRAIN = ["2008_000002", "2008_000008", "2010_000001"]
SBD_VAL = ["2008_000003", "2008_000004", "2007_000033"]
TRAIN_AUG = ["2007_000032", "2008_000002", "2008_000003", "2008_000004", "2010_000001"]
"""By hand: SEG_TRAIN, SBD_TRAIN and SBD_VAL together, without SEG_VAL."""
OTHERS2012 = ["2011_000999"]
COCO20K = [36, 9, 581860]
COCO_OTHERS = [25, 77]


def _lines(names: list[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def picture(seed: int) -> bytes:
    """A JPEG of noise, 48 x 40 pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG")
    return stream.getvalue()


def labels(number: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """A map with one object."""
    found = np.zeros((40, 48), np.uint8)
    found[10:30, 5:25] = number
    return found


def _xml() -> bytes:
    box = "<bndbox><xmin>6</xmin><ymin>11</ymin><xmax>25</xmax><ymax>30</ymax></bndbox>"
    size = "<size><width>48</width><height>40</height><depth>3</depth></size>"
    return f"<annotation>{size}<object><name>dog</name>{box}</object></annotation>".encode()


def voc2007() -> dict[str, bytes]:
    """Members of the archive."""
    top = "VOCdevkit/VOC2007"
    files = {f"{top}/ImageSets/Main/trainval.txt": _lines(VOC2007)}
    for seed, name in enumerate([*VOC2007, "000012"]):
        files |= {f"{top}/JPEGImages/{name}.jpg": picture(seed), f"{top}/Annotations/{name}.xml": _xml()}
    return files


def voc2012() -> dict[str, bytes]:
    """Members of the archive."""
    top = "VOCdevkit/VOC2012"
    files = {
        f"{top}/ImageSets/Main/trainval.txt": _lines(MAIN2012),
        f"{top}/ImageSets/Segmentation/train.txt": _lines(SEG_TRAIN),
        f"{top}/ImageSets/Segmentation/val.txt": _lines(SEG_VAL),
        f"{top}/ImageSets/Segmentation/trainval.txt": _lines(SEG_TRAIN + SEG_VAL),
    }
    for seed, name in enumerate(sorted({*MAIN2012, *SEG_TRAIN, *SEG_VAL, *SBD_TRAIN, *SBD_VAL, *OTHERS2012})):
        files |= {
            f"{top}/JPEGImages/{name}.jpg": picture(100 + seed),
            f"{top}/Annotations/{name}.xml": _xml(),
        }
    for name in SEG_TRAIN + SEG_VAL:
        files[f"{top}/SegmentationClass/{name}.png"] = encode_label_png(labels(12))
        files[f"{top}/SegmentationObject/{name}.png"] = encode_label_png(labels(1))
    return files


def sbd() -> dict[str, bytes]:
    """Members of the archive."""
    top = "benchmark_RELEASE/dataset"
    files = {f"{top}/train.txt": _lines(SBD_TRAIN), f"{top}/val.txt": _lines(SBD_VAL)}
    for name in SBD_TRAIN + SBD_VAL:
        stream = io.BytesIO()
        savemat(stream, {"GTcls": {"Segmentation": labels(8), "Boundaries": 0}})  # type: ignore[arg-type]
        files[f"{top}/cls/{name}.mat"] = stream.getvalue()
    return files


def coco2014() -> dict[str, dict[str, bytes]]:
    """Members of the two archives."""
    numbers = COCO20K + COCO_OTHERS
    pictures = {f"train2014/COCO_train2014_{number:012d}.jpg": picture(number) for number in numbers}
    images = [
        {"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": 40, "width": 48} for n in numbers
    ]
    box = {"bbox": [5, 10, 20, 20], "area": 400, "iscrowd": 0, "category_id": 18}
    polygon = {"segmentation": [[5, 10, 25, 10, 25, 30, 5, 30]]}
    annotations = [{"id": i, "image_id": n, **box, **polygon} for i, n in enumerate(numbers, start=1)]
    content = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 18, "name": "dog"}],
    }
    return {
        "train2014.zip": pictures,
        "annotations_trainval2014.zip": {
            "annotations/instances_train2014.json": json.dumps(content).encode(),
            "annotations/instances_val2014.json": b"{}",
        },
    }


def coco20k_names() -> bytes:
    """LOST's list: unsorted, with the folder."""
    return _lines([f"train2014/COCO_train2014_{number:012d}.jpg" for number in COCO20K])


def as_tar(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    """Bytes of an archive; ``mode`` ``w:gz`` compresses."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def as_zip(files: Mapping[str, bytes]) -> bytes:
    """Bytes of an archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return stream.getvalue()


def archives() -> dict[str, bytes]:
    """All official files by name."""
    coco = {name: as_zip(files) for name, files in coco2014().items()}
    return coco | {
        "VOCtrainval_06-Nov-2007.tar": as_tar(voc2007()),
        "VOCtrainval_11-May-2012.tar": as_tar(voc2012()),
        "benchmark.tgz": as_tar(sbd(), "w:gz"),
        "coco_20k_filenames.txt": coco20k_names(),
    }


def unpack(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write members below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
