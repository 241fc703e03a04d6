"""Weights and activations of a network in 8 bits, by onnxruntime's static quantisation.

Only convolutions and products with weights: what surrounds them, such as resizing, stays as it is.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

OPERATORS = ("Conv", "Gemm", "MatMul")
Inputs = Mapping[str, npt.NDArray[np.generic]]


def quantize(source: Path, target: Path, examples: Iterable[Inputs]) -> None:
    """Write a model of ONNX with 8-bit integers: weights by output channel, activations by their smallest and
    largest value in examples.

    Of the weights' bits 7 are used: with 8 the sums of two products overflow on x86 without VNNI.

    Args:
        source: file of the model in float32.
        target: file to write.
        examples: the model's inputs, one run each.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    left = iter(examples)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            return next(left, None)

    with _without_advice():
        quantize_static(
            source, target, Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=list(OPERATORS),
            per_channel=True, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip


@contextmanager
def _without_advice() -> Iterator[None]:
    """The library logs by the root logger that models may be prepared first, which ours cannot be."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    root = logging.getLogger()
    root.addFilter(nothing)
    try:
        yield
    finally:
        root.removeFilter(nothing)
