"""The registry of image sources: a file adds one, as the recipe of the documentation says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import maskdistill
from maskdistill.config.data import SOURCES
from maskdistill.data.truth.registry import TRUTHS

PAGE = Path(__file__).parents[1] / "docs/how-to/add-an-image-source.md"
USE = """
import json, sys
from pathlib import Path
from maskdistill.config.data import SOURCES
from maskdistill.config.roles import label_free
from maskdistill.data.listing import iter_images, listing_fingerprint, parse_data, parse_support
from maskdistill.runtime.code_closure import closure
text = sys.argv[1]
data = parse_data(text)
assert parse_support(text) == data and label_free(data) == json.loads(data.model_dump_json())
images = list(iter_images(data))
print(json.dumps([list(SOURCES), [image.key for image in images], str(images[0].path),
                  listing_fingerprint(data), "data/sources/table.py" in closure(["cli/manifest.py"])]))
"""


def test_the_sources_that_there_are() -> None:
    assert list(SOURCES) == [
        "scenes",
        "coco",
        "folder",
        "list",
        "parquet",
        "remote",
        "tar",
        "video",
        "voc",
    ], "the one without needs comes first"
    assert TRUTHS.keys() == {"scenes", "coco", "voc"}
    assert {kind for kind, source in SOURCES.items() if source.SUPPORT} == {
        "folder", "list", "parquet", "remote", "tar", "video",
    }  # fmt: skip


def test_the_recipe_adds_a_source_by_one_file(tmp_path: Path) -> None:
    """In a copy of the package, which the new module is put into."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
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
    assert kinds == ["scenes", "coco", "folder", "list", "parquet", "remote", "table", "tar", "video", "voc"]
    assert (
        keys == ["b.jpg", "sub/a.jpg"] and first == str(tmp_path / "photos/b.jpg") and len(fingerprint) == 64
    )
    assert followed, "an edit of the source makes the manifest anew"
