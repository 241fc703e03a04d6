"""What a kind of exported model is, and what it is made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from maskdistill.config import DetectorConfig, SegmenterConfig
from maskdistill.product.export_agreement import Seen


@dataclass(frozen=True)
class Networks:
    """A run's networks, on the CPU, in float32 and eval mode, with their settings at test time.

    Attributes:
        detector_network: file that the bare detector was written to, see
            :func:`maskdistill.product.onnx_detector.write_network`.
        mask_side: S of the detector's masks.
        metadata: strings that are stored in every file.
        calibration: pictures, for ranges of what flows through the networks.
    """

    segmenter: nn.Module
    segmenter_config: SegmenterConfig
    detector: nn.Module
    detector_config: DetectorConfig
    detector_network: Path
    mask_side: int
    metadata: Mapping[str, str]
    calibration: Sequence[Path]


@dataclass(frozen=True)
class ExportKind:
    """A kind of exported model.

    Attributes:
        name: for ``--kinds``, and of its entry in ``segment.json``.
        write: (networks, folder) -> names of the files by model.
        look: (folder, pictures) -> what it sees in each; None of a picture that it refuses.
        use: how to use it, in Markdown.
        exact: it has to see what ``predict`` sees; else it may lose, and the card says how much.
    """

    name: str
    write: Callable[[Networks, Path], dict[str, str]]
    look: Callable[[Path, Sequence[Path]], list[Seen | None]]
    use: str
    exact: bool = True
