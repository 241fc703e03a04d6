"""Settings and code of the mask rule behind a folder of masks, ``topk-0.4`` or ``lost-400@vitb``."""

from typing import Any

from maskdistill.config import MasksConfig
from maskdistill.masks.folders import rule_of
from maskdistill.masks.registry import read
from maskdistill.runtime.provenance import module_code
from maskdistill.workflow.layout import mask_name


def is_refined(folder: str, config: MasksConfig) -> bool:
    """Whether outlines of the folder's masks come from the photographs: only for the run's own rule, at any
    swept value and on any backbone.
    """
    name = rule_of(folder)
    own = name == mask_name(config) if read(name).rule.complete else config.by_paper
    return config.refine != "none" and own


def settings(folder: str, config: MasksConfig) -> dict[str, Any]:
    """The masks section for the folder's job: all of it for the paper's rule, for another the part that it
    uses.
    """
    name = rule_of(folder)
    rule, params = read(name)
    if not rule.complete:
        swept = {name: getattr(params, name) for name in rule.placed}
        return config.model_dump(mode="json", exclude={"rule"}) | swept
    refined = {"refine": config.refine} if is_refined(folder, config) else {}
    return {"rule": name, "resize_mask": config.resize_mask} | refined


def rule_code(folder: str) -> str:
    """Hash of the code of the folder's rule."""
    return module_code(read(rule_of(folder)).rule.module)
