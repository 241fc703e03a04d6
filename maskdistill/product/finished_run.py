"""What a finished run says of itself: its summary, its configuration, its seeds."""

from pathlib import Path
from typing import Any

from maskdistill.config import Config, load_config
from maskdistill.data.sources.base import absolute
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import read_json


def finished_run(run: str | Path) -> tuple[dict[str, Any], Config]:
    """Summary and configuration of a finished run; see :func:`run_summary`."""
    summary = run_summary(run)
    return summary, run_config(summary, Path(run))


def run_summary(run: str | Path) -> dict[str, Any]:
    """Summary of a finished run.

    Args:
        run: its folder.

    Raises:
        MaskDistillError: no finished run; those beside it are named.
    """
    folder = Path(run)
    if not (folder / "summary.json").is_file():
        have = sorted(path.parent.name for path in folder.parent.glob("*/summary.json"))
        raise MaskDistillError(
            f"{folder}: no finished run: it has no summary.json; run snakemake until the report is made"
            + (f", or take one of those that are there: {', '.join(have)}" if have else "")
        )
    return dict(read_json(folder / "summary.json", "give the folder of a finished run"))


def of_other_pictures(folder: Path, config: Config) -> str | None:
    """What to tell a user whose run would make another finished run's results anew from other pictures.

    Args:
        folder: results of the run that is to begin.
        config: its configuration.
    """
    try:
        before = run_config(run_summary(folder), folder).data
    except MaskDistillError:  # no finished run, or one of another version
        return None
    old, new = (
        (data.kind, str(absolute(data.place)) if data.place else str(getattr(data, "root", "")))
        for data in (before, config.data)
    )
    if old == new:
        return None
    return (
        f"{folder} holds a run on other pictures ({' '.join(filter(None, old))}); all of it is made anew "
        "from yours. To keep it, give this run a name of its own: --config run=NAME"
    )


def run_config(summary: dict[str, Any], folder: Path) -> Config:
    """The configuration that a run's summary holds."""
    return load_config(summary["provenance"]["config"], str(folder / "summary.json"))


def chosen_seed(config: Config, seed: int | None, folder: Path) -> int:
    """The seed that is meant.

    Raises:
        MaskDistillError: the run has several and none is given, or it has not the one that is.
    """
    if seed is not None and seed not in config.seeds:
        raise MaskDistillError(
            f"{folder} has no seed {seed}; give one that it has: --seed {', '.join(map(str, config.seeds))}"
        )
    if seed is None and len(config.seeds) > 1:
        raise MaskDistillError(
            f"{folder} has models of {len(config.seeds)} seeds ({', '.join(map(str, config.seeds))});"
            f" say which ones: --seed {config.seeds[0]}, the one that the report pictures"
        )
    return config.seeds[0] if seed is None else seed


def cluster_names(summary: dict[str, Any]) -> dict[int, str]:
    """Names that the report's clusters were given, those of the first seed: cluster 0..K-1 -> name."""
    return {int(cluster): str(name) for cluster, name in summary.get("clusters", {}).get("names", {}).items()}
