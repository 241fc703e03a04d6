"""PASCAL VOC: one XML file per picture, and its objects as indexed PNGs (``SegmentationClass``,
``SegmentationObject``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from maskdistill.formats.export.label_maps import label_maps
from maskdistill.formats.export.records import Context, ObjectRecord, Picture
from maskdistill.formats.export.registry import Append, ExportFormat, NoOptions
from maskdistill.formats.label_png import color_map, encode_label_png
from maskdistill.runtime.errors import MaskDistillError


@contextmanager
def write(folder: Path, context: Context, options: NoOptions) -> Iterator[Append]:
    """Write the development kit's folders, lists named ``train``, and ``labelmap.txt``; files are named after
    keys. A colon in a category's name, which separates fields of ``labelmap.txt``, becomes a hyphen.

    Raises:
        MaskDistillError: a key with a line break or another control character, or too many objects.
    """
    with open(_made(folder / "ImageSets/Segmentation/train.txt"), "w", encoding="utf-8") as listed:

        def append(picture: Picture) -> None:
            if not picture.key.isprintable():
                raise MaskDistillError(
                    f"{picture.key!r}: voc lists pictures by name, one a line, and XML knows no control "
                    "characters; rename the picture, or take another format (coco)"
                )
            listed.write(f"{picture.key}\n")
            context.place(picture, folder / "JPEGImages" / f"{picture.key}{picture.ending}")
            _made(folder / f"Annotations/{picture.key}.xml").write_bytes(_xml(picture))
            for kind, labels in zip(
                ("SegmentationClass", "SegmentationObject"), label_maps(picture), strict=True
            ):
                _made(folder / kind / f"{picture.key}.png").write_bytes(encode_label_png(labels))

        yield append
    _made(folder / "ImageSets/Main/train.txt").write_bytes(
        (folder / "ImageSets/Segmentation/train.txt").read_bytes()
    )
    colors = color_map().tolist()
    names = {0: "background", **context.names}
    rows = [
        f"{_label(name)}:{','.join(map(str, colors[category]))}::" for category, name in sorted(names.items())
    ]
    (folder / "labelmap.txt").write_text(
        "\n".join(["# label:color_rgb:parts:actions", *rows, ""]), encoding="utf-8"
    )


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _xml(picture: Picture) -> bytes:
    root = ElementTree.Element("annotation")
    _add(root, folder="JPEGImages", filename=f"{picture.key}{picture.ending}")
    _add(_below(root, "source"), database="MaskDistill")
    _add(_below(root, "size"), width=picture.width, height=picture.height, depth=3)
    _add(root, segmented=1)
    for item in picture.objects:
        _object(_below(root, "object"), item)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
    return f"{text}\n".encode()


def _object(element: ElementTree.Element, item: ObjectRecord) -> None:
    """VOC's pixels count from 1 and include the last one; the score is an attribute in the form of CVAT and
    Datumaro.
    """
    _add(element, name=_label(item.name), pose="Unspecified", truncated=0, difficult=0)
    x, y, width, height = (int(value) for value in item.box)
    _add(_below(element, "bndbox"), xmin=x + 1, ymin=y + 1, xmax=x + width, ymax=y + height)
    _add(_below(_below(element, "attributes"), "attribute"), name="score", value=item.score)


def _label(name: str) -> str:
    return name.replace(":", "-")


def _below(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, name)


def _add(parent: ElementTree.Element, **values: object) -> None:
    for name, value in values.items():
        _below(parent, name).text = str(value)


FORMAT = ExportFormat(
    "voc", "torchvision's VOCSegmentation, Datumaro, CVAT (Pascal VOC 1.1): the folder", write
)
