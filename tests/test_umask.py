"""What a run makes has the permissions that the user's umask leaves, also while other threads make files."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskdistill.runtime.files import atomic_directory, atomic_path, write_json
from maskdistill.runtime.hdf5 import hdf5_file
from maskdistill.runtime.locks import FileLock


@pytest.fixture(params=[0o077, 0o027, 0o002, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.hostile("files: umask 077", outcome="files and folders are for the user alone")
def test_files_and_folders_follow_the_umask(tmp_path: Path, umask: int) -> None:
    write_json(tmp_path / "sub/a.json", {"a": 1})
    with atomic_path(tmp_path / "b.h5") as temporary, hdf5_file(temporary, "w") as file:
        assert mode(temporary) == 0o666 & ~umask, "not even for a moment"
        file["x"] = 1
    with atomic_directory(tmp_path / "made/labels") as folder:
        assert mode(folder) == 0o777 & ~umask
        (folder / "in").mkdir()
        (folder / "in/c.png").touch()
    lock = FileLock(tmp_path / "d.lock")
    assert lock.acquire()
    lock.release()
    for name in ("sub/a.json", "b.h5", "made/labels/in/c.png", "d.lock"):
        assert mode(tmp_path / name) == 0o666 & ~umask, name
    for name in ("sub", "made", "made/labels", "made/labels/in"):
        assert mode(tmp_path / name) == 0o777 & ~umask, name


def test_the_umask_is_never_lifted(tmp_path: Path) -> None:
    """It belongs to the whole process: a thread that lifts it to look at it opens the files of all others."""
    before, done = os.umask(0o077), threading.Event()
    others: list[int] = []

    def make() -> None:
        number = 0
        while not done.is_set() and number < 100_000:
            number += 1
            os.close(os.open(tmp_path / "other", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            others.append(mode(tmp_path / "other"))
            (tmp_path / "other").unlink()

    thread = threading.Thread(target=make)
    try:
        thread.start()
        for _ in range(300):
            write_json(tmp_path / "a.json", {"a": 1})
    finally:
        done.set()
        thread.join()
        os.umask(before)
    assert set(others) == {0o600}


def test_a_shared_lock_is_for_all(tmp_path: Path, umask: int) -> None:
    lock = FileLock(tmp_path / "GPU.lock", 0o666)
    assert lock.acquire() and mode(tmp_path / "GPU.lock") == 0o666
    lock.release()
