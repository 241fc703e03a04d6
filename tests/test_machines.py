"""Numbers come out alike on other processors: those of the yardstick within what was measured between
variants.

``machines.json`` holds the middle and the range of each, with one thread and two and several instruction
sets; how far a whole run's scores move is in ``results/benchmarks/demo.md``. After a change that is meant to
move them: ``python tests/benchmarks/machines.py yardstick --write tests/machines.json``.
"""

import json
from pathlib import Path

import pytest
from miniature import scenes
from yardstick import COUNT, SIZE, Numbers, distilled, measure, projected

MEASURED = json.loads((Path(__file__).parent / "machines.json").read_text())
LEAST = {"keys": 1e-3}
"""Relative tolerance where the measured range is next to nothing: processors that were not measured have
their own.
"""
LEAST_LATER = 0.02
"""The same behind choices that a last bit can turn: a patch of a mask, a region of a proposal, the steps of a
training. A learning rate 5 % higher moves the last losses by 2.7 and 3.8 %.
"""
LEAST_PERCENT = 1.5
"""The same for shares of pixels, in percent points."""


def far_off(numbers: Numbers) -> dict[str, tuple[float, float, float]]:
    """What lies further than three measured ranges from the middle, and than the least: found, middle,
    tolerance.
    """
    off = {}
    for name, found in numbers.items():
        middle = MEASURED[name]["middle"]
        share = "IoU" in name or "coverage" in name
        least = LEAST_PERCENT if share else LEAST.get(name, LEAST_LATER) * abs(middle)
        tolerance = max(3 * MEASURED[name]["range"], least)
        if abs(found - middle) > tolerance:
            off[name] = (found, middle, tolerance)
    return off


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_this_machine_gives_what_others_gave() -> None:
    numbers = measure()
    assert numbers.keys() == MEASURED.keys()
    assert far_off(numbers) == {}


@pytest.mark.slow
def test_a_change_of_precision_would_be_noticed() -> None:
    """bfloat16 instead of float32; and what any number of the file may be off by stays small."""
    keys, _ = distilled([scene.image for scene in scenes(COUNT, SIZE)], "bfloat16", 0.4)
    assert far_off({"keys": projected(keys)}).keys() == {"keys"}
    for name, of in MEASURED.items():
        assert far_off({name: of["middle"]}) == {} and far_off({name: of["middle"] * 1.1}).keys() == {name}, (
            name
        )
