"""Input that is not as it should be, where no other test has it; and the table of all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hostile_photos import USABLE, write_unusable, write_usable
from hostile_table import PAGE, render
from PIL import Image

from maskdistill.cli import main
from maskdistill.config import DataConfig, load_config
from maskdistill.config.limits import refuse_more_clusters
from maskdistill.data.images import load_rgb
from maskdistill.data.listing import count_images, iter_images, parse_data
from maskdistill.data.manifest import quarantine_path, read_manifest
from maskdistill.data.scenes import generate_scene
from maskdistill.formats.label_png import read_label_png, write_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.hdf5 import open_hdf5, write_hdf5
from maskdistill.runtime.seal import add_seal

MICRO = ["--arch=vit_micro_patch8", "--weights=random", "--device=cpu", "--threads=1"]


@pytest.mark.slow
def test_the_table_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python tests/hostile_table.py"


def manifest(photos: Path, output: Path, *options: str) -> int:
    params = json.dumps({"kind": "folder", "root": str(photos)})
    return main(["manifest", f"--params={params}", f"--output={output}", "--num-shards=1", *options])


def scene(number: int = 1) -> Image.Image:
    return Image.fromarray(generate_scene(0, number, 64, 0.5).image)


# ---------------------------------------------------------------- photographs


@pytest.mark.hostile("photo: wrong extension (a PNG called .jpg)", outcome="used: the content decides")
def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    scene().save(tmp_path / "a.jpg", "PNG")
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / "a.jpg")), np.asarray(scene()))


@pytest.mark.hostile("photo: animated (GIF, WebP, APNG)", outcome="used: the first frame")
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    first = Image.new("RGB", (40, 30), (250, 10, 10))
    second = Image.new("RGB", (40, 30), (10, 10, 250))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second], lossless=True)
    with Image.open(tmp_path / f"a{suffix}") as stored:
        assert stored.n_frames == 2  # type: ignore[attr-defined]
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / f"a{suffix}")), np.asarray(first))


@pytest.mark.hostile("photo: 1 x 1 pixels", outcome="quarantined: smaller than 16 pixels a side")
@pytest.mark.hostile("photo: name that is not UTF-8", outcome="quarantined, listed by its escaped name")
@pytest.mark.hostile("photo: gone between listing and decoding", outcome="quarantined: cannot be read")
def test_unusable_photographs_are_listed_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = write_unusable(tmp_path / "photos")
    scene().save(tmp_path / "photos/good.png")
    output = tmp_path / "manifest.csv"
    assert manifest(tmp_path / "photos", output, "--max-quarantined=0.9", f"--log={tmp_path}/log") == 0
    table = read_manifest(output)
    assert table.loc[table["status"] == "ok", "key"].tolist() == ["good"]
    listed = pd.read_csv(quarantine_path(output))
    assert len(listed) == len(expected)
    bad = table[table["status"] != "ok"]
    assert listed.to_numpy().tolist() == bad[["image_id", "path", "reason"]].to_numpy().tolist()
    for key, reason in expected.items():
        assert table.loc[table["key"] == key, "reason"].item().startswith(reason)
    assert "Logging error" not in capsys.readouterr().err and "caf\\xe9.jpg" in (tmp_path / "log").read_text()


@pytest.mark.hostile(
    "photo: more unusable ones than max_quarantined (default 5 %)",
    outcome="the run stops before anything is computed",
)
def test_too_many_unusable_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_unusable(tmp_path / "photos")
    scene().save(tmp_path / "photos/good.png")
    assert manifest(tmp_path / "photos", tmp_path / "manifest.csv") == 1
    error = capsys.readouterr().err
    assert "6 of 7 images cannot be used, more than the 1 tolerated (max_quarantined: 0.05)" in error
    assert "caf\\xe9.jpg: the file name is not UTF-8" in error
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


@pytest.mark.hostile("photo: names with spaces, quotes, <, &, $, {}", outcome="used, under that name")
@pytest.mark.hostile("photo: one stem in several folders", outcome="used: the folder is part of the name")
def test_odd_names_and_twins_stay_apart(tmp_path: Path) -> None:
    count = write_usable(tmp_path / 'it\'s "odd"')
    assert manifest(tmp_path / 'it\'s "odd"', tmp_path / "manifest.csv") == 0
    table = read_manifest(tmp_path / "manifest.csv")
    assert (table["status"] == "ok").all() and len(table) == count
    assert set(table["key"]) == {*USABLE, "a/CMYK", "b/CMYK"}


@pytest.mark.hostile("photo: name of up to 251 bytes without its extension", outcome="used, under that name")
@pytest.mark.parametrize("stem", ["猫" * 77, "x" * 251])
def test_long_names_are_used(tmp_path: Path, stem: str) -> None:
    """The name of a label map may be as long as a name can be; its temporary name is no longer."""
    (tmp_path / "photos").mkdir()
    scene().save(tmp_path / f"photos/{stem}.jpg")
    assert manifest(tmp_path / "photos", tmp_path / "manifest.csv") == 0
    assert read_manifest(tmp_path / "manifest.csv")["key"].tolist() == [stem]
    labels = np.ones((4, 5), np.uint8)
    path = tmp_path / f"labels/{stem}.png"
    write_label_png(path, labels)
    np.testing.assert_array_equal(read_label_png(path), labels)
    code = "import os, sys; from maskdistill.runtime.files import atomic_path\n"
    code += "with atomic_path(sys.argv[1]): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert len(list(path.parent.iterdir())) == 2
    write_label_png(path, labels)
    assert list(path.parent.iterdir()) == [path], "what a killed process left is found by its short name too"


@pytest.mark.hostile(
    "photo: name of more than 251 bytes that keeps its extension (in a list, or twins)",
    outcome="quarantined: a label map NAME.png could not be written",
)
def test_too_long_names_are_quarantined(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("x" * 251 + ".jpg", "x" * 251 + ".png", "good.jpg"):
        scene().save(tmp_path / "photos" / name)
    assert manifest(tmp_path / "photos", tmp_path / "manifest.csv", "--max-quarantined=0.9") == 0
    table = read_manifest(tmp_path / "manifest.csv")
    assert table["status"].tolist() == ["ok", "quarantined", "quarantined"]
    assert table["reason"][1].startswith("the name is too long")


@pytest.mark.hostile(
    "photo: a list that leads out of its folder (`..`)", outcome="refused; the message names the entry"
)
@pytest.mark.parametrize("name", ["../../secret", "a/b", "/etc/x"])
def test_lists_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    """Ids become names of files that are written."""
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/t.txt").write_text(f"000001\n{name}\n")
    section = {"kind": "voc", "root": str(tmp_path), "train_list": "Main/t", "eval_list": "Main/t"}
    with pytest.raises(MaskDistillError, match=rf"data\.train_list: .*t\.txt names '{name}'"):
        list(iter_images(parse_data(json.dumps(section))))


@pytest.mark.hostile(
    "photo: gone after the manifest was made",
    outcome="the stage that wants it stops and names it; the same command again makes the manifest anew, "
    "without it",
)
def test_a_photograph_that_vanishes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for number in (1, 2, 3):
        scene(number).save(tmp_path / f"photos/{number}.png")
    listing, output = tmp_path / "manifest.csv", tmp_path / "f.h5"
    assert manifest(tmp_path / "photos", listing) == 0
    (tmp_path / "photos/2.png").unlink()
    command = ["features", f"--manifest={listing}", "--shard=0", *MICRO, f"--output={output}"]
    assert main([*command, '--params={"short_side": 32, "workers": 0}']) == 1
    assert "2.png: cannot be read (No such file or directory); restore it" in capsys.readouterr().err
    assert not output.exists()
    assert manifest(tmp_path / "photos", listing) == 0
    assert main([*command, '--params={"short_side": 32, "workers": 0}']) == 0


@pytest.mark.hostile(
    "photo: all identical", outcome="used: one cluster holds all, a warning counts the empty ones"
)
@pytest.mark.hostile("photo: only one", outcome="used, with `num_clusters: 1`")
@pytest.mark.parametrize(("count", "num_clusters"), [(6, 3), (1, 1)])
def test_photographs_that_cannot_be_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, num_clusters: int
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(count):
        scene().save(tmp_path / f"photos/{number}.png")
    (listing, features, masks, embeddings, clusters, assignments, annotations, index) = (
        tmp_path / name
        for name in ("m.csv", "f.h5", "shard-0000.json", "shard-0000.h5", "c.json", "a.h5", "o.json", "i.h5")
    )
    assert manifest(tmp_path / "photos", listing) == 0
    common = [f"--manifest={listing}", "--shard=0", *MICRO]
    small = '--params={"short_side": 32, "workers": 0}'
    assert main(["features", *common, small, f"--output={features}"]) == 0
    assert main(["masks", f"--features={features}", f"--output={masks}"]) == 0
    assert main(["embeddings", *common, f"--masks={masks}", small, f"--output={embeddings}"]) == 0
    capsys.readouterr()
    kmeans = [
        f"--embeddings={embeddings}",
        f"--manifest={listing}",
        f"--num-clusters={num_clusters}",
        "--seed=1",
    ]
    assert (
        main(["clusters", *kmeans, "--device=cpu", f"--assignments={assignments}", f"--output={clusters}"])
        == 0
    )
    sizes = json.loads(clusters.read_text())["sizes"]
    assert sorted(sizes) == [0] * (num_clusters - 1) + [count]
    said = capsys.readouterr().err
    assert ("2 of 3 clusters are empty; lower clusters.num_clusters" in said) == (num_clusters == 3)
    given = [f"--masks={masks}", f"--manifest={listing}", f"--assignments={assignments}", f"--index={index}"]
    assert main(["annotations", *given, f"--num-clusters={num_clusters}", f"--output={annotations}"]) == 0
    assert len(json.loads(annotations.read_text())["annotations"]) == count
    small = f'--params={{"num_clusters": {num_clusters}}}'
    assert main(["choose_k", *kmeans[:2], "--seed=1", small, f"--output={tmp_path / 'k.csv'}"]) == 0
    assert "nan" not in (tmp_path / "k.csv").read_text()


# ---------------------------------------------------------------- ground truth


def coco(folder: Path, text: str) -> list[str]:
    """Two photographs and a COCO file; the manifest is made, and returned are the options for its ground
    truth.
    """
    (folder / "photos").mkdir()
    for number in (1, 2):
        scene(number).save(folder / f"photos/{number}.png")
    (folder / "truth.json").write_text(text)
    section = {"kind": "coco", "images": str(folder / "photos"), "annotations": str(folder / "truth.json")}
    params = f"--params={json.dumps(section)}"
    assert main(["manifest", params, f"--output={folder}/manifest.csv"]) == 0
    return [params, f"--manifest={folder}/manifest.csv", f"--output={folder}/truth"]


@pytest.mark.hostile("ground truth: COCO file of 0 bytes", outcome="the stage stops and names the file")
def test_an_empty_ground_truth_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ground_truth", *coco(tmp_path, "")]) == 1
    assert "truth.json: not valid JSON" in capsys.readouterr().err and not (tmp_path / "truth").exists()


@pytest.mark.hostile(
    "ground truth: no object in any image", outcome="read: all background; scores that need objects are null"
)
def test_ground_truth_without_an_object(tmp_path: Path) -> None:
    sizes = [scene(number).size for number in (1, 2)]
    images = [
        {"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in enumerate(sizes, 1)
    ]
    categories = [{"id": 1, "name": "thing"}]
    content = {"images": images, "annotations": [], "categories": categories}
    assert main(["ground_truth", *coco(tmp_path, json.dumps(content))]) == 0
    for number in (1, 2):
        assert not read_label_png(tmp_path / f"truth/semantic/{number}.png").any()
        write_label_png(tmp_path / f"labels/{number}.png", np.zeros(sizes[number - 1][::-1], np.uint8))
    (tmp_path / "labels/summary.json").write_text("{}")
    scoring = [f"--manifest={tmp_path}/manifest.csv", f"--ground-truth={tmp_path}/truth/instances.json"]
    scoring += ["--num-clusters=2", f"--label-dirs={tmp_path}/labels", f"--output={tmp_path}/scores.json"]
    assert main(["evaluation", "--stage=segmenter", *scoring, '--params={"bootstrap": 5}']) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["ap50"] is scores["corloc"] is None
    assert (scores["iou"], scores["pixel_accuracy"]) == ({"background": 100.0, "thing": 0.0}, 100.0)


# ---------------------------------------------------------------- configuration


MANY = {"kind": "scenes", "num_train": 400}


def config(**changes: object) -> dict[str, object]:
    weights = {"weights": "random"}
    least = {"run": "r", "data": {"kind": "scenes", "num_train": 12, "num_eval": 90}}
    return least | {"backbone": weights, "detector": weights, "segmenter": weights} | changes


@pytest.mark.hostile(
    "config: more clusters than training images (K > images), or than labels (254)",
    outcome="refused before anything is computed; the message prints the corrected line",
)
@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"clusters": {"num_clusters": 13}},
            r"clusters\.num_clusters: 13 clusters .* 12 .*`num_clusters: 12`",
        ),
        (
            {"clusters": {"num_clusters": 5, "overcluster": 3}},
            r"5 x overcluster 3 clusters .*`num_clusters: 4`",
        ),
        (
            {"clusters": {"num_clusters": 3}, "sweep": {"num_clusters": [4, 12, 20]}},
            r"sweep\.num_clusters: 20 clusters .*`num_clusters: \[4, 12\]`",
        ),
        (
            {"clusters": {"num_clusters": 2, "overcluster": 13}},
            r"2 x overcluster 13 clusters .*`num_clusters: 1, overcluster: 12`",
        ),
        (
            {"data": MANY, "clusters": {"num_clusters": 300}},
            r"300 clusters are too many: label PNGs hold 1 to 254; write `num_clusters: 254`$",
        ),
        (
            {
                "data": MANY,
                "clusters": {"num_clusters": 4, "overcluster": 10},
                "sweep": {"num_clusters": [25, 26]},
            },
            r"sweep\.num_clusters: 26 x overcluster 10 clusters are too many.*`num_clusters: \[25\]`$",
        ),
        ({"data": MANY, "clusters": {"num_clusters": 254}}, None),
        ({"clusters": {"num_clusters": 12}}, None),
        ({"clusters": {"num_clusters": 24}, "masks": {"max_masks": 2}}, None),
    ],
)
def test_more_clusters_than_training_images(sections: dict[str, object], message: str | None) -> None:
    checked = load_config(config(**sections))
    if message is None:
        refuse_more_clusters(checked, count_fitted(checked.data))
        return
    with pytest.raises(MaskDistillError, match=message):
        refuse_more_clusters(checked, count_fitted(checked.data))


def test_figure3_needs_masks_for_its_multiples_and_no_labels() -> None:
    """The default multiples of 80 are above 254, and label maps are not made of them."""
    few = load_config(config(clusters={"num_clusters": 4}))
    refuse_more_clusters(few, 12)
    with pytest.raises(
        MaskDistillError, match=r"paper\.overcluster: 8 x num_clusters 4 .*`overcluster: \[1, 2, 3\]`"
    ):
        refuse_more_clusters(few, 12, figure3=True)
    refuse_more_clusters(load_config(config(clusters={"num_clusters": 80})), 640, figure3=True)


def count_fitted(data: DataConfig) -> int:
    found = data.count_fitted()
    return count_images(data) if found is None else found


def test_which_pictures_are_fitted(tmp_path: Path) -> None:
    for name, ids in {"Main/t": "a\nb\n", "Main/v": "c\n"}.items():
        (tmp_path / f"ImageSets/{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"ImageSets/{name}.txt").write_text(ids)
    (tmp_path / "JPEGImages").mkdir()
    section = {"kind": "voc", "root": str(tmp_path), "train_list": "Main/t", "eval_list": "Main/v"}
    assert count_fitted(parse_data(json.dumps(section))) == 2
    scene().save(tmp_path / "JPEGImages/x.png")
    assert count_fitted(parse_data(json.dumps({"kind": "folder", "root": str(tmp_path)}))) == 1


# ---------------------------------------------------------------- HDF5


@pytest.mark.hostile(
    "hdf5: being written by another process", outcome="the stage stops and says to wait for that one"
)
def test_a_file_that_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "shard.h5"
    code = f"import h5py; f = h5py.File({str(path)!r}, 'w'); f['x'] = [1]; print('open', flush=True); input()"
    environment = os.environ | {"HDF5_USE_FILE_LOCKING": "TRUE"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as writer:
        assert writer.stdout and writer.stdout.readline() == "open\n"
        with (
            pytest.raises(MaskDistillError, match=r"shard\.h5: another process is writing it; wait"),
            open_hdf5(path),
        ):
            pass
        writer.communicate("\n")
    add_seal(path)
    with open_hdf5(path) as file:
        assert file["x"][:].tolist() == [1]


@pytest.mark.hostile("hdf5: opened for reading by two at once", outcome="both read it")
def test_two_readers(tmp_path: Path) -> None:
    path = tmp_path / "shard.h5"
    with write_hdf5(path) as file:
        file["x"] = [1, 2]
    code = f"import h5py; print(h5py.File({str(path)!r})['x'][:].tolist())"
    with open_hdf5(path) as file:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[1, 2]\n" and file["x"][:].tolist() == [1, 2]
