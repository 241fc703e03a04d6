"""How good a frozen backbone's features are: clusters of their cells used as a segmenter [P Table 2].

K-means with cosine similarity (spherical, on features of unit length) needs no prediction code of its own:
the centroid with the largest cosine is the largest output of a 1x1 convolution whose weights are the
centroids.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from maskdistill.backbones.vit import normalize
from maskdistill.clusters.kmeans import fit_kmeans, normalise
from maskdistill.config import SegmenterConfig
from maskdistill.runtime.devices import mixed
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.segmenter.data import UInt8, squash
from maskdistill.segmenter.model import DeepLab

Floats = npt.NDArray[np.float32]
MAX_CELLS = 200_000
"""Largest number of cells that K-means is fitted on: 1.6 GB for a ResNet-50's 2,048 channels."""


@torch.inference_mode()
def sample_cells(
    model: DeepLab,
    images: Iterable[UInt8],
    count: int,
    config: SegmenterConfig,
    device: torch.device,
    seed: int,
) -> Floats:
    """Features of cells drawn from each image.

    Args:
        model: with a linear head, in eval mode, on ``device``.
        images: uint8 (H, W, 3) each, of any sizes.
        count: largest number of cells per image.
        config: the model's, for ``size`` and ``precision``.
        seed: of the draws.

    Returns:
        float32 (M, D), at unit length.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for image in images:
        batch = torch.from_numpy(squash(image, config.size)[None]).permute(0, 3, 1, 2)
        with mixed(device, config.precision):
            maps: Tensor = model.backbone(normalize(batch.to(device)))
        cells = maps[0].float().flatten(1).T.cpu().numpy()
        rows.append(cells[np.sort(rng.choice(len(cells), min(count, len(cells)), replace=False))])
    if not rows:
        raise MaskDistillError("no usable training image to cluster; add some to data")
    return normalise(np.concatenate(rows), None, True)


def clustering_head(model: DeepLab, cells: Floats, seed: int, threads: int) -> DeepLab:
    """Put centroids, as many as the model has labels, into its last convolution, in place.

    Args:
        model: with a linear head and K + 1 labels; for a frozen backbone, no label is background until they
            are matched with classes.
        cells: float32 (M, D) at unit length.
        seed: of K-means.
        threads: CPU threads.

    Returns:
        The same model.
    """
    last = model.classifier[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    centroids = fit_kmeans(cells, last.out_channels, seed, threads=threads, spherical=True)
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(normalise(centroids, None, True))[:, :, None, None])
        last.bias.zero_()
    return model
