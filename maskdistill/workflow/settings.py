"""What rules pass to their stages as ``--params``, and what of it Snakemake compares with the last run."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maskdistill.config import Config
from maskdistill.data.sources.registry import is_own
from maskdistill.runtime.files import canonical_json
from maskdistill.runtime.provenance import module_code, stage_code
from maskdistill.workflow import mask_folders
from maskdistill.workflow.run import Wildcards

RUNNING = {"workers", "checkpoint_every", "log_every"}
"""Settings that do not change results."""
EMBEDDING_KEYS = {"input", "short_side", "precision", "workers"}
"""Settings of the section ``clusters`` that make the embeddings."""
ParamFunction = Callable[[Wildcards], str]
UntrackedFunction = Callable[[Wildcards, int], Any]


def untracked(value: object) -> UntrackedFunction:
    """Param function: a value that may change without the rule running again.

    It takes the threads as an argument, so Snakemake does not compare it with the last run.
    """
    return lambda wildcards, threads: value


def in_full(settings: str | ParamFunction) -> UntrackedFunction:
    """Param function: settings for an entry point, from JSON or from a function of the wildcards.

    Snakemake does not compare them (:func:`untracked`); it compares :func:`shaping`.
    """
    return lambda wildcards, threads: settings(wildcards) if callable(settings) else settings


def shaping(settings: str | ParamFunction) -> ParamFunction:
    """Param function: those of the same settings that change the result.

    A change of workers, for example, triggers no rerun.
    """

    def without_running(values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key not in RUNNING}

    return lambda wildcards: canonical_json(
        json.loads(settings(wildcards) if callable(settings) else settings, object_hook=without_running)
    )


def predictions_code(wildcards: Wildcards) -> str:
    """Param function: hash of the code that predicts, including the dense CRF if it is used."""
    return stage_code("predictions", *([] if wildcards.post else ["segmenter/crf.py"]))


def source_code(stage: str, config: Config) -> str:
    """Hash of a stage's code, followed by the hashes of image sources from other packages."""
    sources = (type(source) for source in (config.data, config.support) if source is not None)
    others = sorted({module_code(source.__module__) for source in sources if not is_own(source)})
    return " ".join([stage_code(stage), *others])


@dataclass(frozen=True)
class Settings:
    """The settings of a run's stages as JSON, with swept values filled in."""

    config: Config

    def section(self, name: str, **values: object) -> str:
        """One section of the configuration."""
        return canonical_json(getattr(self.config, name).model_dump(mode="json") | values)

    def sections_but(self, *names: str) -> str:
        """The whole configuration without some sections."""
        return canonical_json(self.config.model_dump(mode="json", exclude=set(names)))

    def masks(self, masks: str) -> str:
        """Settings of the masks stage, for a folder of masks."""
        return canonical_json(mask_folders.settings(masks, self.config.masks))

    def distil(self) -> str:
        """Settings of masks that are computed directly from the pictures."""
        features, masks = (part.model_dump(mode="json") for part in (self.config.features, self.config.masks))
        return canonical_json({"features": features, "masks": masks})

    def embeddings(self) -> str:
        """Settings of the embeddings that K-means is fitted on."""
        return canonical_json(self.config.clusters.model_dump(mode="json", include=EMBEDDING_KEYS))

    def clusters(self, k: int, candidates: list[int] | None = None) -> str:
        """Settings of K-means. k already includes over-clustering; settings that only other rules use are
        left at their defaults.
        """
        own = {"overcluster", "candidates_k", "backbone", "names"} | EMBEDDING_KEYS
        settings = self.config.clusters.model_dump(mode="json", exclude=own)
        return canonical_json(settings | {"num_clusters": k, "candidates_k": candidates})

    def consistency(self, wildcards: Wildcards) -> str:
        """Param function: settings of the stages that the consistency check repeats."""
        return canonical_json(
            {
                "features": self.config.features.model_dump(mode="json"),
                "masks": json.loads(self.masks(wildcards.masks)),
                "clusters": json.loads(self.clusters(int(wildcards.k))),
            }
        )

    def labels(self, wildcards: Wildcards) -> str:
        """Param function: settings of the pseudo-labels at a value of the wildcard ``tau``."""
        value, _, label_type = wildcards.tau.partition("-")
        return self.section("pseudo_labels", tau=float(value), type=label_type or "mask")

    def painting(self) -> dict[str, Any]:
        """Settings by which candidates become label maps, at any threshold."""
        return self.config.pseudo_labels.model_dump(include={"compare", "overlap"})

    @property
    def own_objects(self) -> str:
        """Settings of the objects in the run's photographs; without tau if these have a lowest score of their
        own.
        """
        return canonical_json({"objects": self.config.objects.model_dump(mode="json"), **self._passing})

    @property
    def thumbnails(self) -> str:
        """Settings of the thumbnails of all objects."""
        shown = self.config.report.model_dump(mode="json", include={"objects", "object_side"})
        which = self.config.objects.model_dump(
            mode="json", include={"min_score", "min_area", "class_agnostic_nms"}
        )
        return canonical_json({"report": shown, "objects": which, **self._passing})

    @property
    def _passing(self) -> dict[str, Any]:
        """The threshold for candidates, if objects have no lowest score of their own."""
        used = {"tau", "compare"} if self.config.objects.min_score is None else set()
        return {"pseudo_labels": self.config.pseudo_labels.model_dump(mode="json", include=used)}

    @property
    def crf(self) -> str:
        """Settings of the dense CRF."""
        return canonical_json(self.config.crf.model_dump(mode="json", exclude={"rounds"}))

    def crf_option(self, wildcards: Wildcards) -> str:
        """Param function: ``--crf`` if a dense CRF sharpens predictions."""
        return f"--crf {shlex.quote(self.crf)}" if wildcards.post else ""
