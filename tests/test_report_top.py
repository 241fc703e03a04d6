"""What the report opens with: photographs chosen by the detector's scores, files beside it, next commands,
words.
"""

from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskdistill.config import PseudoLabelsConfig, load_config
from maskdistill.evaluation.metrics.registry import metrics
from maskdistill.report import glossary, montage
from maskdistill.report.beside import files_beside, next_steps
from maskdistill.report.rated import Ratings
from maskdistill.report.words import words
from maskdistill.workflow import commands

CONFIG = {
    "run": "r",
    "seeds": [7],
    "data": {"kind": "scenes"},
    "backbone": {"weights": "random"},
    "detector": {"weights": "random"},
    "segmenter": {"weights": "random"},
}


def test_words_are_explained_once_at_the_end_of_the_text_they_stand_in() -> None:
    meanings = {"IoU": "shared & all", "boundary IoU": "at edges", "τ": "threshold"}
    text = "<h2>IoU</h2><p>A <code>IoU</code> and <b>τ</b>: boundary IoU, IoUs, IoU.</p><p>τ IoU</p>"
    done = str(glossary.explained(text, meanings))
    button = '<button type="button" class="word" popovertarget="word-{}">{}</button>'
    assert done == (
        "<h2>IoU</h2><p>A <code>IoU</code> and <b>τ</b>: " + button.format("boundary-iou",
        "boundary IoU") + ", IoUs, "
        + button.format("iou", "IoU") + '.<span popover id="word-boundary-iou" class="meaning">at '
        'edges</span><span popover id="word-iou" class="meaning">shared &amp; all</span></p>'
        "<p>" + button.format("τ", "τ") + ' IoU<span popover id="word-τ" class="meaning">threshold</span></p>'
    )  # fmt: skip


def test_words_stand_in_heads_of_columns_and_labels_of_facts_and_not_in_what_users_named() -> None:
    text = (
        '<table><tr><th scope="col">AP</th></tr><tr><th scope="row">purity</th><td>CRF</td></tr></table>'
        '<dl><dt>masks</dt><dd>seeds</dd></dl><li class="explained">CorLoc</li><img alt="a &gt; b"><br>'
        '<svg><path d="K"/></svg>'
    )
    found: list[str] = []

    class Buttons(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(str(value) for name, value in attrs if name == "popovertarget")

    Buttons().feed(glossary.explained(text, words()))
    assert found == ["word-ap", "word-masks", "word-corloc"]
    assert glossary.explained("<p>nothing here</p>", words()) == "<p>nothing here</p>"


def test_every_column_of_the_score_table_is_explained() -> None:
    told = words()
    assert all(metric.meaning.endswith(".") for metric in metrics("table").values())
    assert len(told) == len(glossary.WORDS) + sum(bool(metric.meaning) for metric in metrics().values())
    assert all(meaning.endswith(".") for meaning in told.values())


@pytest.mark.parametrize("shards", [1, 3, 40])
@pytest.mark.parametrize("images", [3, 40])
def test_ratings_agree_with_sorting_everything(images: int, shards: int) -> None:
    rng = np.random.default_rng(images)
    rows: list[Any] = [
        {"image_id": image, "score": float(rng.integers(1, 10)) / 10}
        for image in range(1, images + 1)
        for _ in range(rng.integers(1, 4))
    ]
    ratings = Ratings(PseudoLabelsConfig(tau=0.5), count=4)
    for part in np.array_split(np.arange(1, images + 1), shards):
        ratings.add(row for row in rows if row["image_id"] in part)
    rated = []
    for image in range(1, images + 1):
        scores = [row["score"] for row in rows if row["image_id"] == image]
        above = [score for score in scores if score > 0.5] or [max(scores)]
        rated.append((float(np.mean(above)), image))
    best = sorted(rated, key=lambda item: (-item[0], item[1]))[:4]
    worst = [item for item in sorted(rated) if item not in best][:4]
    assert [item.image_id for item in ratings.best] == [image for _, image in best]
    assert [item.image_id for item in ratings.worst] == [image for _, image in worst]
    assert [item.score for item in ratings.best + ratings.worst] == pytest.approx(
        [score for score, _ in best + worst]
    )
    assert all(item.sure == (item.objects[0]["score"] > 0.5) for item in ratings.best + ratings.worst)
    assert ratings.images == images


def test_files_that_are_there_are_linked(tmp_path: Path) -> None:
    config = load_config(CONFIG)
    folder = tmp_path / "a run #1"
    assert [item.href for item in files_beside(folder, config, 0)] == ["summary.json"]
    (folder / "objects").mkdir(parents=True)
    (folder / "objects.html").write_text("")
    (folder / "data").mkdir()
    (folder / "data/manifest.quarantined.csv").write_text("")
    assert [item.href for item in files_beside(folder, config, 0)] == [
        "objects.html",
        "objects/",
        "summary.json",
    ]
    assert files_beside(folder, config, 1)[2].href == "data/manifest.quarantined.csv"


def test_next_commands_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "CHECKOUT", tmp_path)
    monkeypatch.setattr(commands, "INSTALLED", False)
    monkeypatch.setattr(commands, "sys", SimpleNamespace(executable=str(tmp_path / ".venv/bin/python")))
    steps = next_steps(tmp_path / "results/my run", "look first", named=False)
    assert [step.anchor for step in steps if step.anchor] == ["verdict", "categories", "tau"]
    typed = [step.command for step in steps if step.command]
    assert typed[0] == ".venv/bin/maskdistill objects 'results/my run' --format coco,yolo"
    assert typed[1].endswith("predict --run 'results/my run' OTHER_PHOTOS/ --out predictions")
    monkeypatch.setattr(commands, "sys", SimpleNamespace(executable="/secret/bin/python"))
    steps = next_steps(Path("/elsewhere/x"), "use", named=True)
    assert steps[0].command == "maskdistill objects /elsewhere/x --format coco,yolo"
    assert [step.anchor for step in steps if step.anchor] == ["tau"]


def test_overlays_keep_the_photo_and_show_the_better_object_on_top() -> None:
    photo = np.full((20, 20, 3), 100, dtype=np.uint8)
    better, other = np.zeros((2, 20, 20), dtype=bool)
    better[4:12, 4:12] = True
    other[8:16, 8:16] = True
    tile = montage.overlay_tile(photo, [better, other], [(200, 0, 0), (0, 200, 0)], alpha=0.5)
    assert tuple(tile[6, 6]) == (150, 50, 50) == tuple(tile[9, 9]) and tuple(tile[13, 13]) == (50, 150, 50)
    assert tuple(tile[11, 6]) == (200, 0, 0) and tuple(tile[12, 6]) == (255, 255, 255), (
        "white around the colour"
    )
    assert tuple(tile[18, 2]) == (100, 100, 100)
