"""Which files of a finished run are its models."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskdistill.annotations.names import named_categories
from maskdistill.annotations.types import Category
from maskdistill.config import Config, DetectorConfig
from maskdistill.config.roles import DETECTOR_TEST_FIELDS, inference_settings
from maskdistill.masks.folders import is_folder
from maskdistill.product.finished_run import chosen_seed, cluster_names, finished_run, run_config
from maskdistill.product.verdict import run_verdict, stored_verdict
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, read_json
from maskdistill.training.checkpoint import model_metadata, refuse_oracle
from maskdistill.workflow import layout
from maskdistill.workflow.needed_weights import REHEARSAL, began_with_shipped, looks_with_shipped


@dataclass(frozen=True)
class TrainedRun:
    """The models to apply, and the configuration they come from.

    Attributes:
        detector, segmenter: model files (.safetensors).
        test_settings: JSON of what the detector is used with at test time, by the configuration: its training
            knows nothing of it, so that another threshold trains nothing again.
        config: the run's; None where both files were named without a run.
        summary: the run's ``summary.json``, empty without a run.
        names: cluster 0..K-1 -> name that it was given in the run; empty where the models are not those of
            the clusters that the report shows.
        trust: the verdict on the models, see :mod:`maskdistill.trust`; None where there is none.
    """

    detector: Path
    segmenter: Path
    test_settings: str
    config: Config | None
    summary: dict[str, Any]
    names: dict[int, str]
    trust: dict[str, Any] | None

    @property
    def rehearsal(self) -> str | None:
        """A warning about models from shipped weights applied to photographs; else None."""
        if self.config is not None:
            return REHEARSAL if looks_with_shipped(self.config) else None
        record = json.loads(model_metadata(self.detector, "detector")["provenance"])
        return REHEARSAL if began_with_shipped(record["inputs"].get("weights")) else None

    def categories(self, num_clusters: int) -> list[Category]:
        """COCO categories of what is handed out, ids 1..K, with the run's names."""
        return named_categories(num_clusters, self.names)


def find_models(run: str | None, detector: str | None, segmenter: str | None, seed: int | None) -> TrainedRun:
    """The main models of a run, that is at the configuration's own values, not at swept ones.

    Args:
        run: folder of a finished run, with ``summary.json``; may be None if both files are given.
        detector, segmenter: files to take instead of the run's.
        seed: of several seeds the one whose models are meant.

    Raises:
        MaskDistillError: no finished run, several seeds and none chosen, or a model that is not there.
    """
    if run is None:
        if detector is None or segmenter is None:
            raise MaskDistillError("give --run results/NAME, or both --detector FILE and --segmenter FILE")
        files = _existing(detector, "--detector"), _existing(segmenter, "--segmenter")
        return TrainedRun(*files, _test_settings(files[0], None), None, {}, {}, _exported_verdict(files[0]))
    folder = Path(run)
    summary, config = finished_run(folder)
    of_run = detector is None and segmenter is None
    own = of_run and seed in (None, config.seeds[0])
    if detector is None or segmenter is None:
        values = layout.main_values(config) | {"seed": chosen_seed(config, seed, folder)}
        detector = detector or _model(folder, layout.DETECTOR, "--detector", values)
        segmenter = segmenter or _model(folder, layout.SEGMENTER, "--segmenter", values)
    names = cluster_names(summary) if own else {}
    files = _existing(detector, "--detector"), _existing(segmenter, "--segmenter")
    verdict = run_verdict(summary) if of_run else _exported_verdict(files[0])
    return TrainedRun(*files, _test_settings(files[0], config), config, summary, names, verdict)


def _exported_verdict(detector: Path) -> dict[str, Any] | None:
    """The verdict that a detector's own file holds, if the stage export wrote it."""
    return stored_verdict(model_metadata(detector, "detector"))


def _test_settings(detector: Path, config: Config | None) -> str:
    """JSON of a detector's settings at test time: of the finished run that it lies in, its own, or the run's.

    Its own are in a file that the stage export wrote, or a stage that was given them.

    Args:
        detector: model file.
        config: of the run whose models are applied.
    """
    for folder in detector.absolute().parents:
        summary = read_json(folder / "summary.json") if (folder / "summary.json").is_file() else {}
        if "config" in summary.get("provenance", {}):
            return canonical_json(inference_settings(run_config(summary, folder).detector))
    own = json.loads(model_metadata(detector, "detector")["params"])
    if own.keys() >= DETECTOR_TEST_FIELDS:
        return canonical_json(inference_settings(DetectorConfig.model_validate(own)))
    if config is None:
        raise MaskDistillError(
            f"{detector}: the model does not record its settings at test time (score_thresh, "
            "min_size_test, ...); "
            "give --run results/NAME, the run that it comes from, or take the file that `maskdistill export` "
            "writes"
        )
    return canonical_json(inference_settings(config.detector))


def _model(folder: Path, pattern: str, option: str, values: dict[str, str | int]) -> str:
    path = folder / pattern.format(**values)
    if not path.is_file():
        name = Path(pattern).parent.name
        made = [found.relative_to(folder) for found in folder.glob(f"*/**/{name}/model.safetensors")]
        others = sorted(str(found) for found in made if is_folder(found.parts[0]))
        shown = "".join(f"\n  {other}" for other in others[:10])
        raise MaskDistillError(
            f"{path}: the run's main {name} is not there; make it with snakemake, or name another by {option}"
            + (f"; there are:{shown}" if others else "")
        )
    return str(path)


def _existing(path: str, option: str) -> Path:
    if not Path(path).is_file():
        raise MaskDistillError(f"{option} {path}: no such file; give a model.safetensors of a run")
    refuse_oracle(path)
    return Path(path)
