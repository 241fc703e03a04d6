"""What made an artefact: settings, inputs, code and library versions. No time stamps and no paths,
so that equal work gives equal bytes wherever it ran."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import maskdistill
from maskdistill.runtime.code_closure import ROOT, closure
from maskdistill.runtime.files import read_json, sha256_file, sha256_text

LIBRARIES = (
    "torch", "torchvision", "timm", "detectron2", "faiss", "faiss-cpu", "faiss-gpu", "h5py", "numpy", "scipy",
    "scikit-learn", "pandas", "pillow", "opencv-python-headless", "opencv-python", "pycocotools",
    "faster-coco-eval",
    "pydensecrf2", "av", "pyarrow",
)  # fmt: skip
"""Distributions; for a library with several names (conda's, for GPUs), the installed one is found."""
INDEX = ".index.json"
"""Suffix of the index beside a manifest."""
ORACLE = "oracle"
"""Key that marks results made with ground truth, in a manifest's index and in all provenance derived from
it.
"""


@cache
def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that can change a result."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def stage_code(stage: str, *without: str) -> str:
    """Hash of the sources that affect a stage's result: its entry point, ``cli/STAGE.py``, and all that it
    imports.

    It depends on content, not on time stamps.

    Args:
        stage: its name, e.g. ``"masks"``.
        without: modules that it imports but does not use with the current settings, e.g.
            ``"segmenter/crf.py"``.

    Raises:
        FileNotFoundError: no such stage, or it does not import one of ``without``.
    """
    return _hash(sorted(closure([f"cli/{stage}.py"], without)))


@cache
def module_code(name: str) -> str:
    """Hash of the sources that affect what a module computes: its own and those it imports from this package.

    For a module in another distribution's package: all modules in its folder and below.

    Args:
        name: dotted name of an installed module.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name)
    file = Path(spec.origin)
    if file.is_relative_to(ROOT):
        return _hash(sorted(closure([file.relative_to(ROOT).as_posix()])))
    files = sorted(file.parent.rglob("*.py")) if "." in name or file.name == "__init__.py" else [file]
    return sha256_text("\n".join(sha256_file(path) for path in files))


@cache
def code_hash() -> str:
    """Hash of the whole package."""
    files = (path for kind in ("py", "j2") for path in ROOT.rglob(f"*.{kind}"))
    return _hash(sorted(path.relative_to(ROOT).as_posix() for path in files))


def _hash(files: Sequence[str]) -> str:
    return sha256_text("\n".join(f"{file} {_file_hash(file)}" for file in files))


@cache
def _file_hash(file: str) -> str:
    return sha256_file(ROOT / file)


def make_provenance(
    stage: str, params: Mapping[str, Any], inputs: Mapping[str, str | Path]
) -> dict[str, Any]:
    """Provenance record of one artefact.

    Args:
        stage: the stage's name, e.g. ``"masks"``.
        params: the settings that shaped the result (JSON values).
        inputs: name -> file that was read; its SHA-256 is recorded, not its path.

    Returns:
        The record, with the key :data:`ORACLE` if the manifest among the inputs has it.
    """
    index = Path(inputs["manifest"]).with_suffix(INDEX) if "manifest" in inputs else None
    listed = read_json(index) if index is not None and index.is_file() else {}
    mark = {ORACLE: listed[ORACLE]} if ORACLE in listed else {}
    return mark | {
        "stage": stage,
        "params": dict(params),
        "inputs": {name: sha256_file(path) for name, path in sorted(inputs.items())},
        "version": maskdistill.__version__,
        "libraries": library_versions(),
    }


def initial_weights(provenance: str | bytes) -> dict[str, str]:
    """Hash of the weights that an artefact was made with, from its provenance as JSON, for use in later
    provenance.

    Returns:
        ``{"weights": SHA-256}``; empty if the weights were random.
    """
    inputs = json.loads(provenance).get("inputs", {})
    return {"weights": inputs["weights"]} if "weights" in inputs else {}
