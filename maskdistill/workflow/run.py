"""The run that the rules plan: its folder, shards and paths of results.

A pattern is a path with wildcards in braces, from the folder in which Snakemake works. Where the workflow is
a module of another one, Snakemake puts the module's ``prefix`` before paths in ``input``, ``output``,
``log`` and ``benchmark``, and nowhere else: paths among ``params`` go through :meth:`Run.at`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from snakemake.io import expand, local

from maskdistill.annotations.names import read_names
from maskdistill.config import BackboneConfig, Config
from maskdistill.config.datasets import BUILT
from maskdistill.config.limits import refuse_more_clusters
from maskdistill.config.roles import has_ground_truth
from maskdistill.data.listing import plan_shards
from maskdistill.data.official_datasets import BUILDS
from maskdistill.data.planned import check_annotations, count_fitted, count_planned
from maskdistill.masks.folders import suffix, suffix_of
from maskdistill.runtime.contents import content_of, is_as_first_seen
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.workflow import layout
from maskdistill.workflow.needed_weights import Network, networks, weights_path

Value = str | int
Values = Value | Sequence[Value]
MOST_THREADS = 8
"""Largest number of threads for a job of shards; more bring little."""


class Wildcards(Protocol):
    """A job's wildcards, as Snakemake passes them to functions."""

    def keys(self) -> Iterable[str]:
        """Their names."""

    def __getitem__(self, name: str, /) -> str: ...
    def __iter__(self) -> Iterator[tuple[str, str]]: ...
    def __getattr__(self, name: str, /) -> str: ...


@dataclass(frozen=True)
class Run:
    """One run of the workflow. Formatted as text it is its folder: ``f"{RUN}/report.html"``.

    Attributes:
        config: the validated configuration.
        num_images: number of pictures of data and support, as far as it is known before the run.
        num_fitted: how many of these K-means may be fitted on.
        num_shards: a multiple of ``per_job``.
        per_job: shards per job: 1, 10 or 100.
        place: puts a module's prefix before a path.
    """

    config: Config
    num_images: int
    num_fitted: int
    num_shards: int
    per_job: int = 1
    place: Callable[[str], str] = field(default=str)

    def __str__(self) -> str:
        return f"results/{self.config.run}"

    def at(self, pattern: str) -> str:
        """A path of the rules as commands see it: with a module's prefix."""
        return str(self.place(pattern))

    @cached_property
    def main(self) -> dict[str, Value]:
        """The swept values of the main run, except the seed."""
        return layout.main_values(self.config)

    @property
    def has_ground_truth(self) -> bool:
        """Whether there is anything to score against."""
        return has_ground_truth(self.config.data)

    @property
    def rounds(self) -> range:
        """CRF rounds, counting the first segmenter as round 0."""
        return range(self.config.crf.rounds + 1)

    @property
    def trainings(self) -> list[str]:
        """Values of the wildcard ``trained``: for the first detector, then for each round of
        self-training.
        """
        return [layout.trained_name(number) for number in range(self.config.detector.rounds + 1)]

    @property
    def sharpened(self) -> list[str]:
        """Values of the wildcard ``post`` for predictions sharpened by a dense CRF."""
        return ["_crf"] if self.config.crf.rounds else []

    # Shards. A job processes those whose numbers begin with the wildcard ``part``.

    @cached_property
    def shards(self) -> list[str]:
        """Numbers of all shards, as texts of equal length."""
        digits = max(4, len(str(self.num_shards - 1)))
        return [f"{shard:0{digits}d}" for shard in range(self.num_shards)]

    @cached_property
    def tails(self) -> list[str]:
        """The digits that follow the wildcard ``part`` in the numbers of a job's shards."""
        digits = len(str(self.per_job)) - 1
        return [f"{tail:0{digits}d}" if digits else "" for tail in range(self.per_job)]

    @property
    def part(self) -> str:
        """Regular expression of the wildcard ``part``."""
        return rf"\d{{{len(self.shards[0]) - len(self.tails[0])}}}"

    @cached_property
    def last_of_jobs(self) -> list[str]:
        """The last shard of each job, which represents all of the job's shards as an input: Snakemake's time
        grows with the square of the number of inputs.
        """
        return self.shards[self.per_job - 1 :: self.per_job]

    def shard_threads(self, cores: int | None) -> int:
        """Threads of a job of shards; such jobs share this machine's cores. None: on a cluster each has its
        own.
        """
        if cores is None:
            return MOST_THREADS
        return max(1, min(MOST_THREADS, cores * self.per_job // self.num_shards))

    def of_part(self, pattern: str) -> list[str]:
        """The pattern for every shard of a job's part."""
        return [pattern.replace("{shard}", f"{{part}}{tail}") for tail in self.tails]

    def each_shard(self, wildcards: Wildcards) -> str:
        """Param function: value of ``--each`` for a job: the shard of its part, or the first and the last
        one.
        """
        ends = [f"{wildcards.part}{tail}" for tail in (self.tails[0], self.tails[-1])]
        return "-".join(dict.fromkeys(ends))

    def all_shards(self, pattern: str) -> Callable[[Wildcards], list[str]]:
        """Input function: the pattern for every shard, named by :attr:`last_of_jobs`, at the job's own
        wildcards.
        """
        return lambda wildcards: expand(pattern, shard=self.last_of_jobs, **wildcards)

    def braces(self, pattern: str, **chosen: Value) -> Callable[[Wildcards], str]:
        """Param function: the pattern for every shard, in a form whose length does not depend on their
        number.

        Quote it (``:q``) in a command: the entry point expands it, because the system accepts only 2 MiB of
        arguments.
        """
        every = f"{{{self.shards[0]}..{self.shards[-1]}}}"
        return lambda wildcards: self.at(pattern.format(shard=every, **(dict(wildcards) | chosen)))

    # Paths at swept values.

    def of_run(self, pattern: str, **chosen: Values) -> list[str]:
        """Paths of a pattern at the main swept values, for all seeds and jobs of shards that it names."""
        every: dict[str, Values] = {"seed": self.config.seeds, "shard": self.last_of_jobs, "post": ""}
        return list(expand(pattern, **(every | self.main | chosen)))

    def of_oracle(self, pattern: str) -> str:
        """Where the oracle keeps its counterpart of a pattern: in its folder instead of the masks'."""
        below = pattern.removeprefix(self.at(f"{self}/")).removeprefix(f"{self}/")
        return f"{self}/{below.replace(layout.MASKS, layout.ORACLE, 1)}"

    def learnt_labels(self, wildcards: Wildcards) -> str:
        """Pattern of the label maps from which a round's segmenter learns."""
        return f"{self}/{layout.REFINED_LABELS if int(wildcards.round) else layout.PSEUDO_LABELS}"

    def model_before(self, wildcards: Wildcards) -> str:
        """Input function: the segmenter of the round before."""
        values = dict(wildcards) | {"round": str(int(wildcards.round) - 1)}
        return f"{self}/{layout.SEGMENTER}".format(**values)

    def of_round_before(self, pattern: str) -> Callable[[Wildcards], list[str]]:
        """Input function: the pattern in the previous round of self-training, for every shard that it
        names.
        """
        return lambda wildcards: expand(
            pattern, shard=self.last_of_jobs, **(dict(wildcards) | _round_before(wildcards))
        )

    def of_round_before_if_any(self, pattern: str) -> Callable[[Wildcards], list[str]]:
        """Input function: :meth:`of_round_before`; nothing for a detector that is the first."""
        before = self.of_round_before(pattern)
        return lambda wildcards: before(wildcards) if wildcards["trained"] else []

    def braces_before(self, pattern: str) -> Callable[[Wildcards], str]:
        """Param function: :meth:`braces` in the previous round of self-training."""
        return lambda wildcards: self.braces(pattern, **_round_before(wildcards))(wildcards)

    # Files from outside the run.

    def begins_with(self, name: str, network: Network) -> list[str]:
        """The weights file of a network as a list of inputs; empty for ``random``. Its checksum is compared,
        if known.

        Raises:
            MaskDistillError: as :func:`maskdistill.workflow.needed_weights.weights_path`; messages use
                ``name``.
        """
        path = weights_path(self.config, name, network)
        return [] if path is None else [path if self.makes(path) else local(path)]

    @cached_property
    def weights(self) -> dict[str, list[str]]:
        """The weights file of each stage with a network, as a list of inputs."""
        return {name: self.begins_with(name, network) for name, network in networks(self.config).items()}

    @cached_property
    def backbones(self) -> dict[str, BackboneConfig]:
        """Networks that compute features, by the wildcard ``at``: the run's own, then further ones of the
        bench.
        """
        further = self.config.bench.backbones.items()
        return {"": self.config.backbone} | {suffix(name): network for name, network in further}

    @cached_property
    def backbone_weights(self) -> dict[str, list[str]]:
        """The weights file of each of :attr:`backbones`, as a list of inputs."""
        found = {"": self.weights["backbone"]}
        for name, network in self.config.bench.backbones.items():
            found[suffix(name)] = self.begins_with(f"bench.backbones.{name}", network)
        return found

    def features_behind(self, pattern: str) -> Callable[[Wildcards], list[str]]:
        """Input function: a part's shards of the features that a folder of masks is made of."""
        return lambda wildcards: expand(
            self.of_part(pattern), part=wildcards.part, at=suffix_of(wildcards.masks)
        )

    def weights_option(self, files: Sequence[str]) -> str:
        """The value of ``--weights``, or of a setting ``weights``, for such a list."""
        return self.at(files[0]) if files else "random"

    def makes(self, path: str) -> bool:
        """Whether a path is among the results."""
        return path.startswith(f"{self}/")

    @property
    def annotations(self) -> list[str]:
        """The file of ground truth that the configuration names, as a list of inputs."""
        path = getattr(self.config.data, "annotations", None)
        return [local(path)] if path else []

    @property
    def names(self) -> list[str]:
        """The file of the clusters' names, as a list of inputs."""
        path = self.config.clusters.names
        return [local(path)] if path else []

    def contents(self, files: Sequence[str]) -> list[str]:
        """SHA-256 of those files that come from outside the run: changed content triggers a rerun, whatever
        the time stamps.

        A download, which may not be here yet, counts if it has changed since it was first seen; files made by
        the workflow never count.
        """
        found = {
            path: content_of(path)
            for path in files
            if not (self.makes(path) or path.startswith(f"{BUILT}/")) and Path(path).is_file()
        }
        return [
            sha256
            for path, sha256 in found.items()
            if not (path.startswith(f"{layout.OFFICIAL}/") and is_as_first_seen(path, sha256))
        ]

    @property
    def shared(self) -> list[str]:
        """Files and folders that runs of one checkout share: Snakemake locks them for the run that makes
        them.
        """
        build = self.config.datasets.build
        folders = (
            [*(f"{layout.DATASETS}/{name}/" for name in BUILDS[build]), f"{BUILT}/{build}/"] if build else []
        )
        weights = [*self.weights.values(), *self.backbone_weights.values()]
        return [*dict.fromkeys(path for files in weights for path in files), *folders]


def _round_before(wildcards: Wildcards) -> dict[str, str]:
    """The wildcard ``trained`` of the detector on which a round of self-training builds."""
    return {"trained": layout.trained_name(int(wildcards["trained"].rpartition("-")[2]) - 1)}


def plan_run(config: Config, place: Callable[[str], str] = str) -> Run:
    """Count the pictures and check what the configuration names, before anything is planned.

    Raises:
        MaskDistillError: there is too little data, or something is missing.
    """
    num_images = count_planned(config)
    num_fitted = count_fitted(config, num_images)
    refuse_more_clusters(config, num_fitted)
    check_annotations(config)
    if config.clusters.names:
        read_names(config.clusters.names, config.clusters.total)
    if num_images == 0:
        raise MaskDistillError("data: no images found; correct data.root or data.images in the configuration")
    shards, per_job = plan_shards(num_images, config.num_shards, config.shards_per_job)
    return Run(config, num_images, num_fitted, shards, per_job, place)
