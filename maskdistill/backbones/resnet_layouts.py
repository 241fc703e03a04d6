"""Names of a ResNet's tensors in various projects. Ours are torchvision's; a conversion only renames
tensors.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from maskdistill.runtime.errors import MaskDistillError

Renaming = tuple[tuple[str, str], ...]
# Regular expressions applied one after the other [method §5-names].
TO_DETECTRON2: Renaming = (
    (r"^conv1\.", "stem.conv1."), (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer4\.", "res5."), (r"^layer3\.", "res4."), (r"^layer2\.", "res3."), (r"^layer1\.", "res2."),
    (r"\.bn(\d)\.", r".conv\1.norm."), (r"\.downsample\.0\.", ".shortcut."), (r"\.downsample\.1\.",
    ".shortcut.norm."),
)  # fmt: skip
FROM_DETECTRON2: Renaming = (
    (r"^stem\.conv1\.norm\.", "bn1."), (r"^stem\.conv1\.", "conv1."),
    (r"^res2\.", "layer1."), (r"^res3\.", "layer2."), (r"^res4\.", "layer3."), (r"^res5\.", "layer4."),
    (r"\.conv(\d)\.norm\.", r".bn\1."), (r"\.shortcut\.norm\.", ".downsample.1."), (r"\.shortcut\.",
    ".downsample.0."),
)  # fmt: skip
# Parts of a checkpoint that do not belong to the backbone: projection heads, classifiers, momentum encoders,
# queues.
IGNORED = (
    "module.encoder_k.", "module.queue", "module.queue_ptr", "module.momentum_encoder.", "module.predictor.",
    "module.head.", "head.", "module.fc.", "fc.",
)  # fmt: skip
_OWN_NAME = re.compile(
    r"(conv1|bn1|layer[1-4]\.\d+\.(conv\d|bn\d|downsample\.[01]))"
    r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
)


def renamed(name: str, rules: Renaming) -> str:
    """``name`` after applying the replacements in turn."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _same(name: str) -> str:
    return name


def _to_detectron2(name: str) -> str:
    return renamed(name, TO_DETECTRON2)


def _from_detectron2(name: str) -> str:
    return renamed(name, FROM_DETECTRON2)


@dataclass(frozen=True)
class ResNetLayout:
    """Where and under which names a checkpoint holds the backbone.

    Attributes:
        name: for messages and for :func:`convert_resnet`.
        prefix: precedes each of the backbone's names.
        read, write: from the project's names, without the prefix, to ours, and back.
    """

    name: str
    prefix: str
    read: Callable[[str], str] = _same
    write: Callable[[str], str] = _same

    @property
    def probe(self) -> str:
        """The key that distinguishes this layout from others."""
        return self.prefix + self.write("conv1.weight")


# The first layout whose probe is present is taken, else the last.
LAYOUTS = (
    ResNetLayout("MoCo v1/v2", "module.encoder_q."),
    ResNetLayout("MoCo v3", "module.base_encoder."),
    ResNetLayout("DINO, wrapped", "module.backbone."),
    ResNetLayout("DINO", "backbone."),
    ResNetLayout("detectron2", "", _from_detectron2, _to_detectron2),
    ResNetLayout("torchvision, wrapped", "module."),
    ResNetLayout("torchvision", ""),
)


class Named(NamedTuple):
    """The keys of a checkpoint, classified.

    Attributes:
        names: original key -> our name, for all keys with the backbone's prefix.
        ignored: keys known not to belong to the backbone.
        strangers: all remaining keys.
    """

    names: dict[str, str]
    ignored: list[str]
    strangers: list[str]


def find_layout(keys: Iterable[str]) -> ResNetLayout:
    """The layout of a checkpoint with these keys; torchvision's if no other is recognised."""
    present = set(keys)
    return next((layout for layout in LAYOUTS if layout.probe in present), LAYOUTS[-1])


def own_names(keys: Iterable[str], layout: ResNetLayout) -> Named:
    """Classify the keys of a checkpoint; the caller checks whether the names fit the network."""
    found = Named({}, [], [])
    for key in keys:
        name = key.removeprefix(layout.prefix)
        if key.startswith(IGNORED) or (key.startswith(layout.prefix) and name.startswith("fc.")):
            found.ignored.append(key)
        elif key.startswith(layout.prefix):
            found.names[key] = layout.read(name)
        else:
            found.strangers.append(key)
    return found


def convert_resnet(state: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    """A backbone under another project's names, without projection heads, classifiers and queues.

    Args:
        state: tensors of a checkpoint, as :func:`maskdistill.backbones.weights.read_state_dict` gives them.
        source, target: names in :data:`LAYOUTS`.

    Raises:
        MaskDistillError: an unknown layout, or keys that are not those of ``source``.
    """
    by_name = {layout.name: layout for layout in LAYOUTS}
    for name in (source, target):
        if name not in by_name:
            raise MaskDistillError(f"unknown ResNet layout {name!r}; choose one of {', '.join(by_name)}")
    actual = find_layout(state)
    if by_name[source].probe not in state or actual.name != source:
        seen = (
            f"its keys are those of {actual.name!r}"
            if actual.probe in state
            else f"keys such as {sorted(state)[:3]}"
        )
        raise MaskDistillError(f"not a ResNet in the layout {source!r} (key {by_name[source].probe}): {seen}")
    found = own_names(state, actual)
    unknown = found.strangers + [key for key, name in found.names.items() if not _OWN_NAME.fullmatch(name)]
    if unknown:
        raise MaskDistillError(
            f"does not fit the layout {source!r}: {len(unknown)} unknown keys such as {sorted(unknown)[:3]}"
        )
    written = by_name[target]
    return {written.prefix + written.write(name): state[key] for key, name in found.names.items()}
