"""The table of the metrics: what it holds, who reads it, and how one file adds to it
(docs/how-to/add-a-metric.md).
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskdistill.cli.show import table
from maskdistill.config import Config, EvaluationConfig
from maskdistill.evaluation.bootstrap import image_weights
from maskdistill.evaluation.ground_truth import GroundTruth, TruthImage
from maskdistill.evaluation.instances import image_instances
from maskdistill.evaluation.metrics import instances, registry
from maskdistill.evaluation.metrics.registry import Family, Metric, Scores, Setting, View, metrics, summed
from maskdistill.evaluation.scorer import Scorer
from maskdistill.evaluation.stages import ALL, STAGES
from maskdistill.formats import rle
from maskdistill.paper.plan import AP
from maskdistill.report.scores import read_evaluation, score_rows
from maskdistill.report.steps import worse_steps
from maskdistill.report.tables import detection_table, headings, table_row
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json

WEIGHTS = {"weights": "random"}
CONFIG = Config.model_validate(
    {"run": "r", "data": {"kind": "folder", "root": "p"}}
    | dict.fromkeys(("backbone", "detector", "segmenter"), WEIGHTS)
)
DOCS = Path(__file__).parents[1] / "docs"
IMAGES = tuple(TruthImage(n, f"{n}", 4, 5, False, True, True, ()) for n in (1, 2, 3))
TRUTH = GroundTruth(IMAGES, ("background", "apple"))
TARGETS = {number: np.zeros((4, 5), np.uint8) for number in (1, 2, 3)}
TARGETS[1][:2], TARGETS[2][0], TARGETS[3][:] = 1, 1, 255
TARGETS[3][0] = 1
FOUND = {1: TARGETS[1] * 1, 2: np.zeros((4, 5), np.uint8), 3: np.zeros((4, 5), np.uint8)}
FOUND[1][2] = 1  # a row too much of four; in 2 a row too few; in 3 all of the scored pixels


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with the recipe's code block, named by an entry point."""
    code = re.search(r"```python\n(.*?)```", (DOCS / "how-to/add-a-metric.md").read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "my_metrics").mkdir()
    (tmp_path / "my_metrics/size_error.py").write_text(code[1])
    install(tmp_path, "my_metrics.size_error:FAMILY")
    monkeypatch.syspath_prepend(tmp_path)
    registry.forget()
    yield tmp_path
    registry.forget()


def install(folder: Path, value: str) -> None:
    (folder / "my_metrics-1.0.dist-info").mkdir(exist_ok=True)
    (folder / "my_metrics-1.0.dist-info/METADATA").write_text("Name: my-metrics\nVersion: 1.0\n")
    (folder / "my_metrics-1.0.dist-info/entry_points.txt").write_text(
        f"[maskdistill.metrics]\nsize_error = {value}\n"
    )


def evaluate(stage: str, found: dict[int, np.ndarray]) -> dict[str, Any]:
    setting = Setting(STAGES[stage], TRUTH, 1, EvaluationConfig(bootstrap=50), 0)
    scorer = Scorer(setting)
    for matched in (False, True):
        views = {
            image.id: View(image, setting, (), lambda n=image.id: found[n], lambda n=image.id: TARGETS[n],
                           scorer.class_of if matched else None)
            for image in IMAGES
        }  # fmt: skip
        scorer.score({number: scorer.count(view, matched) for number, view in views.items()}, matched)
    return {"stage": stage, **scorer.record()}


def test_the_recipe_adds_a_metric_that_everything_shows(installed: Path) -> None:
    result = evaluate("segmenter", FOUND)
    assert result["size_error"] == pytest.approx(100 * (1 / 4 + 1 / 4 + 1) / 3)
    low, high = result["intervals"]["size_error"]
    assert 25 <= low < result["size_error"] < high <= 100
    assert (result["ap"], result["purity"], result["counts"]["semantic"]) == (None, None, 3)
    perfect = TARGETS | {3: TARGETS[3] % 255}
    for name, scores in (("segmenter", result), ("detector", evaluate("detector", perfect))):
        write_json(installed / f"{name}.json", scores | {"seed": 0})
    evaluations = [read_evaluation(installed / f"{name}.json") for name in ("segmenter", "detector")]
    rows = score_rows(evaluations, CONFIG)
    assert [row.stage for row in rows] == ["detector", "segmenter"]
    assert [row.mean["size_error"] for row in rows] == pytest.approx([0, 50])
    place = headings().index("size error")
    assert list(metrics("table"))[place] == "size_error"
    cell = table_row(rows[1], CONFIG)["scores"][place]
    assert (cell["text"], cell["interval"]) == ("50.0", f"[{low:.1f}, {high:.1f}]")
    shown = table({"baselines": {}, "rounds": [], "stages": {row.stage: row.mean for row in rows}})
    header = shown[0].split()
    column = header.index("size_error") - len(header)
    assert [line.split()[column] for line in shown[1:]] == ["0.0", "50.0"]
    assert not any("size error" in said for said in worse_steps(rows, {})) and "size_error" not in metrics(
        "card"
    )


def test_the_recipes_test_passes(installed: Path) -> None:
    """Its own, of the module that is installed here under another name."""
    _, test = re.findall(r"```python\n(.*?)```", (DOCS / "how-to/add-a-metric.md").read_text(), re.DOTALL)
    space: dict[str, Any] = {}
    exec(test.replace("maskdistill.evaluation.metrics.size_error", "my_metrics.size_error"), space)
    space["test_two_pixels_of_twenty_too_many"]()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "my_metrics.nothing:FAMILY",
            "size_error = my_metrics.nothing:FAMILY does not load: No module named",
        ),
        ("my_metrics.size_error:METRIC", "size_error:METRIC is Metric, not a Family; see docs/how-to"),
        (
            "maskdistill.evaluation.metrics.semantic:FAMILY",
            "'miou' is defined in maskdistill.evaluation.metrics.semantic",
        ),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(installed: Path, value: str, message: str) -> None:
    install(installed, value)
    with pytest.raises(MaskDistillError, match=re.escape(message)):
        registry.families()


def test_average_recall_of_an_image_that_is_counted_by_hand() -> None:
    """Three objects, of which the best detection finds one, and the second another."""
    codes = []
    for column in (0, 5, 10):
        mask = np.zeros((4, 15), np.bool_)
        mask[:, column : column + 3] = True
        codes.append(rle.encode(mask))
    truth: Any = [
        {"bbox": rle.bbox(code), "area": 12, "category_id": number, "iscrowd": 0, "segmentation": code}
        for number, code in enumerate(codes, 1)
    ]
    found: Any = [
        {"bbox": rle.bbox(code), "score": score, "category_id": 1, "segmentation": code}
        for code, score in zip(codes[:2], (0.9, 0.8), strict=True)
    ]
    setting = Setting(STAGES["detector"], TRUTH, 1, EvaluationConfig(bootstrap=0, protocols=[]), 0)
    values = instances.scores({1: image_instances(1, found, truth)}, setting).values
    assert [values[f"ar_{most}"] for most in (1, 10, 100)] == pytest.approx([100 / 3, 200 / 3, 200 / 3])


def test_the_table_of_objects_whatever_their_category(tmp_path: Path) -> None:
    scored: dict[str, dict[str, float]] = {"masks": {"ap": 5.0, "ar_100": 12.34}, "segmenter": {"miou": 3.0}}
    for stage, scores in scored.items():
        write_json(tmp_path / f"{stage}.json", {"stage": stage, "seed": 1234, **scores})
    rows = score_rows(
        [read_evaluation(tmp_path / f"{stage}.json") for stage in ("masks", "segmenter")], CONFIG
    )
    table = detection_table(rows)
    assert table["columns"] == ["AP50", "AP", "AP75", "AR1", "AR10", "AR100"]
    assert [row["label"] for row in table["rows"]] == ["masks"]
    assert table["rows"][0]["scores"] == ["—", "5.0", "—", "—", "—", "12.3"]


def test_columns_stand_in_the_order_of_their_places() -> None:
    """Of these; others may stand between them."""
    names = ["miou", "boundary_iou", "pixel_accuracy", "ap50", "ap", "ap75", "corloc", "purity", "nmi", "ari"]
    titles = ["mIoU", "boundary IoU", "pixel acc.", "AP50", "AP", "CorLoc", "purity"]

    def among(known: list[str], found: Iterable[str]) -> list[str]:
        return [name for name in found if name in known]

    assert among(names, metrics()) == names and among(titles, headings()) == titles
    assert among(names, metrics("card")) == ["miou", "pixel_accuracy", "ap50", "corloc"]
    assert among(names, metrics("steps")) == ["miou", "corloc"]
    assert [among(names, metrics("oracle", stage)) for stage in ("masks", "detector", "segmenter")] == [
        ["miou", "ap50", "ap75", "purity"], ["miou", "ap50", "ap75"], ["miou"]
    ]  # fmt: skip
    assert all(metrics()[name].title == column for column, name in AP.items())
    assert registry.images_behind("miou") == "semantic" and registry.images_behind("purity") == ""
    assert [stage.name for stage in ALL if stage.learns_labels] == ["probe", "probe_crf"]


def test_the_page_of_metrics_names_each_once() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "reference/metrics.md").read_text(), re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == list(metrics())


def test_sums_make_scores_and_intervals() -> None:
    """Two metrics of three images: the mean of 1, 2, 6, and a share that is not defined."""
    both = (Metric("mean", "mean", unit="px", digits=2), Metric("none", "none"))
    score = summed(both, lambda sums: [sums[0] / sums[1], np.nan])
    counts = {4: (1, 1), 5: (2, 1), 9: (6, 1)}
    setting = Setting(STAGES["masks"], TRUTH, 1, EvaluationConfig(bootstrap=400), 7)
    found = score(counts, setting)
    assert found.values == {"mean": 3.0, "none": None} and list(found.intervals) == ["mean"]
    drawn = [np.repeat([1, 2, 6], row).mean() for row in image_weights(3, 400, 7)]
    assert found.intervals["mean"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    assert score({}, setting) == Scores({"mean": None, "none": None})
    assert both[0].text(3.14159) == "3.14" and both[1].text(None) == "-"
    lower = Metric("error", "error", higher_is_better=False)
    assert lower.worse(2.1, 2.0) and not lower.worse(2.04, 2.0) and both[1].worse(1.9, 2.0)


def test_a_family_that_no_evaluation_could_score_is_refused() -> None:
    metric = (Metric("a", "a"),)
    for wrong, message in [
        ({"metrics": ()}, "at least one"),
        ({"metrics": metric, "stages": ("mask",)}, "a: no stage is called mask"),
        (
            {"metrics": metric, "stages": ("otsu",), "matched": True},
            "a: otsu: baselines are walked only once",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            Family(
                **{"note": "", "of_image": lambda _: None, "scores": summed(metric, lambda _: [0])} | wrong
            )
