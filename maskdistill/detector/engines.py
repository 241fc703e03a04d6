"""The libraries that can run the detector: torchvision (the model of ``build_detector``) or detectron2.

Whatever the engine, a detector is a module that in train mode takes ``(images, targets)`` and returns the
five losses by name, and in eval mode takes images and returns for each one ``boxes``, ``labels``, ``scores``
and ``masks``. Data, training loop, checkpoints and candidates are the same, and so are the files of trained
models: a model trained by one engine runs on the other.
"""

from collections.abc import Callable

from torch import Tensor, nn

from maskdistill.config import DetectorConfig
from maskdistill.runtime.errors import MaskDistillError


def with_engine(detector: nn.Module, config: DetectorConfig, num_clusters: int) -> nn.Module:
    """The detector with its weights, run by ``config.engine``.

    Args:
        detector: of ``build_detector``.
        config: what it was built from.
        num_clusters: K.

    Raises:
        MaskDistillError: detectron2 is asked for and cannot be imported.
    """
    if config.engine == "torchvision":
        return detector
    try:
        from maskdistill.detector.detectron2_engine import Detectron2Detector
    except ImportError as error:
        raise MaskDistillError(
            f"detector.engine: detectron2 cannot be imported ({error}). Run the workflow with --sdm conda, "
            "which makes the environment envs/detectron2.yaml, or install it beside maskdistill: pip install "
            "--no-build-isolation git+https://github.com/facebookresearch/detectron2. Or set detector.engine "
            "to torchvision"
        ) from None
    return Detectron2Detector(config, num_clusters, detector.state_dict())


def portable_state(model: nn.Module) -> dict[str, Tensor]:
    """Weights of a model of :func:`with_engine` under the names of ``build_detector``."""
    own: Callable[[], dict[str, Tensor]] = getattr(model, "portable_state", model.state_dict)
    return own()
