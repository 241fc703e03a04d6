"""Paths as users write them: ~ and environment variables in every setting and option that is a path."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_config_ranges import Setting, every_setting, minimal, put

from maskdistill.cli import _with_home
from maskdistill.config import FolderData, load_config
from maskdistill.config.paths import user_path
from maskdistill.data.listing import count_images
from maskdistill.data.planned import check_annotations, count_planned, planned_listing
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.workflow.needed_weights import networks, weights_path

PATHS = {
    "data.root", "data.file", "data.images", "data.annotations", "support.root", "support.file",
    "datasets.voc2007.path",
    "datasets.coco2014.path", "backbone.weights", "pretrain.teacher.weights", "clusters.backbone.weights",
    "clusters.names", "detector.weights", "segmenter.weights", "paper.backbones.0.weights",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home of x"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos/a.jpg").write_bytes(b"x")
    for name in ("w.pth", "truth.json"):
        (folder / name).write_text("x")
    (folder / "list.txt").write_text("photos/a.jpg\n")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PLACE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def path_settings() -> Iterator[Setting]:
    for setting in every_setting():
        if any(option.get("format") == "path" for option in setting.node.get("anyOf", [setting.node])):
            yield setting


def test_every_path_among_the_settings_is_resolved(home: Path) -> None:
    found = list(path_settings())
    assert {setting.name for setting in found} >= PATHS
    for setting in found:
        for text in ("~/x/y", "$PLACE/x/y", "${PLACE}/x//y/", "~/./x/y"):
            values: Any = load_config(put(setting.values, setting.path, text)).model_dump()
            for key in setting.path:
                values = values[key]
            assert values == f"{home}/x/y", setting.name


def test_no_path_is_left_out() -> None:
    """Whatever the descriptions call a folder, a file or a path."""
    marked = {setting.name for setting in path_settings()}
    for setting in every_setting():
        text = str(setting.node.get("description", "")).lower()
        if (
            text.startswith(("folder that", "path of", "text file", "yaml file", "folder of an"))
            or " json, " in text
        ):
            assert setting.name in marked, setting.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~", "{home}"), ("~/a b", "{home}/a b"), ("x~", "x~"), ("./x/", "x"), ("a/../b", "a/../b"),
        ("$PLACE", "{home}"), ("a$PLACE/b", "a{home}/b"), ("official", "official"), ("/", "/"),
        ("~no_such_user_here/x", "~no_such_user_here/x"),
    ],
)  # fmt: skip
def test_what_a_user_means(home: Path, text: str, expected: str) -> None:
    assert user_path(text) == expected.format(home=home)


def test_a_literal_name_wins(home: Path, tmp_path: Path) -> None:
    for name in ("US$PLACE", "cost$5", "$NOT_SET", "${NOT_SET}"):
        (tmp_path / name).mkdir(parents=True)
        assert user_path(name) == name
    (tmp_path / "~").mkdir()
    assert user_path("./~") == "~"


@pytest.mark.hostile(
    "config: a path that is empty, has a null character or an environment variable that is not set",
    outcome="refused before anything is computed; the message names key and variable",
)
@pytest.mark.parametrize(
    ("text", "said"), [("", "give the path"), ("a\0b", "null"), ("$NONE_SUCH/x", "NONE_SUCH is not")]
)
def test_no_path(text: str, said: str) -> None:
    with pytest.raises(MaskDistillError, match=rf"data\.folder\.root: .*{said}"):
        load_config(minimal(data={"kind": "folder", "root": text}))


def test_what_the_workflow_is_given_is_there(home: Path) -> None:
    """Inputs of rules, counts, fingerprints and checks see the same file."""
    weights = {"weights": "~/w.pth"}
    coco = {"kind": "coco", "images": "$PLACE/photos", "annotations": "~/truth.json"}
    config = load_config(
        minimal(
            data=coco,
            backbone=weights,
            detector=weights,
            segmenter=weights,
            support={"kind": "list", "file": "~/list.txt"},
        )
    )
    assert check_annotations(config) == f"{home}/truth.json"
    for stage, network in networks(config).items():
        assert weights_path(config, stage, network) == f"{home}/w.pth"
    assert count_planned(config) == 2
    before = planned_listing(config)
    (home / "list.txt").write_text((home / "list.txt").read_text() + "more.jpg\n")
    assert planned_listing(config) != before and count_planned(config) == 3


def test_options(home: Path) -> None:
    given = argparse.Namespace(
        out="~/x", photos=["~", "~/a", "b~"], seed=3, run=None, other="~a", text="x=~/y"
    )
    found = vars(_with_home(given))
    assert found["out"] == f"{home}/x" and found["photos"] == [str(home), f"{home}/a", "b~"]
    assert [found[name] for name in ("seed", "run", "other", "text")] == [3, None, "~a", "x=~/y"]


@pytest.mark.parametrize(
    "support", [{"kind": "folder", "root": "none"}, {"kind": "list", "file": "none.txt"}]
)
def test_an_absent_support_set_is_called_by_its_name(home: Path, support: dict[str, str]) -> None:
    config = load_config(minimal(data={"kind": "folder", "root": "~/photos"}, support=support))
    key = [*support][1]
    for look in (count_planned, planned_listing):
        with pytest.raises(MaskDistillError, match=rf"^support\.{key}: .*none"):
            look(config)
    with pytest.raises(MaskDistillError, match=r"^data\.root: "):
        count_images(FolderData(kind="folder", root="none"))
