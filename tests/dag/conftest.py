"""Finished miniature runs for the tests of the workflow."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dag_project import Project, copy_project, make_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The miniature, run from images to report once. Do not edit it: take ``editable``."""
    project = make_project(tmp_path_factory.mktemp("finished"))
    project.snakemake()
    return project


@pytest.fixture
def editable(finished: Project, tmp_path: Path) -> Project:
    """A finished miniature of one's own."""
    return copy_project(finished, tmp_path / "project")
