"""Any segmenter by the name of its backbone."""

from maskdistill.backbones.resnet import ResNet
from maskdistill.backbones.students import build_student, initial_student
from maskdistill.backbones.vit import ViT
from maskdistill.config import SegmenterConfig
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab, Segmenter
from maskdistill.segmenter.vit_segmenter import ViTSegmenter


def build_segmenter(config: SegmenterConfig, num_clusters: int) -> Segmenter:
    """The network of a segmenter's section with random weights, to be filled from a trained model.

    Raises:
        MaskDistillError: unknown name.
    """
    return _on(build_student(config.arch, OUTPUT_STRIDE), config, num_clusters)


def initial_segmenter(config: SegmenterConfig, num_clusters: int) -> Segmenter:
    """:func:`build_segmenter` whose backbone begins with ``config.weights``."""
    return _on(initial_student(config.arch, config.weights, OUTPUT_STRIDE), config, num_clusters)


def _on(backbone: ResNet | ViT, config: SegmenterConfig, num_clusters: int) -> Segmenter:
    if isinstance(backbone, ResNet):
        return DeepLab(config, num_clusters, backbone)
    return ViTSegmenter(config, num_clusters, backbone)
