"""Puts the workflow and its configurations into the wheel, as ``maskdistill/share/``: it works without a
checkout then.

Everything else about the package stands in pyproject.toml. ``maskdistill.workflow.commands`` finds what lies
here.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FOLDERS = ("config", "envs", "profiles", "workflow")
OWN = Path("config/mine.yaml")
"""What ``maskdistill init`` writes into a checkout: its user's."""


def shared() -> Iterator[Path]:
    """Paths of what is put in, below the checkout."""
    yield Path("Snakefile")
    found = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.is_file())
    yield from (path.relative_to(ROOT) for path in found if path.suffix != ".pyc" and path != ROOT / OWN)


class WithWorkflow(build_py):
    """Copies them beside the modules; an editable installation takes the checkout's own."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        share = Path(self.build_lib, "maskdistill/share")
        shutil.rmtree(share, ignore_errors=True)
        for path in shared():
            place = share / path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, place)


setup(cmdclass={"build_py": WithWorkflow})
