"""Building blocks of all sections of the configuration: their base class, and numbers and lists with ranges.

Every number has a smallest and a largest value, far beyond what makes sense, so typing errors are refused and
no later stage meets an infinity, an overflow or an empty list. ``tests/test_config_ranges.py`` checks the
schema.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

T = TypeVar("T")
MOST = 2**31 - 1
"""Largest integer of any kind: that of 32 bits with a sign."""


def _number(value: Any) -> Any:
    """Refuse ``true``, which Python takes for 1 but nobody means as a number."""
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


NUMBER = BeforeValidator(_number)
"""Comes last in the type of a number, after its range."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0), NUMBER]
Share = Annotated[float, Field(gt=0, le=1), NUMBER]
Momentum = Annotated[float, Field(ge=0, lt=1), NUMBER]
"""Momentum of SGD, below 1: at 1 no step is ever forgotten."""
Rate = Annotated[float, Field(gt=0, le=100), NUMBER]
"""A learning rate."""
Decay = Annotated[float, Field(ge=0, le=10), NUMBER]
"""Weight decay."""
Spread = Annotated[float, Field(gt=0, le=10_000), NUMBER]
"""A standard deviation or a temperature."""
Positive = Annotated[int, Field(ge=1, le=MOST), NUMBER]
Count = Annotated[int, Field(ge=0, le=MOST), NUMBER]
Seed = Annotated[int, Field(ge=0, lt=2**31), NUMBER]
"""FAISS keeps a seed in 32 bits with a sign."""
Batch = Annotated[int, Field(ge=1, le=65_536), NUMBER]
Side = Annotated[int, Field(ge=1, le=16_384), NUMBER]
"""Side of a picture or an anchor, in pixels."""
Resized = Annotated[int, Field(ge=16, le=16_384), NUMBER]
"""Side that a picture is resized to, in pixels."""
Channels = Annotated[int, Field(ge=1, le=65_536), NUMBER]
Rounds = Annotated[int, Field(ge=0, le=100), NUMBER]
Stages = Annotated[int, Field(ge=0, le=100), NUMBER]
"""Frozen parts of a ResNet: 1 the stem, 2 also layer1, ...; of a ViT: 1 the stem, 1+n also n blocks."""
Workers = Annotated[int, Field(ge=0, le=1024), NUMBER]
Examples = Annotated[int, Field(ge=1, le=1000), NUMBER]
"""Number of pictures on a page."""
Epochs = Annotated[int, Field(ge=1, le=1_000_000), NUMBER]
EpochsBefore = Annotated[int, Field(ge=0, le=1_000_000), NUMBER]
Text = Annotated[str, Field(min_length=1)]
Precision = Literal["float32", "bfloat16"]


def once(values: list[T]) -> list[T]:
    """Refuse a value that is given twice: it would be computed twice, or two results would share a folder."""
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"give each value once; {twice[0]} is given twice")
    return values


def ascending(values: list[T]) -> list[T]:
    """Refuse a list whose values do not ascend."""
    if values != sorted(set(values)):  # type: ignore[type-var]
        raise ValueError("give ascending values, each once")
    return values


def ordered(pair: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range whose end is below its start."""
    if pair[0] > pair[1]:
        raise ValueError(f"a range is given from its smaller to its larger end, [{pair[1]:g}, {pair[0]:g}]")
    return pair


Once = AfterValidator(once)
_UNIQUE = Field(max_length=1000, json_schema_extra={"uniqueItems": True})
_LISTED = Field(min_length=1, max_length=1000, json_schema_extra={"uniqueItems": True})
Distinct = Annotated[list[T], _UNIQUE, Once]
"""Values, each once; may be empty."""
DistinctSome = Annotated[list[T], _LISTED, Once]
"""At least one value, each once."""


class Section(BaseModel):
    """Base of all sections: unknown keys are refused at every level, as are NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
