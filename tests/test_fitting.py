"""Settings that follow photographs and machine: pure choices, and the time that they will take."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from miniature import SPEEDS

from maskdistill.config import Config, load_config
from maskdistill.product import fitting
from maskdistill.product.fitting import Choice, Weights, choose
from maskdistill.product.plan import about
from maskdistill.product.speeds import Speeds, estimate, loaders, scaled, step_seconds
from maskdistill.product.suggestions import Changes, Found, write_config
from maskdistill.workflow.needed_weights import began_with_shipped, licences, rehearsal

CONFIGS = Path(__file__).parents[1] / "config"
SMALL = Found("/photos", 200, [(120, 96)] * 5, [], gpus=0, cores=2)
LARGE = Found("/photos", 5000, [(4000, 3000)] * 5, [], gpus=0, cores=16)
MANY = Found("/photos", 1_000_000, [(640, 480)] * 5, [], gpus=4, cores=32, free=10**12)


def configured(found: Found, weights: Weights) -> Callable[[Changes], Config]:
    template = (CONFIGS / fitting.template(found, weights)).read_text()
    return lambda changes: load_config(yaml.safe_load(write_config(template, found, "r", changes, {}, [])))


def chosen(found: Found, weights: Weights = "dino", minutes: float | None = None) -> Choice:
    return choose(found, weights, minutes, configured(found, weights), lambda config: SPEEDS, {})


@pytest.mark.parametrize("weights", ["dino", "shipped"])
@pytest.mark.parametrize("found", [SMALL, LARGE, MANY])
def test_every_photograph_is_seen_often_enough(found: Found, weights: Weights) -> None:
    """And what is written is valid and says what it takes, with a licence for each network."""
    choice = chosen(found, weights)
    config = choice.config
    assert config.detector.iters * config.detector.reference_batch >= 10 * found.count
    assert config.segmenter.epochs >= 10 and config.segmenter.drop_after < config.segmenter.epochs
    assert config.detector.batch_size == config.segmenter.batch_size
    text = write_config(
        (CONFIGS / fitting.template(found, weights)).read_text(), found, "r", choice.changes, choice.notes,
        choice.estimate(None),
    )  # fmt: skip
    assert load_config(yaml.safe_load(text)) == config
    assert "# It will take about" in text and "every photograph is seen" in text
    assert licences(config) and not any("no commercial use" in line for line in licences(config))
    assert (rehearsal(config) is not None) == (weights == "shipped")


def test_networks_follow_the_machine_and_the_sizes() -> None:
    small, large, many = (chosen(found).config for found in (SMALL, LARGE, MANY))
    assert (small.backbone.arch, large.backbone.arch, many.backbone.arch) == (
        "dino_vits8",
        "dino_vits16",
        "dino_vits16",
    )
    for config in (small, large):
        assert config.detector.arch == config.segmenter.arch == config.backbone.arch
        assert config.detector.weights == config.segmenter.weights == "official"
    assert small.features.short_side <= 3 * 96 and small.detector.min_size_test <= 1.5 * 96 + 16
    assert (
        small.detector.batch_size == 4 and large.detector.batch_size == 8 and many.detector.batch_size == 16
    )
    assert many.detector.arch == many.segmenter.arch == "resnet50"
    assert many.detector.weights == many.segmenter.weights == "dino_resnet50"
    assert not many.features.store and small.features.store  # 3 TB of keys do not fit
    assert (many.detector.workers, chosen(replace(SMALL, cores=1)).config.detector.workers) == (1, 0)


def test_the_papers_sides_are_the_last_level_of_a_gpu() -> None:
    config = chosen(replace(MANY, count=100), minutes=600).config
    detector = config.detector
    assert (config.features.short_side, detector.min_size_test, config.segmenter.size) == (640, 704, 512)
    large = chosen(replace(MANY, count=100, sizes=[(4000, 3000)]), minutes=600).config.detector
    assert (
        large.min_size_train == list(range(480, 801, 32))
        and large.min_size_test == 800
        and large.max_size == 1333
    )
    assert large.anchor_sizes == [32, 64, 128, 256, 512]


@pytest.mark.parametrize(("found", "weights"), [(SMALL, "shipped"), (SMALL, "dino"), (LARGE, "dino")])
def test_the_time_asked_for_is_used(found: Found, weights: Weights) -> None:
    least = sum(chosen(found, weights, 1).seconds.values()) / 60
    before: Config | None = None
    for minutes in (1.3 * least, 2 * least, 4 * least):
        choice = chosen(found, weights, minutes)
        if not choice.bound:
            assert sum(choice.seconds.values()) / 60 == pytest.approx(minutes, rel=0.01)
        if before is not None:
            assert choice.config.detector.min_size_test >= before.detector.min_size_test
        before = choice.config
    least_of_all, too_much = chosen(found, weights, 1), chosen(found, weights, 10**6)
    assert "cannot be done" in least_of_all.estimate(1)[-1] and least_of_all.bound == "least"
    assert "by heart" in too_much.estimate(10**6)[-1]
    assert too_much.config.detector.iters * 4 == pytest.approx(100 * found.count, rel=0.01)


def test_the_estimate_by_hand() -> None:
    """200 pictures, one core, one shard of the shipped networks, whose sides nothing changes."""
    found = replace(SMALL, cores=1)
    config = chosen(found, "shipped").config
    seconds = estimate(config, found, SPEEDS)
    assert config.num_shards == 1 and config.detector.workers == 0
    assert seconds["photographs"] == pytest.approx(200 * 0.02)
    assert seconds["features"] == pytest.approx(5 + 200 * 0.5)
    assert seconds["detector"] == pytest.approx(5 + config.detector.iters * (1 + 4 * 0.05) + 5 + 200 * 0.4)
    steps = config.segmenter.epochs * 200 // 4
    assert seconds["segmenter"] == pytest.approx(5 + steps * (0.5 + 4 * 0.02) + 5 + 200 * 0.1)
    assert seconds["pseudo-labels"] == pytest.approx(1.5 + 200 * 0.01)


def test_loading_beside_training() -> None:
    assert step_seconds(load=0.1, step=1, batch=4, cores=1, workers=0) == pytest.approx(1.4)
    assert step_seconds(load=0.1, step=1, batch=4, cores=2, workers=1) == pytest.approx(1.2)
    assert step_seconds(load=1, step=1, batch=4, cores=16, workers=2) == pytest.approx(2)
    assert [loaders(load, 1, 4, cores) for load, cores in ((0.1, 1), (0.1, 2), (1, 16), (9, 4))] == [
        0,
        1,
        4,
        3,
    ]


def test_other_sides_cost_by_their_work() -> None:
    shipped = chosen(SMALL, "shipped").config
    assert scaled(SPEEDS, shipped, shipped) == SPEEDS
    sides = {"segmenter": {"size": 2 * shipped.segmenter.size}, "features": {"short_side": 448}}
    twice = configured(SMALL, "shipped")(fitting.merged(chosen(SMALL, "shipped").changes, sides))
    found: Speeds = scaled(SPEEDS, shipped, twice)
    assert found.segmenter_step == pytest.approx(4 * SPEEDS.segmenter_step)  # of a ResNet
    assert found.detector_step == SPEEDS.detector_step
    tokens = 4 / 3 * 28**2  # 224 pixels in patches of 8; 12 d^2 n + 2 d n^2 of width 128
    ratio = (12 * 128**2 * 4 * tokens + 2 * 128 * 16 * tokens**2) / (
        12 * 128**2 * tokens + 2 * 128 * tokens**2
    )
    assert found.features == pytest.approx(ratio * SPEEDS.features)


def test_times_in_words() -> None:
    assert [about(seconds) for seconds in (0.4, 42, 99, 130, 5000, 9000, 400_000)] == [
        "0 s", "42 s", "99 s", "2 min", "83 min", "2.5 h", "5 days",
    ]  # fmt: skip


def test_a_rehearsal_is_of_photographs() -> None:
    """Scenes are what the shipped weights were trained on; a file of the user's is none of them."""
    demo = load_config(yaml.safe_load((CONFIGS / "demo.yaml").read_text()))
    assert rehearsal(demo) is None
    folder = yaml.safe_load((CONFIGS / "folder.yaml").read_text())
    assert "never saw a photograph" in str(rehearsal(load_config(folder)))
    other = {"arch": "dino_vits16", "weights": "/elsewhere/mine.pth"}
    mine = load_config(folder | {"backbone": other, "clusters": {"backbone": other}})
    assert rehearsal(mine) is None and "a file of yours" in licences(mine)[0]
    assert not began_with_shipped(None) and not began_with_shipped("0" * 64)
