"""From images to report on a miniature, twice, and what reruns after which change."""

import csv
import json
from contextlib import closing
from pathlib import Path

from dag_project import MINIATURE, Project, copy_project, make_project, tree
from fork_server import ForkServer

from maskdistill.formats.written import read_objects
from maskdistill.runtime.files import sha256_file
from maskdistill.training.checkpoint import model_metadata

AFTER_HARD_PIXELS = {"segmenter", "refined_labels", "predictions", "evaluate_segmenter", "report"}
AFTER_TAU_IN_SWEEP = AFTER_HARD_PIXELS | {"pseudo_labels", "evaluate_detector"}
AFTER_TAU = AFTER_TAU_IN_SWEEP | {"trust", "objects", "thumbnails", "gallery"}
AFTER_MASKS = AFTER_TAU | {
    "masks", "embeddings", "clusters", "choose_k", "annotations", "evaluate_masks", "detector", "candidates",
    "label_summary", "evaluate_candidates", "consistency",
}  # fmt: skip
ARTEFACTS = ("**/masks/*.json", "**/clusters.*", "**/annotations.*", "**/assignments.h5",
"**/candidates/*.json",
             "**/*.png", "**/evaluation/*.json", "**/model.safetensors", "features/*.h5",
             "**/embeddings/*.h5")  # fmt: skip


def test_run_ends_with_report_and_summary(finished: Project) -> None:
    summary = json.loads((finished.results / "summary.json").read_text())
    assert set(summary["stages"]) == {"masks", "detector", "segmenter", "segmenter_crf"}
    assert [(row["stage"], row["crf_round"]) for row in summary["rounds"]] == [("segmenter", 0)]
    for stage, scores in summary["stages"].items():
        assert 0 <= scores["miou"] <= 100, stage
        assert 0 <= scores["boundary_iou"] <= 100, stage
    assert summary["baselines"]["color_kmeans"]["miou"] > 0
    assert 0 <= summary["baselines"]["lost-100"]["corloc"] <= 100
    assert summary["seconds"]["total"] > 0
    page = (finished.results / "report.html").read_text()
    assert len(page) > 10_000 and '<a href="objects/coco/">coco</a>' in page and 'href="objects.html"' in page
    objects = read_objects(finished.results / "objects/objects.json")
    coco = json.loads((finished.results / "objects/coco/coco.json").read_text())
    assert len(coco["images"]) == objects["pictures"] == 24
    assert all(image["file_name"].endswith(".jpg") for image in coco["images"])
    assert (
        len(coco["annotations"]) == sum(objects["objects"].values()) == objects["folders"]["coco"]["objects"]
    )
    assert 'href="report.html"' in (finished.results / "objects.html").read_text()
    assert (finished.results / "objects_page/objects.json").is_file()


def test_every_rule_left_a_log_and_a_benchmark(finished: Project) -> None:
    logs = {
        path.relative_to(finished.results / "logs").with_suffix("")
        for path in finished.results.rglob("*.log")
    }
    benchmarks = finished.results / "benchmarks"
    timed = {path.relative_to(benchmarks).with_suffix("") for path in benchmarks.rglob("*.tsv")}
    assert logs == timed
    assert len(logs) == 47


def test_nothing_to_do_the_second_time(finished: Project) -> None:
    assert finished.planned() == set()


def test_tau_reruns_pseudo_labels_and_below(editable: Project) -> None:
    editable.configure(pseudo_labels={"tau": 0.5})
    assert editable.planned() == AFTER_TAU


def test_how_a_stage_works_reruns_nothing(editable: Project) -> None:
    """Workers, logging, checkpoints: they change no result. The mini configuration has other values."""
    ways = {"workers": 1, "log_every": 3, "checkpoint_every": 5}
    trained = {name: MINIATURE[name] | ways for name in ("detector", "segmenter", "probe")}
    alone = {name: MINIATURE[name] | {"workers": 1} for name in ("features", "clusters")}
    editable.configure(**trained, **alone)
    assert editable.planned() == {"report"}  # which prints the configuration


def test_hard_pixels_rerun_the_segmenter_and_below(editable: Project) -> None:
    editable.configure(segmenter={"hard_pixels": 0.5})
    assert editable.planned() == AFTER_HARD_PIXELS
    editable.configure(sweep={"hard_pixels": [0.5]})
    assert editable.planned() == AFTER_HARD_PIXELS


def test_a_further_round_keeps_those_before(editable: Project) -> None:
    editable.configure(crf={"rounds": 2})
    text = editable.snakemake("--dry-run")
    assert editable.listed(text) == AFTER_HARD_PIXELS
    assert "CRF round 2" in text and "CRF round 1" not in text and "CRF round 0" not in text
    editable.configure(crf={"rounds": 0})
    assert editable.planned() == {"report"}
    editable.configure(crf={"iters": 3})
    text = editable.snakemake("--dry-run")
    assert "CRF round 0" not in text and editable.listed(text) == AFTER_HARD_PIXELS


def test_a_round_of_self_training_goes_on_from_the_first_detector(editable: Project) -> None:
    """Of the same settings and seed, on what the first found and what that leaves over."""
    editable.configure(detector={"round_score": 0.02})
    folder = editable.results / "topk-0.4/k-3/seed-1234"
    before = {path: path.stat().st_mtime_ns for path in (folder / "detector").iterdir()}
    found = "results/mini/topk-0.4/k-3/seed-1234/round-1/candidates/shard-0000.json"
    text = editable.snakemake(found)
    assert text.count("self_annotations: K = 3, seed 1234/round-1") == 1
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "detector").iterdir()}
    first, second = (
        json.loads(model_metadata(place / "detector/model.safetensors", "detector")["provenance"])
        for place in (folder, folder / "round-1")
    )
    assert second["inputs"].pop("start") == sha256_file(folder / "detector/model.safetensors")
    assert first["inputs"].pop("annotations") != second["inputs"].pop("annotations") and first == second
    learnt = json.loads((folder / "round-1/annotations.json").read_text())
    scores = [one["score"] for one in learnt["annotations"]]
    assert 0.02 <= min(scores) < 1 and {image["id"] for image in learnt["images"]} == set(range(1, 17))
    assert json.loads((editable.folder / found).read_text())["candidates"]


def test_refined_labels_are_of_training_images_and_apart_from_predictions(finished: Project) -> None:
    with open(finished.results / "data/manifest.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    expected = {role: {row["key"] for row in rows if row[role] == "True"} for role in ("train", "eval")}
    assert len(expected["train"]) == 16 and len(expected["eval"]) == 8
    (folder,) = finished.results.glob("topk-0.4/k-3/seed-1234/tau-0.9/hard-*/crf-1")
    for name, role in (("labels", "train"), ("predictions", "eval"), ("predictions_crf", "eval")):
        shards = sorted((folder / name).iterdir())
        keys = [
            file.relative_to(shard).with_suffix("").as_posix()
            for shard in shards
            for file in shard.rglob("*.png")
        ]
        assert len(shards) == 2 and sorted(keys) == sorted(expected[role])
        for shard in shards:
            params = json.loads((shard / "summary.json").read_text())["provenance"]["params"]
            assert params["images"] == role
            assert params.get("crf", {}).get("iters") == (None if name == "predictions" else 2)
    before, after = (
        json.loads(
            model_metadata(folder.parent / name / "segmenter/model.safetensors", "segmenter")["provenance"]
        )
        for name in ("crf-0", "crf-1")
    )
    assert before["inputs"].pop("labels") != after["inputs"].pop("labels")
    assert before == after  # fresh, with the same settings and seed


def test_topk_reruns_masks_and_below(editable: Project) -> None:
    editable.configure(masks={"topk": 0.2, "affinity": {"center": True}})
    assert editable.planned() == AFTER_MASKS


def test_editing_the_mask_module_reruns_masks_and_below(editable: Project) -> None:
    module = editable.folder / "maskdistill/masks/rules/maskdistill.py"
    module.touch()
    assert editable.planned() == set()
    module.write_text(module.read_text() + "\n# edited\n")
    assert editable.planned() == AFTER_MASKS


def test_editing_the_baselines_module_leaves_the_main_masks_alone(editable: Project) -> None:
    module = editable.folder / "maskdistill/masks/rules/lost.py"
    module.write_text(module.read_text() + "\n# edited\n")
    text = editable.snakemake("--dry-run")
    assert editable.listed(text) == {"masks", "embeddings", "clusters", "evaluate_masks", "report"}
    assert "masks: shard 0000, lost-100" in text and "masks: shard 0000, topk-0.4" not in text


def test_old_results_stay_when_tau_changes_and_come_back(editable: Project) -> None:
    before = tree(editable.results, ["**/tau-0.9/**/*.png"])
    editable.configure(pseudo_labels={"tau": 0.5}, crf={"rounds": 0})
    editable.snakemake()
    assert list(editable.results.glob("**/tau-0.5/**/evaluation/segmenter.json"))
    assert tree(editable.results, ["**/tau-0.9/**/*.png"]) == before
    editable.configure()
    assert editable.planned() <= {"report", "objects", "thumbnails", "gallery"}


def test_two_runs_are_byte_identical(finished: Project, tmp_path: Path) -> None:
    """The second with other hashes of Python's strings, and so another order of sets."""
    again = make_project(tmp_path / "again")
    with closing(ForkServer()) as other:
        again.snakemake(server=other)
    first, second = tree(finished.results, ARTEFACTS), tree(again.results, ARTEFACTS)
    assert len(first) >= 50
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_a_sweep_shares_what_lies_above(editable: Project) -> None:
    editable.configure(sweep={"tau": [0.5]})
    text = editable.snakemake("--dry-run", "--printshellcmds")
    assert editable.listed(text) == AFTER_TAU_IN_SWEEP
    command = text.partition("--evaluations")[2].partition("--baselines")[0]
    swept = {Path(path).stem for path in command.split() if "/tau-0.5/" in path}
    assert swept == {"detector", "segmenter", "segmenter_crf"}


def test_label_types_are_branches_of_their_own(editable: Project) -> None:
    """Boxes beside masks: their own folder, the same candidates, and nothing that is there is made again."""
    before = tree(editable.results, ["**/tau-0.9/**/*.png", "**/candidates/*.json"])
    editable.configure(sweep={"label_types": ["bbox"]})
    assert editable.planned() == AFTER_TAU_IN_SWEEP
    editable.configure(sweep={"label_types": ["bbox"]}, crf={"rounds": 0})
    editable.snakemake()
    assert tree(editable.results, ["**/tau-0.9/**/*.png", "**/candidates/*.json"]) == before
    boxes = tree(editable.results, ["**/tau-0.9-bbox/pseudo_labels/**/*.png"])
    masks = tree(editable.results, ["**/tau-0.9/pseudo_labels/**/*.png"])
    assert [name.replace("0.9-bbox", "0.9") for name in boxes] == list(masks)
    assert (
        sum(one != other for one, other in zip(boxes.values(), masks.values(), strict=True)) > len(masks) // 2
    )
    assert list(editable.results.glob("**/tau-0.9-bbox/**/evaluation/segmenter.json"))


def test_grabcut_as_the_main_type_stands_in_the_path(editable: Project) -> None:
    editable.configure(pseudo_labels={"type": "grabcut"})
    target = "results/mini/topk-0.4/k-3/seed-1234/tau-0.9-grabcut/pseudo_labels/shard-0001"
    assert target in editable.snakemake("--dry-run")
    editable.snakemake("--keep-going", target)
    summary = json.loads((editable.folder / target / "summary.json").read_text())
    assert (
        summary["provenance"]["params"]["type"] == "grabcut" and summary["provenance"]["params"]["tau"] == 0.9
    )


def test_the_probe_is_scored_and_changes_nothing_else(editable: Project) -> None:
    kept = ["**/segmenter/model.safetensors", "**/predictions/**/*.png", "**/evaluation/segmenter.json"]
    before = tree(editable.results, kept)
    editable.configure(probe={"enabled": True})
    assert editable.planned() == {
        "ground_truth_train",
        "probe",
        "probe_predictions",
        "evaluate_probe",
        "report",
    }
    editable.snakemake()
    summary = json.loads((editable.results / "summary.json").read_text())
    assert 0 < summary["stages"]["probe"]["miou"] <= 100
    assert 0 < summary["stages"]["probe_crf"]["miou"] <= 100
    page = (editable.results / "report.html").read_text()
    assert "linear probe (trained on labels), round 1" in page
    assert "linear probe (trained on labels) + CRF, round 1" in page
    assert before == {
        name: content for name, content in tree(editable.results, kept).items() if "/probe/" not in name
    }
    assert editable.planned() == set()


def test_ablations_compare_variants_on_one_page(editable: Project) -> None:
    """Rows of the paper's Tables 1 and S1 beside the main run, which is left alone."""
    compared = {
        "seeds": [1234],
        "label_types": ["bbox", "mask"],
        "hard_pixels": [0.2],
        "crf_rounds": 1,
        "examples": 2,
    }
    editable.configure(ablations=compared)
    assert editable.planned() == set()
    editable.snakemake("ablations")
    rows = json.loads((editable.results / "ablations.json").read_text())["variants"]
    assert [row["name"] for row in rows] == [
        "initial masks", "detector, boxes", "detector, masks", "segmenter, hardest 20 % of the pixels",
        "segmenter + CRF", "segmenter, CRF round 1", "segmenter, CRF round 1 + CRF",
    ]  # fmt: skip
    below = "topk-0.4/k-3/seed-1234/tau-0.9/hard-0.2/crf-1/evaluation/segmenter_crf.json"
    assert rows[-1]["mean"]["miou"] == json.loads((editable.results / below).read_text())["miou"]
    page = (editable.results / "ablations.html").read_text()
    assert page.count('src="data:image/jpeg') == 2 * (
        len(rows) + 2
    )  # of two images: photo, rows, ground truth
    assert editable.planned() == set()


def test_the_bench_shares_what_the_run_has(editable: Project) -> None:
    """Of the baseline's masks the detector and the segmenter are missing, of the run nothing."""
    asked = {"rules": ["lost-100"], "stages": ["masks", "detector"], "examples": 2}
    editable.configure(bench=asked)
    assert editable.planned() == set()
    assert editable.planned("bench") == {
        "annotations", "detector", "candidates", "pseudo_labels", "evaluate_detector", "bench",
    }  # fmt: skip
    editable.configure(bench=asked | {"stages": ["masks"]})
    editable.snakemake("bench")
    folder = editable.results / "bench"
    rows = json.loads((folder / "bench.json").read_text())["rows"]
    assert [(row["rule"], row["stage"]) for row in rows] == [("topk-0.4", "masks"), ("lost-100", "masks")]
    below = "lost-100/k-3/seed-1234/evaluation/masks.json"
    assert rows[1]["mean"]["ar_100"] == json.loads((editable.results / below).read_text())["ar_100"]
    assert [line.split(",")[0] for line in (folder / "costs.csv").read_text().splitlines()] == [
        "what", "features", "topk-0.4", "lost-100",
    ]  # fmt: skip
    assert editable.planned("bench") == set()
    weights = "config/weights/vit_micro_patch8.safetensors"
    asked |= {"stages": ["masks"], "backbones": {"other": {"arch": "vit_micro_patch8", "weights": weights}}}
    editable.configure(bench=asked)
    assert editable.planned() == set()
    made = [f"results/mini/{rule}@other/masks/shard-0000.json" for rule in ("topk-0.4", "lost-100")]
    text = editable.snakemake(*made)
    assert text.count(" shard 0000") == 3 and "features@other: shard 0000 of 2" in text
    for path in made:
        own, other = (
            json.loads((editable.folder / name).read_text()) for name in (path.replace("@other", ""), path)
        )
        assert own["provenance"]["params"] == other["provenance"]["params"] and own["masks"] != other["masks"]


def test_the_oracle_goes_beside_the_run(editable: Project) -> None:
    """True categories and true label maps train stages of their own, marked; the run is as it was."""
    editable.configure(oracle={"cases": ["categories", "labels"]})
    assert editable.planned() == set()
    before = tree(editable.results, ARTEFACTS)
    editable.snakemake("oracle")
    content = json.loads((editable.results / "oracle.json").read_text())
    rows = {row["case"]: row["stages"] for row in content["rows"]}
    assert {case: set(stages) for case, stages in rows.items()} == {
        None: {"masks", "detector", "segmenter"},
        "categories": {"masks", "detector", "segmenter"},
        "labels": {"segmenter"},
    }
    below = "topk-0.4/k-3/seed-1234/tau-0.9/hard-0.2/crf-0/evaluation/segmenter.json"
    own = json.loads((editable.results / below).read_text())["miou"]
    assert rows[None]["segmenter"]["mean"]["miou"] == own
    purity = {case: rows[case]["masks"]["mean"]["purity"] for case in (None, "categories")}
    # below 100: a score matches masks by their boxes, the oracle by themselves
    assert purity["categories"] > purity[None]
    models = {
        path.relative_to(editable.results): path for path in editable.results.rglob("*model.safetensors")
    }
    marks = {
        name.parts[1] if name.parts[0] == "oracle" else None: json.loads(
            model_metadata(path, "detector", "segmenter")["provenance"]
        ).get("oracle")
        for name, path in models.items()
    }
    assert marks == {None: None, "categories": "categories", "labels": "labels"}
    after = tree(editable.results, ARTEFACTS)
    assert before == {name: data for name, data in after.items() if "oracle/" not in name}
    assert editable.planned() == set() and editable.planned("oracle") == set()


def test_the_papers_targets_reuse_the_run(editable: Project) -> None:
    """Of a finished run each figure computes what is below its swept value, and no table anything twice."""
    swept = {"seeds": [1234], "overcluster": [1, 2], "topk": [0.4, 0.8], "tau": [0.5, 0.9], "examples": 3}
    editable.configure(paper=swept)
    assert editable.planned() == set()
    below_masks = {"embeddings", "clusters", "evaluate_masks"}
    assert editable.planned("figure3") == {"clusters", "evaluate_masks", "figure3"}
    assert editable.planned("figure4") == below_masks | {"masks", "figure4"}
    assert editable.planned("figure5") == {"pseudo_labels", "evaluate_detector", "figure5"}
    editable.configure(paper=swept | {"overcluster": [1], "topk": [0.4], "label_types": ["mask"]})
    targets = ("tableS1", "figure3", "figure4", "figure5", "qualitative")
    editable.snakemake(*targets)
    folder = editable.results / "paper"
    for target in targets:
        with open(folder / f"{target}.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows and (folder / f"{target}.html").stat().st_size > 5_000, target
        if target != "qualitative":
            assert any(row["ours"] for row in rows) and all(row["protocol"] for row in rows if row["ours"])
    with open(folder / "tableS1.csv", newline="") as stream:
        chain = {row["row"]: row for row in csv.DictReader(stream) if row["group"] == "from masks"}
    below = "topk-0.4/k-3/seed-1234/tau-0.9/hard-0.2/crf-1/evaluation/segmenter_crf.json"
    assert float(chain["+ CRF"]["ours"]) == json.loads((editable.results / below).read_text())["miou"]
    assert (folder / "figure5.svg").is_file() and (folder / "figure5.png").is_file()
    page = (folder / "qualitative.html").read_text()
    assert page.count('src="data:image/jpeg') == 3 * 5  # photo, mask, detector, segmenter, ground truth
    assert editable.planned(*targets) == set() and editable.planned() == set()


def test_names_of_clusters_make_what_shows_them_alone_again(editable: Project) -> None:
    names = editable.folder / "names.yaml"
    names.write_text("clusters: 3\nnames:\n  1: mug\n")
    editable.configure(clusters={"names": "names.yaml"})
    assert editable.planned() == {"objects", "gallery", "report"}
    corrected = editable.results / "objects/coco/coco.json"
    corrected.write_text("by hand")
    editable.snakemake()
    assert json.loads((editable.results / "summary.json").read_text())["clusters"]["names"] == {"1": "mug"}
    assert corrected.read_text() == "by hand", "Snakemake deletes outputs, and the folder is none"
    assert (
        "changed by hand, kept; the run has other objects now"
        in (editable.results / "report.html").read_text()
    )
    assert editable.planned() == set()
    names.write_text("names:\n  3: mug\n")
    assert "3 is no cluster: they are numbered from 0 to 2" in editable.snakemake("--dry-run", check=False)


def test_a_copy_of_the_results_needs_nothing(finished: Project, tmp_path: Path) -> None:
    assert copy_project(finished, tmp_path / "copy").planned() == set()


def test_a_job_works_through_several_shards(tmp_path: Path) -> None:
    """Twenty shards in two jobs a stage: each shard has its file, and nothing is left to do."""
    project = make_project(tmp_path, num_shards=20, shards_per_job=10, baselines={"masks": []})
    target = "results/mini/topk-0.4/k-3/seed-1234/clusters.json"
    project.snakemake("--keep-going", target)
    for kind, folder in (("h5", "features"), ("json", "topk-0.4/masks"), ("h5", "topk-0.4/embeddings")):
        names = sorted(path.name for path in (project.results / folder).iterdir())
        assert names == [f"shard-{shard:04d}.{kind}" for shard in range(20)]
    assert sorted(path.name for path in (project.results / "logs/features").iterdir()) == [
        "000.log",
        "001.log",
    ]
    assert "Nothing to be done" in project.snakemake("--dry-run", target)
    lost = (
        project.results / "topk-0.4/embeddings/shard-0004.h5"
    )  # Snakemake looks at the last shard of a job alone
    before = lost.read_bytes()
    for path in (lost, project.results.parents[1] / target):
        path.unlink()
    option = f"--forcerun {lost.relative_to(project.folder)}"
    said = project.snakemake(target, check=False)
    assert (
        f"shard-0004.h5: no such file; run the stage that makes it first (in a run: the same command with "
        f"{option})" in said
    )
    project.snakemake(target, *option.split())
    assert lost.read_bytes() == before and (project.folder / target).exists()


def test_masks_straight_from_the_pictures_are_the_same(finished: Project, tmp_path: Path) -> None:
    project = make_project(tmp_path, features={"store": False}, baselines={"masks": []})
    names = [f"topk-0.4/masks/shard-{shard}.json" for shard in ("0000", "0001")]
    project.snakemake("--keep-going", *(f"results/mini/{name}" for name in names))
    assert not (project.results / "features").exists()
    for name in names:
        found, expected = (
            json.loads((run.results / name).read_text())["masks"] for run in (project, finished)
        )
        assert found == expected and len(found) > 5
