"""Finished miniature runs for the tests of the workflow."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dag_project import Project, copy_project, make_project
from filelock import FileLock

BUILT = "built"
"""A file in the folder of the finished miniature, written last."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The miniature, run from images to report once for all processes. Do not edit it: take ``editable``."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock", timeout=900):
        if not (folder / BUILT).exists():
            make_project(folder).snakemake()
            (folder / BUILT).touch()
    return Project(folder)


@pytest.fixture
def editable(finished: Project, tmp_path: Path) -> Project:
    """A finished miniature of one's own."""
    return copy_project(finished, tmp_path / "project")
