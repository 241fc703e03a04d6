"""Apply a run's trained models to other pictures: objects as COCO JSON, label maps, overlays.

If it was killed, the same command continues where it stopped, and also restores what was deleted or damaged
since. In --out: coco.json (run lengths), coco_polygons.json, labels/ (indexed PNG), overlays/ (JPEG),
manifest.csv (unusable pictures with the reason), summary.json and, with --format, objects/FORMAT/ for other
tools, which may be added later (docs/how-to/use-the-objects.md).
"""

import argparse
import logging
import math
import shutil
from pathlib import Path

from maskdistill import cli
from maskdistill.annotations.names import named_categories, read_names
from maskdistill.cli.common import add_common, start
from maskdistill.cli.object_options import add_object_options, with_options
from maskdistill.cli.option_types import share, whole
from maskdistill.config import Compare, CrfConfig, ObjectsConfig
from maskdistill.data.listing import count_images, listing_fingerprint
from maskdistill.data.manifest import check_manifest
from maskdistill.data.settled import settled_listing
from maskdistill.formats.export.registry import parse_formats
from maskdistill.product.objects import (
    Job,
    choice_of,
    chosen_formats,
    context_of,
    missing,
    pictures,
    write_objects,
)
from maskdistill.product.overlay import chosen_images
from maskdistill.product.photos import find_photos
from maskdistill.product.predicted import BEGUN, LISTING, UNFINISHED, Work, is_free
from maskdistill.product.trained_run import TrainedRun, find_models
from maskdistill.product.verdict import in_lines, is_good
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import (
    atomic_path,
    canonical_json,
    sha256_file,
    sha256_text,
)
from maskdistill.runtime.json_stream import read_array
from maskdistill.runtime.provenance import code_hash, library_versions
from maskdistill.runtime.resume import is_intact
from maskdistill.runtime.run_lock import hold_run, release_run
from maskdistill.segmenter.crf import load_pydensecrf
from maskdistill.training.checkpoint import model_metadata

log = logging.getLogger("maskdistill")
PER_SHARD = 100  # what a kill loses at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "photos", metavar="PHOTOS", nargs="+",
        help="folder of pictures, tar archives, videos or Parquet files; one such file; a text file that "
        "names pictures, one per line; or several pictures",
    )  # fmt: skip
    parser.add_argument("--run", metavar="DIR", help="folder of a finished run, e.g. results/mine")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write into, outside of PHOTOS")
    parser.add_argument("--seed", type=whole(0), help="which seed's models, if the run has several seeds")
    parser.add_argument("--detector", metavar="FILE", help="a detector other than the run's (.safetensors)")
    parser.add_argument("--segmenter", metavar="FILE", help="a segmenter other than the run's (.safetensors)")
    parser.add_argument(
        "--names", metavar="YAML", help="names of the clusters, saved from the report (default: the run's)"
    )
    parser.add_argument(
        "--min-score", type=share,
        help="lowest score of an object in the COCO files (default: what passes the run's pseudo_labels.tau; "
        "0.5 without a run)",
    )  # fmt: skip
    parser.add_argument(
        "--crf", action="store_true",
        help="sharpen the label maps with a dense CRF, by the run's section crf (needs `make crf`; 1-2 s per "
        "picture)",
    )  # fmt: skip
    parser.add_argument(
        "--overlays",
        type=whole(0),
        default=50,
        metavar="N",
        help="number of overlay pictures, at most (default: 50)",
    )
    parser.add_argument(
        "--max-quarantined", type=share, default=0.05, metavar="SHARE",
        help="tolerated share of unusable images; one is always tolerated unless 0 (default: 0.05)",
    )  # fmt: skip
    add_object_options(parser)
    add_common(parser, params=False, device=True)


def run(args: argparse.Namespace) -> None:
    """Predict all pictures, unless that is done."""
    start(args, "predict")
    if args.format:
        parse_formats(args.format)
    models = find_models(args.run, args.detector, args.segmenter, args.seed)
    if models.rehearsal:
        log.warning("these models are %s", models.rehearsal)
    if not is_good(models.trust):
        log.warning("%s", in_lines(models.trust))
    work = _plan(args, models)
    work.refuse_other()
    hold_run(work.out, "give another folder as --out")
    try:
        _predict(args, work, models)
        if args.format:
            _write_formats(work, args)
    finally:
        release_run(work.out)


def _stage(name: str, *arguments: str) -> None:
    cli.run_stage(name, arguments, append_log=True)


def _predict_shard(work: Work, shard: int, models: TrainedRun, device: list[str]) -> None:
    """Both models over one shard; overlays; the label maps go to their place. What is there stays."""
    of_shard = [f"--manifest={work.manifest}", f"--shard={shard}", *device]
    candidates, predictions = work.candidates(shard), work.predictions(shard)
    if not is_intact(candidates):
        settings = f"--params={models.test_settings}"
        _stage("candidates", f"--model={models.detector}", settings, f"--output={candidates}", *of_shard)
    if not is_intact(predictions):
        sharpen = [] if work.crf is None else [f"--crf={work.crf}"]
        maps = ["--images=all", f"--output={predictions}", *sharpen]
        _stage("predictions", f"--model={models.segmenter}", *maps, *of_shard)
    work.draw(shard)
    for png in sorted(predictions.rglob("*.png")):
        place = work.out / "labels" / png.relative_to(predictions)
        place.parent.mkdir(parents=True, exist_ok=True)
        png.replace(place)


def _write_formats(work: Work, args: argparse.Namespace) -> None:
    """Write what ``--format`` names, from the finished COCO file."""
    settings = with_options(ObjectsConfig(formats=[]), args)
    choice = choice_of(settings, work.min_score, work.compare)
    inputs = {name: sha256_file(work.out / name) for name in ("coco.json", "manifest.csv")}
    formats, context = chosen_formats(settings), context_of(settings, work.names)
    job = Job(work.out / "objects", formats, context, choice, inputs, settings.pictures == "copy")
    if todo := missing(job):
        rows = (row for shard in range(work.num_shards) for row in work.rows(shard))
        found = read_array(work.out / "coco.json", "annotations")
        write_objects(job, pictures(rows, found, work.names, choice, work.name), todo)
    log.info("objects: %s", ", ".join(str(job.folder(chosen)) for chosen in formats))


def _predict(args: argparse.Namespace, work: Work, models: TrainedRun) -> None:
    """What is left to do, in a folder that no other process writes into."""
    finished = work.is_finished()
    shards = work.broken_shards() if finished else list(range(work.num_shards))
    if not shards:
        shutil.rmtree(work.out / UNFINISHED, ignore_errors=True)
        log.info("%s: finished earlier", args.out)
        return
    if finished:
        log.warning(
            "%s: missing or damaged label maps or overlays are made again: shards %s", args.out, shards
        )
    elif (work.out / "summary.json").is_file():
        log.warning("%s: finished earlier, but is incomplete now; it is made again", args.out)
    work.begin()
    common = [f"--threads={args.threads}", *([f"--log={args.log}"] if args.log else [])]
    if not _is_manifest(work.manifest):
        if work.photos.named:
            with atomic_path(work.named_list) as temporary:
                work.photos.write_list(temporary)
        shares = [f"--num-shards={work.num_shards}", f"--max-quarantined={args.max_quarantined}"]
        source = [f"--params={work.photos.data.model_dump_json()}", f"--listing={work.listing}"]
        _stage("manifest", *source, *shares, f"--output={work.manifest}", *common)
    device = [f"--device={args.device}", f"--gpus={args.gpus}", *common]
    for shard in shards:
        _predict_shard(work, shard, models, device)
    if finished:
        shutil.rmtree(work.out / UNFINISHED, ignore_errors=True)
    else:
        work.collect(models)


def _is_manifest(path: Path) -> bool:
    try:
        check_manifest(path)
    except MaskDistillError:
        return False
    return True


def _plan(args: argparse.Namespace, models: TrainedRun) -> Work:
    """What is to be done, from the options."""
    out = Path(args.out)
    photos = find_photos(args.photos, out / LISTING)
    searched = photos.data.kind != "list" and Path(photos.data.place).is_dir()
    if searched and out.resolve().is_relative_to(photos.folder.resolve()):
        raise MaskDistillError(
            f"--out {out} lies inside {photos.folder}, whose pictures are read; give another folder"
        )
    metadata = {
        "detector": model_metadata(models.detector, "detector"),
        "segmenter": model_metadata(models.segmenter, "segmenter", "probe"),
    }
    clusters = {name: int(found["num_clusters"]) for name, found in metadata.items()}
    if clusters["detector"] != clusters["segmenter"]:
        raise MaskDistillError(
            f"the detector {models.detector} knows {clusters['detector']} categories, the segmenter "
            f"{models.segmenter} {clusters['segmenter']}; take two models of one run"
        )
    compare: Compare = "ge"
    min_score = 0.5 if args.min_score is None else args.min_score
    if args.min_score is None and models.config:
        min_score, compare = models.config.pseudo_labels.tau, models.config.pseudo_labels.compare
    crf = None
    if args.crf:
        load_pydensecrf()
        crf = (models.config.crf if models.config else CrfConfig()).model_dump_json()
    categories = models.categories(clusters["detector"])
    if args.names:
        categories = named_categories(
            clusters["detector"], read_names(args.names, clusters["detector"]).names
        )
    kept = out if is_free(out) or (out / BEGUN).exists() else None
    count = len(photos.named) or count_images(photos.data, kept=kept)
    found = sha256_text(canonical_json(photos.state())) if photos.named else listing_fingerprint(photos.data)
    listing = settled_listing(found, photos.listed, out / "manifest.csv")
    parts = [
        listing, photos.data.model_dump(), compare, sha256_file(models.detector),
        sha256_file(models.segmenter),
        min_score, args.overlays, args.max_quarantined, crf, categories, models.test_settings, code_hash(),
        library_versions(),
    ]  # fmt: skip
    return Work(
        out=out,
        photos=photos,
        key=sha256_text(canonical_json(parts)),
        listing=found,
        num_shards=math.ceil(count / PER_SHARD),
        names={entry["id"]: entry["name"] for entry in categories},
        min_score=min_score,
        compare=compare,
        crf=crf,
        overlaid=chosen_images(count, args.overlays),
    )
