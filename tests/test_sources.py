"""The registry of image sources: a file adds one, as the recipe of the documentation says."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import maskdistill
from maskdistill.config import Config, FolderData
from maskdistill.data.sources.base import ImageSource
from maskdistill.data.sources.registry import image_sources
from maskdistill.data.truth.registry import TRUTHS, truth_of
from maskdistill.runtime import provenance
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import sha256_file, sha256_text
from maskdistill.workflow.settings import source_code

PAGE = Path(__file__).parents[1] / "docs/how-to/add-an-image-source.md"
USE = """
import json, sys
from pathlib import Path
from maskdistill.data.sources.registry import image_sources
from maskdistill.config.roles import label_free
from maskdistill.data.listing import iter_images, listing_fingerprint, parse_data, parse_support
from maskdistill.runtime.code_closure import closure
text = sys.argv[1]
data = parse_data(text)
assert parse_support(text) == data and label_free(data) == json.loads(data.model_dump_json())
images = list(iter_images(data))
print(json.dumps([list(image_sources()), [image.key for image in images], str(images[0].path),
                  listing_fingerprint(data), "data/sources/table.py" in closure(["cli/manifest.py"])]))
"""


THEIRS = """
import their_source  # before maskdistill: its import leads to the configuration's
import json, sys
from maskdistill.config import load_config
from maskdistill.data.listing import iter_images, parse_data
from maskdistill.cli.config import render_schema
weights = {name: {"weights": "random"} for name in ("backbone", "detector", "segmenter")}
section = json.loads(sys.argv[1])
config = load_config(weights | {"run": "r", "data": section, "support": section})
assert type(config.data) is type(config.support) is type(parse_data(sys.argv[1])) is their_source.TableData
assert [image.key for image in iter_images(config.data)] == ["b.jpg"]
assert json.loads(render_schema())["properties"]["data"]["discriminator"]["mapping"]["table"]
"""


def recipe() -> str:
    """The module of the documentation."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(code)


KINDS = {"scenes", "coco", "folder", "list", "parquet", "remote", "remote_tar", "tar", "video", "voc"}


def test_the_sources_that_there_are() -> None:
    """Others may join them."""
    first, *others = image_sources()
    assert first == "scenes" and others == sorted(others), "the one without needs comes first"
    assert {first, *others} >= KINDS and TRUTHS.keys() >= {"scenes", "coco", "voc"}
    assert {kind for kind in KINDS if not image_sources()[kind].SUPPORT} == {"scenes", "coco", "voc"}


@pytest.mark.slow
def test_the_recipe_adds_a_source_by_one_file(tmp_path: Path) -> None:
    """In a copy of the package, which the new module is put into."""
    code = recipe()
    package = Path(maskdistill.__file__).parent
    shutil.copytree(package, tmp_path / "maskdistill", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "maskdistill/data/sources/table.py").write_text(code)
    (tmp_path / "photos.csv").write_text("id,file\n7,b.jpg\n9,sub/a.jpg\n")
    section = {"kind": "table", "root": str(tmp_path / "photos"), "file": str(tmp_path / "photos.csv")}
    done = subprocess.run(
        [sys.executable, "-c", USE, json.dumps(section)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    kinds, keys, first, fingerprint, followed = json.loads(done.stdout)
    assert kinds == [*sorted([*image_sources(), "table"], key=lambda kind: (kind != "scenes", kind))]
    assert (
        keys == ["b.jpg", "sub/a.jpg"] and first == str(tmp_path / "photos/b.jpg") and len(fingerprint) == 64
    )
    assert followed, "an edit of the source makes the manifest anew"


def install(site: Path, code: str, *entries: str) -> None:
    """An installed distribution with one module and its entry points."""
    (site / "their_source.py").write_text(code)
    info = site / "their_source-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-source\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("\n".join(entries) + "\n")


def test_an_installed_package_adds_a_source(tmp_path: Path) -> None:
    """In a process of its own: the configuration's models are built once."""
    (group,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    group = group.replace("project.entry-points.", "").replace("my_package.table", "their_source")
    install(tmp_path, recipe(), group.replace('"', ""))
    (tmp_path / "photos.csv").write_text("file\nb.jpg\n")
    section = {"kind": "table", "root": str(tmp_path), "file": str(tmp_path / "photos.csv")}
    done = subprocess.run(
        [sys.executable, "-c", THEIRS, json.dumps(section)],
        capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(maskdistill.__file__).parents[1]}"},
    )  # fmt: skip
    assert not done.returncode, done.stderr


@pytest.mark.hostile(
    "config: an installed package whose image source cannot be imported, is none, or takes another's kind",
    outcome="refused; the message names the package",
)
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("table = gone", r"image source table of their-source 1\.5 cannot be loaded: No module named 'gone'"),
        ("table = their_source", "table of .*: their_source is not an ImageSource; repair"),
        ("chart = their_source:TableData", r'must declare `kind: Literal\["chart"\]`; repair'),
        ("folder = their_source:Folder", r"data\.sources\.folder has this kind already; uninstall one"),
    ],
)
def test_packages_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, message: str
) -> None:
    taken = 'class Folder(TableData):\n    kind: Literal["folder"]\n'
    install(tmp_path, f"{recipe()}\n\n{taken}", "[maskdistill.sources]", entry)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MaskDistillError, match=message):
        image_sources.__wrapped__()
    sys.modules.pop("their_source", None)


TRUTH = """

from maskdistill.data.truth.base import SourceTruth


class ScoredData(TableData):
    @property
    def has_truth(self): return True


class Truth(SourceTruth[ScoredData]):
    def count_classes(self, built): return 7
    def read(self, images, losses): return [], []
"""


def configured(data: ImageSource) -> Config:
    """A configuration with these pictures, as far as the code behind them goes."""
    return Config.model_construct(data=data)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "table: no package reads its ground truth; the source's own must name a SourceTruth"),
        (["table = gone"], "ground truth table: gone cannot be loaded: No module"),
        (["table = their_source:TableData"], "their_source:TableData is no SourceTruth; repair"),
        (["table = their_source:Truth"], ""),
    ],
)
def test_ground_truth_of_an_installed_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: list[str], message: str
) -> None:
    install(tmp_path, recipe() + TRUTH, "[maskdistill.truths]", *entries)
    monkeypatch.syspath_prepend(str(tmp_path))
    table = import_module("their_source").ScoredData(kind="table", root="x", file="y")
    own, theirs = source_code("ground_truth", configured(table)).split()
    assert own == source_code("ground_truth", configured(FolderData(kind="folder", root="x")))
    assert theirs == sha256_text(sha256_file(tmp_path / "their_source.py"))
    if message:
        with pytest.raises(MaskDistillError, match=message):
            truth_of(table)
    else:
        assert truth_of(table).count_classes(False) == 7
    del sys.modules["their_source"]
    provenance.module_code.cache_clear()
