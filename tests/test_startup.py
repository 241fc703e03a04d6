"""Libraries load without the garbage collector, which works before and after."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from maskdistill.runtime import startup


def test_the_collector_rests_while_a_module_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_module.py").write_text("import gc\ncollecting = gc.isenabled()\n")
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert gc.isenabled()
    assert startup.load("heavy_module").collecting is False
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        startup.load("broken_module")
    assert gc.isenabled()


def test_other_handlers_run_and_what_was_written_arrives() -> None:
    code = (
        "import atexit, sys\nfrom maskdistill.runtime import startup\natexit.register(print, 'last')\n"
        "startup.load('json'); startup.load('csv')\nprint('first')\nsys.exit(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "first\nlast\n")
