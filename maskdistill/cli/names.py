"""Suggest names for a run's clusters: which of your words fit their objects, by a model that knows words.

A sample of each cluster's objects is compared with the words by an open_clip model (extra [names]; downloaded
if it is missing). The suggestions are printed and written as a file of names; doubtful ones are comments in
it. They are a model's guesses: look at the objects before you use the file, as clusters.names in the
configuration or as --names. No label is read and nothing is trained (docs/how-to/own-photographs.md).
"""

import argparse
import logging
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from maskdistill.annotations.suggested_names import Tally, names_yaml, parse_words, table
from maskdistill.cli.common import add_common, start_on_device
from maskdistill.cli.object_options import add_own_options
from maskdistill.cli.objects import own_of
from maskdistill.cli.option_types import whole
from maskdistill.clusters.types import ClustersRecord
from maskdistill.config import Config
from maskdistill.product.clip import BATCH, MODEL, SENTENCES, WEIGHTS, Clip, card, load_clip, need_open_clip
from maskdistill.product.finished_run import chosen_seed, finished_run
from maskdistill.product.object_crops import crops, sample
from maskdistill.product.own_objects import Own
from maskdistill.product.verdict import in_words, is_good, run_verdict
from maskdistill.runtime import seal
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, read_json, sealed_path, sha256_text
from maskdistill.runtime.progress import progress
from maskdistill.runtime.provenance import make_provenance
from maskdistill.runtime.user_files import read_user_text
from maskdistill.workflow import layout

log = logging.getLogger("maskdistill")
USUAL = "suggested-names.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_own_options(parser, formats=False, names=False)
    parser.add_argument(
        "--words",
        required=True,
        metavar="FILE",
        help="words to choose from, one per line; # begins a comment",
    )
    parser.add_argument(
        "--model", default=MODEL,
        help="model of open_clip: a name, hf-hub:OWNER/NAME, or local-dir:FOLDER with open_clip_config.json "
        f"and weights (default: {MODEL})",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="TAG_OR_FILE",
        help=f"the model's weights: a tag of open_clip, or a file (default: {WEIGHTS}, 605 MB, for {MODEL})",
    )  # fmt: skip
    parser.add_argument(
        "--per-cluster",
        type=whole(1),
        default=50,
        metavar="N",
        help="objects to look at per cluster, at most (default: 50)",
    )
    parser.add_argument("--out", metavar="YAML", help=f"file of names to write (default: RUN/{USUAL})")
    parser.add_argument(
        "--replace", action="store_true", help="replace that file even if it was changed by hand"
    )
    add_common(parser, params=False, device=True)


def run(args: argparse.Namespace) -> None:
    """Compare, print the table and write the file."""
    need_open_clip()
    device = start_on_device(args, "names")
    folder = Path(args.run)
    summary, config = finished_run(folder)
    if not is_good(verdict := run_verdict(summary)):
        log.warning("%s", in_words(verdict))
    out = Path(args.out) if args.out else folder / USUAL
    refuse_to_replace(out, args.replace)
    words = read_words(args.words)
    own = own_of(args, summary, config)
    record: ClustersRecord = read_json(folder / clusters_file(config, args.seed, folder))
    clip = load_clip(args.model, args.weights, device)
    log.info("licence of the weights: see %s", card(args.model, args.weights))
    suggestions = _tally(own, words, clip, record["num_clusters"], args).suggestions()
    print("\n".join(table(suggestions)))
    made_from = f"Made from: {canonical_json(_provenance(own, clip, args))}"
    with sealed_path(out) as temporary:
        text = names_yaml(suggestions, record["sizes"], _head(config.run, out), made_from)
        temporary.write_text(text, encoding="utf-8")
    found = [one for one in suggestions if one]
    log.info(
        "%s: %d of %d clusters have a suggestion, %d more have a doubtful one; a model guessed them: look at "
        "the objects, correct the file, then set clusters.names or give it as --names",
        out, sum(not one.doubt for one in found), len(suggestions), sum(bool(one.doubt) for one in found),
    )  # fmt: skip


def _head(run: str, out: Path) -> list[str]:
    """What whoever opens the file has to know."""
    return [
        f"Names that a model suggests for the clusters of the run {run}: guesses, nobody's judgement.",
        "Look at the objects of each cluster (report.html, objects.html) and correct the names before you",
        f"use them: clusters: {{names: {out.name}}} in the configuration, or --names. Lines that begin",
        "with # are doubtful, or clusters without objects; take the # away where you find the name right.",
    ]


def clusters_file(config: Config, seed: int | None, folder: Path) -> str:
    """``clusters.json`` of the main run, below its folder."""
    return layout.CLUSTERS.format(**layout.main_values(config) | {"seed": chosen_seed(config, seed, folder)})


def read_words(path: str) -> list[str]:
    """Words of a file that somebody gave.

    Raises:
        MaskDistillError: see :func:`parse_words`; also if there is no such file.
    """
    try:
        return parse_words(read_user_text(path), path)
    except FileNotFoundError:
        raise MaskDistillError(
            f"--words {path}: no such file; write one with a word a line, of what the clusters may be"
        ) from None


def refuse_to_replace(out: Path, replace: bool) -> None:
    """Keep a file that is not as this command wrote it: somebody has worked on it.

    Raises:
        MaskDistillError: it is such a one, and ``replace`` is false; or no YAML file is named.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise MaskDistillError(f"--out {out}: give a file that ends in .yaml")
    if out.is_dir():
        raise MaskDistillError(f"--out {out}: is a folder; give a file")
    if not out.exists() or replace:
        return
    try:
        seal.verify(out)
    except seal.BrokenSeal:
        raise MaskDistillError(
            f"{out}: was changed since it was written, or is another file, and would be replaced; give "
            "another file as --out, or --replace"
        ) from None


def _tally(own: Own, words: list[str], clip: Clip, num_clusters: int, args: argparse.Namespace) -> Tally:
    """Compare a sample of the run's objects with the words."""
    objects = (item for picture in own.pictures() for item in picture.objects)
    categories = np.fromiter((item.category_id for item in objects), dtype=np.int64)
    if not len(categories):
        raise MaskDistillError(
            f"{args.run}: no object passes {own.choice.min_score}; give a lower --min-score"
        )
    chosen = sample(categories, args.per_cluster)
    tally, directions = Tally(num_clusters, words), clip.words(words)
    found = crops(own.pictures(), chosen, clip.side, args.threads)
    shown = progress(found, int(chosen.sum()), "names", "object")
    for batch in _batches(shown):
        clusters = np.array([crop.category - 1 for crop in batch], dtype=np.int64)
        tally.add(clip.similarities([crop.pixels for crop in batch], directions), clusters)
    return tally


def _batches(items: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(items, BATCH)):
        yield batch


def _provenance(own: Own, clip: Clip, args: argparse.Namespace) -> dict[str, Any]:
    """What the suggestions were made from; of the shards one digest for all."""
    digests = make_provenance("names", {}, own.inputs)["inputs"]
    choice = own.choice
    params = {
        "model": args.model, "weights": clip.digest(), "open_clip": version("open-clip-torch"),
        "sentences": SENTENCES, "per_cluster": args.per_cluster, "min_score": choice.min_score,
        "compare": choice.compare, "min_area": choice.min_area, "class_agnostic_nms": choice.most_iou,
        "objects": sha256_text(canonical_json(digests)),
    }  # fmt: skip
    return make_provenance("names", params, {"manifest": own.manifest, "words": args.words})
