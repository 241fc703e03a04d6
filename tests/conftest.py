"""Tests in two processes: a file's tests stay together, and so do those that share the finished run of tests/dag."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: each process has a core


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = "dag" if item.path.parent.name == "dag" else str(item.path)
        item.add_marker(pytest.mark.xdist_group(name))
