"""Compiled networks: faster steps on GPUs for a minute or more of compiling."""

import os
import shutil
from collections.abc import Sequence

import torch._inductor.config as inductor
from torch import nn

from maskdistill.runtime.errors import MaskDistillError

BACKEND = "inductor"


def compile_parts(model: nn.Module, parts: Sequence[str], dynamic: bool) -> None:
    """Let ``torch.compile`` take parts of a model, in place: names and values of its state stay as they are.

    Random draws stay those of the uncompiled network; sums may be rounded otherwise.

    Args:
        model: to be trained.
        parts: names of submodules, ``""`` for the model itself.
        dynamic: whether sizes change from call to call.

    Raises:
        MaskDistillError: there is no C++ compiler, without which nothing can be compiled.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++") if name):
        raise MaskDistillError(
            "compile: torch.compile needs a C++ compiler; install g++ or set compile to false"
        )
    inductor.fallback_random = True
    for part in parts:
        model.get_submodule(part).compile(dynamic=dynamic, backend=BACKEND)
