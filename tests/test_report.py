"""The report of a small synthetic run: numbers against means computed here, pictures decoded, text
escaped.
"""

import base64
import html
import io
import json
import re
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from synthetic_run import HEIGHT, HOSTILE, IOU, MATCHING, MIOU, SEEDS, VERDICT, K, Synthetic, provenance

from maskdistill.cli import main
from maskdistill.cli.show import table as show_table
from maskdistill.clusters.assignments import COLUMNS as COLUMNS_OF_ROWS
from maskdistill.clusters.assignments import Rows
from maskdistill.config import PseudoLabelsConfig, load_config
from maskdistill.formats import rle
from maskdistill.pseudo_labels.summary import LabelSummary
from maskdistill.report import collect, figures, masks, montage, page, scores, tables
from maskdistill.report.labels import label_facts, sum_pseudo_labels
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.seal import add_seal


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and each table row's texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data

    def row(self, label: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == label)

    def images(self) -> dict[str, np.ndarray]:
        """alt text -> decoded picture."""
        found = {}
        for tag, attributes in self.elements:
            if tag == "img":
                head, _, body = str(attributes["src"]).partition(",")
                assert head == "data:image/jpeg;base64"
                with Image.open(io.BytesIO(base64.b64decode(body, validate=True))) as image:
                    pixels = np.asarray(image)
                assert pixels.shape == (int(str(attributes["height"])), int(str(attributes["width"])), 3)
                assert attributes["alt"]
                found[str(attributes["alt"])] = pixels
        return found


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str, dict[str, Any]]:
    text, summary = Synthetic(tmp_path_factory.mktemp("scored")).build()
    return Page(text), text, summary


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str, dict[str, Any]]:
    text, summary = Synthetic(tmp_path_factory.mktemp("plain")).build(scored=False)
    return Page(text), text, summary


@pytest.mark.slow
def test_score_table_holds_means_and_deviations(scored: tuple[Page, str, dict[str, Any]]) -> None:
    for stage, values in MIOU.items():
        row = scored[0].row(stage)
        assert row[1] == f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
        assert row[2] == f"{statistics.mean(values) - 10:.1f} ± {statistics.stdev(values):.1f}"
        assert row[3] == f"{statistics.mean(values) + 20:.1f} ± {statistics.stdev(values):.1f}"
        assert row[5] == ("—" if stage == "segmenter" else "10.5 ± 0.7")
        protocol = [
            "dino_vits16.pth",
            "off",
            "640",
            "0.4",
            "3",
            *(["—", "—"] if stage == "masks" else ["0", "0.75"]),
        ]
        assert row[8:] == [*protocol, "0.2" if stage == "segmenter" else "—", "11, 12"]
    assert scored[0].row("color_kmeans")[1:4] == ["12.3", "—", "45.0"]
    assert scored[0].row("otsu")[1] == "23.4"
    assert "/secret/place" not in scored[1].split("<summary>Configuration")[0]


def test_summary(scored: tuple[Page, str, dict[str, Any]]) -> None:
    summary = scored[2]
    assert summary["run"] == "tiny"
    assert summary["images"] == {"train": 6, "eval": 6, "quarantined": 1}
    for stage, values in MIOU.items():
        found = summary["stages"][stage]
        assert found["miou"] == pytest.approx(statistics.mean(values))
        assert found["miou_std"] == pytest.approx(statistics.stdev(values))
        assert found["iou"]["disc"] == pytest.approx(statistics.mean(IOU[stage]))
        assert [(run["seed"], run["miou"]) for run in found["per_seed"]] == list(
            zip(SEEDS, values, strict=True)
        )
        assert ("ap" in found) == (stage != "segmenter")
    assert summary["baselines"]["color_kmeans"] == {
        "miou": 12.34,
        "pixel_accuracy": 45.0,
        "num_clusters": 3,
        "seed": 11,
    }
    assert summary["trust"] == VERDICT and summary["worse_steps"] == []
    assert summary["seconds"] == {"total": 131.5, "features": 11.5, "masks": 120.0}
    assert summary["provenance"]["versions"] == {"maskdistill": "0.1.0", "torch": "9.8.7"}
    assert summary["provenance"]["weights"] == {"masks: weights": "ab" * 32}
    assert summary["provenance"]["config"]["clusters"]["num_clusters"] == K


def test_the_share_left_out_as_unsure_is_a_fact_where_the_run_leaves_any_out() -> None:
    def shard(images: int, unsure: float) -> LabelSummary:
        counts: Any = dict.fromkeys(("kept", "fallback", "empty", "mean_coverage"), 0)
        return {**counts, "images": images, "mean_unsure": unsure}

    found = sum_pseudo_labels([shard(1, 0.4), shard(3, 0.04)])
    for unsure, told in ((0.2, True), (None, False)):
        config = SimpleNamespace(pseudo_labels=PseudoLabelsConfig(unsure=unsure))
        run: Any = SimpleNamespace(pseudo_labels=found, config=config)
        assert (("13 %", "of the pixels left out as unsure") in label_facts(run)) == told


def test_pseudo_labels_at_every_threshold(scored: tuple[Page, str, dict[str, Any]]) -> None:
    view, _, summary = scored
    found = summary["pseudo_labels"]
    assert (found["tau"], found["type"], found["images"], found["kept"], found["fallback"]) == (
        0.75,
        "mask",
        6,
        8,
        2,
    )
    assert found["mean_coverage"] == pytest.approx(0.375)
    assert found["mean_unsure"] == pytest.approx(0.15)
    assert found["unsure"] is None and "left out as unsure" not in view.text
    assert [row["tau"] for row in found["by_tau"]] == [0.0, 0.5, 0.9]
    assert found["by_tau"][1]["objects_kept"] == 9
    assert "τ explorer" in view.text and "At every threshold" in view.text
    assert "38 %" in view.text and "mean coverage of the pseudo-labels" in view.text


def test_page_loads_nothing_and_every_picture_decodes(scored: tuple[Page, str, dict[str, Any]]) -> None:
    view, text, _ = scored
    assert not re.search(r"https?://", text)
    for tag, attributes in view.elements:
        assert tag != "script" or "src" not in attributes
        assert tag not in ("iframe", "object", "embed", "video", "b style")
        for name in ("src", "href"):
            place = str(attributes.get(name) or "#")
            beside = tag == "a" and not place.startswith(("/", "..")) and ":" not in place
            assert place.startswith(("#", "data:")) or beside, (tag, attributes)
    assert "url(" not in re.sub(r"url\(#", "", text)
    pictures = view.images()
    # two strips of three for the verdict, six overlays, four examples with six tiles, and in the explorer,
    # four pairs, two near and one far object of cluster 01 and the one of cluster 02: alt texts may coincide
    count = sum(tag == "img" for tag, _ in view.elements)
    assert count == 2 * 3 + 6 + 4 * 6 - 1 + 4 + 4 * 2 + 2 + 1 + 1
    large = {alt for alt, pixels in pictures.items() if max(pixels.shape) > 288}
    assert len(large) == 6 and all(alt.startswith("Objects of ") for alt in large)
    ids = [attributes["id"] for _, attributes in view.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    hrefs = [str(attributes["href"]) for tag, attributes in view.elements if tag == "a"]
    anchors = {href[1:] for href in hrefs if href.startswith("#")}
    assert {"summary.json", "topk-0.4/k-3/seed-11/tau-0.75/hard-0.2/crf-0/predictions/"} <= set(hrefs)
    assert (
        {
            "verdict",
            "overlays",
            "files",
            "next",
            "categories",
            "result",
            "data",
            "pretrain",
            "masks",
            "clusters",
            "training",
            "candidates",
            "images",
        }
        <= anchors
        <= set(ids)
    )


def test_the_answer_comes_first_and_stages_in_the_order_of_the_method(
    scored: tuple[Page, str, dict[str, Any]],
) -> None:
    order = [str(attributes["id"]) for tag, attributes in scored[0].elements if tag == "section"]
    assert order == [
        "verdict", "overlays", "files", "next", "categories", "result", "data", "pretrain", "masks",
        "clusters",
        "training", "candidates", "tau", "images", "classes", "provenance",
    ]  # fmt: skip


def test_the_verdict_gives_its_reasons(scored: tuple[Page, str, dict[str, Any]]) -> None:
    view = scored[0]
    assert "Verdict: do not use" in view.text and 'before any training, came to "look first"' in view.text
    assert VERDICT["reasons"][0] in view.text
    rows = {row[0]: row[1:] for row in view.rows if len(row) == 5}
    mirrored, edges, otsu, unknown = (
        next(cells for title, cells in rows.items() if title.startswith(start))
        for start in (
            "masks agree with those of the mirrored",
            "edges along",
            "masks agree with Otsu",
            "the detector's",
        )
    )
    assert mirrored[0] == "0.75" and edges[0] == "0.90" and edges[3] == "do not use"
    assert otsu == ["0.30", "—", "—", "—"] and unknown[0] == unknown[3] == "—"
    assert "sub/photo-3: agreement 0.30" in view.text


def test_names_are_escaped(scored: tuple[Page, str, dict[str, Any]]) -> None:
    view, text, _ = scored
    assert text.count("<script") == 3  # data of the thresholds, data of the names, and the one that runs
    assert "<img src=x>" not in text
    assert "<b>square</b>" not in text
    assert html.escape(HOSTILE) in text
    assert HOSTILE in view.text


def test_quarantined_files_show_their_reason(scored: tuple[Page, str, dict[str, Any]]) -> None:
    assert scored[0].row("photos/<img src=x>.jpg")[1] == "truncated <or> damaged (OSError)"


def test_dropped_ground_truth_shows_its_reason(scored: tuple[Page, str, dict[str, Any]]) -> None:
    view, _, summary = scored
    assert view.row("annotation")[1:] == ["t.json: annotations[3] (id <i>)", "its box is empty"]
    assert "Dropped from the ground truth: 1 annotation; the reasons are listed under Data." in view.text
    assert "2 of 3 images with ground truth have masks, which AP needs." in view.text
    assert summary["dropped"] == {"annotation": 1}


@pytest.mark.slow
def test_equal_colours_mean_agreement(
    scored: tuple[Page, str, dict[str, Any]], plain: tuple[Page, str, dict[str, Any]]
) -> None:
    """Predicted clusters 1 and 2 are the classes 2 and 1: recoloured they equal the ground truth, else they
    do not.
    """
    key = "sub/photo-3"
    pictures = scored[0].images()
    truth = pictures[f"Ground truth of {key}: disc, <b>square</b>"]
    assert np.array_equal(pictures[f"Prediction of {key}, 2 clusters"], truth)
    assert np.array_equal(pictures[f"Pseudo-label of {key}, 2 clusters"], truth)
    assert not np.array_equal(plain[0].images()[f"Prediction of {key}, 2 clusters"], truth)


def test_checks_and_candidates_are_counted(scored: tuple[Page, str, dict[str, Any]]) -> None:
    view, text, _ = scored
    for sentence in (
        "1 of 7 files could not be used",
        "Files beside the images that look like some were left out because they cannot be decoded: 2 .dng.",
        "1 of 6 images have no mask.",
        "1 of 3 clusters are empty.",
        "One cluster holds 80 % of the masks.",
        "1 of 6 pseudo-labels are empty",
    ):
        assert sentence in view.text
    assert "1 of 3 above τ" in view.text  # 0.75 itself is not above tau
    assert "no mask" in text
    assert "cluster 01" in view.text


def test_nearest_and_farthest_objects_of_a_cluster(scored: tuple[Page, str, dict[str, Any]]) -> None:
    """Image n lies at 1/n from the centroid of cluster 01, if n is below 5."""
    shown = [alt for alt in scored[0].images() if alt.startswith("Object of")]
    assert [alt.rpartition(" ")[2] for alt in shown] == ["0.25", "0.333", "1", "0.2"]
    assert (
        scored[0].text.count("farthest") == 2
    )  # of the lead and of cluster 01; cluster 02 has but one object


@pytest.mark.slow
def test_numbers_of_clusters_are_compared(scored: tuple[Page, str, dict[str, Any]], tmp_path: Path) -> None:
    assert "Other numbers of clusters" in scored[0].text and "Highest by pairs at K = 6." in scored[0].text
    assert "On 5 masks." in scored[0].text and "K = 3</text>" in scored[1]
    run = Synthetic(tmp_path)
    pd.DataFrame(columns=["num_clusters", "masks", "inertia"]).to_csv(tmp_path / "choose_k.csv", index=False)
    add_seal(tmp_path / "choose_k.csv")
    assert "Other numbers of clusters" not in run.build(scored=False)[0]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_extremes_agree_with_sorting_everything(size: int) -> None:
    rng = np.random.default_rng(0)
    n, k = 300, 6
    table = {
        "image_id": rng.permutation(n), "mask_index": np.arange(n) % 50, "shard": np.arange(n) // 50,
        "cluster": rng.choice([0, 0, 0, 1, 3, 4], n), "distance": rng.integers(0, 20, n) / 8,
    }  # fmt: skip
    table["cluster"][:4] = [5, 5, 5, 4]
    rows = Rows(**{name: table[name].astype(kind) for name, kind in COLUMNS_OF_ROWS.items()})
    found = masks.extremes((rows.take(np.arange(i, min(i + size, n))) for i in range(0, n, size)), k, 4, 2)
    for cluster in range(k):
        members = sorted(
            (float(rows.distance[i]), int(rows.image_id[i]), int(rows.shard[i]), int(rows.mask_index[i]))
            for i in range(n)
            if rows.cluster[i] == cluster
        )
        places = [masks.Member(shard, index, distance) for distance, _, shard, index in members]
        assert found[cluster].nearest == places[:4]
        assert found[cluster].farthest == places[max(4, len(places) - 2) :]
    assert (found[2].nearest, len(found[5].nearest), found[5].farthest) == ([], 3, [])
    assert masks.extremes([], 2, 1, 1) == [masks.Extremes([], [])] * 2


def test_without_ground_truth_nothing_is_scored(plain: tuple[Page, str, dict[str, Any]]) -> None:
    view, _, summary = plain
    assert summary["stages"] == {} and summary["baselines"] == {} and summary["sweep"] == []
    assert "No ground truth was given" in view.text
    assert "mIoU" not in view.text and "otsu" not in view.text
    assert not any(attributes.get("id") == "classes" for _, attributes in view.elements)
    assert sum(alt.startswith("Prediction of") for alt in view.images()) == 4


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    run = Synthetic(tmp_path)
    assert run.build() == run.build()


@pytest.mark.slow
def test_label_types_are_kept_apart(tmp_path: Path) -> None:
    run = Synthetic(tmp_path)
    other = run.seed / "tau-0.75-bbox" / "evaluation" / "segmenter.json"
    write_json(other, {"stage": "segmenter", "miou": 33.0, "provenance": {"params": {"seed": 11}}})
    run.evaluations.append(str(other))
    _, summary = run.build()
    assert summary["stages"]["segmenter"]["miou"] == pytest.approx(statistics.mean(MIOU["segmenter"]))
    (swept,) = summary["sweep"]
    assert (swept["miou"], swept["protocol"]["tau"]) == (33.0, "0.75, bbox")


@pytest.mark.slow
def test_swept_settings_are_kept_apart(tmp_path: Path) -> None:
    run = Synthetic(tmp_path)
    other = run.seed / "tau-0.9" / "hard-0.2" / "crf-0" / "evaluation" / "segmenter.json"
    write_json(other, {"stage": "segmenter", "miou": 77.0, "intervals": {"miou": [70.0, 80.0]}})
    run.evaluations.append(str(other))
    text, summary = run.build()
    assert summary["stages"]["segmenter"]["miou"] == pytest.approx(statistics.mean(MIOU["segmenter"]))
    (swept,) = summary["sweep"]
    assert (swept["stage"], swept["miou"], swept["miou_std"]) == ("segmenter", 77.0, None)
    assert swept["protocol"]["tau"] == "0.9"
    assert "77.0[70.0, 80.0]" in [row[1] for row in Page(text).rows if row and row[0] == "segmenter"]


@pytest.mark.slow
def test_rounds_stand_in_the_chain_in_their_order(tmp_path: Path) -> None:
    """Two rounds: the last one is the run's segmenter, the earlier ones stand before it, another share
    apart.
    """
    run = Synthetic(tmp_path, crf={"rounds": 2}, seeds=[11])
    run.evaluations = [path for path in run.evaluations if "seed-11" in path]
    for hard, number, stage, miou in (
        ("0.2", 1, "segmenter", 52.5), ("0.2", 1, "segmenter_crf", 53.5), ("0.2", 2, "segmenter", 54.5),
        ("0.2", 2, "segmenter_crf", 55.5), ("1", 2, "segmenter", 57.5),
    ):  # fmt: skip
        path = run.tau / f"hard-{hard}" / f"crf-{number}" / "evaluation" / f"{stage}.json"
        write_json(path, {"stage": stage, "miou": miou, "matching": MATCHING})
        run.evaluations.append(str(path))
    for shard in ("shard-0000", "shard-0001"):
        refined = shutil.copytree(run.round / "predictions" / shard, run.round / "predictions_crf" / shard)
        write_json(refined / "summary.json", {"provenance": provenance("predictions")})
    folders = [str(run.round / "predictions_crf" / shard) for shard in ("shard-0000", "shard-0001")]
    assert main([*run.arguments(), "--sharpened", *folders]) == 0
    text, summary = (
        (tmp_path / "report.html").read_text(),
        json.loads((tmp_path / "summary.json").read_text()),
    )
    assert (
        summary["stages"]["segmenter"]["miou"] == 54.5 and summary["stages"]["segmenter_crf"]["miou"] == 55.5
    )
    assert [(row["stage"], row["crf_round"], row["miou"]) for row in summary["rounds"]] == [
        ("segmenter", 0, MIOU["segmenter"][0]), ("segmenter", 1, 52.5), ("segmenter_crf", 1, 53.5)
    ]  # fmt: skip
    assert [row["miou"] for row in summary["sweep"]] == [57.5]
    view = Page(text)
    labels = [row[0] for row in view.rows if row]
    chain = [
        "masks", "detector", "segmenter", "segmenter, round 1", "segmenter + CRF, round 1", "segmenter, "
        "round 2",
        "segmenter + CRF, round 2", "color_kmeans",
    ]  # fmt: skip
    start = labels.index("masks")
    assert labels[start : start + len(chain)] == chain
    assert sum(alt.startswith("Prediction + CRF of") for alt in view.images()) == 4
    assert "crf" in [str(attributes["id"]) for tag, attributes in view.elements if tag == "section"]
    shown = [line.split("  ")[0] for line in show_table(summary)]
    stages = [
        "masks",
        "detector",
        "segmenter",
        "segmenter, round 1",
        "segmenter_crf, round 1",
        "segmenter, round 2",
    ]
    assert shown[-7:] == [*stages, "segmenter_crf, round 2"]


@pytest.mark.slow
def test_random_weights_are_called_out(tmp_path: Path) -> None:
    text, _ = Synthetic(tmp_path, backbone={"weights": "random"}).build(scored=False)
    assert "The backbone is untrained" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.evaluations.append(run.evaluations[0]), "given twice for seed 11"),
        (lambda run: run.config.pop("backbone"), "backbone: missing"),
        (
            lambda run: write_json(run.root / "topk-0.4/masks/shard-0001.json", {"masks": []}),
            "no mask 0 in shard 1",
        ),
        (lambda run: (run.root / "detector.csv").unlink(), "detector.csv: no such file"),
        (
            lambda run: (run.root / "benchmarks" / "bad.tsv").write_text("nothing\n"),
            "bad.tsv: not a Snakemake",
        ),
        (lambda run: write_json(run.evaluations[0], {"miou": 1}), "no 'stage' in it"),
    ],
)
def test_wrong_input_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    run = Synthetic(tmp_path)
    change(run)
    assert main(run.arguments()) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_evaluation_settings_come_from_file_then_path_then_provenance(tmp_path: Path) -> None:
    path = tmp_path / "topk-0.3" / "k-8" / "seed-4" / "crf-2" / "x.json"
    write_json(
        path, {"stage": "masks", "seed": 9, "provenance": {"params": {"seed": 1, "topk": 0.1, "tau": 0.6}}}
    )
    found = scores.read_evaluation(path)
    assert (found.seed, found.topk, found.num_clusters, found.tau) == (9, 0.3, 8, 0.6)
    assert (found.hard_pixels, found.crf_round) == (None, 2)


@pytest.mark.slow
def test_coco_truth_without_semantic_maps(tmp_path: Path) -> None:
    """Objects with masks are painted, boxes drawn; the tile of an image without either says so."""
    run = Synthetic(tmp_path)
    for file in (tmp_path / "truth" / "semantic").rglob("*.png"):
        file.unlink()
    truth = json.loads((tmp_path / "truth" / "instances.json").read_text())
    code = rle.encode(run.scenes[1][1] == 1)
    truth["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": rle.bbox(code), "area": 9, "segmentation": code},
        {"id": 2, "image_id": 3, "category_id": 2, "bbox": [40, 14, 16, 20], "area": 320},
    ]
    write_json(tmp_path / "truth" / "instances.json", truth)
    view = Page(run.build()[0])
    pictures = view.images()
    disc, square = (np.array(color) for color in montage.category_colors(2))
    painted = pictures[f"Ground truth of {HOSTILE}: disc"].astype(int)
    scale = painted.shape[0] / HEIGHT
    center = painted[int(23 * scale), int(18 * scale)]
    assert np.abs(center - (0.68 * disc + 0.32 * 110)).max() < 25
    boxed = pictures["Ground truth of sub/photo-3: <b>square</b>"].astype(int)
    assert np.abs(boxed[int(24 * scale), int(40 * scale) + 1] - square).max() < 40
    assert "no ground truth" in view.text


def test_category_colours_have_even_hues() -> None:
    """Back from sRGB to OKLab with the forward matrices published by Ottosson (2020)."""
    colors = np.array(montage.category_colors(24)) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]
    )  # fmt: skip
    to_lab = np.array(
        [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
         [0.0259040371, 0.7827717662, -0.8086757660]]
    )  # fmt: skip
    lab = np.cbrt(linear @ to_lms.T) @ to_lab.T
    hue = np.rad2deg(np.arctan2(lab[:, 2], lab[:, 1]))
    off = (hue - (28.0 + 137.50776405 * np.arange(24)) + 180) % 360 - 180
    inside = ((colors > 0) & (colors < 1)).all(axis=1)  # clipping to the gamut bends the other hues
    assert inside.sum() >= 8 and np.abs(off[inside]).max() < 1 and np.abs(off).max() < 15
    distance = np.linalg.norm(lab[:12, None] - lab[None, :12], axis=2) + np.eye(12)
    assert distance.min() > 0.06


def test_matched_colours() -> None:
    classes = {1: (1, 1, 1), 2: (2, 2, 2)}
    assert montage.matched_colors(3, {0: 0, 1: 2, 2: -1, 3: 0}, classes) == {
        1: (2, 2, 2), 2: montage.NEUTRAL, 3: montage.NEUTRAL
    }  # fmt: skip
    assert montage.matched_colors(1, {0: 1, 1: 2}, classes)[0] == (1, 1, 1)
    assert len(set(montage.matched_colors(3, {}, classes).values())) == 3


def test_label_tile_colours_labels_and_leaves_the_rest_grey() -> None:
    photo = np.full((12, 12, 3), (250, 10, 10), dtype=np.uint8)
    labels = np.zeros((12, 12), dtype=np.uint8)
    labels[:, 6:] = 1
    labels[9:, :3] = montage.IGNORE
    tile = montage.label_tile(photo, labels, {1: (0, 0, 200)}).astype(int)
    grey = 0.5 * (0.299 * 250 + 0.587 * 10 + 0.114 * 10) + 0.5 * 128
    assert np.abs(tile[3, 2] - grey).max() <= 1
    assert np.abs(tile[3, 9] - (0.32 * grey + 0.68 * np.array([0, 0, 200]))).max() <= 1
    assert (tile[3, 5] == 255).all()
    assert (tile[9:, :3] == 235).all(axis=2).sum() == 3


def test_object_tile_centres_the_object_and_pads_with_grey() -> None:
    photo = np.full((40, 40, 3), 250, dtype=np.uint8)
    mask = np.zeros((40, 40), dtype=bool)
    mask[0:20, 0:10] = True
    tile = montage.object_tile(photo, mask, (255, 0, 0), 50, margin=0.0)
    assert tile.shape == (50, 50, 3)
    assert (tile[25, 25] == 250).all()  # the object's centre
    assert np.abs(tile[25, 2].astype(int) - 128).max() <= 1  # beyond the left border
    assert montage.object_tile(photo, np.zeros((40, 40), dtype=bool), (1, 2, 3), 30).shape == (30, 30, 3)


def test_candidate_tile_fills_confident_masks_only() -> None:
    photo = np.full((80, 80, 3), 100, dtype=np.uint8)
    mask = np.zeros((80, 80), dtype=bool)
    mask[20:60, 20:60] = True
    box, color = [20.0, 20.0, 40.0, 40.0], (200, 0, 0)
    sure, unsure = (
        montage.candidate_tile(photo, [box], [mask], [0.5], [color], [flag]) for flag in (True, False)
    )
    assert tuple(sure[40, 40]) == (150, 50, 50) and tuple(unsure[40, 40]) == (100, 100, 100)
    assert tuple(sure[59, 40]) == tuple(unsure[59, 40]) == color
    assert tuple(sure[57, 40]) == color and tuple(unsure[57, 40]) != color


def test_thin_keeps_group_means() -> None:
    values = np.arange(10.0)
    assert figures.thin(values, 4).tolist() == [1.0, 4.0, 7.0, 9.0]
    assert figures.thin(values, 10) is values
    assert figures.thin(np.zeros(0), 3).size == 0


def test_curves_group_parts_and_skip_what_is_not_finite() -> None:
    frame = pd.DataFrame({"step": [1, 2, 3], "lr": 0.1, "loss": [1.0, np.nan, 3.0], "coverage": 0.2})
    frame = frame.assign(loss_a=1.0, loss_b=2.0, coverage_centered=0.3)
    plots = figures.curves("x", frame)
    assert [title for title, _ in plots] == [
        "loss",
        "parts of the loss",
        "mean coverage of the masks",
        "learning rate",
    ]
    assert ">a</text>" in plots[1][1] and ">b</text>" in plots[1][1]
    assert "nan" not in plots[0][1].lower()


def test_figures_escape_names_and_follow_the_page_colours() -> None:
    svg = figures.class_bars("c", ["$x_1$ <i>"], {"masks": [50.0], "segmenter": [float("nan")]})
    assert "<i>" not in svg and "$x_1$ &lt;i&gt;" in svg
    assert "var(--masks)" in svg and "var(--muted)" in svg
    assert not re.search(r"#[01][0-9a-f]0[0-9a-f]{3}\b", svg)
    assert figures.histogram("h", {"a": []}, "px").startswith("<svg")


def test_metrics_table_keeps_finite_numeric_columns(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("step,loss,note,bad\n1,inf,x,nan\n2,0.5,y,nan\n")
    add_seal(tmp_path / "m.csv")
    frame = collect.read_metrics(tmp_path / "m.csv")
    assert list(frame.columns) == ["step", "loss"] and frame["loss"].isna().tolist() == [True, False]
    (tmp_path / "e.csv").write_text("\n")
    add_seal(tmp_path / "e.csv")
    assert collect.read_metrics(tmp_path / "e.csv").empty


@pytest.mark.parametrize(
    ("count", "total", "expected"), [(3, 9, [0, 4, 8]), (5, 2, [0, 1]), (4, 0, []), (1, 5, [0]), (0, 5, [])]
)
def test_pick_evenly(count: int, total: int, expected: list[int]) -> None:
    assert masks.pick_evenly(count, total) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.24, "8.2 s"), (200.4, "3 min 20 s"), (7500, "2 h 05 min"), (3599.7, "1 h 00 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert page.duration(seconds) == text


def test_disagreeing_versions_are_all_listed() -> None:
    records = [
        {"stage": s, "libraries": {"torch": v}, "inputs": {}} for s, v in (("a", "2"), ("b", "1"), ("a", "2"))
    ]
    chain, versions, weights = collect.merge_provenance(records)
    assert [record["stage"] for record in chain] == ["a", "b"]
    assert versions == {"torch": "1, 2"} and weights == {}


def test_one_seed_has_no_deviation_but_an_interval() -> None:
    config = load_config(
        {
            "run": "r",
            "data": {"kind": "scenes"},
            "backbone": {"weights": "pretrain"},
            "detector": {"weights": "random"},
            "segmenter": {"weights": "random"},
        }
    )
    one = scores.Evaluation("masks", 1234, None, None, None, {"miou": 40.04}, {}, {}, {"miou": (38.0, 42.0)})
    (row,) = scores.score_rows([one], config)
    assert tables.score_text(row, "miou") == "40.0" and tables.interval_text(row, "miou") == "[38.0, 42.0]"
    assert tables.score_text(row, "ap") == tables.NONE
    assert tables.protocol(row, config)["weights"].startswith("own images: dino, 2000 steps")
    with pytest.raises(MaskDistillError, match="given twice"):
        scores.score_rows([one, one], config)
