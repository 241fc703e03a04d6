"""ONNX Runtime Web, which runs models in a browser: three files of the npm package, fetched once."""

import os
from collections.abc import Mapping
from pathlib import Path

from maskdistill.runtime.download import download

VERSION = "1.30.0"
ADDRESS = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist"
"""Where the package's files can be had one by one."""
SCRIPT, MODULE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
FILES: Mapping[str, str] = {
    SCRIPT: "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    MODULE: "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Their SHA-256, of the package as npm gives it."""


def runtime_folder() -> Path:
    """Where the files are kept for later exports."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(f"{home}/maskdistill/onnxruntime-web-{VERSION}").expanduser().absolute()


def fetch_runtime(folder: Path) -> None:
    """Make sure that :data:`FILES` lie in a folder.

    Raises:
        MaskDistillError: one cannot be fetched, or is another file than the pinned one.
    """
    by_hand = (
        f"put {', '.join(FILES)} of the npm package onnxruntime-web {VERSION} into {folder}: where there is "
        f"a network `npm pack onnxruntime-web@{VERSION}` gives an archive that has them in package/dist"
    )
    for name, expected in FILES.items():
        download(f"{ADDRESS}/{name}", folder / name, expected, by_hand)
