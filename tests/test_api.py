"""The public Python API: names that load late, its documented examples, and equality with what the commands
do.
"""

import doctest
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import python_api_page
import timm
import torch
from finished_run import PLACE, K, write_run
from PIL import Image
from pycocotools.coco import COCO

import maskdistill
from maskdistill.backbones import vit
from maskdistill.backbones.registry import find_backbone
from maskdistill.backbones.timm_names import load_timm
from maskdistill.backbones.weights import save_weights
from maskdistill.cli import main
from maskdistill.config import MasksConfig
from maskdistill.data.scenes import generate_scene
from maskdistill.features.extraction import extract, resize
from maskdistill.formats.label_png import read_label_png
from maskdistill.masks.rules.maskdistill import distil
from maskdistill.masks.upsample import upsample
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json, write_json
from maskdistill.workflow.commands import CHECKOUT

SCORES = {
    "baselines": {"otsu": {"miou": 23.4, "ap": None}},
    "stages": {
        "segmenter": {"miou": 61.0, "miou_std": None, "per_seed": [], "crf_round": 1},
        "masks": {"miou": 40.0},
    },
    "rounds": [{"stage": "segmenter", "miou": 59.5, "crf_round": 0}],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and a picture."""
    folder = tmp_path_factory.mktemp("own program")
    write_run(folder / "results/demo")
    Image.fromarray(generate_scene(77, 4).image).save(folder / "photo.jpg", quality=95)
    return folder


def test_names_load_when_they_are_asked_for() -> None:
    code = (
        "import sys, os; before = set(os.environ); import maskdistill; from maskdistill import "
        "MaskDistillError\n"
    )
    code += (
        "print(sorted({'torch', 'numpy', 'pydantic', 'faiss', 'cv2'} & set(sys.modules)), "
        "set(os.environ) - before)"
    )
    environment = {"PYTHONPATH": str(Path(maskdistill.__file__).parents[1]), "OMP_WAIT_POLICY": "active"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("[] {") and "OPENCV_FOR_THREADS_NUM" in said.stdout
    assert "OPENBLAS_NUM_THREADS" in said.stdout
    homes = {name for names in maskdistill._MODULES.values() for name in names}
    assert homes | {"__version__"} == set(maskdistill.__all__) <= set(dir(maskdistill))
    assert homes == set(python_api_page.ORDER)
    for name in homes:
        assert getattr(maskdistill, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'distill'"):
        maskdistill.distill  # type: ignore[attr-defined]  # noqa: B018


def test_the_page_is_current() -> None:
    written = python_api_page.PAGE.read_text(encoding="utf-8")
    assert written == python_api_page.render(), "run: python tests/python_api_page.py"


@pytest.mark.slow
def test_examples_of_the_page_are_true(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    text = "\n".join(python_api_page.EXAMPLE.findall(python_api_page.PAGE.read_text(encoding="utf-8")))
    test = doctest.DocTestParser().get_doctest(text, {}, "python-api.md", None, None)
    assert len(test.examples) > 25
    said: list[str] = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


def test_a_mask_is_what_the_stages_make() -> None:
    """The rule on the network's keys, at the picture's size; on a scene of a development seed it finds an
    object.
    """
    scene = generate_scene(77, 4)
    backbone = maskdistill.load_backbone("vit_micro_patch8", "vit_micro_patch8")
    weights = str(CHECKOUT / "config/weights/vit_micro_patch8.safetensors")
    entry, model = find_backbone("vit_micro_patch8"), vit.load_vit("vit_micro_patch8", weights)
    photo = resize(Image.fromarray(scene.image), 128)
    found = extract(model, entry, [photo], torch.device("cpu")).get()[0]
    patches = distil(found.keys, found.cls_query, found.grid, MasksConfig()).mask
    mask = maskdistill.distil_mask(scene.image, backbone, short_side=128)
    np.testing.assert_array_equal(mask, upsample(patches, 8, found.resized_hw, scene.image.shape[:2]))
    several = maskdistill.distil_masks(scene.image, backbone, short_side=128, max_masks=4)
    assert len(several) > 1 and several.sum(axis=0).max() == 1
    np.testing.assert_array_equal(several[0], mask)
    overlaps = [(mask & one).sum() / (mask | one).sum() for one in scene.masks]
    assert max(overlaps) > 0.5


def test_vectors_of_masks_and_their_clusters() -> None:
    backbone = maskdistill.load_backbone("vit_micro_patch8", "vit_micro_patch8_shapes")
    image = generate_scene(77, 4).image
    masks = np.zeros((2, *image.shape[:2]), np.bool_)
    masks[0, 20:60, 30:70], masks[1, 80:100, 90:120] = True, True
    whole = maskdistill.embed_masks(image, masks[:1], backbone)[0]
    seen = (
        (image / 255 - np.array(backbone.structure.mean))
        / np.array(backbone.structure.std)
        * masks[0, ..., None]
    )
    with torch.no_grad():
        tensor = torch.from_numpy(seen).float().permute(2, 0, 1)[None]
        expected = vit.cls_feature(backbone.model, tensor)[0].numpy()
    np.testing.assert_allclose(whole, expected, atol=1e-4)
    square = maskdistill.embed_masks(image, masks, backbone, input="masked_square", short_side=48)
    assert square.shape == (2, 128) and np.abs(square[0] - square[1]).max() > 0.1
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(3, 8)) * 10
    features = (centers[np.arange(30) % 3] + rng.normal(size=(30, 8))).astype(np.float32)
    clusters = maskdistill.kmeans(features, 3, seed=1, nredo=3)
    points = features / features.std(axis=0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    gaps = ((points[:, None] - clusters.centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(clusters.assignments, gaps.argmin(axis=1))
    assert (
        len({tuple(clusters.assignments[part::3]) for part in range(3)}) == 3
        and len(set(clusters.assignments)) == 3
    )
    np.testing.assert_allclose(clusters.inertia, gaps.min(axis=1).sum(), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
def test_a_network_of_timm_gives_timms_keys(name: str, tmp_path: Path) -> None:
    """Those of the last block's projection within timm's own forward pass, and its CLS token."""
    theirs = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    save_weights(theirs.state_dict(), tmp_path / "theirs.safetensors", {}, torch.float32)
    backbone = maskdistill.load_backbone(name, tmp_path / "theirs.safetensors")
    images = torch.randn(1, 3, 5 * 16, 7 * 16)
    projected = []
    theirs.blocks[-1].attn.qkv.register_forward_hook(lambda module, given, out: projected.append(out))
    with torch.no_grad():
        features = theirs.forward_features(images)
        seen = vit.last_attention(backbone.model, images)
        query, keys, _ = projected[0].chunk(3, dim=-1)
        torch.testing.assert_close(seen.keys, keys[:, theirs.num_prefix_tokens :])
        torch.testing.assert_close(seen.cls_query.flatten(1), query[:, 0])
        torch.testing.assert_close(vit.cls_feature(backbone.model, images), features[:, 0])
    assert (backbone.patch_size, backbone.embed_dim) == (16, theirs.embed_dim)
    assert backbone.structure.std == tuple(theirs.pretrained_cfg["std"])
    mask = maskdistill.distil_mask(generate_scene(77, 4).image, backbone, short_side=64)
    assert mask.any() and mask.shape == (160, 128)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("vit_nano_patch1", "unknown backbone 'vit_nano_patch1'; take one of dino_vits16,"),
        ("resnet18", "not a plain vision transformer"),
        ("vit_tiny_r_s16_p8_224", "not a plain vision transformer"),
        ("eva02_tiny_patch14_224", "has no CLS token that it was trained by"),
        ("vit_tiny_patch16_224", r"weights file .* does not fit VisionTransformer: .*missing keys"),
    ],
)
@pytest.mark.hostile(
    "api: a network of timm's without CLS token or joint projection, or a checkpoint of another one",
    outcome="refused, with the reason",
)
def test_networks_without_what_masks_need_are_refused(name: str, why: str) -> None:
    with pytest.raises(MaskDistillError, match=why):
        load_timm(name, str(CHECKOUT / "config/weights/vit_micro_patch8.safetensors"))


@pytest.mark.hostile(
    "api: weights that are not there", outcome="refused; nothing is downloaded, none are random"
)
def test_missing_weights_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for weights in ("random", "no.pth"):
        with pytest.raises(
            MaskDistillError, match=rf"weights {weights}: no such file; .*vit_micro_patch8_shapes"
        ):
            maskdistill.load_backbone("dino_vits16", weights)
    with pytest.raises(
        MaskDistillError, match=r"'official': resources/weights/dino_deitsmall16.*fetch https"
    ):
        maskdistill.load_backbone("dino_vits16", "official")


@pytest.mark.hostile(
    "api: an array of another type or shape, NaN, an empty mask, an unknown setting",
    outcome="refused, with what is wanted",
)
def test_wrong_arrays_and_settings_are_refused() -> None:
    backbone = maskdistill.load_backbone("vit_micro_patch8", "vit_micro_patch8")
    image = generate_scene(77, 4).image
    for wrong in (image.astype(np.float32), image[..., 0], image[:0], [[0]]):
        with pytest.raises(MaskDistillError, match=r"a picture is an array of uint8 \(height, width, 3\)"):
            maskdistill.distil_mask(wrong, backbone)  # type: ignore[arg-type]
    with pytest.raises(MaskDistillError, match=r"distil_masks: [\s\S]*top_k: unknown key"):
        maskdistill.distil_mask(image, backbone, top_k=0.3)
    with pytest.raises(MaskDistillError, match="60x1 pixels, one side more than"):
        maskdistill.distil_mask(np.zeros((1, 60, 3), np.uint8), backbone)
    with pytest.raises(MaskDistillError, match=r"features: [\s\S]*short_side"):
        maskdistill.distil_mask(image, backbone, short_side=0)
    with pytest.raises(MaskDistillError, match="a mask has no pixel"):
        maskdistill.embed_masks(image, np.zeros((1, *image.shape[:2]), np.bool_), backbone)
    with pytest.raises(MaskDistillError, match=r"masks are bool \(n, 160, 128\), not bool \(1, 5, 5\)"):
        maskdistill.embed_masks(image, np.ones((1, 5, 5), np.bool_), backbone)
    with pytest.raises(MaskDistillError, match="not finite"):
        maskdistill.kmeans(np.full((3, 2), np.nan, np.float32), 2, seed=0)
    with pytest.raises(MaskDistillError, match=r"float32 \(M, D\), not int64"):
        maskdistill.kmeans(np.ones((3, 2), np.int64), 2, seed=0)


def test_a_run_predicts_what_the_command_writes(place: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", str(place / "results/demo")
    command = [
        "predict",
        "--run",
        folder,
        str(place / "photo.jpg"),
        "--out",
        str(out),
        "--device=cpu",
        "--threads=1",
    ]
    assert main([*command, "--overlays=0", "--min-score=0.02"]) == 0
    run = maskdistill.load_run(folder)
    found = run.predict(place / "photo.jpg", min_score=0.02)
    np.testing.assert_array_equal(found.labels, read_label_png(next((out / "labels").rglob("*.png"))))
    coco = COCO(str(out / "coco.json"))
    written = coco.loadAnns(coco.getAnnIds())
    assert len(written) == len(found.objects) > 1
    for annotation, one in zip(written, found.objects, strict=True):
        np.testing.assert_array_equal(one.mask, coco.annToMask(annotation))
        assert (one.category.id, one.score, list(one.box)) == tuple(
            annotation[key] for key in ("category_id", "score", "bbox")
        )
    assert [one.score for one in run.predict(place / "photo.jpg").objects] == [
        one.score for one in found.objects if one.score >= run.config.pseudo_labels.tau
    ]
    pixels = np.asarray(Image.open(place / "photo.jpg"))
    np.testing.assert_array_equal(run.predict(pixels).labels, found.labels)


def test_a_run_tells_what_it_found_and_scored(place: Path, tmp_path: Path) -> None:
    folder = place / "results/scored"
    write_run(folder)
    names = {"clusters": {"names": {"1": "mug"}}}
    write_json(folder / "summary.json", read_json(folder / "summary.json") | SCORES | names)
    run = maskdistill.load_run(folder)
    assert [(category.id, category.name) for category in run.categories] == [
        (1, "cluster-00"), (2, "mug"), (3, "cluster-02"),
    ]  # fmt: skip
    assert len(run.categories) == K and run.config.run == "small"
    assert run.scores == {
        "otsu": {"miou": 23.4}, "masks": {"miou": 40.0}, "segmenter": {"miou": 59.5},
        "segmenter, round 1": {"miou": 61.0},
    }  # fmt: skip
    assert run.verdict == maskdistill.Verdict("look first", ("edges are faint (1.30)",), {"edges": 1.3})
    assert json.dumps(run.summary["images"]) == '{"eval": 0, "quarantined": 1, "train": 5}'
    (folder / PLACE / "detector/model.safetensors").unlink()
    with pytest.raises(MaskDistillError, match="the run's main detector is not there"):
        maskdistill.load_run(folder)
    with pytest.raises(MaskDistillError, match="no finished run"):
        maskdistill.load_run(tmp_path)
