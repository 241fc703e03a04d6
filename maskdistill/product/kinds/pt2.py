"""The segmenter by torch.export, for programs that have torch and nothing of MaskDistill."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from maskdistill.data.images import load_rgb
from maskdistill.product.export_agreement import Seen
from maskdistill.product.kinds.types import ExportKind, Networks
from maskdistill.product.onnx_segmenter import PictureToLabels, example

NAME = "segmenter.pt2"


def _write(networks: Networks, folder: Path) -> dict[str, str]:
    config = networks.segmenter_config
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = PictureToLabels(networks.segmenter, config).eval()
        program = torch.export.export(module, (example(config),), dynamic_shapes={"picture": free})
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        stream = io.BytesIO()
        torch.export.save(program, stream, extra_files=dict(networks.metadata))
    (folder / NAME).write_bytes(stream.getvalue())
    return {"segmenter": NAME}


def _look(folder: Path, pictures: Sequence[Path]) -> list[Seen | None]:
    model = torch.export.load(folder / NAME).module()
    seen: list[Seen | None] = []
    for picture in pictures:
        with torch.inference_mode():
            labels, _ = model(torch.tensor(np.asarray(load_rgb(picture)))[None])
        seen.append(Seen(labels[0].numpy(), None))
    return seen


KIND = ExportKind(
    name="pt2",
    write=_write,
    look=_look,
    use=(
        "`segmenter.pt2` has the inputs and outputs of `segmenter.onnx`:"
        " `torch.export.load('segmenter.pt2').module()(picture)`, in the version of torch that wrote it or a "
        "newer one. The detector, whose number of objects follows from the picture, is not written this way."
    ),
)
