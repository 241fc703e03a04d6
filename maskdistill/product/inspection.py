"""What ``maskdistill doctor`` looks at: versions, devices, disk, extras, and what a configuration needs."""

import os
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from maskdistill.annotations.names import read_names
from maskdistill.backbones.registry import find_checkpoint, how_to_get
from maskdistill.config import Config, VocData
from maskdistill.config.limits import refuse_more_clusters
from maskdistill.data.planned import check_annotations, count_fitted, count_planned, is_built, kept_folder
from maskdistill.data.sources.base import Look
from maskdistill.data.truth_check import check_truth
from maskdistill.product.checks import (
    GIGA,
    RESERVE,
    Check,
    disk_need,
    left_out_check,
    locks_check,
    shared_memory_check,
    uses_workers,
)
from maskdistill.product.objects import chosen_formats
from maskdistill.runtime.cores import available_cores
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.leases import lease_folder, visible_gpus
from maskdistill.runtime.locks import has_locks
from maskdistill.runtime.shared_memory import room
from maskdistill.workflow.commands import CHECKOUT, make
from maskdistill.workflow.needed_weights import downloads, networks, rehearsal, weights_path

EXTRAS = {
    "crf": (("pydensecrf",), "dense CRF", "{make} (wants g++ and Python's headers)"),
    "export": (("onnx", "onnxscript", "onnxruntime"), "maskdistill export", "{make}"),
    "names": (("open_clip",), "maskdistill names", "{make}"),
    "parquet": (("pyarrow",), "data.kind: parquet, --format parquet", "{make}"),
    "video": (("av",), "data.kind: video", "{make}"),
    "remote": (("requests", "requests_aws4auth"), "data.kind: remote and remote_tar", "{make}"),
    "detectron2": (
        ("detectron2",), "detector.engine: detectron2", "--sdm conda, or see {checkout}/envs/detectron2.yaml"
    ),
}  # fmt: skip


def inspect(config: Config | None) -> Iterator[Check]:
    """Look at all that a run needs of this machine, and with a configuration at what this run needs."""
    yield from devices()
    yield from extras(config)
    yield from machine(config)
    if config is None:
        yield disk(RESERVE)
    else:
        yield from pictures(config)
        yield from weights(config)


def versions() -> Iterator[Check]:
    """Python and the required libraries; their versions against what the package asks for."""
    yield Check("python", "ok", platform.python_version())
    for text in requires("maskdistill") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield Check(wanted.name, "wrong", "not installed", f"{make('install')} (wanted {wanted})")
            continue
        if wanted.specifier.contains(found, prereleases=True):
            yield Check(wanted.name, "ok", found)
        else:
            yield Check(wanted.name, "wrong", found, f"{make('install')} (wanted {wanted})")


def devices() -> Iterator[Check]:
    """Processors, and whether GPUs that the driver knows are ones that torch can use."""
    cores, there = available_cores(), os.cpu_count() or 1
    yield Check("processors", "ok", f"{cores}" if cores == there else f"{cores} of {there} may be used")
    gpus = visible_gpus()
    if not gpus:
        yield Check(
            "GPUs", "note", "none: everything runs on the CPU; maskdistill init writes settings that fit"
        )
        return
    import torch

    if torch.cuda.is_available():
        yield Check(
            "GPUs", "ok", ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        )
    else:
        yield Check(
            "GPUs", "wrong", f"the driver has {len(gpus)}, torch {torch.__version__} sees none",
            "install the torch wheel for this driver's CUDA, or run with --resources gpu=0",
        )  # fmt: skip
    yield _attempt("GPU locks", lambda: str(lease_folder()))


def extras(config: Config | None) -> Iterator[Check]:
    """Optional libraries: wrong only where the configuration asks for them."""
    needed = {
        "crf": config is not None and config.crf.rounds > 0,
        "parquet": "parquet" in _kinds(config) | _formats(config),
        "video": "video" in _kinds(config),
        "remote": bool(_kinds(config) & {"remote", "remote_tar"}),
        "detectron2": config is not None and config.detector.engine == "detectron2",
    }
    for name, (modules, purpose, way) in EXTRAS.items():
        remedy = way.format(make=make(name), checkout=CHECKOUT)
        absent = [module for module in modules if find_spec(module) is None]
        if not absent:
            yield Check(f"extra {name}", "ok", "installed")
        elif needed.get(name):
            yield Check(
                f"extra {name}", "wrong", f"not installed, and the configuration asks for {purpose}", remedy
            )
        else:
            yield Check(f"extra {name}", "note", f"not installed; only {purpose} needs it", remedy)


def _kinds(config: Config | None) -> set[str]:
    """The sources of pictures that a run has."""
    return (
        {source.kind for source in (config.data, config.support) if source is not None} if config else set()
    )


def _formats(config: Config | None) -> set[str]:
    """The formats that a run writes its objects in."""
    return {text.partition(":")[0] for text in config.objects.formats} if config else set()


def machine(config: Config | None) -> Iterator[Check]:
    """What containers and network file systems often lack: memory to share, and locks on files."""
    yield shared_memory_check(room(), config is not None and uses_workers(config))
    for folder in dict.fromkeys(_existing(place) for place in ("results", "resources")):
        try:
            yield locks_check(str(folder.resolve()), has_locks(folder))
        except OSError:
            continue  # what it means that nothing can be written is said of the disk


def _existing(place: str) -> Path:
    return Path(place) if Path(place).is_dir() else Path()


def pictures(config: Config) -> Iterator[Check]:
    """The pictures, what lies beside them, and whether the run fits on the disk."""
    counts: list[int] = []
    left_out: Counter[str] = Counter()

    def count() -> str:
        counts.append(count_planned(config, left_out))
        refuse_more_clusters(config, count_fitted(config, counts[0]))
        coming = config.datasets.build is not None and not is_built(config)
        return f"{counts[0]}, which the workflow brings here" if coming else f"{counts[0]}"

    yield _attempt("pictures", count)
    if counts:
        yield from _reached(config)
    if left_out:
        yield left_out_check(left_out)
    if getattr(config.data, "annotations", None) or (counts and isinstance(config.data, VocData)):
        yield _attempt("annotations", lambda: _annotations(config))
    if config.objects.formats:
        yield _attempt(
            "formats", lambda: ", ".join(one.format.name for one in chosen_formats(config.objects))
        )
    if names := config.clusters.names:
        yield _attempt(
            "cluster names", lambda: f"{len(read_names(names, config.clusters.total).names)} in {names}"
        )
    if counts:
        yield disk(disk_need(config, counts[0]))


def _reached(config: Config) -> Iterator[Check]:
    """Whether pictures that lie elsewhere can be read."""
    for section, source in (("data", config.data), ("support", config.support)):
        if source is None:
            continue
        check = _attempt(
            f"{section} elsewhere", partial(source.reach, Look(section, kept=kept_folder(config)))
        )
        if check.found:
            yield check


def _annotations(config: Config) -> str:
    """The ground truth, checked as a whole where it is there already."""
    path = check_annotations(config)
    if config.datasets.build is not None:
        return f"{path}: the workflow makes it" if path else "the workflow brings them here"
    found = check_truth(config.data, config.max_dropped, config.probe.enabled)
    return f"{path}: {found}" if path else found


def disk(need: float) -> Check:
    """Free space where results/ is or will be."""
    place = Path("results") if Path("results").is_dir() else Path()
    free = shutil.disk_usage(place).free
    found = f"{free / GIGA:.0f} GB free in {place.resolve()}, about {need / GIGA:.1f} GB wanted"
    if not os.access(place, os.W_OK):
        return Check(
            "disk", "wrong", f"{place.resolve()} cannot be written to", "start in a folder of your own"
        )
    if free >= need:
        return Check("disk", "ok", found)
    return Check("disk", "wrong", found, "free some space, or features: {store: false}, which keeps no keys")


def weights(config: Config) -> Iterator[Check]:
    """Whether the weights of all networks are there, or will be downloaded."""
    if told := rehearsal(config):
        yield Check("weights", "note", told, "maskdistill init writes the same with --weights dino")
    for checkpoint, path in downloads(config).items():
        if find_checkpoint(checkpoint).url is not None and not Path(path).is_file():
            found = f"{path} is downloaded when the run starts"
            yield Check("download", "note", found, f"without a network {how_to_get(checkpoint, path)}")
    for stage, network in networks(config).items():
        path = network.weights

        def state(stage: str = stage, path: str = path) -> str:
            found = weights_path(config, stage, networks(config)[stage])
            if found is None:
                return "random: for comparison only"
            return found if Path(found).is_file() else f"{path}: the workflow makes {found}"

        yield _attempt(f"{stage} weights", state)


def _attempt(name: str, look: Callable[[], str]) -> Check:
    """What ``look`` returns, or the error that it raises; other packages' code may raise any."""
    try:
        return Check(name, "ok", look())
    except MaskDistillError as error:
        return Check(name, "wrong", str(error))
    except Exception as error:
        return Check(name, "wrong", f"{type(error).__name__}: {error}")
