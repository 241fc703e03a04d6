"""Which modules of this package a stage's result depends on: those that its entry point imports, directly or
not.

Imports are read from the sources, including those inside functions, so no list is kept by hand and nothing is
executed. A registry leads to all modules of the package that it searches. Only modules that cannot change a
result are listed here; they are not followed.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import maskdistill

ROOT = Path(maskdistill.__file__).parent
NO_RESULT: dict[str, str] = {
    "__init__.py": "version, threads of libraries, names of the Python API",
    **dict.fromkeys(
        (f"config/{path.name}" for path in sorted((ROOT / "config").glob("*.py")) if path.name != "data.py"),
        "settings reach a stage as params, which are compared themselves; ranges and descriptions change "
        "none",
    ),
    # config/data.py leads to the sources, which are settings and code in one.
    "cli/__init__.py": "finds the stage's module and says what went wrong",
    "cli/common.py": "declares options, and hands on threads and device",
    "runtime/errors.py": "messages",
    "runtime/logs.py": "messages",
    "runtime/progress.py": "messages",
    "runtime/job_record.py": "what a job took",
    "runtime/leases.py": "which GPU a job takes",
    "runtime/run_lock.py": "who may write a run",
    "runtime/processes.py": "how processes end",
    "runtime/download.py": "files with a checksum, or none at all",
    "runtime/archives.py": "as download.py",
    "runtime/resume.py": "goes on where a killed job stopped, with outputs that are complete",
    "runtime/background.py": "what runs beside what; the order of results is kept",
    "runtime/loading.py": "as background.py",
    "runtime/files.py": "how files are written, read and hashed, not what stands in them",
    "runtime/json_stream.py": "as files.py",
    "runtime/hdf5.py": "as files.py",
    "runtime/allocator.py": "how memory is given back",
    "runtime/provenance.py": "what is written about a result",
    "runtime/code_closure.py": "what is written about a result",
}
"""Modules that change no result, each with its reason. They are neither hashed nor followed."""
REGISTRIES = frozenset({"data/sources/registry.py", "data/truth/registry.py"})
"""Modules that import all modules in their folder, without naming them."""
# The beginning of a statement. Similar lines within docstrings do no harm: they name modules that do not
# exist.
_IMPORT = re.compile(
    r"^[ \t]*((?:from|import)[ \t]+(?:maskdistill|\.)[^\n(;#]*(?:\((?:[^)#]|#[^\n]*)*\))?)", re.M
)
_REGISTRY = re.compile(r"^from maskdistill\.([\w.]+) import (\w+)(?: as (\w+))?$", re.M)


@cache
def looked_through(module: str) -> frozenset[str]:
    """Files of the packages that a registry imports by ``iter_modules(PACKAGE.__path__)``.

    Args:
        module: path below the package, e.g. ``"evaluation/metrics/registry.py"``.
    """
    text = (ROOT / module).read_text(encoding="utf-8")
    folders = [
        ROOT / base.replace(".", "/") / name
        for base, name, other in _REGISTRY.findall(text)
        if f"iter_modules({other or name}.__path__)" in text
    ]
    return frozenset(path.relative_to(ROOT).as_posix() for folder in folders for path in folder.glob("*.py"))


@cache
def imported(module: str) -> frozenset[str]:
    """Files of the package that a module imports, anywhere in it.

    Args:
        module: path below the package, e.g. ``"cli/features.py"``.

    Raises:
        FileNotFoundError: no such module.
    """
    found: set[str] = set()
    for text in _IMPORT.findall((ROOT / module).read_text(encoding="utf-8")):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in tree.body:
            found.update(filter(None, map(_file, _names(node, module))))
    if module in REGISTRIES:
        found |= {path.relative_to(ROOT).as_posix() for path in (ROOT / module).parent.glob("*.py")}
    parents = {
        f"{folder}/__init__.py" for name in found for folder in PurePosixPath(name).parents if folder.name
    }
    return frozenset((found | parents) - {module})


def _names(node: ast.stmt, module: str) -> Iterator[str]:
    """Dotted names, below the package's own, that a statement may import."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[2] for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        above = list(PurePosixPath(module).parts[: -node.level]) if node.level else []
        start = (
            [*above, *(node.module or "").split(".")] if node.level else (node.module or "").split(".")[1:]
        )
        base = ".".join(part for part in start if part)
        yield base
        yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


@cache
def _file(name: str) -> str | None:
    """Path of the module or package with a dotted name; None if it names something else, e.g. a function."""
    place = name.replace(".", "/")
    return next(
        (path for path in (f"{place}.py", f"{place}/__init__.py".lstrip("/")) if (ROOT / path).is_file()),
        None,
    )


def closure(entries: Iterable[str], without: Iterable[str] = ()) -> frozenset[str]:
    """Paths, below the package, of all files on which the results of some modules depend, including these
    modules.

    Args:
        entries: modules, e.g. ``["cli/features.py"]``.
        without: modules that are imported but not used with the current settings.

    Raises:
        FileNotFoundError: no such module, or one of ``without`` is never imported.
    """
    waiting, found, skipped = list(entries), set[str](), frozenset(without)
    met: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        near = imported(module) | looked_through(module)
        met |= near & skipped
        waiting += near - NO_RESULT.keys() - skipped
    if unused := skipped - met:
        raise FileNotFoundError(f"{', '.join(sorted(unused))}: not imported by {', '.join(sorted(entries))}")
    return frozenset(
        found | {file for module in found for file in _data_files(str(PurePosixPath(module).parent))}
    )


@cache
def _data_files(folder: str) -> frozenset[str]:
    """Files other than modules in a folder of the package or in its subfolders without modules; its modules
    read them.

    ``__pycache__`` is left out, as another process may be writing there.
    """
    place = ROOT / folder
    inside = [path for path in place.iterdir() if path.name != "__pycache__"]
    own = [path for path in inside if path.is_dir() and not any(path.glob("*.py"))] if folder != "." else []
    files = [*inside, *(path for below in own for path in below.rglob("*"))]
    return frozenset(
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.is_file() and path.suffix not in (".py", ".pyc")
    )
