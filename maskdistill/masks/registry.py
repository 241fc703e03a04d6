"""Mask rules by name: settings, function, and the name of their folder below ``results/<run>/``.

A rule is a module of :mod:`maskdistill.masks.rules`, or of an installed package that names it under the
entry-point group :data:`GROUP`. The configuration reads names and settings here, so this module imports next
to nothing, and modules of rules are imported when rules are first asked for: they use the configuration's
types themselves.
"""

import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.names import value_name

if TYPE_CHECKING:
    from maskdistill.features.store import ImageFeatures
    from maskdistill.masks.patches import PatchMask

P = TypeVar("P", bound=BaseModel)
GROUP = "maskdistill.mask_rules"
"""Entry-point group of other packages' rules: the rule's name -> the module that holds it."""
PACKAGE = "maskdistill.masks.rules"
PAPER = "maskdistill"
"""The paper's rule: its settings are the section ``masks`` itself."""
TAKEN = frozenset(
    {"baselines", "bench", "benchmarks", "crf", "data", "features", "hard", "k", "logs", "objects",
     "objects_page", "oracle", "paper", "pretrain", "seed", "tau"}
)  # fmt: skip
"""Other folders of a run, and how they begin."""


@dataclass(frozen=True)
class MaskRule:
    """A way to make masks of an image's features.

    Attributes:
        name: in the configuration.
        params: its settings, numbers, booleans and literals; their descriptions are documentation.
        function: pure, (features of an image, settings) -> its masks in the order of discovery, maybe none.
        head: how names of its folders begin.
        placed: settings whose values stand in its folders' names, in this order; others follow by name where
            they differ from the default, if all of them are settings of its own (:attr:`complete`).
        complete: whether a folder's name holds all settings. Only such a rule is chosen by name.
        module: where it is.
        package: name and version of the distribution that it comes from; empty for this one.
        most: the setting that says how many masks an image has at most; empty where it has one.
    """

    name: str
    params: type[BaseModel]
    function: "Callable[[ImageFeatures, Any], list[PatchMask]]"
    head: str
    placed: tuple[str, ...]
    complete: bool
    module: str
    package: str = ""
    most: str = ""

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    @property
    def marked(self) -> tuple[str, ...]:
        """Settings that stand in names of folders where they differ from the default."""
        return (
            tuple(name for name in self.params.model_fields if name not in self.placed)
            if self.complete
            else ()
        )

    @cached_property
    def pattern(self) -> str:
        """Regular expression of its names, a group for each setting."""
        parts = [self.head]
        parts += [f"-(?P<{name}>{self._values(name)})" for name in self.placed]
        for name in self.marked:
            flag = self.params.model_fields[name].annotation is bool
            parts.append(f"(?P<{name}>-{name})?" if flag else f"(?:-{name}(?P<{name}>{self._values(name)}))?")
        return "".join(parts)

    def _values(self, name: str) -> str:
        """Regular expression of a setting's values."""
        kind = self.params.model_fields[name].annotation
        if get_origin(kind) is Literal:
            return "|".join(re.escape(str(value)) for value in get_args(kind))
        return r"[0-9]+" if kind is int else r"[0-9.]+"

    @property
    def form(self) -> str:
        """Its names as documentation writes them: ``attention-MASS[-largest]``."""
        parts = [self.head, *(f"-{name.upper()}" for name in self.placed)]
        for name in self.marked:
            flag = self.params.model_fields[name].annotation is bool
            parts.append(f"[-{name}]" if flag else f"[-{name}{name.upper()}]")
        return "".join(parts)

    def folder(self, settings: BaseModel) -> str:
        """The name that settings give: ``attention-0.75-largest``."""
        parts = [self.head, *(_text(getattr(settings, name)) for name in self.placed)]
        for name in self.marked:
            value = getattr(settings, name)
            if value != self.params.model_fields[name].default:
                parts.append(name if value is True else f"{name}{_text(value)}")
        return "-".join(parts)

    def parse(self, text: str) -> BaseModel:
        """Settings that a name stands for; those that are not in it have their defaults.

        Raises:
            MaskDistillError: it is no name of this rule, or not the one that its settings give.
        """
        match = re.fullmatch(self.pattern, text)
        if match is None:
            raise MaskDistillError(f"mask rule {text!r}: write {self.form}")
        given = {name: value for name, value in match.groupdict().items() if value is not None}
        given |= {name: True for name, value in given.items() if value == f"-{name}"}
        try:
            settings = self.params.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise MaskDistillError(
                f"mask rule {text!r}: {where}: {first['msg']}; write {self.form}"
            ) from None
        if (name := self.folder(settings)) != text:
            raise MaskDistillError(f"mask rule {text!r}: write {name}, the one name of these settings")
        return settings


class Chosen(NamedTuple):
    """A rule with its settings."""

    rule: MaskRule
    settings: BaseModel

    @property
    def most(self) -> int:
        """Masks that an image has at most."""
        return int(getattr(self.settings, self.rule.most)) if self.rule.most else 1

    def masks(self, image: "ImageFeatures") -> "list[PatchMask]":
        """The masks of an image.

        Raises:
            MaskDistillError: the rule returned something else than masks on the grid of patches.
        """
        found = self.rule.function(image, self.settings)
        for mask in (getattr(one, "mask", None) for one in found):
            if getattr(mask, "shape", None) != tuple(image.grid) or str(getattr(mask, "dtype", "")) != "bool":
                raise MaskDistillError(
                    f"mask rule {self.rule.name} ({self.rule.module}): return a list of PatchMask, each with "
                    f"a bool mask of the grid's shape, here {image.grid}"
                )
        return found


_REGISTERED: dict[str, MaskRule] = {}


def mask_rule(
    name: str, params: type[P], *, head: str = "", placed: tuple[str, ...] | None = None, most: str = ""
) -> (
    "Callable[[Callable[[ImageFeatures, P], list[PatchMask]]], Callable[[ImageFeatures, P], list[PatchMask]]]"
):
    """Decorator that registers a function as a mask rule.

    A name of its settings is the rule's, followed by the value of each setting without a default, and by each
    other one where it is not at its default: ``lost-400``, ``attention-0.75-largest``, ``tokencut-tau0.3``.

    Args:
        name: lower-case letters, digits and underscores, a letter first.
        params: settings; their ranges are checked when a name is read.
        head: how folders' names begin, if not by the name.
        placed: settings in a folder's name, if these are not all there are: such a rule is not chosen by
            name.
        most: the setting that says how many masks an image has at most, of a rule that may give several.

    Raises:
        MaskDistillError: the name is not of that form, or another rule has it.
    """
    head = head or name
    required = tuple(field for field, info in params.model_fields.items() if info.is_required())

    def register(
        function: "Callable[[ImageFeatures, P], list[PatchMask]]",
    ) -> "Callable[[ImageFeatures, P], list[PatchMask]]":
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or head in TAKEN:
            raise MaskDistillError(
                f"{function.__module__}: a mask rule cannot be called {name!r}; take lower-case letters, "
                "digits and underscores, a letter first, and none of " + ", ".join(sorted(TAKEN))
            )
        for other in _REGISTERED.values():
            if {name, head} & {other.name, other.head} and other.module != function.__module__:
                raise MaskDistillError(
                    f"two mask rules are called {name}, in {other.module} and {function.__module__}; rename "
                    "one"
                )
        complete = placed is None
        named = required if placed is None else placed
        _REGISTERED[name] = MaskRule(
            name, params, function, head, named, complete, function.__module__, most=most
        )
        return function

    return register


def rules() -> dict[str, MaskRule]:
    """Every rule by its name, in alphabetical order.

    Raises:
        MaskDistillError: an installed package's rule cannot be loaded.
    """
    _load()
    return dict(sorted(_REGISTERED.items()))


@cache
def _load() -> None:
    """Import the modules of all rules; each registers itself."""
    package = import_module(PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{PACKAGE}.{module.name}")
    for entry in entry_points(group=GROUP):
        _load_entry(entry)


def _load_entry(entry: EntryPoint) -> None:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
    try:
        entry.load()
    except MaskDistillError:
        raise
    except Exception as error:  # whatever another package's module does
        raise MaskDistillError(
            f"mask rule {entry.name} of {package} cannot be loaded: {error}; repair or uninstall it"
        ) from error
    rule = _REGISTERED.get(entry.name)
    if rule is None or rule.module.partition(".")[0] != entry.module.partition(".")[0]:
        raise MaskDistillError(
            f"{entry.value} of {package} registers no mask rule {entry.name}; repair or uninstall it"
        )
    _REGISTERED[entry.name] = replace(rule, package=package)


def read(name: str) -> Chosen:
    """The rule and the settings of a folder's name, such as ``lost-400`` or ``topk-0.4``.

    Raises:
        MaskDistillError: no rule has such names, or it is not the name of its settings.
    """
    for rule in rules().values():
        if name.partition("-")[0] == rule.head:
            return Chosen(rule, rule.parse(name))
    raise MaskDistillError(f"no mask rule is called {name!r}; write {' or '.join(forms())}")


def check_name(name: str) -> str:
    """The name, if a rule is chosen by it.

    Raises:
        ValueError: it is not one.
    """
    try:
        if read(name).rule.complete:
            return name
    except MaskDistillError as error:
        raise ValueError(str(error)) from None
    raise ValueError(f"mask rule {name!r} is not chosen by name; write {' or '.join(forms())}")


def forms() -> list[str]:
    """The names by which rules are chosen, as documentation writes them."""
    return [rule.form for rule in rules().values() if rule.complete]


def is_folder(name: str) -> bool:
    """Whether a folder's name is one of a rule."""
    return re.fullmatch(folders_pattern(), name) is not None


def is_chosen_folder(name: str) -> bool:
    """Whether a folder's name is one of a rule that is chosen by name: of any but the paper's."""
    return re.fullmatch(names_pattern(), name) is not None


def folders_pattern() -> str:
    """Regular expression of all rules' folders, without groups that have names."""
    return "|".join(_plain(rule.pattern) for rule in rules().values())


def names_pattern() -> str:
    """Regular expression of the names by which rules are chosen, without groups that have names."""
    return "|".join(_plain(rule.pattern) for rule in rules().values() if rule.complete)


def _plain(pattern: str) -> str:
    return re.sub(r"\?P<\w+>", "?:", pattern)


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else value_name(value)
