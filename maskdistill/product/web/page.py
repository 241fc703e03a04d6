"""A page that segments pictures in a browser, from a folder that needs neither a server nor a network."""

import base64
import gzip
import json
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from maskdistill.product.trained_run import TrainedRun
from maskdistill.product.verdict import in_words
from maskdistill.product.web.runtime import MODULE, SCRIPT, VERSION, WASM

SOURCES = Path(__file__).parent
FOLDER, PAGE = "web", "index.html"
LICENCES = ("LICENSE", "ThirdPartyNotices.txt")
USE = (
    f"`{FOLDER}/{PAGE}`, opened by a double click, segments a picture that is dropped on it, without a "
    f"server and without a network: models and ONNX Runtime Web {VERSION} lie beside it as scripts. It gives "
    "the masks of `segment.py` but for how the browser decodes a picture, and is slower: it has one thread "
    "of WebAssembly. Pictures above 40 megapixels are refused."
)
"""How to use it, in Markdown, for the card."""


def write_web_page(
    models: Mapping[str, Path], settings: Mapping[str, Any], runtime: Path, folder: Path
) -> None:
    """Write the page and what it loads.

    A page that is opened from a file may load scripts, but neither modules nor other files: models and
    WebAssembly are texts in scripts.

    Args:
        models: ``segmenter`` and ``detector``, ONNX files of :mod:`maskdistill.product.kinds.onnx`.
        settings: ``classes``, ``least_score`` and ``min_score`` as in ``segment.json``; ``about``, a sentence
            for the page's head.
        runtime: folder of :func:`maskdistill.product.web.runtime.fetch_runtime`.
        folder: to write; it is not there yet.
    """
    folder.mkdir()
    loaded = {
        "script": (runtime / SCRIPT).read_text(encoding="utf-8"),
        "module": (runtime / MODULE).read_text(encoding="utf-8"),
        "wasm": _text(gzip.compress((runtime / WASM).read_bytes(), mtime=0)),
        "worker": (SOURCES / "worker.js").read_text(encoding="utf-8"),
    }
    _write_script(folder / "runtime.js", "RUNTIME", loaded)
    content = {name: _text(path.read_bytes()) for name, path in models.items()}
    _write_script(folder / "models.js", "MODELS", {"settings": settings, **content})
    for name in (PAGE, "page.js"):
        shutil.copyfile(SOURCES / name, folder / name)
    spec = find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    for name in LICENCES:
        place = Path(name)
        named = f"{place.stem}-onnxruntime.txt"
        shutil.copyfile(Path(spec.origin).parent / place, folder / named)


def about(models: TrainedRun) -> str:
    """What the page's head says of the models."""
    said = [] if models.config is None else [f"models of the run {models.config.run}"]
    said += [in_words(models.trust), *([] if models.rehearsal is None else [f"these are {models.rehearsal}"])]
    return " ".join(f"{one[0].upper()}{one[1:]}." for one in said)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _write_script(path: Path, name: str, value: Mapping[str, Any]) -> None:
    path.write_text(f"const {name} = {json.dumps(value)};\n", encoding="utf-8")
