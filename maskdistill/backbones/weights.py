"""Reading, checking and writing weight files. Nothing in a file is ever executed."""

import json
import pickle
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from maskdistill.runtime import seal
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import check_seal, sealed_path

_NESTED = ("state_dict", "model", "teacher", "student")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file or of a torch checkpoint (``weights_only``), on the CPU.

    A checkpoint whose weights lie under ``state_dict``, ``model``, ``teacher`` or ``student`` is unwrapped.

    Raises:
        MaskDistillError: the file is missing, truncated, or holds anything but tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file() and seal.has_seal(path):
        check_seal(path)
    if not path.is_file():
        raise MaskDistillError(
            f"weights file {path}: no such file; give the path of a checkpoint, 'official' to download it"
            " (ViTs only), or 'pretrain' to train one on your images"
        )
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else _torch_load(path)
    except pickle.UnpicklingError:
        raise MaskDistillError(
            f"weights file {path}: damaged, or holds more than tensors and plain values (nothing in it was "
            "executed); fetch it again, or save its state dict alone"
        ) from None
    except Exception as error:  # torch raises a dozen unrelated types on damaged data
        reason = (str(error).splitlines() or ["no content"])[0]
        raise MaskDistillError(
            f"weights file {path}: cannot be read ({type(error).__name__}: {reason}); fetch it again, or "
            f"where a run made it give the same command with --forcerun {path}"
        ) from None
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MaskDistillError(f"weights file {path}: holds no state dict of tensors")
    return dict(content)


def _torch_load(path: Path) -> Any:
    """Read tensors and plain values; DINO's and iBOT's training states also hold an argparse.Namespace, which
    is harmless.
    """
    with torch.serialization.safe_globals([Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def read_metadata(path: str | Path) -> dict[str, str]:
    """String metadata of a safetensors file, without its seal; empty for other formats."""
    if Path(path).suffix != ".safetensors":
        return {}
    with safe_open(str(path), framework="pt") as handle:
        return {name: value for name, value in (handle.metadata() or {}).items() if name != seal.KEY}


def strict_load(
    model: nn.Module, state: Mapping[str, Tensor], source: str | Path, ignore: tuple[str, ...] = ()
) -> None:
    """Load ``state`` into ``model``; every key must be used or have an ignored prefix, with equal shapes and
    finite values.

    Floating-point values are converted to the model's dtype.

    Raises:
        MaskDistillError: naming ``source`` and the keys that are wrong.
    """
    given = {name: value for name, value in state.items() if not name.startswith(ignore or ("\0",))}
    wanted = model.state_dict()
    problems = []
    if missing := sorted(wanted.keys() - given.keys()):
        problems.append(f"{len(missing)} missing keys such as {missing[:3]}")
    if unknown := sorted(given.keys() - wanted.keys()):
        problems.append(f"{len(unknown)} unknown keys such as {unknown[:3]}")
    for name in sorted(wanted.keys() & given.keys()):
        if given[name].shape != wanted[name].shape:
            problems.append(f"{name} is {tuple(given[name].shape)}, wanted {tuple(wanted[name].shape)}")
        elif given[name].is_floating_point() and not torch.isfinite(given[name]).all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        raise MaskDistillError(
            f"weights file {source} does not fit {type(model).__name__}: " + "; ".join(problems[:5])
        )
    model.load_state_dict({name: value.to(wanted[name].dtype) for name, value in given.items()})


def save_weights(
    state: Mapping[str, Tensor],
    path: str | Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a state dict as safetensors, floating-point tensors as ``dtype``; equal input gives equal bytes.

    The library writes the metadata in arbitrary order, so the header is rewritten here, sorted, with a seal.
    """
    tensors = {
        name: value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in sorted(state.items())
    }
    content = to_bytes(tensors, dict(metadata))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted({**metadata, seal.KEY: seal.BLANK}.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with sealed_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.write(memoryview(content)[8 + length :])
