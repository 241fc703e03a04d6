"""What export writes does without MaskDistill and gives predict's masks: models, script, checks of them,
card.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import chromium
from finished_run import VERDICT
from hostile_photos import USABLE
from miniature import detector_config, scenes
from PIL import Image
from web_page import choose, downloaded, missing_tools, open_page, seen_on_page

from maskdistill.backbones.students import build_student
from maskdistill.cli import export, main
from maskdistill.config import FolderData
from maskdistill.data.images import load_rgb
from maskdistill.detector.grids import paste_masks
from maskdistill.detector.inference import detect
from maskdistill.detector.model import build_detector
from maskdistill.detector.trained import load_detector
from maskdistill.detector.types import Found
from maskdistill.formats import rle
from maskdistill.formats.label_png import color_map, read_label_png
from maskdistill.product import segment
from maskdistill.product.export_agreement import Agreement, Seen, compare
from maskdistill.product.kinds.onnx import look_by_script
from maskdistill.product.kinds.registry import KINDS, parse_kinds
from maskdistill.product.onnx_detector import PixelsToObjects, write_network
from maskdistill.product.trained_run import find_models
from maskdistill.product.web import runtime as web_runtime
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.segmenter import inference
from maskdistill.segmenter.trained import load_segmenter

ACCESS = Path(__file__).with_name("accessibility.js").read_text()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds, checked on pictures of three shapes, one of them EXIF-rotated."""
    for name in export.LIBRARIES:
        pytest.importorskip(name, reason="needs the extra [export]: make export")
    home = tmp_path_factory.mktemp("exported")
    run, photos = home / "run", home / "photos"
    photos.mkdir()
    for number, scene in enumerate(scenes(3)):
        Image.fromarray(scene.image).save(photos / f"{number}.png")
    USABLE["EXIF-rotated"](Image.fromarray(scenes(1)[0].image), photos / "turned")
    run.mkdir()
    for part in trained.iterdir():
        (run / part.name).symlink_to(part)
    data = FolderData(kind="folder", root=str(photos)).model_dump_json()
    assert main(["manifest", f"--params={data}", "--num-shards=1", f"--output={run}/data/manifest.csv"]) == 0
    page = [] if missing_tools() else ["--web"]
    assert main(["export", "--run", str(run), "--out", str(home / "out"), "--kinds=int8,pt2", *page]) == 0
    return home / "out"


@pytest.mark.slow
def test_the_models_see_what_predict_sees(exported: Path) -> None:
    """Batches of one and of three pictures, of two shapes, against the functions that predict calls."""
    import onnxruntime

    found = find_models(
        None, str(exported / "detector.safetensors"), str(exported / "segmenter.safetensors"), None
    )
    assert found.trust == VERDICT, "the exported files know it without their run"
    detector = load_detector(found.detector, found.test_settings, CPU)
    segmenter, config, _, _ = load_segmenter(found.segmenter, CPU)
    sessions = [
        onnxruntime.InferenceSession(str(exported / name), providers=["CPUExecutionProvider"])
        for name in ("segmenter.onnx", "detector.onnx")
    ]
    stored = sessions[0].get_modelmeta().custom_metadata_map
    assert json.loads(stored["trust"]) == VERDICT and len(json.loads(stored["classes"])) == 4
    assert str(Path(export.__file__).parents[2]).encode() not in (exported / "segmenter.onnx").read_bytes()
    rng = np.random.default_rng(0)
    for count, height, width in ((1, 60, 90), (3, 150, 64)):
        coarse = rng.integers(0, 256, (count, height // 10, width // 10, 3), dtype=np.uint8)
        pictures = np.stack([np.asarray(Image.fromarray(one).resize((width, height))) for one in coarse])
        labels, logits = sessions[0].run(["labels", "logits"], {"picture": pictures})
        expected = inference.logits_of(segmenter, list(pictures), config, CPU).numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-3 * np.abs(expected).max())
        assert (labels == inference.segment(segmenter, list(pictures), config, CPU)).mean() > 0.999
        given = {"picture": pictures, "least_score": np.array(0.02, np.float32)}
        boxes, categories, scores, _, places = sessions[1].run(None, given)
        for place, picture in enumerate(pictures):
            objects = detect(detector.model, torch.tensor(picture).permute(2, 0, 1), CPU)
            assert objects and len(objects) <= (places == place).sum()
            for one in objects:
                x, y, w, h = one["bbox"]
                near = (
                    (places == place)
                    & (categories == one["category_id"])
                    & (np.abs(scores - one["score"]) < 1e-3)
                )
                assert np.abs(boxes[near] - (x, y, x + w, y + h)).max(axis=1).min() < 0.1
        empty = sessions[1].run(None, given | {"least_score": np.array(1.0, np.float32)})
        assert [len(one) for one in empty] == [0] * 5


@pytest.mark.slow
def test_a_detector_on_a_transformer_takes_every_size(tmp_path: Path) -> None:
    """Among them the one whose grid is the positional table's own; positions are noise, so that they show."""
    for name in export.LIBRARIES:
        pytest.importorskip(name, reason="needs the extra [export]: make export")
    import onnxruntime

    torch.manual_seed(0)
    config = detector_config(arch="vit_micro_patch8", freeze_at=0, head_channels=8)
    network: Any = build_student(config.arch)
    torch.nn.init.normal_(network.pos_embed)
    model = build_detector(config, 3, network).eval()
    write_network(model, config, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    for height, width in ((64, 64), (64, 93), (96, 70)):
        pixels = 255 * torch.rand(1, 3, height, width)
        with torch.no_grad():
            expected = PixelsToObjects(model)(pixels, torch.tensor(0.0))
        found = session.run(None, {"pixels": pixels.numpy(), "least_score": np.zeros((), np.float32)})
        assert len(found[0]) == config.max_dets
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-4)


@pytest.mark.slow
def test_what_is_exported_is_checked_and_described(exported: Path) -> None:
    check = json.loads((exported / "check.json").read_text())
    assert check["compared_on"] == "pictures of the run" and set(check["agreement"]) == set(KINDS)
    for name, found in check["agreement"].items():
        assert found["pictures"] == 4 and (found["objects"] is None) == (name == "pt2")
        assert found["labels"] >= (0.9 if name == "int8" else 0.999)
        assert name == "int8" or found["equal"] == (found["objects"] or 0)
    assert check["agreement"]["onnx"]["objects"] > 3 and check["agreement"]["onnx"]["mask_iou"] > 0.999
    settings = json.loads((exported / "segment.json").read_text())
    assert settings["onnx"] == {"segmenter": "segmenter.onnx", "detector": "detector.onnx"}
    assert (settings["min_score"], settings["least_score"]) == (0.25, 0.01)
    assert {name for name in check["files"] if not name.startswith("web/")} == {
        "segment.py", "segment.json", "segmenter.pt2", *settings["onnx"].values(), *settings["int8"].values(),
        "segmenter.safetensors", "detector.safetensors",
    }  # fmt: skip
    assert (exported / "segment.py").read_bytes() == Path(str(segment.__file__)).read_bytes()
    card = (exported / "README.md").read_text()
    assert "Compared on: pictures of the run" in card and "of the run `small`" in card and "### pt2" in card


@pytest.mark.slow
def test_the_page_sees_what_the_script_sees(exported: Path, tmp_path: Path) -> None:
    """In Chromium, from a file: pictures that are plain, EXIF-rotated, with a palette and see-through."""
    if missing := missing_tools():
        pytest.skip(missing)
    picture = Image.fromarray(scenes(1)[0].image)
    for number, kind in enumerate(("palette", "EXIF-rotated", "RGBA")):
        USABLE[kind](picture, tmp_path / str(number))
    files = sorted(tmp_path.iterdir())
    found = []
    with chromium(tmp_path / "profile") as browser:
        open_page(browser, exported / "web/index.html")
        for file in files:
            assert choose(browser, file).startswith(f"{file.name}: label map in")
            found.append(seen_on_page(browser)[0])
        image = downloaded(browser)
        np.testing.assert_array_equal(np.asarray(image), found[-1].labels)
        assert image.getpalette() == color_map().ravel().tolist()
        show = "document.querySelector('[value=objects]').click(), part('score').value = 0.3"
        browser.value(f"{show}, show()")
        table = browser.value("part('objects').querySelectorAll('tbody tr').length")
        assert table == sum(one["score"] >= 0.3 for one in found[-1].objects or ()) > 0
        assert browser.value(ACCESS) == [] and browser.complaints == []
        (tmp_path / "notes.png").write_bytes(b"no picture")
        assert choose(browser, tmp_path / "notes.png").startswith("notes.png: this browser cannot decode it")
        assert {address.partition(":")[0] for address in browser.requests} == {"file", "blob"}
    agreement = compare([one for one in look_by_script(exported, files) if one], found)
    assert agreement.holds and agreement.labels >= 0.999 and (agreement.mask_iou or 0) > 0.999
    card = (exported / "README.md").read_text()
    assert "### web" in card and "| `web/runtime.js` |" in card


@pytest.mark.hostile(
    "files: no network, for the page of export --web", outcome="refused, which files to put where is said"
)
def test_a_page_without_a_network_names_its_files(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if any(find_spec(name) is None for name in export.LIBRARIES):
        pytest.skip("needs the extra [export]: make export")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(web_runtime, "ADDRESS", "http://127.0.0.1:9")
    assert main(["export", "--run", str(trained), "--out", str(tmp_path / "out"), "--web"]) == 1
    said = capsys.readouterr().err
    folder = tmp_path / f"maskdistill/onnxruntime-web-{web_runtime.VERSION}"
    assert f"put {', '.join(web_runtime.FILES)} of the npm package" in said and f"into {folder}" in said
    assert not (tmp_path / "out").exists()


def test_the_script_opens_pictures_as_predict_does(tmp_path: Path) -> None:
    picture = Image.fromarray(scenes(1)[0].image)
    for number, draw in enumerate(USABLE.values()):
        (tmp_path / str(number)).mkdir()
        draw(picture, tmp_path / str(number) / "a")
    values = np.asarray(picture).astype(np.uint16)[..., 0]
    Image.fromarray(values * 16).save(tmp_path / "twelve.png")
    Image.fromarray(values * 16).save(tmp_path / "stated.tif", tiffinfo={281: (16383,)})
    faint = picture.convert("RGBA")
    faint.putalpha(100)
    faint.save(tmp_path / "faint.png")
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == len(USABLE) + 3
    for path in files:
        np.testing.assert_array_equal(
            segment.open_picture(path), np.asarray(load_rgb(path)), err_msg=str(path)
        )


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (None, "cannot be decoded"),
        (np.zeros((4, 400), np.uint8), "50 times"),
        (np.zeros((4, 4), np.float32), "white"),
    ],
)
def test_the_script_refuses_what_predict_refuses(tmp_path: Path, array: Any, said: str) -> None:
    path = tmp_path / "a.tif"
    if array is None:
        path.write_bytes(b"no picture")
    else:
        Image.fromarray(array).save(path)
    with pytest.raises(segment.UnusablePictureError, match=rf"a\.tif: .*{said}"):
        segment.open_picture(path)
    with pytest.raises(MaskDistillError):
        load_rgb(path)


def test_the_script_pastes_and_writes_as_predict_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for size in ((40, 60), (1, 1), (33, 7)):
        low = rng.random((20, 2)) * size[::-1] * 0.9
        high = low + rng.random((20, 2)) * (np.array(size[::-1]) - low)
        boxes = np.concatenate([low, high], axis=1).astype(np.float32)
        boxes[0] = 0
        grids = rng.random((20, 5, 5)).astype(np.float32)
        expected = paste_masks(torch.tensor(grids), torch.tensor(boxes), size).numpy()
        for grid, box, mask in zip(grids, boxes, expected, strict=True):
            found = segment.paste(grid, box, size)
            assert (found != mask).sum() <= 1, "but for a probability of 0.5"
            assert segment.run_lengths(mask) == rle.encode(mask)
    labels = rng.integers(0, 4, (9, 12)).astype(np.uint8)
    segment.save_labels(tmp_path / "below/a.png", labels)
    np.testing.assert_array_equal(read_label_png(tmp_path / "below/a.png", made=False), labels)
    with Image.open(tmp_path / "below/a.png") as image:
        assert image.getpalette() == color_map().ravel().tolist()


def test_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/1.jpg", "b/1.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert segment._listed([tmp_path / "b"]) == {"1.png": tmp_path / "b/1.png"}
    several = [tmp_path / "a/1.png", tmp_path / "b"]
    for given, said in (
        ([tmp_path / "a"], "but for their endings"), (several, "one name"),
        ([tmp_path / "b", tmp_path / "c.png"], r"c\.png: no such file or folder; correct the path"),
    ):  # fmt: skip
        with pytest.raises(SystemExit, match=said):
            segment._listed(given)


def seen(value: int, x: float, score: float = 0.5) -> Seen:
    """A picture of a label, with one object."""
    labels = np.full((10, 10), value, np.uint8)
    mask = np.zeros((10, 10), bool)
    mask[:, int(x) : int(x) + 4] = True
    found: Found = {"category_id": 1, "score": score, "bbox": [x, 0, 4, 10], "segmentation": rle.encode(mask)}
    return Seen(labels, [found])


def test_agreement_counts_pixels_and_objects() -> None:
    same = compare([seen(1, 2)], [seen(1, 2.9)])
    assert same == Agreement(1, 1.0, 1.0, 1.0, 1, 1, 1, 1.0) and same.holds
    moved = compare([seen(1, 2), seen(1, 2)], [seen(1, 3.1), seen(0, 2)])
    assert moved == Agreement(2, 0.5, 0.0, 0.5, 2, 1, 2, 1.0) and not moved.holds
    assert compare([seen(0, 0)], [seen(0, 6, 0.9)]) == Agreement(1, 1.0, 1.0, 1.0, 1, 0, 0, None)
    plain = compare([seen(2, 0)], [Seen(np.full((10, 10), 2, np.uint8), None)])
    assert plain.holds and plain.sentence().endswith("label maps only")


@pytest.mark.hostile(
    "config: a kind of export that does not exist", outcome="refused, what there is is listed"
)
def test_kinds_are_named() -> None:
    assert [kind.name for kind in parse_kinds("pt2")] == ["onnx", "pt2"]
    with pytest.raises(MaskDistillError, match="--kinds onxx: unknown; there are onnx, int8, pt2"):
        parse_kinds("onxx,pt2")


def test_an_export_that_is_too_far_apart_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_predicted", lambda networks, picture: seen(1, 2))
    networks: Any = None
    for labels, said in ((0, "too far apart; nothing was written"), (None, "can read none of 1 pictures")):
        look = [None if labels is None else seen(labels, 2)]
        kind = export.ExportKind("onnx", lambda *_: {}, lambda *_, found=look: found, "")
        with pytest.raises(MaskDistillError, match=said):
            export._check([kind], networks, [tmp_path], tmp_path)
    lossy = export.ExportKind("int8", lambda *_: {}, lambda *_: [seen(0, 2)], "", exact=False)
    (checked,) = export._check([lossy], networks, [tmp_path], tmp_path)
    assert checked.agreement.labels == 0


def test_the_script_names_a_kind_that_was_not_exported(tmp_path: Path) -> None:
    (tmp_path / "segment.json").write_text('{"classes": ["background"], "onnx": {}}')
    with pytest.raises(SystemExit, match="no models of kind int8; export them by --kinds int8"):
        segment.Models(tmp_path, "int8")
