"""Any segmenter by the name of its backbone."""

from maskdistill.backbones.resnet import ResNet
from maskdistill.backbones.students import build_student, initial_student
from maskdistill.backbones.vit import ViT
from maskdistill.config import SegmenterConfig
from maskdistill.segmenter import decoder
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab, Segmenter


def build_segmenter(config: SegmenterConfig, num_clusters: int) -> Segmenter:
    """The network of a segmenter's section with random weights, to be filled from a trained model.

    Raises:
        MaskDistillError: unknown name.
    """
    return _on(build_student(config.arch, _stride(config)), config, num_clusters)


def initial_segmenter(config: SegmenterConfig, num_clusters: int) -> Segmenter:
    """:func:`build_segmenter` whose backbone begins with ``config.weights``."""
    return _on(initial_student(config.arch, config.weights, _stride(config)), config, num_clusters)


def _stride(config: SegmenterConfig) -> int:
    """Output stride of a ResNet."""
    return decoder.OUTPUT_STRIDE if config.head == "decoder" else OUTPUT_STRIDE


def _on(backbone: ResNet | ViT, config: SegmenterConfig, num_clusters: int) -> Segmenter:
    if not isinstance(backbone, ResNet):
        return decoder.on_vit(config, num_clusters, backbone)
    if config.head == "decoder":
        return decoder.on_resnet(config, num_clusters, backbone)
    return DeepLab(config, num_clusters, backbone)
