"""A stage's libraries are loaded, and left at exit, without garbage collection.

torch creates a million objects that live as long as the process. The collector walks them dozens of times
while they load and once more when the interpreter ends, and finds nothing: a sixth to a third of the
processor time of a job that does little else (`tests/benchmarks/startup.py`).
"""

import atexit
import gc
import importlib
from types import ModuleType


def load(name: str) -> ModuleType:
    """Import a module with all that it imports; what exists when the process ends is not searched for
    garbage.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        module = importlib.import_module(name)
    finally:
        if collecting:
            gc.enable()
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    return module
