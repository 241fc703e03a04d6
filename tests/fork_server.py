"""Snakemake and the jobs it starts as forks of one process that has loaded their libraries.

A start costs a job 1 to 10 s of a processor, nearly all of it for torch and other libraries, and a miniature
run has 42 jobs. A fork of a process that holds them starts at once. It holds this project's code too, which a
fork keeps where its folder has the same files, and imports from there otherwise. Forks are processes that can
be killed; of root's rights they lack those to write where permission is missing, and they write no larger
file than the asking process may.

As a script (``fork_server.py FOLDER``) it is the server, which ends when its standard input does.
"""

import atexit
import contextlib
import filecmp
import gc
import importlib
import marshal
import os
import resource
import runpy
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

LIBRARIES = (
    "torch", "torch._dynamo", "torchvision", "torchvision.transforms.v2", "torchvision.models.detection",
    "torchvision.models.segmentation", "timm.models.eva", "timm.models.vision_transformer",
    "safetensors.torch",
    "cv2", "faiss", "sklearn.cluster", "sklearn.metrics", "scipy.ndimage", "scipy.optimize", "scipy.sparse",
    "h5py",
    "pandas", "pydantic", "pycocotools.mask", "faster_coco_eval", "matplotlib.figure", "PIL.Image", "jinja2",
    "matplotlib.backends.backend_svg", "pygments.lexers", "filelock", "tqdm", "snakemake.cli",
    "snakemake.scheduling.milp", "snakemake.executors.local", "snakemake_executor_plugin_slurm",
    "snakemake_executor_plugin_cluster_generic", "snakemake.storage", "snakemake.report.html_reporter",
    "smart_open",
    "requests", "yte", "torchvision.transforms.functional",
)  # fmt: skip
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "maskdistill"
CLIENT = """import marshal, os, sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket
from _struct import pack
request = marshal.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)])
server = socket(AF_UNIX, SOCK_STREAM)
server.connect({address!r})
server.sendmsg([pack("!Q", len(request))], [(SOL_SOCKET, SCM_RIGHTS, pack("3i", 0, 1, 2))])
server.sendall(request)
os._exit(int(server.recv(16) or b"137"))
"""
"""What a command is, hundreds of times: :func:`ask` with Python's built-in modules alone."""
COMMANDS = {
    "maskdistill": """#!/bin/sh
exec {client} maskdistill "$@"
""",
    "python": """#!/bin/sh
if [ "$1 $2" = "-m snakemake" ]; then shift 2; exec {client} snakemake "$@"; fi
exec {python} "$@"
""",
}
"""Commands for those that need a path: an entry point, and Python for ``python -m snakemake``."""


class Held(NamedTuple):
    """The project's modules in a server.

    Attributes:
        modules: name -> its file in the package, and whether it is a package itself.
        paths: module, name in it, and place in the checkout, of each path that a module found from its own.
        stamps: of the modules' files.
    """

    modules: dict[str, tuple[str, bool]]
    paths: list[tuple[str, str, str]]
    stamps: dict[str, tuple[int, int]]


class ForkServer:
    """A server, with the first to ask for it in its folder; it ends with the last of the processes that hold
    it.

    Args:
        hash_seed: of Python's strings, the same in all its forks.
        folder: where those who share it meet, with a short path, as sockets want; by default one of its own.
    """

    def __init__(self, hash_seed: str = "random", folder: Path | None = None) -> None:
        from filelock import FileLock  # what only asks has no libraries

        self.shared = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="forks-"))
        self.process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(exist_ok=True)
        holders = self.folder / "holders"
        with FileLock(self.folder / "lock"):
            if not holders.exists():
                os.mkfifo(holders)
                reading = os.open(holders, os.O_RDONLY | os.O_NONBLOCK)
                self.holding = os.open(holders, os.O_WRONLY)
                self.process = self.start(reading, hash_seed)
                os.close(reading)
            else:
                self.holding = os.open(holders, os.O_WRONLY | os.O_NONBLOCK)

    def start(self, holders: int, hash_seed: str) -> subprocess.Popen[bytes]:
        """Start the server, which lives until nobody holds the pipe any more, and wait until it is ready."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
        environment |= {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait leave the cores to other tests
        obey = [] if os.geteuid() else ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        process = subprocess.Popen(
            [*obey, sys.executable, __file__, str(self.folder)], stdin=holders, stdout=subprocess.PIPE,
            env=environment | {"PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        assert process.stdout and process.stdout.readline() == b"ready\n"
        return process

    def command(self, name: str) -> str:
        """The path that stands for ``maskdistill``, or for ``python`` where it runs Snakemake."""
        assert name in COMMANDS
        return f"{self.folder}/bin/{name}"

    def run(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of ``snakemake``, ``maskdistill`` or the path of a
        script.
        """
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            open(os.devnull, "rb") as nothing,
        ):
            files = (nothing.fileno(), out.fileno(), err.fileno())
            status = ask(f"{self.folder}/socket", command, str(cwd), environment, files)
            for file in (out, err):
                file.seek(0)
            return status, out.read().decode(), err.read().decode()

    def close(self) -> None:
        """Let it go: where nobody else holds it, it ends and removes its folder."""
        os.close(self.holding)
        if self.process and not self.shared:
            self.process.wait()


@cache
def fork_server() -> ForkServer:
    """The server that the processes of a test run share: to load the libraries takes 15 s of a core."""
    shared = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    server = ForkServer(folder=Path(tempfile.gettempdir(), f"forks-{shared}") if shared else None)
    atexit.register(server.close)
    return server


def ask(
    address: str,
    command: Sequence[str],
    cwd: str,
    environment: Mapping[str, str],
    files: tuple[int, int, int],
) -> int:
    """Have a command run by the server at ``address``: its exit status.

    Where the caller is killed, so is it.
    """
    request = marshal.dumps([list(command), cwd, dict(environment)])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(900)
        connection.connect(address)
        socket.send_fds(connection, [struct.pack("!Q", len(request))], list(files))
        connection.sendall(request)
        return int(connection.recv(16) or b"137")


def serve(folder: Path) -> None:
    """Load the libraries, then fork for every connection until standard input ends."""
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.modules["snakemake.cli"].get_argument_parser()  # looks for its plugins among all that is installed
    held = hold()
    for info in weakref.finalize._registry.values():  # type: ignore[attr-defined]
        info.atexit = False  # libraries would undo, at the end of every fork, what ends with it
    os.fsync = lambda _: None  # as in the tests' own processes: no test survives a power cut
    gc.freeze()  # what forks share is not written to
    commands = folder / "bin"
    commands.mkdir()
    address = str(folder / "socket")
    (folder / "client.py").write_text(CLIENT.format(address=address))
    words = {
        "python": shlex.quote(sys.executable),
        "client": shlex.join([sys.executable, "-IS", f"{folder}/client.py"]),
    }
    for name, text in COMMANDS.items():
        (commands / name).write_text(text.format(**words))
        (commands / name).chmod(0o755)
    jobs: dict[int, Job] = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        os.write(1, b"ready\n")
        while sys.stdin not in (ready := wait_for([listener, sys.stdin], jobs)):
            for ended in set(jobs).intersection(ready):
                jobs.pop(ended).bury(ended)
            for job in jobs.values():
                if job.connection in ready:  # the asking process died
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(job.worker, signal.SIGKILL)
            if listener in ready:
                with contextlib.suppress(OSError, ValueError, struct.error):  # it died while it asked
                    job = start_job(listener, [*jobs, *(job.connection for job in jobs.values())], held)
                    jobs[os.pidfd_open(job.worker)] = job
    shutil.rmtree(folder)


class Job(NamedTuple):
    """A fork, and the process that asked for it.

    Where that dies, the fork is killed with all it has started; forks among these are killed like it.
    """

    connection: socket.socket
    worker: int

    def bury(self, ended: int) -> None:
        """Send the exit status of the fork, whose process descriptor is ``ended``."""
        os.close(ended)
        status = os.waitstatus_to_exitcode(os.waitpid(self.worker, 0)[1])
        with contextlib.suppress(OSError):
            self.connection.sendall(str(status if status >= 0 else 128 - status).encode())
        self.connection.close()


def wait_for(files: list[Any], jobs: Mapping[int, Job]) -> list[Any]:
    """Which of some files can be read, jobs have ended (their descriptors) or were given up (connections)."""
    return select.select([*files, *jobs, *(job.connection for job in jobs.values())], [], [])[0]


def start_job(listener: socket.socket, others: Sequence[int | socket.socket], held: Held) -> Job:
    """Fork for the next connection; the fork closes the server's ``others``."""
    connection = listener.accept()[0]
    connection.settimeout(60)
    header, files, _, _ = socket.recv_fds(connection, 8, 3)
    request = connection.recv(struct.unpack("!Q", header)[0], socket.MSG_WAITALL)
    command, cwd, environment = marshal.loads(request)
    asking = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    largest_file = resource.prlimit(asking, resource.RLIMIT_FSIZE)
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)
        python = Path(listener.getsockname()).with_name("bin") / "python"
        for other in (listener, connection, *others):
            other.close() if isinstance(other, socket.socket) else os.close(other)
        resource.setrlimit(resource.RLIMIT_FSIZE, largest_file)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        become(command, cwd, environment, python, held)
    for file in files:
        os.close(file)
    return Job(connection, worker)


def become(command: list[str], cwd: str, environment: dict[str, str], python: Path, held: Held) -> NoReturn:
    """Go on as ``python -m snakemake ...``, the entry point ``maskdistill ...`` or ``python SCRIPT ...``
    would.
    """
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:1] = given = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    adopt(given, held)
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ImportError):
        import sitecustomize  # noqa: F401
    sys.argv = [str(python.parent / command[0]), *command[1:]]
    Path("/proc/self/comm").write_text(command[command[0] == "maskdistill"])  # a stage's name, or snakemake
    sys.executable = str(python)  # beside which the rules look for their entry points
    status: object = 0
    try:
        if command[0] == "snakemake":
            runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
        elif command[0].endswith(".py"):
            runpy.run_path(command[0], run_name="__main__")
        else:
            status = importlib.import_module("maskdistill.cli").main()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    leave(status)


def adopt(paths: Sequence[str], held: Held) -> None:
    """Make what is held of the project's code that of the first of some folders for imports.

    It is forgotten where that has other files, or where another module among them may change what it does.
    """
    package = Path(*paths[:1], PACKAGE.name)
    checkout = (package.parent / "Snakefile").exists()
    if len(paths) != 1 or not checkout or strangers(package.parent) or not unchanged(package, held):
        for name in held.modules:
            del sys.modules[name]
        return
    for name, (file, folders) in held.modules.items():
        module = sys.modules[name]
        module.__file__ = str(package / file)
        if module.__spec__:
            module.__spec__.origin = module.__file__
        if folders:
            module.__path__ = [str((package / file).parent)]
    for name, attribute, path in held.paths:
        setattr(sys.modules[name], attribute, package.parent / path)


def strangers(folder: Path) -> list[Path]:
    """Records of installed packages in a folder, but the project's own, and what Python runs at its start."""
    records = [found for found in folder.glob("*-info") if not found.name.startswith(PACKAGE.name)]
    return records + list(folder.glob("sitecustomize.py"))


def unchanged(package: Path, held: Held) -> bool:
    """Whether a copy of the project's package has the same modules in the same bytes."""
    copied = stamps(package)
    return copied.keys() == held.stamps.keys() and all(
        stamp == held.stamps[file] or filecmp.cmp(PACKAGE / file, package / file, shallow=False)
        for file, stamp in copied.items()
    )


def stamps(package: Path, below: str = "") -> dict[str, tuple[int, int]]:
    """Modules of a package and of those in it, by their places: bytes, and the time of the last change."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(f"{package}/{below}") as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                found[below + entry.name] = (entry.stat().st_size, entry.stat().st_mtime_ns)
            elif entry.name != "__pycache__" and entry.is_dir():
                found |= stamps(package, f"{below}{entry.name}/")
    return found


def hold() -> Held:
    """Import all modules of the project, and find what of them knows where they lie."""
    sys.path.insert(0, str(ROOT))
    held = Held({}, [], stamps(PACKAGE))
    for file in sorted(held.stamps):
        name = f"{PACKAGE.name}/{file}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if not name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # an optional package is missing
                importlib.import_module(name)
    sys.path.remove(str(ROOT))
    for name, module in sys.modules.items():
        if name.partition(".")[0] == PACKAGE.name:
            file = Path(str(module.__file__)).relative_to(PACKAGE).as_posix()
            held.modules[name] = (file, hasattr(module, "__path__"))
            for attribute, value in vars(module).items():
                if isinstance(value, Path) and value.is_relative_to(ROOT):
                    held.paths.append((name, attribute, value.relative_to(ROOT).as_posix()))
    return held


def leave(status: object) -> NoReturn:
    """End as the interpreter does, but leave it to the system to free memory: that takes seconds of a
    processor.
    """
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
