"""Command line: ``maskdistill STAGE ...``. One module a stage; a stage's libraries load when it runs."""

import argparse
import importlib
import sys
from collections.abc import Sequence

import maskdistill
from maskdistill.runtime.errors import MaskDistillError

STAGES = {
    "config": "write the configuration's schema and commented defaults",
    "scenes": "generate scenes with exact ground truth",
    "manifest": "list the images of a source, quarantine unreadable ones",
    "ground_truth": "bring a source's ground truth into one format (read by evaluation only)",
    "pretrain": "train a backbone on unlabelled images",
    "features": "CLS query and patch keys of a shard",
    "masks": "one object mask an image from the affinity graph",
    "embeddings": "CLS features of the masked images of a shard",
    "clusters": "K-means over the embeddings of all shards",
    "annotations": "COCO-format pseudo-annotations",
    "detector": "train Mask R-CNN on the annotations",
    "candidates": "run the detector over a shard",
    "pseudo_labels": "confident candidates become label PNGs",
    "segmenter": "train DeepLab-v3 on the pseudo-labels",
    "predictions": "run the segmenter over a shard",
    "evaluation": "score one stage's output against ground truth",
    "baselines": "score colour clustering on the same images",
    "report": "one page and one summary of a run",
    "show": "print the scores of a finished run",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0 only when every output is complete."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="maskdistill",
        description=maskdistill.__doc__,
        epilog="stages, in the order of the method:\n"
        + "\n".join(f"  {name:14s} {text}" for name, text in STAGES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=maskdistill.__version__)
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help="see below; each has its own --help")
    stage = parser.parse_args(arguments[:1]).stage
    module = importlib.import_module(f"maskdistill.cli.{stage}")
    stage_parser = argparse.ArgumentParser(prog=f"maskdistill {stage}", description=module.__doc__)
    module.add_arguments(stage_parser)
    parsed = stage_parser.parse_args(arguments[1:])
    try:
        module.run(parsed)
    except MaskDistillError as error:
        print(f"maskdistill {stage}: {error}", file=sys.stderr)
        return 1
    return 0
