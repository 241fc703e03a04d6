"""The presets, merged over a configuration as Snakemake merges several --configfile."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config  # type: ignore[import-untyped]

from maskdistill.config import Config, MasksConfig, PseudoLabelsConfig, load_config
from maskdistill.runtime.errors import MaskDistillError

CONFIG = Path(__file__).parents[1] / "config"
SECTIONS = ("features", "masks", "clusters", "pseudo_labels", "segmenter", "crf", "probe")


def read(*names: str) -> dict[str, Any]:
    """The files below config/, later ones over earlier ones."""
    merged: dict[str, Any] = {}
    for name in names:
        update_config(merged, yaml.safe_load((CONFIG / f"{name}.yaml").read_text(encoding="utf-8")))
    return merged


def load(*names: str) -> Config:
    return load_config(read(*names))


def differences(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> both values, of all keys in which two configurations differ."""

    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        return found

    a, b = flat(first.model_dump()), flat(second.model_dump())
    return {key: (a.get(key), b.get(key)) for key in a | b if a.get(key) != b.get(key)}


def test_the_code_preset_changes_what_the_released_scripts_do_otherwise() -> None:
    """[method V1, V2, V5, K1, K2, K3, S1, S3, D1], the probe's epochs [method §9.2], the nearest
    neighbour of labels and the CRF's channels. What depends on labels [method D7] has no switch."""
    assert differences(load("voc"), load("voc", "presets/code")) == {
        "masks.cls_heads": (None, 5),
        "masks.cls_mass": (None, 0.5),
        "masks.resize_mask": ("nearest", "bicubic_nonzero"),
        "clusters.input": ("masked_image", "crop"),
        "clusters.backbone.arch": (None, "dino_vits8"),
        "clusters.backbone.weights": (None, "official"),
        "clusters.algorithm": ("faiss", "minibatch"),
        "pseudo_labels.compare": ("gt", "ge"),
        "pseudo_labels.overlap": ("drop", "legacy"),
        "segmenter.drop_after": (40, 41),
        "segmenter.resize_labels": ("nearest_exact", "nearest"),
        "crf.channels": ("rgb", "bgr"),
        "probe.drop_after": (25, 26),
    }


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_values_that_both_share(preset: str) -> None:
    config = load("voc", f"presets/{preset}")
    assert config.features.short_side == 640
    assert (config.masks.topk, config.masks.component, config.masks.max_masks) == (0.4, "source_4conn", 1)
    assert not config.masks.affinity.center
    clusters = config.clusters
    assert (clusters.short_side, clusters.whiten, clusters.l2, clusters.overcluster) == (None, "std", True, 1)
    assert clusters.num_clusters == 20 and config.run == "voc"  # what a preset says nothing about stays


def test_the_paper_preset_is_the_default_and_undoes_the_code_preset() -> None:
    voc = load("voc")
    assert load("voc", "presets/paper") == voc
    assert load("voc", "presets/code", "presets/paper") == voc
    assert load("demo", "presets/paper").masks == MasksConfig()
    assert load("demo", "presets/paper").pseudo_labels == PseudoLabelsConfig()


def test_the_earlier_name_is_the_same_file() -> None:
    assert (CONFIG / "voc.yaml").samefile(CONFIG / "config.yaml")


def test_the_code_preset_wants_a_backbone_with_six_heads() -> None:
    with pytest.raises(
        MaskDistillError, match=r"masks\.cls_heads: 5 heads, and backbone\.arch vit_micro_patch8 has 4"
    ):
        load("demo", "presets/code")


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_presets_speak_alone_of_what_differs(preset: str) -> None:
    assert set(read(f"presets/{preset}")) == set(SECTIONS)


def test_both_presets_name_the_same_keys() -> None:
    paper, code = read("presets/paper"), read("presets/code")
    assert {name: list(paper[name]) for name in SECTIONS} == {name: list(code[name]) for name in SECTIONS}
