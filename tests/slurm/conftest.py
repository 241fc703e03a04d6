"""The tests of the workflow share their miniature with those of ``tests/dag``."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "dag")]
