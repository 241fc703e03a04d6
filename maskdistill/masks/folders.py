"""Names of folders of masks: a rule's, ``lost-400``, then ``@NAME`` where the features are those of a further
backbone of the bench, ``lost-400@vitb``.

That part alone is called the suffix here; of the run's own backbone it is empty. The folder of a backbone's
features ends in it too.
"""

import re

from maskdistill.masks import registry

MARK = "@"


def suffix(backbone: str) -> str:
    """How folders end whose features are those of a backbone: ``@vitb``."""
    return f"{MARK}{backbone}"


def rule_of(folder: str) -> str:
    """The name of the mask rule in a folder's name."""
    return folder.partition(MARK)[0]


def suffix_of(folder: str) -> str:
    """The suffix of a folder's name: ``@vitb``, or nothing."""
    return "".join(folder.partition(MARK)[1:])


def backbone_of(folder: str) -> str | None:
    """The name of the further backbone in a folder's name; None for the run's own."""
    return folder.partition(MARK)[2] or None


def is_folder(name: str) -> bool:
    """Whether a folder's name is one of masks, by any rule and on any backbone."""
    rule, mark, backbone = name.partition(MARK)
    return registry.is_folder(rule) and bool(backbone) == bool(mark)


def pattern(suffixes: list[str]) -> str:
    """Regular expression of the folders of all rules, on backbones with these suffixes."""
    return f"(?:{registry.folders_pattern()}){any_of(suffixes)}"


def any_of(suffixes: list[str]) -> str:
    """Regular expression of these suffixes; never empty, which Snakemake would take for no constraint."""
    return f"(?:{'|'.join(map(re.escape, suffixes))})"
