"""Snakemake and the jobs it starts as forks of one process that has loaded their libraries.

A start costs a job 1 to 10 s of a processor, nearly all of it for torch and other libraries, and a miniature
run has 42 jobs. A fork of a process that holds them starts at once. Of this project's code it holds the
configuration alone (:data:`OWN`): a fork keeps that where its folder has the same files, and imports all else
from there. Forks are processes that can be killed; of root's rights they lack those to write where permission
is missing, and they write no larger file than the asking process may.

As a script (``fork_server.py FOLDER``) it is the server, which ends when its standard input does.
"""

import atexit
import contextlib
import filecmp
import gc
import importlib
import json
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
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NoReturn

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
OWN = "maskdistill.config"
"""To make its models takes a third of the start of a small job; nothing that it imports knows where its file
lies.
"""
CLIENT = """import os, sys
sys.path.insert(0, {here!r})
from fork_server import ask
sys.exit(ask({address!r}, sys.argv[1:], os.getcwd(), dict(os.environ), (0, 1, 2)))
"""
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
    request = json.dumps([list(command), cwd, dict(environment)]).encode("utf-8", "surrogateescape")
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
    sys.path.insert(0, str(ROOT))
    importlib.import_module(OWN)
    sys.path.remove(str(ROOT))
    os.fsync = lambda _: None  # as in the tests' own processes: no test survives a power cut
    gc.freeze()  # what forks share is not written to
    commands = folder / "bin"
    commands.mkdir()
    address = str(folder / "socket")
    (folder / "client.py").write_text(CLIENT.format(here=str(Path(__file__).parent), address=address))
    words = {
        "python": shlex.quote(sys.executable),
        "client": shlex.join([sys.executable, "-IS", f"{folder}/client.py"]),
    }
    for name, text in COMMANDS.items():
        (commands / name).write_text(text.format(**words))
        (commands / name).chmod(0o755)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need no burial
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        os.write(1, b"ready\n")
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection = listener.accept()[0]
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                keep(connection, commands / "python")
            connection.close()
    shutil.rmtree(folder)


def keep(connection: socket.socket, python: Path) -> NoReturn:
    """Run what a connection asks for in a fork and send its exit status.

    Where the asking process dies, kill the fork with all it has started; forks among them have keepers of
    their own.
    """
    header, files, _, _ = socket.recv_fds(connection, 8, 3)
    request = connection.recv(struct.unpack("!Q", header)[0], socket.MSG_WAITALL)
    command, cwd, environment = json.loads(request.decode("utf-8", "surrogateescape"))
    asking = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    largest_file = resource.prlimit(asking, resource.RLIMIT_FSIZE)
    worker = os.fork()
    if worker == 0:
        connection.close()
        resource.setrlimit(resource.RLIMIT_FSIZE, largest_file)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        become(command, cwd, environment, python)
    os.setpgid(worker, worker)
    ended = os.pidfd_open(worker)
    if ended not in select.select([ended, connection], [], [])[0]:
        with contextlib.suppress(OSError):
            os.killpg(worker, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(str(status if status >= 0 else 128 - status).encode())
    os._exit(0)


def become(command: list[str], cwd: str, environment: dict[str, str], python: Path) -> NoReturn:
    """Go on as ``python -m snakemake ...``, the entry point ``maskdistill ...`` or ``python SCRIPT ...``
    would.
    """
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:1] = given = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    adopt(given)
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


def adopt(paths: Sequence[str]) -> None:
    """Make what is held of the project's code that of the first of some folders for imports.

    It is forgotten where that has other files, or where another package among them may have entry points.
    """
    held = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "maskdistill"}
    places = {name: Path(*paths[:1], *name.split(".")) for name in held}
    if (
        len(paths) == 1
        and not strangers(Path(paths[0]))
        and all(same(held[name], places[name]) for name in held)
    ):
        for name, module in held.items():
            module.__file__ = str(
                places[name] / "__init__.py" if is_package(module) else f"{places[name]}.py"
            )
            if is_package(module):
                module.__path__ = [str(places[name])]
    else:
        for name in held:
            del sys.modules[name]


def strangers(folder: Path) -> list[Path]:
    """Records of installed packages in a folder, but the project's own."""
    return [found for found in folder.glob("*-info") if not found.name.startswith("maskdistill")]


def is_package(module: ModuleType) -> bool:
    """Whether it may have modules below it."""
    return hasattr(module, "__path__")


def same(module: ModuleType, place: Path) -> bool:
    """Whether a module's file is there in the same bytes, and beside a package's modules of the same
    names.
    """
    try:
        if not is_package(module):
            return filecmp.cmp(str(module.__file__), f"{place}.py", shallow=False)
        here = Path(str(module.__file__)).parent
        names = [{path.name for path in folder.iterdir() if path.suffix == ".py"} for folder in (here, place)]
        return names[0] == names[1] and filecmp.cmp(
            here / "__init__.py", place / "__init__.py", shallow=False
        )
    except OSError:
        return False


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
