"""Compiled networks: faster steps on GPUs, at the cost of a minute or more of compilation."""

import os
import shutil
from collections.abc import Sequence

import torch._inductor.config as inductor
from torch import nn

from maskdistill.runtime.errors import MaskDistillError

BACKEND = "inductor"


def compile_parts(model: nn.Module, parts: Sequence[str], dynamic: bool) -> None:
    """Compile parts of a model with ``torch.compile``, in place; names and values of its state stay as they
    are.

    Random draws are those of the uncompiled network; sums may be rounded differently.

    Args:
        model: to be trained.
        parts: names of submodules, ``""`` for the model itself.
        dynamic: whether input sizes change from call to call.

    Raises:
        MaskDistillError: there is no C++ compiler, which torch.compile requires.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++") if name):
        raise MaskDistillError(
            "compile: torch.compile needs a C++ compiler; install g++ or set compile to false"
        )
    inductor.fallback_random = True
    for part in parts:
        model.get_submodule(part).compile(dynamic=dynamic, backend=BACKEND)
