"""Foreground by grey values alone: what learned masks must beat. Reads no label."""

import cv2
import numpy as np
import numpy.typing as npt


def otsu_foreground(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Foreground by Otsu's threshold on grey (Otsu 1979): the side with less of the frame.

    Args:
        rgb: uint8 (H, W, 3).

    Returns:
        bool (H, W). Where the frame is split evenly the bright side is foreground; a picture of one grey has
        none.
    """
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if gray.min() == gray.max():
        return np.zeros(gray.shape, dtype=np.bool_)
    threshold, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    bright: npt.NDArray[np.bool_] = np.asarray(gray) > threshold
    frame = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    return ~bright if frame.mean() > 0.5 else bright
