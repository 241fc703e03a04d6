"""Tests in several processes, each test with logging as it was."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import maskdistill  # noqa: F401 # before torch loads: it settles how threads wait for each other

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: each process has a core

WHOLE_RUNS = ("dag", "slurm")
"""Folders of tests that run the workflow."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs are slow, every one of them."""
    for item in items:
        if item.path.parent.name in WHOLE_RUNS and item.path.parents[1] == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def stages_have_a_core() -> Iterator[None]:
    """An entry point called in this process takes one thread unless it is given more: see above."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskdistill.cli.common.available_cores", lambda: 1)
        yield


@pytest.fixture(autouse=True, scope="session")
def no_test_survives_a_power_cut() -> Iterator[None]:
    """Files are not written through to the disk: the tests write thousands, each of which would wait for
    it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and so would be all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def log_handlers_end_with_their_test() -> Iterator[None]:
    """A handler of an entry point called in this process writes to a stream that pytest closes after the
    test.
    """
    yield
    root = logging.getLogger()
    for handler in root.handlers.copy():
        if type(handler) in (logging.StreamHandler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch works with one thread, as the tests' processes have a core each; what else a test settles is
    undone.
    """
    import torch  # not every test needs it

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose models are random; not to be written into."""
    from finished_run import write_run  # not every test needs torch

    return write_run(tmp_path_factory.mktemp("results") / "small")
