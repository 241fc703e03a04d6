"""Locks where the file system has none, and where a lock file should be lies something else."""

import errno
import fcntl
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest
from range_server import RangeServer, serve

from maskdistill.runtime import download as download_module
from maskdistill.runtime import leases, locks
from maskdistill.runtime.download import download
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.hdf5 import hdf5_file, open_hdf5, write_hdf5
from maskdistill.runtime.leases import lease, lease_folder
from maskdistill.runtime.locks import UNSUPPORTED, FileLock, UnfitLockError, has_locks
from maskdistill.runtime.run_lock import explain_lock, hold_run, release_run

NO_LOCKS = sorted(UNSUPPORTED)
without_locks = pytest.mark.parametrize(
    "number", NO_LOCKS, ids=[errno.errorcode[number] for number in NO_LOCKS]
)
UUIDS = ["GPU-a0", "GPU-b1"]


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_warned", set())


def forbid_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture(params=[None, errno.ENOLCK], ids=["locks", "no locks"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """With the kernel's file locks, and on a file system without."""
    number: int | None = request.param
    if number is not None:
        forbid_locks(monkeypatch, number)
    return number


# ---------------------------------------------------------------- the lock


def test_one_holds_it_at_a_time(tmp_path: Path, kind: int | None, caplog: pytest.LogCaptureFixture) -> None:
    first, second, other = FileLock(tmp_path / "a"), FileLock(tmp_path / "a"), FileLock(tmp_path / "b")
    assert first.acquire() and first.acquire() and first.held
    assert not second.acquire() and not second.held
    assert other.acquire(), "another file is another lock"
    first.write("somebody\n")
    first.release()
    assert second.acquire() and (tmp_path / "a").read_text() == "somebody\n"
    second.release()
    other.release()
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (kind is not None), "said once"
    assert all(f"{tmp_path}: this file system has no locks" in text for text in warnings)


def test_a_process_that_ends_lets_go(tmp_path: Path, kind: int | None) -> None:
    code = "import fcntl, os, sys; from maskdistill.runtime.locks import FileLock\n"
    if kind is not None:
        code += f"def refuse(*_): raise OSError({kind}, 'No locks available')\nfcntl.flock = refuse\n"
    code += (
        "lock = FileLock(sys.argv[1]); print(lock.acquire(), flush=True); input(); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "True\n"
        lock = FileLock(tmp_path / "a")
        assert not lock.acquire()
        process.communicate("\n")
    assert lock.acquire()
    lock.release()


def test_a_file_that_lost_its_name_guards_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def unlink_first(descriptor: int, how: int) -> None:
        (tmp_path / "a").unlink()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", unlink_first)
    lock = FileLock(tmp_path / "a")
    assert not lock.acquire()
    monkeypatch.setattr(fcntl, "flock", real)
    assert lock.acquire()
    lock.release()


def test_other_errors_are_not_taken_for_a_lack_of_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_locks(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        FileLock(tmp_path / "a").acquire()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


UNFIT: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.symlink_to("/etc/hostname"), "is a link"),
    (lambda path: path.symlink_to("nowhere"), "is a link"),
    (Path.mkdir, "is a folder"),
    (os.mkfifo, "is something other than a file"),
    (make_socket, "is a socket or pipe"),
]
unfit = pytest.mark.parametrize(("make", "said"), UNFIT, ids=["link", "dangling", "folder", "pipe", "socket"])


@unfit
def test_what_is_no_file_is_not_locked(
    tmp_path: Path, make: Callable[[Path], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    make(Path("a.lock"))
    with pytest.raises(UnfitLockError, match=rf"^a\.lock: {said} where a lock file must lie; move it"):
        FileLock("a.lock").acquire()


def test_a_lock_file_of_another_user_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading is enough to lock it. The tests may run as root, whom nothing is forbidden."""
    (tmp_path / "a").touch()
    real = os.open

    def as_other(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", as_other)
    lock = FileLock(tmp_path / "a")
    assert lock.acquire() and not lock.writable
    lock.release()


# ---------------------------------------------------------------- HDF5


def forbid_hdf5_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """HDF5 as it is on such a file system: see ``test_hdf5_in_a_process_without_locks``, which asks HDF5
    itself.
    """
    real = h5py.File

    def without(path: Path, mode: str, locking: bool | None = None) -> h5py.File:
        if locking is None:
            told = f"(unable to lock file, errno = {number}, error message = '{os.strerror(number)}')"
            raise OSError(number, f"Unable to synchronously open file {told}")
        return real(path, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", without)


@pytest.mark.hostile(
    "hdf5: on a file system without locks (ENOLCK and the like, as on many NFS)",
    outcome="written and read, with one warning; doctor says so",
)
@without_locks
def test_hdf5_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    forbid_hdf5_locks(monkeypatch, number)
    with write_hdf5(tmp_path / "a.h5") as file:
        file["x"] = [1, 2]
    for _ in range(2):
        with open_hdf5(tmp_path / "a.h5") as file:
            assert file["x"][:].tolist() == [1, 2]
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}: this file system has no locks; processes of other machines that use the same files are "
        "not noticed, so let one machine at a time work there"
    ]


SHIM = "#include <errno.h>\nint flock(int fd, int how) { errno = ENOLCK; return -1; }\n"


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library before whose ``flock`` no lock is known, also to HDF5."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here to compile a library without locks")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "nolock.c").write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "nolock.so", folder / "nolock.c"], check=True)
    return folder / "nolock.so"


def test_hdf5_in_a_process_without_locks(tmp_path: Path, shim: Path) -> None:
    """HDF5's own locks, which are taken in C; and damage is still told from a lack of locks."""
    code = """if True:
        import sys
        from pathlib import Path
        from maskdistill.runtime.errors import MaskDistillError
        from maskdistill.runtime.hdf5 import open_hdf5, write_hdf5
        path = Path(sys.argv[1])
        with write_hdf5(path) as file:
            file["x"] = [1, 2]
        with open_hdf5(path) as file:
            print(file["x"][:].tolist())
        path.write_bytes(b"no HDF5")
        try:
            with open_hdf5(path):
                pass
        except MaskDistillError as error:
            print(error)
        """
    environment = {name: value for name, value in os.environ.items() if name != "HDF5_USE_FILE_LOCKING"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.h5")],
        env=environment | {"LD_PRELOAD": str(shim)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0] == "[1, 2]" and "a.h5: damaged" in lines[1]
    assert done.stderr.count("this file system has no locks") == 1


def test_an_environment_that_insists_on_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "unable to lock file, errno = 37")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(MaskDistillError, match=r"a\.h5: .*HDF5_USE_FILE_LOCKING .*unset it"):
        hdf5_file(tmp_path / "a.h5", "r")


# ---------------------------------------------------------------- runs


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "results/r"
    release_run(tmp_path / "results/r")


def test_a_run_is_alone_with_and_without_locks(run: Path, kind: int | None) -> None:
    hold_run(run)
    with pytest.raises(MaskDistillError, match=rf"another run is at work here \(process {os.getpid()} on"):
        hold_run(run)
    release_run(run)
    assert (run / ".lock").read_text() == ""
    hold_run(run)


@pytest.mark.hostile(
    "files: a link, folder or pipe in place of a run's lock file",
    outcome="the run does not start; named, to be moved",
)
@unfit
def test_a_run_whose_lock_is_no_file(
    run: Path, make: Callable[[Path], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.mkdir(parents=True)
    monkeypatch.chdir(run)
    make(Path(".lock"))
    with pytest.raises(MaskDistillError, match=rf"\.lock: {said} where a lock file must lie; move it"):
        hold_run(run)
    assert explain_lock(run, run / "locks", "unlock") is None


def test_a_run_in_a_folder_of_another_user(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileLock, "writable", property(lambda self: False))
    with pytest.raises(
        MaskDistillError, match=r"results cannot be written there \(Permission denied\).*run=NAME"
    ):
        hold_run(run)
    monkeypatch.undo()
    hold_run(run)


def test_a_run_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(MaskDistillError, match="results cannot be written there"):
        hold_run(tmp_path / "results/r")


# ---------------------------------------------------------------- downloads


def test_a_download_without_locks(tmp_path: Path, kind: int | None) -> None:
    with serve(RangeServer(b"weights")) as server:
        download(server.url, tmp_path / "here/file")
    assert (tmp_path / "here/file").read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["file"]


@pytest.mark.hostile(
    "files: a link, folder or pipe in place of a partial download, or a folder in place of the file",
    outcome="the stage stops and names it; nothing is written through a link",
)
@unfit
def test_a_partial_download_that_is_no_file(
    tmp_path: Path, make: Callable[[Path], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("source").write_bytes(b"weights")
    make(Path("file.part"))
    with pytest.raises(MaskDistillError, match=rf"file\.part: {said}"):
        download(Path("source").absolute().as_uri(), "file")
    assert not Path("nowhere").exists() and not Path("file").exists()
    Path("file").mkdir()
    with pytest.raises(MaskDistillError, match="file: is not a file"):
        download(Path("source").absolute().as_uri(), "file")


@pytest.mark.parametrize("slowest", [1, 10**9])
def test_a_server_that_sends_next_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slowest: int
) -> None:
    """Each byte comes in time, and still the file would take for ever."""
    monkeypatch.setattr(download_module, "STALL", 0.0)
    monkeypatch.setattr(download_module, "CHUNK", 1000)
    monkeypatch.setattr(download_module, "SLOWEST", slowest)
    with serve(RangeServer(bytes(100_000))) as server:
        if slowest == 1:
            download(server.url, tmp_path / "file")
        else:
            with pytest.raises(
                MaskDistillError, match=r"1000 bytes in 0 s; what came is kept in .*file\.part"
            ):
                download(server.url, tmp_path / "file")


def test_waiting_for_a_download_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process fetches, and nothing comes; while something comes, it is waited for."""
    monkeypatch.setattr(download_module, "STALL", 0.3)
    monkeypatch.setattr(download_module, "POLL", 0.01)
    other = FileLock(tmp_path / "file.part")
    assert other.acquire()
    with pytest.raises(
        MaskDistillError,
        match=r"file\.part: another process is downloading it and has received nothing for 0 s",
    ):
        download("http://127.0.0.1:9/file", tmp_path / "file")
    other.release()


# ---------------------------------------------------------------- GPUs


def test_gpus_are_leased_without_locks(tmp_path: Path, kind: int | None) -> None:
    held = lease(UUIDS, 1, tmp_path)
    more = lease(UUIDS, 1, tmp_path)
    assert [uuid for uuid, _ in held + more] == UUIDS
    with pytest.raises(
        MaskDistillError, match=r"1 of 2 GPUs did not become free in 0 s.*MASKDISTILL_LEASE_WAIT"
    ):
        lease(UUIDS, 1, tmp_path, patience=0.1)
    for _, lock in held + more:
        lock.release()


@pytest.mark.hostile(
    "files: a link, folder or pipe in place of the lock file of a GPU",
    outcome="another name is taken, by all users alike, with a warning",
)
@pytest.mark.parametrize("name", ["gate", UUIDS[0]])
@unfit
def test_a_gpu_whose_lock_is_no_file(
    tmp_path: Path,
    make: Callable[[Path], object],
    said: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path(f"{name}.lock"))
    held = lease(UUIDS, 2, Path())
    assert [uuid for uuid, _ in held] == UUIDS
    with pytest.raises(MaskDistillError, match="did not become free"):
        lease(UUIDS[:1], 1, Path(), patience=0.0)
    assert f"{name}.lock: {said}" in caplog.text and f"{name}.1.lock is taken instead" in caplog.text
    for _, lock in held:
        lock.release()


def test_a_lock_folder_full_of_folders(tmp_path: Path) -> None:
    for number in range(leases.NAMES + 1):
        (tmp_path / (f"gate.{number}.lock" if number else "gate.lock")).mkdir()
    with pytest.raises(MaskDistillError, match=r"gate\.8\.lock: is a folder.*set MASKDISTILL_LEASES"):
        lease(UUIDS, 1, tmp_path)


def test_a_lock_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "gate.lock").touch()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        MaskDistillError, match=r"gate\.lock: .*Permission denied\).*belongs to .*everybody access"
    ):
        lease(UUIDS, 1, tmp_path)


def test_patience_is_set_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = lease(UUIDS, 2, tmp_path)
    monkeypatch.setenv("MASKDISTILL_LEASE_WAIT", "0.1")
    with pytest.raises(MaskDistillError, match="did not become free"):
        lease(UUIDS, 1, tmp_path)
    monkeypatch.setenv("MASKDISTILL_LEASE_WAIT", "soon")
    with pytest.raises(MaskDistillError, match="MASKDISTILL_LEASE_WAIT='soon': give seconds"):
        lease(UUIDS, 1, tmp_path)
    for _, lock in held:
        lock.release()


@pytest.mark.hostile(
    "files: a link or a file in place of the folder of GPU locks, or one that cannot be made",
    outcome="the stage stops and says which variable names another",
)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.symlink_to("/tmp"), "is a link"),
        (lambda path: path.symlink_to("nowhere"), "is a link"),
        (Path.touch, "not a folder"),
        (lambda path: path.parent.touch(), "cannot be made"),
    ],
)
def test_an_unfit_folder_of_gpu_locks(
    tmp_path: Path, make: Callable[[Path], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "POLL", 0.001)
    monkeypatch.setenv("MASKDISTILL_LEASES", str(tmp_path / "x/leases"))
    if said != "cannot be made":
        (tmp_path / "x").mkdir()
    make(tmp_path / "x/leases")
    with pytest.raises(MaskDistillError, match=rf"leases: {said}.*set MASKDISTILL_LEASES"):
        lease_folder()


# ---------------------------------------------------------------- doctor


@without_locks
def test_whether_a_folder_has_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    assert has_locks(tmp_path)
    forbid_locks(monkeypatch, number)
    assert not has_locks(tmp_path) and not list(tmp_path.iterdir())
