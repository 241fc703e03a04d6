"""GrabCut (Rother et al. 2004) by OpenCV, the same at every call."""

import cv2
import numpy as np
import numpy.typing as npt


def grabcut(
    photo: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    iterations: int,
    box: tuple[int, int, int, int] | None = None,
) -> npt.NDArray[np.bool_]:
    """What OpenCV calls certain or probable foreground in the end, bool (H, W).

    The generator that starts the colour models is seeded anew, so the result depends on the arguments alone.

    Args:
        photo: uint8 (H, W, 3).
        labels: uint8 (H, W), OpenCV's four ``GC_*`` labels to start from; overwritten.
        box: x, y, width and height in pixels: start from it, outside certain background, whatever the labels
            say.

    Returns:
        Nothing is foreground where OpenCV refuses, as it does without any pixel of either kind.
    """
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    how = cv2.GC_INIT_WITH_MASK if box is None else cv2.GC_INIT_WITH_RECT
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(photo, labels, box or (0, 0, 0, 0), background, foreground, iterations, how)
    except cv2.error:
        labels[:] = cv2.GC_BGD
    found: npt.NDArray[np.bool_] = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return found
