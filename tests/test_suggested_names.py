"""Names that a model suggests for clusters: the sums, the sample, the file, and what is refused."""

import importlib.util
import json
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from synthetic_run import Synthetic

from maskdistill.annotations.names import ClusterNames, read_names
from maskdistill.annotations.suggested_names import Suggestion, Tally, names_yaml, parse_words, table
from maskdistill.cli import main
from maskdistill.product.object_crops import MARGIN, sample, square
from maskdistill.runtime.code_closure import ROOT, closure
from maskdistill.runtime.errors import MaskDistillError

needs_open_clip = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="the extra names is not installed"
)
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
WORDS = "# what may be there\nmug\n\nsquare\nno such thing\n"


def test_suggestions_are_what_a_loop_counts() -> None:
    rng = np.random.default_rng(0)
    clusters, logits = rng.choice([0, 1, 3], 60), rng.normal(0, 3, (60, 5))
    words = list("abcde")
    tally = Tally(4, words)
    for part in np.array_split(np.arange(60), 7):
        tally.add(logits[part], clusters[part])
    found = tally.suggestions()
    assert found[2] is None
    for cluster in (0, 1, 3):
        mine = [row for row, one in zip(logits, clusters, strict=True) if one == cluster]
        softmax = [[np.exp(value) / sum(np.exp(row)) for value in row] for row in mine]
        mean = {word: sum(row[place] for row in softmax) / len(mine) for place, word in enumerate(words)}
        first, second = sorted(mean, key=mean.__getitem__, reverse=True)[:2]
        votes = sum(words[int(np.argmax(row))] == first for row in mine)
        one = found[cluster]
        assert one is not None and (one.word, one.runner_up) == (first, second)
        assert (one.objects, one.agreeing) == (len(mine), votes / len(mine))
        np.testing.assert_allclose((one.probability, one.its_probability), (mean[first], mean[second]))


def test_of_equal_words_the_first_is_taken_and_large_values_do_no_harm() -> None:
    tally = Tally(1, ["a", "b"])
    tally.add(np.full((6, 2), 5000.0), np.zeros(6, dtype=np.int64))
    assert tally.suggestions() == [Suggestion("a", 0.5, "b", 0.5, 6, 1.0)]


@pytest.mark.parametrize(
    ("probability", "other", "objects", "agreeing", "doubt"),
    [
        (0.8, 0.1, 50, 0.9, ""),
        (0.4, 0.3, 5, 0.5, ""),
        (0.4, 0.31, 50, 0.9, "close runner-up"),
        (0.4, 0.1, 50, 0.49, "no majority"),
        (0.9, 0.1, 1, 1.0, "only 1 object"),
        (0.3, 0.3, 4, 0.25, "only 4 objects, no majority, close runner-up"),
    ],
)
def test_what_is_doubtful(
    probability: float, other: float, objects: int, agreeing: float, doubt: str
) -> None:
    assert Suggestion("a", probability, "b", other, objects, agreeing).doubt == doubt


def test_the_file_is_one_of_names_and_doubtful_ones_are_comments(tmp_path: Path) -> None:
    sure = Suggestion('Bär: "x" # y', 0.8, "mug", 0.1, 50, 0.9)
    doubtful = Suggestion("mug", 0.4, "cup", 0.39, 50, 0.46)
    path = tmp_path / "names.yaml"
    text = names_yaml([sure, doubtful, None, sure], [4, 0, 2, 9], ["A model's guesses.", ""], "foot")
    path.write_text(text)
    assert read_names(path, 4) == ClusterNames({0: sure.word, 3: sure.word}, [4, 0, 2, 9])
    assert text.startswith("# A model's guesses.\n#\nclusters: 4\n") and "  # 2: no objects\n" in text
    assert text.endswith("0.10\n# foot\n")
    assert '  # 1: "mug"  # doubtful (no majority, close runner-up): 46% of 50 objects; proba' in text
    path.write_text(text.replace("  # 1:", "  1:"))
    assert read_names(path, 4).names[1] == "mug", "what a person finds right is uncommented"
    path.write_text(names_yaml([doubtful], [4], []))
    assert read_names(path, 1).names == {}, "all of it commented out"
    assert [line.split() for line in table([doubtful, None])] == [
        ["cluster", "objects", "suggestion", "agree", "probability", "runner-up"],
        [
            "00",
            "50",
            "mug",
            "46%",
            "0.40",
            "cup",
            "0.39",
            "doubtful:",
            "no",
            "majority,",
            "close",
            "runner-up",
        ],
        ["01", "0", "-", "-", "-", "-", "no", "objects"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no words to choose among; give at least two"),
        ("# cat\n mug \nMUG\n", "one word to choose among"),
        ("mug\n" + "x" * 101, "line 2: 'xxx"),
        ("mug\na\x00b", r"line 2: 'a\\x00b' is no name"),
    ],
)
def test_bad_words_are_named(text: str, message: str) -> None:
    with pytest.raises(MaskDistillError, match=rf"^w\.txt.*{message}"):
        parse_words(text, "w.txt")
    assert parse_words(WORDS + " Mug ", "w.txt") == ["mug", "square", "no such thing"]


def test_the_sample_is_even_and_of_each_category() -> None:
    categories = np.array([1, 2, 1, 1, 3, 1, 1, 2] * 5)
    chosen = sample(categories, 4)
    assert [int((chosen & (categories == one)).sum()) for one in (1, 2, 3)] == [4, 4, 4]
    places = np.flatnonzero(categories == 1)
    assert np.flatnonzero(chosen & (categories == 1)).tolist() == places[[0, 8, 16, 24]].tolist()
    assert sample(categories, 99).all()


@pytest.mark.parametrize("box", [(10, 20, 12, 8), (0, 0, 30, 4), (55, 40, 9, 8), (0, 0, 64, 48)])
def test_a_crop_is_the_square_around_a_box(box: tuple[int, int, int, int]) -> None:
    """At its own size: the photo, its pixels in their places, and grey beyond it."""
    photo = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    x, y, width, height = box
    side = round(max(width, height) * (1 + 2 * MARGIN))
    left, top = (2 * x + width - side) // 2, (2 * y + height - side) // 2
    expected = np.full((side, side, 3), 128, dtype=np.uint8)
    for row in range(side):
        for column in range(side):
            if 0 <= top + row < 48 and 0 <= left + column < 64:
                expected[row, column] = photo[top + row, left + column]
    np.testing.assert_array_equal(square(photo, box, side), expected)
    assert square(photo, box, 3 * side + 1).shape == (3 * side + 1, 3 * side + 1, 3)


def test_no_rule_suggests_names_and_only_what_shows_reads_them() -> None:
    """Names are outside of the label-free proof: a person wrote the words, and nothing learns from them."""
    rules = {}
    for path in sorted((ROOT.parent / "workflow").rglob("*.smk")):
        _, *parts = re.split(r"(?m)^ *(?:rule|checkpoint) (\w+):$", path.read_text())
        rules |= dict(zip(parts[::2], parts[1::2], strict=True))
    assert len(rules) > 40 and not any("maskdistill names" in text for text in rules.values())
    naming = {
        name for name, text in rules.items() if re.search(r"\bRUN\.names\b|clusters\.names\b|--names\b", text)
    }
    assert naming == {"report", "gallery", "objects"}
    stages = {name for text in rules.values() for name in re.findall(r'\bcode\(\s*"(\w+)"', text)}
    reading = {stage for stage in stages if "annotations/names.py" in closure([f"cli/{stage}.py"])}
    assert len(stages) > 20 and reading == {"report", "gallery", "own_objects"}
    assert not any("annotations/suggested_names.py" in closure([f"cli/{stage}.py"]) for stage in stages)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights of a model that open_clip calls ``tiny`` from here on; ``wide`` is another."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    (folder / "wide.json").write_text(json.dumps(TINY | {"embed_dim": 24}))
    open_clip.add_model_config(folder)
    torch.manual_seed(3)
    save_file(open_clip.create_model("tiny").state_dict(), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A finished run of six photographs with twelve objects, and words."""
    run = Synthetic(tmp_path / "run").finish({})
    (tmp_path / "words.txt").write_text(WORDS)
    return ["names", str(run), "--words", str(tmp_path / "words.txt"), "--device=cpu"]


@needs_open_clip
@pytest.mark.slow  # loads open_clip
@pytest.mark.usefixtures("one_thread")
def test_the_command_suggests_what_the_library_says(
    tiny: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import open_clip
    import torch
    from PIL import Image

    run = Path(command[1])
    command += ["--model=tiny", f"--weights={tiny}"]
    assert main(command) == 0
    said, out = capsys.readouterr(), run / "suggested-names.yaml"
    written = out.read_bytes()

    model, prepare = open_clip.create_model_from_pretrained("tiny", str(tiny))
    words = ["mug", "square", "no such thing"]
    texts = ["a photo of a {}", "a close-up photo of a {}", "a cropped photo of a {}", "a picture of the {}"]
    tokenize = open_clip.get_tokenizer("tiny")
    objects = json.loads((run / "topk-0.4/k-3/seed-11/candidates/shard-0000.json").read_text())["candidates"]
    objects += json.loads((run / "topk-0.4/k-3/seed-11/candidates/shard-0001.json").read_text())["candidates"]
    scores: dict[int, list[np.ndarray]] = {0: [], 1: []}
    with torch.no_grad():
        columns = [model.encode_text(tokenize([text.format(word) for text in texts])) for word in words]
        columns = [(one / one.norm(dim=1, keepdim=True)).mean(0) for one in columns]
        for item in objects:
            if item["score"] < 0.75:
                continue
            [file] = run.glob(f"photos/**/*{'alert' if item['image_id'] == 1 else item['image_id']}*.png")
            crop = square(np.asarray(Image.open(file)), item["bbox"], 32)
            picture = model.encode_image(prepare(Image.fromarray(crop))[None])[0]
            cosines = [picture @ one / picture.norm() / one.norm() for one in columns]
            logits = model.logit_scale.exp() * torch.stack(cosines)
            scores[item["category_id"] - 1].append(logits.softmax(0).numpy())
    for cluster, rows in scores.items():
        mean = np.mean(rows, axis=0)
        first, second = np.argsort(-mean)[:2]
        agreeing = np.mean([row.argmax() == first for row in rows])
        line = f'{cluster}: "{words[first]}"'
        seen = f"{agreeing:.0%} of 6 objects; probability {mean[first]:.2f}, then {words[second]} with"
        assert re.search(rf"{line}  # .*{re.escape(seen)} {mean[second]:.2f}", written.decode()), (
            written.decode()
        )
    assert "2: no objects" in written.decode() and "suggestion" in said.out.splitlines()[0]
    assert "a model guessed them" in said.err and "licence of the weights" in said.err
    assert read_names(out, 3).fit([0, 4, 1])
    told = json.loads(re.search(r"Made from: (.*)", written.decode())[1])  # type: ignore[index]
    assert told["params"]["open_clip"] == open_clip.__version__ and str(run) not in written.decode()

    assert main(command) == 0 and out.read_bytes() == written, "the same again"
    bundle = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3}}
    (tiny.parent / "open_clip_config.json").write_text(json.dumps(bundle))
    bundled = [*command[:-2], f"--model=local-dir:{tiny.parent}", f"--out={run}/bundled.yaml"]
    assert main(bundled) == 0 and read_names(run / "bundled.yaml", 3).fit([0, 4, 1])
    assert told["params"]["weights"] in (run / "bundled.yaml").read_text()
    out.write_text(written.decode().replace("guesses", "corrected"))
    assert main(command) == 1
    assert "suggested-names.yaml: was changed since it was written" in capsys.readouterr().err
    assert "corrected" in out.read_text()
    assert main([*command, "--replace", "--per-cluster=2"]) == 0 and "of 2 objects" in out.read_text()
    assert out.read_text().count("doubtful (only 2 objects") == 2 and read_names(out, 3).names == {}


class Harmful:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@needs_open_clip
@pytest.mark.slow
@pytest.mark.hostile("weights: of open_clip, with code in the pickle", outcome="refused, nothing is executed")
def test_weights_that_cannot_be_used_are_named(
    tiny: Path, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import open_clip

    def refused(*options: str) -> str:
        assert main([*command, *options]) == 1
        return capsys.readouterr().err.rpartition("maskdistill names: ")[2]

    (tmp_path / "harm.pt").write_bytes(pickle.dumps({"a": Harmful(tmp_path / "harm")}, 2))
    assert "nothing in it was executed" in refused("--model=tiny", f"--weights={tmp_path}/harm.pt")
    assert not (tmp_path / "harm").exists()
    (tmp_path / "cut.safetensors").write_bytes(tiny.read_bytes()[:5000])
    assert "cut.safetensors of tiny: missing, damaged" in refused(
        "--model=tiny", f"--weights={tmp_path}/cut.safetensors"
    )
    assert "of another model" in refused("--model=wide", f"--weights={tiny}")
    assert "name its --weights: a file, or one of these tags: none" in refused("--model=tiny")
    assert "its tags are: none" in refused("--model=tiny", "--weights=laion")
    assert "there are ViT-B-32" in refused("--model=ViT-B-3")
    assert "give a file that ends in .safetensors" in refused("--model=tiny", f"--weights={command[3]}")
    assert "brings its own weights" in refused("--model=local-dir:x", "--weights=laion")
    assert "local-dir:x" in refused("--model=local-dir:x")

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        said = refused("--model=ViT-B-16-SigLIP", "--weights=webli")
    assert "ViT-B-16-SigLIP: wants a library that is not installed" in said and "transformers" in said

    def offline(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("Failed to download file\nfor CLIP")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    monkeypatch.setattr("maskdistill.product.hub.unreachable", lambda: "")
    said = refused()
    assert "cannot be downloaded (FileNotFoundError: Failed to download file)" in said
    monkeypatch.setattr("maskdistill.product.hub.unreachable", lambda: "https://hub (no route)")
    for options in ((), ("--model=hf-hub:of-nobody/none",)):
        said = refused(*options)
        assert "not on this machine, and there is no connection to https://hub (no route). Try again" in said
        assert "--model local-dir:FOLDER" in said
    said = refused()
    assert "hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K open_clip_config.json" in said
    assert "--model local-dir:FOLDER" in said


def test_what_is_missing_is_named(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*options: str) -> str:
        assert main([*command, *options]) == 1
        return capsys.readouterr().err.rpartition("maskdistill names: ")[2]

    with monkeypatch.context() as patch:
        patch.setattr("maskdistill.product.clip.find_spec", lambda name: None)
        assert "pip install 'maskdistill[names]' (in a checkout: make names)" in refused()
    monkeypatch.setattr("maskdistill.cli.names.need_open_clip", lambda: None)
    assert f"--words {tmp_path}/none: no such file" in refused("--words", f"{tmp_path}/none")
    assert "give a file that ends in .yaml" in refused("--out", f"{tmp_path}/x.json")
    (tmp_path / "mine.yaml").write_text("names: {0: mug}\n")
    assert "give another file as --out, or --replace" in refused("--out", f"{tmp_path}/mine.yaml")
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text()) == {"names": {0: "mug"}}
