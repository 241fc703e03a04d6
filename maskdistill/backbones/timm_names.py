"""Any plain vision transformer of timm, by timm's own name, with a checkpoint that the user gives.

Positions are resampled as timm does it, and checkpoints renamed by timm's own functions. The network must
have what the mask rule needs: a CLS token that it was trained with, and a single projection to queries, keys
and values in each block.
"""

from typing import Any, NamedTuple, cast

import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models import eva, vision_transformer
from timm.models.eva import Eva, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from maskdistill.backbones.registry import BACKBONES, Backbone
from maskdistill.backbones.vit import ViT
from maskdistill.backbones.weights import read_state_dict, strict_load
from maskdistill.runtime.errors import MaskDistillError

CLASSIFIERS = ("head.", "head_dist.")
"""Prefixes of names that do not belong to the network."""


class TimmModel(NamedTuple):
    """A network of timm, in eval mode, and its description as a registry entry."""

    model: ViT
    structure: Backbone


def load_timm(name: str, weights: str) -> TimmModel:
    """Load a network by timm's name, e.g. ``vit_small_patch14_dinov2.lvd142m``, with the weights of a
    checkpoint.

    Args:
        name: of a model of class VisionTransformer or Eva; if it has a tag, the tag's image statistics are
            used.
        weights: a file in timm's or the original authors' layout.

    Raises:
        MaskDistillError: unknown name, a network that does not suit the mask rule, or a file that does not
            fit the network.
    """
    if not timm.is_model(name):
        raise MaskDistillError(
            f"unknown backbone {name!r}; take one of {', '.join(BACKBONES)}, or the name of a ViT of timm"
            f" {timm.__version__} (timm.list_models('vit_*'))"
        )
    with torch.random.fork_rng(devices=[]):
        try:
            model = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        except TypeError:  # another kind of network, which does not accept images of any size
            raise MaskDistillError(f"backbone {name!r}: not a plain vision transformer") from None
        except RuntimeError as error:
            raise MaskDistillError(f"backbone {name!r}: {error}") from None
    if reason := unfit(model):
        raise MaskDistillError(f"backbone {name!r}: {reason}")
    net = cast(Any, model)
    state: dict[str, Any] = read_state_dict(weights)
    if isinstance(model, Eva):
        state = eva.checkpoint_filter_fn(state, model)
    else:
        state = vision_transformer.checkpoint_filter_fn(state, net, adapt_layer_scale=True)
    strict_load(model, state, weights, CLASSIFIERS)
    net.positions = "timm"
    return TimmModel(net.eval().requires_grad_(False), _structure(name, net))


def unfit(model: nn.Module) -> str | None:
    """Why the mask rule cannot be used with a network; None if it can."""
    net = cast(Any, model)
    if not isinstance(model, VisionTransformer | Eva) or type(net.patch_embed) is not PatchEmbed:
        return "not a plain vision transformer"
    if net.cls_token is None or isinstance(net.norm, nn.Identity):
        return "has no CLS token that it was trained by, and masks grow from what CLS attends to"
    if len(set(net.patch_embed.patch_size)) > 1:
        return "its patches are not square"
    for block in net.blocks:
        if type(block) not in (Block, EvaBlock) or getattr(block.attn, "qkv", None) is None:
            return "its blocks have no attention with one projection to queries, keys and values"
        if not isinstance(block.attn.q_norm, nn.Identity) or getattr(net, "rope_mixed", False):
            return "its queries and keys are changed within the attention, where masks do not see it"
    return None


def _structure(name: str, model: ViT) -> Backbone:
    """The registry entry of a network, read from the network itself."""
    net = cast(Any, model)
    statistics = net.pretrained_cfg
    return Backbone(
        timm_model=name,
        patch_size=int(net.patch_embed.patch_size[0]),
        embed_dim=int(net.embed_dim),
        depth=len(net.blocks),
        num_heads=int(net.blocks[-1].attn.num_heads),
        image_size=int(net.patch_embed.img_size[0]),
        registers=int(net.num_prefix_tokens) - 1,
        positions="timm",
        mean=tuple(statistics["mean"]),
        std=tuple(statistics["std"]),
    )
