"""Key names of the original projects' checkpoints -> key names of our models. Every key is used or on an
explicit list of ignored ones; nothing is guessed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from maskdistill.runtime.errors import MaskDistillError

State = dict[str, Tensor]
PERIODS = "rope.periods"


class Converted(NamedTuple):
    """A checkpoint under the model's key names.

    Attributes:
        state: name -> tensor.
        ignored: original keys that are known not to belong to the network.
    """

    state: State
    ignored: list[str]


@dataclass(frozen=True)
class KeyLayout:
    """Where a project's checkpoints hold the network.

    Attributes:
        prefixes: what may precede the network's own names.
        ignored: names, or prefixes that end with a dot, that are not part of the network.
        rename: the network's own names -> ours.
    """

    prefixes: tuple[str, ...]
    ignored: tuple[str, ...]
    rename: Callable[[State], State]


def _same(state: State) -> State:
    return state


def _dinov2(state: State) -> State:
    """Blocks in chunks (``blocks.CHUNK.N.``, as in training) become ``blocks.N.``.

    With registers, timm has no position for CLS, so it is added to the CLS token, which gives the original's
    sum.
    """
    state = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): value for name, value in state.items()}
    if "register_tokens" in state and {"pos_embed", "cls_token"} <= state.keys():
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    return state


def _dinov3(state: State) -> State:
    """Storage tokens, LayerScale and the masked qkv bias in timm's names (class Eva).

    The original multiplies the bias by ``bias_mask``, 0 for keys; timm has biases for queries and values
    only.
    """
    out = {}
    for name, value in state.items():
        if name.endswith("attn.qkv.bias"):
            mask = state.get(f"{name}_mask")
            if mask is None:
                raise MaskDistillError(f"{name}_mask is missing")
            if mask.shape != value.shape:
                raise MaskDistillError(f"{name}_mask is {tuple(mask.shape)}, wanted {tuple(value.shape)}")
            query, key, values = (value * mask.to(value.dtype)).chunk(3)
            if key.count_nonzero():
                raise MaskDistillError(f"{name}: keys have a bias, which DINOv3 has not")
            out[name.replace("qkv.bias", "q_bias")], out[name.replace("qkv.bias", "v_bias")] = query, values
        elif name == "rope_embed.periods":
            out[PERIODS] = value
        elif not name.endswith("attn.qkv.bias_mask"):
            new = re.sub(r"^(blocks\.\d+\.)ls([12])\.gamma$", r"\1gamma_\2", name)
            out["reg_token" if name == "storage_tokens" else new] = value
    return out


_WRAPPED = ("", "backbone.", "module.backbone.")
_HEADS = ("head.", "module.head.")
LAYOUTS: dict[str, KeyLayout] = {
    "self": KeyLayout(_WRAPPED, _HEADS, _same),
    "dino": KeyLayout(_WRAPPED, _HEADS, _same),
    # masked_embed replaces masked patches in the training of iBOT's student.
    "ibot": KeyLayout(_WRAPPED, (*_HEADS, "masked_embed"), _same),
    "mocov3": KeyLayout(
        ("module.base_encoder.",), ("head.", "module.momentum_encoder.", "module.predictor."), _same
    ),
    # mask_token replaces masked patches, during training only.
    "dinov2": KeyLayout(_WRAPPED, ("mask_token", "dino_head.", "ibot_head."), _dinov2),
    "dinov3": KeyLayout(_WRAPPED, ("mask_token", "dino_head.", "ibot_head."), _dinov3),
}  # fmt: skip


def convert(state: Mapping[str, Tensor], layout: str, source: object) -> Converted:
    """Rename a checkpoint's tensors to the model's names; whether they fit is checked when they are loaded.

    Args:
        state: as :func:`maskdistill.backbones.weights.read_state_dict` returns it.
        layout: key of :data:`LAYOUTS`.
        source: the file, for messages.

    Raises:
        MaskDistillError: no network under any of the layout's prefixes, further keys that are not on the list
            of ignored ones, or a tensor that cannot be converted.
    """
    known = LAYOUTS[layout]
    prefix = next((prefix for prefix in known.prefixes if f"{prefix}cls_token" in state), None)
    if prefix is None:
        wanted = " or ".join(f"{prefix}cls_token" for prefix in known.prefixes)
        raise MaskDistillError(
            f"weights file {source}: not a checkpoint of layout {layout!r}: no key {wanted} among"
            f" {len(state)} keys such as {sorted(state)[:3]}; give the file that belongs to backbone.arch"
        )
    kept: State = {}
    ignored, unknown = [], []
    for key, value in state.items():
        name = key.removeprefix(prefix)
        if any(name == item or (item.endswith(".") and name.startswith(item)) for item in known.ignored):
            ignored.append(key)
        elif key.startswith(prefix):
            kept[name] = value
        else:
            unknown.append(key)
    if unknown:
        raise MaskDistillError(
            f"weights file {source} does not fit layout {layout!r}: {len(unknown)} unknown keys such as"
            f" {sorted(unknown)[:3]} beside the network's {prefix}*"
        )
    try:
        return Converted(known.rename(kept), ignored)
    except MaskDistillError as error:
        raise MaskDistillError(f"weights file {source} does not fit layout {layout!r}: {error}") from None
