"""MaskDistill: unlabelled photographs in; object masks, categories and a segmentation model out."""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskdistill.api.backbones import Backbone, load_backbone
    from maskdistill.api.clusters import Clusters, kmeans
    from maskdistill.api.masks import distil_mask, distil_masks, embed_masks
    from maskdistill.api.runs import Category, FoundObject, Prediction, Run, Verdict, load_run
    from maskdistill.runtime.errors import MaskDistillError

__all__ = [
    "Backbone", "Category", "Clusters", "FoundObject", "MaskDistillError", "Prediction", "Run", "Verdict",
    "__version__", "distil_mask", "distil_masks", "embed_masks", "kmeans", "load_backbone", "load_run",
]  # fmt: skip
_MODULES = {
    "api.backbones": ("Backbone", "load_backbone"),
    "api.clusters": ("Clusters", "kmeans"),
    "api.masks": ("distil_mask", "distil_masks", "embed_masks"),
    "api.runs": ("Category", "FoundObject", "Prediction", "Run", "Verdict", "load_run"),
    "runtime.errors": ("MaskDistillError",),
}
"""Where each public name comes from when it is first asked for: the libraries behind take seconds to load."""


def _settle_threads() -> None:
    """Say how the thread pools of the libraries behave; they read this once, when they are loaded.

    This package is imported before any of them, so its entry points and all processes they start are covered.
    What a user has set stays. Measured by ``tests/benchmarks/threads.py``.
    """
    # OpenCV's thread pool does not survive a fork: a data loading process would wait for it for ever.
    # Parallelism is by process here, so OpenCV gets one thread and never makes a pool.
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    # The OpenMP of torch and FAISS (libgomp) lets a thread that waits for the others spin for milliseconds.
    # Where another process has their core, they come the later for it: training fell to a quarter. So they
    # sleep after a few microseconds: soon enough beside others, and late enough to lose nothing alone, as
    # sleeping at once does.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # NumPy's OpenBLAS would take every core, whatever a job was granted, for products that are too small to
    # gain. FAISS's own is built on OpenMP and follows the threads that are set for that.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


_settle_threads()

__version__ = "0.2.0"


if not TYPE_CHECKING:  # type checkers see the imports above, and know no other name

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                return getattr(importlib.import_module(f"maskdistill.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
