"""ONNX in 8 bits: smaller, and not quite what ``predict`` sees."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from maskdistill.config import DetectorConfig
from maskdistill.data.images import load_rgb
from maskdistill.detector.grids import resize_image, resized_shape
from maskdistill.product.export_agreement import Seen
from maskdistill.product.kinds import onnx
from maskdistill.product.kinds.types import ExportKind, Networks
from maskdistill.product.onnx_detector import write_detector_onnx
from maskdistill.product.onnx_segmenter import save
from maskdistill.product.quantisation import quantize

SEGMENTER, DETECTOR = "segmenter-int8.onnx", "detector-int8.onnx"


def _write(networks: Networks, folder: Path) -> dict[str, str]:
    import onnx as library

    photos = partial(_photos, networks.calibration)
    quantize(folder / onnx.SEGMENTER, folder / SEGMENTER, ({"picture": photo[None]} for photo in photos()))
    save(library.load(folder / SEGMENTER), folder / SEGMENTER, networks.metadata)
    bare = networks.detector_network.with_name("network-int8.onnx")
    least = np.zeros((), np.float32)
    config = networks.detector_config
    seen = ({"pixels": _resized(photo, config), "least_score": least} for photo in photos())
    quantize(networks.detector_network, bare, seen)
    write_detector_onnx(bare, config, networks.mask_side, folder / DETECTOR, networks.metadata)
    return {"segmenter": SEGMENTER, "detector": DETECTOR}


def _photos(pictures: Sequence[Path]) -> Iterator[npt.NDArray[np.uint8]]:
    """Pictures as uint8 (H, W, 3)."""
    for picture in pictures:
        yield np.asarray(load_rgb(picture))


def _resized(photo: npt.NDArray[np.uint8], config: DetectorConfig) -> npt.NDArray[np.float32]:
    """What the bare detector is given of a picture: float (1, 3, H, W) of values 0..255."""
    shape = resized_shape(photo.shape[0], photo.shape[1], config.min_size_test, config.max_size)
    return resize_image(torch.tensor(photo).permute(2, 0, 1).float(), shape)[None].numpy()


def _look(folder: Path, pictures: Sequence[Path]) -> list[Seen | None]:
    return onnx.look_by_script(folder, pictures, "--kind=int8")


KIND = ExportKind(
    name="int8",
    write=_write,
    look=_look,
    exact=False,
    use=(
        f"`{SEGMENTER}` and `{DETECTOR}` have the inputs and outputs of the models above and about a quarter "
        "of their size: `python segment.py PICTURES... --out DIR --kind int8`. Weights and activations are "
        "integers of 8 bits, whose ranges were taken from pictures of the run: what they see differs."
    ),
)
