"""Write the objects of a finished run's own photographs in the formats that other tools take.

Into RUN/objects/FORMAT/: the detector's candidates that pass the run's tau. What was written before and corrected by
hand is never replaced. docs/how-to/use-the-objects.md says which tool takes which format; photographs that the run
was not given are for `maskdistill predict`.
"""

import argparse
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskdistill.annotations.names import named_categories, read_names
from maskdistill.cli.common import add_common, start
from maskdistill.cli.object_options import add_object_options, choice_of, context_of
from maskdistill.cli.option_types import share, whole
from maskdistill.config import Config
from maskdistill.data.manifest import image_rows, ok_images, read_index, read_manifest
from maskdistill.formats.export.records import Picture
from maskdistill.formats.export.registry import parse_formats
from maskdistill.product.finished_run import chosen_seed, cluster_names, finished_run
from maskdistill.product.objects import Choice, Job, missing, pictures, write_objects, written
from maskdistill.product.verdict import in_words, is_good, run_verdict
from maskdistill.runtime.files import read_json, sha256_file, write_json
from maskdistill.runtime.provenance import make_provenance
from maskdistill.workflow import layout

log = logging.getLogger("maskdistill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, e.g. results/mine")
    add_object_options(parser, "coco")
    parser.add_argument("--min-score", type=share, help="least score of an object (default: what passes the run's tau)")
    parser.add_argument("--names", metavar="YAML", help="names of the clusters (default: the run's)")
    parser.add_argument("--seed", type=whole(0), help="whose candidates, where the run has several seeds")
    parser.add_argument("--out", metavar="DIR", help="folder to write into (default: RUN/objects)")
    add_common(parser, params=False)


def run(args: argparse.Namespace) -> None:
    """Write each format, unless that is done."""
    start(args, "objects")
    folder = Path(args.run)
    formats = parse_formats(args.format)
    summary, config = finished_run(folder)
    if not is_good(verdict := run_verdict(summary)):
        log.warning("%s", in_words(verdict))
    manifest = folder / "data/manifest.csv"
    shards = candidates_of(folder, manifest, config, args.seed)
    tau = config.pseudo_labels
    choice = choice_of(args, *((args.min_score, "ge") if args.min_score is not None else (tau.tau, tau.compare)))
    inputs = {"manifest": manifest} | {path.stem: path for path in shards.values()}
    names = names_of(args, config, summary)
    job = Job(
        out=Path(args.out) if args.out else folder / "objects",
        formats=formats,
        context=context_of(args, names),
        choice=choice,
        inputs={name: sha256_file(path) for name, path in inputs.items()},
        copy=args.pictures == "copy",
    )
    if todo := missing(job):
        write_objects(job, pictures_of(manifest, shards, names, choice), todo)
    content, settings = written(job), {"min_score": choice.min_score, "compare": choice.compare}
    write_json(job.out / "objects.json", content | {"provenance": make_provenance("objects", settings, inputs)})
    said = ", ".join(f"{job.folder(one)}{'' if one in todo else ' (written before)'}" for one in formats)
    log.info("%d pictures, %d objects: %s", content["pictures"], sum(content["objects"].values()), said)


def names_of(args: argparse.Namespace, config: Config, summary: dict[str, Any]) -> dict[int, str]:
    """Category -> name: of the file that is given, else of the report, which names the first seed's clusters."""
    total = config.clusters.total
    own = cluster_names(summary) if args.seed in (None, config.seeds[0]) else {}
    given = read_names(args.names, total).names if args.names else own
    return {entry["id"]: entry["name"] for entry in named_categories(total, given)}


def candidates_of(folder: Path, manifest: Path, config: Config, seed: int | None) -> dict[int, Path]:
    """File of the main run's candidates of each shard."""
    values = layout.main_values(config) | {"seed": chosen_seed(config, seed, folder)}
    place = (folder / layout.CANDIDATES.format(**values, shard="")).parent
    found = {int(path.stem.rpartition("-")[2]): path for path in sorted(place.glob("shard-*.json"))}
    numbers = map(int, read_index(manifest)["shards"])
    return {number: found.get(number, place / f"shard-{number:04d}.json") for number in numbers}


def pictures_of(
    manifest: Path, shards: Mapping[int, Path], names: Mapping[int, str], choice: Choice
) -> Iterator[Picture]:
    """All pictures of the run with their objects, one shard in memory at a time."""
    for shard, path in shards.items():
        rows = image_rows(ok_images(read_manifest(manifest, shard), support=False))
        yield from pictures(rows, read_json(path)["candidates"], names, choice)
