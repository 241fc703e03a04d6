"""Dense CRF on an image's class probabilities (Krähenbühl and Koltun 2011) [method §8]."""

from types import ModuleType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from maskdistill.config import CrfConfig
from maskdistill.runtime.errors import MaskDistillError

LEAST_PROBABILITY = 1e-5
"""Smaller probabilities count as this one, as in pydensecrf's ``unary_from_softmax``: no pixel is certain."""


Image: TypeAlias = npt.NDArray[np.uint8]
Probabilities: TypeAlias = npt.NDArray[np.floating]


def refine_pair(pair: tuple[Image, Probabilities], config: CrfConfig) -> npt.NDArray[np.uint8]:
    """:func:`refine` of an (image, probabilities), as a pool of processes takes it."""
    return refine(*pair, config)


def refine(image: Image, probabilities: Probabilities, config: CrfConfig) -> npt.NDArray[np.uint8]:
    """The most likely label of each pixel after mean-field inference.

    Args:
        image: uint8 (H, W, 3), RGB.
        probabilities: floats (C, H, W) that sum to 1 over C, at the image's size; C of 2 to 255.
        config: the section ``crf``.

    Returns:
        uint8 (H, W), 0..C-1.

    Raises:
        MaskDistillError: pydensecrf is not installed.
    """
    classes, height, width = probabilities.shape
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        raise ValueError(f"an image of uint8 {(height, width, 3)} is needed, not {image.dtype} {image.shape}")
    field = load_pydensecrf().DenseCRF2D(width, height, classes)
    likely = np.clip(probabilities.reshape(classes, -1), LEAST_PROBABILITY, 1.0)
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(likely), np.float32))
    field.addPairwiseGaussian(sxy=config.gaussian.sxy, compat=config.gaussian.compat)
    bilateral = config.bilateral
    seen = image if config.channels == "rgb" else image[..., ::-1]
    field.addPairwiseBilateral(
        sxy=bilateral.sxy, srgb=bilateral.srgb, rgbim=np.array(seen, order="C"), compat=bilateral.compat
    )
    labels = np.asarray(field.inference(config.iters)).argmax(0).reshape(height, width)
    return labels.astype(np.uint8)  # type: ignore[no-any-return]


def load_pydensecrf() -> ModuleType:
    """The library, which is compiled when it is installed.

    Raises:
        MaskDistillError: it is not installed.
    """
    try:
        import pydensecrf.densecrf
    except ImportError:
        raise MaskDistillError(
            "the dense CRF needs pydensecrf: `make crf`, or pip install pydensecrf2 (it is compiled: g++ and "
            "Python's headers), or do without: crf.rounds 0 in a configuration, no --crf on a command line"
        ) from None
    return pydensecrf.densecrf  # type: ignore[no-any-return]
