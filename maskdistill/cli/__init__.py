"""Command line: ``maskdistill STAGE ...``. One module a stage; a stage's libraries load when it runs."""

import argparse
import errno
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import maskdistill
from maskdistill.runtime import interruption, startup
from maskdistill.runtime.errors import MaskDistillError, system_errno
from maskdistill.runtime.job_record import begin, note_settings, write_job_record
from maskdistill.runtime.resume import FinishedShard, run_unfinished
from maskdistill.runtime.shared_memory import KILLED, ended

STAGES = {
    "config": "write the configuration's schema and commented defaults",
    "plan": "what a run will download, compute and store",
    "dataset": "download and unpack an official dataset, or note where a copy lies",
    "build_data": "links and the paper's lists from official datasets",
    "scenes": "generate scenes with exact ground truth",
    "manifest": "list the images of a source, quarantine unreadable ones",
    "ground_truth": "bring a source's ground truth into one format (read by evaluation only)",
    "weights": "download the official checkpoint of a backbone",
    "pretrain": "train a backbone on unlabelled images",
    "features": "CLS query and patch keys of a shard",
    "masks": "object masks of a shard, by the paper's rule or another",
    "distil": "features and masks of a shard at once, without storing keys",
    "embeddings": "CLS features of the masked images of a shard",
    "clusters": "K-means over the embeddings of all shards",
    "choose_k": "compare numbers of clusters without labels",
    "consistency": "whether masks and clusters are found again in changed pictures and other samples",
    "annotations": "COCO-format pseudo-annotations",
    "detector": "train Mask R-CNN on the annotations",
    "candidates": "run the detector over a shard",
    "self_annotations": "annotations of a round of self-training, from candidates and the round before",
    "pseudo_labels": "confident candidates become label PNGs",
    "label_summary": "count pseudo-labels at a series of thresholds",
    "trust": "whether a run's result can be trusted, without labels",
    "own_objects": "the objects of the run's photographs, in other tools' formats, at the end of a run",
    "segmenter": "train the segmenter on the pseudo-labels",
    "predictions": "run the segmenter over a shard",
    "frozen": "cluster a frozen ResNet's features into a segmenter (evaluation only)",
    "probe": "train the segmenter's last layer on ground truth (evaluation only)",
    "evaluation": "score one stage's output against ground truth",
    "candidate_quality": "score the detector's candidates at every threshold against ground truth",
    "baselines": "score colour clustering on the same images",
    "thumbnails": "small pictures of all objects of a run",
    "gallery": "one page of all objects of a run",
    "report": "one page and one summary of a run",
    "ablations": "one page on what each step of the method adds",
    "oracle_manifest": "the images with known truth, for an oracle's stage (evaluation only)",
    "oracle_masks": "perfect masks of a shard from ground truth (evaluation only)",
    "oracle_categories": "true categories of perfect masks in the place of clusters (evaluation only)",
    "oracle": "one page on what each stage would reach with perfect input",
    "bench": "one page that compares mask rules on the same features",
    "paper": "a table or figure of the paper beside the run's own scores",
    "qualitative": "pictures of every stage, laid out as in the paper",
    "show": "print the scores of a finished run",
    "init": "write a configuration for a folder of photographs",
    "run": "run a configuration's workflow, one line per stage, and say where everything is",
    "curves": "losses and speed of trainings, also while they run; as TensorBoard files too",
    "doctor": "check what a run needs, and say how to fix what is missing",
    "objects": "the objects of a finished run's photographs, in other tools' formats",
    "names": "suggest names for a run's clusters, from a list of words",
    "compare": "compare objects corrected by hand with the run's own",
    "predict": "apply a run's models to other pictures: COCO JSON, label maps, overlays",
    "export": "a run's segmenter as ONNX, checked, with a model card",
}

GROUPS = {
    "everyday commands": ("init", "doctor", "plan", "run", "curves", "show", "objects", "names", "compare",
    "predict", "export"),
    "what a run begins with": ("config", "weights", "pretrain", "dataset", "build_data", "scenes"),
    "stages, in the order of the method": (),
    "evaluation, the only readers of ground truth": (
        "ground_truth", "evaluation", "candidate_quality", "baselines", "frozen", "probe", "ablations",
        "oracle_manifest", "oracle_masks", "oracle_categories", "oracle",
        "bench",
    ),
    "tables and figures of the paper": ("paper", "qualitative"),
}  # fmt: skip
"""Commands as they are listed: title and members. The stages are all that no other group names."""

UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says where a folder or a disk takes no more."""


INTERRUPTED = "interrupted; nothing half-written is left, and the same command goes on or starts over"


def grouped() -> dict[str, list[str]]:
    """Commands by the title of their group, in the order in which they are listed."""
    named = {name for group in GROUPS.values() for name in group}
    rest = [name for name in STAGES if name not in named]
    return {title: [*group] or rest for title, group in GROUPS.items()}


def _overview() -> str:
    """What each command is for, group by group."""
    blocks = (
        "\n".join([f"{title}:", *(f"  {name:17s} {STAGES[name]}" for name in group)])
        for title, group in grouped().items()
    )
    return "\n\n".join(blocks)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0 only when every output is complete."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="maskdistill",
        description=maskdistill.__doc__,
        epilog=_overview()
        + "\n\nWhere several files are taken, {0000..0199} in quotes stands for all these numbers, as in "
        "bash.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--each",
        metavar="A[-B]",
        help="after COMMAND: run it for each shard A..B in turn; its number, with as many digits as A, "
        "replaces {shard}, and an option with one value per shard gives the shard's own",
    )
    parser.add_argument("--version", action="version", version=maskdistill.__version__)
    parser.add_argument("stage", choices=STAGES, metavar="COMMAND", help="see below; each has its own --help")
    stage = parser.parse_args(arguments[:1]).stage
    with interruption.in_order() as interrupted:
        return _run(stage, arguments, interrupted)


def _run(stage: str, arguments: Sequence[str], interrupted: interruption.Interruption) -> int:
    try:
        run_stage(stage, arguments[1:])
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if number := interrupted.number(error):
            _end_log(arguments[1:], f"maskdistill {stage}: {INTERRUPTED}")
            print(f"maskdistill {stage}: {INTERRUPTED}", file=sys.stderr)
            return 128 + number
        if isinstance(error, BrokenPipeError) and interruption.reader_has_left():
            interruption.mute_output()
            return 128 + signal.SIGPIPE
        message = _message(error)
        _end_log(arguments[1:], f"maskdistill {stage}: {message}" if message else traceback.format_exc())
        if message is None:
            raise
        print(f"maskdistill {stage}: {message}", file=sys.stderr)
        return 1
    return 0


def _message(error: BaseException) -> str | None:
    """What a user is told instead of a traceback; None where nothing better is known."""
    if isinstance(error, MaskDistillError):
        return str(error)
    if isinstance(error, BrokenProcessPool):
        return KILLED
    if said := ended(str(error)):
        return said
    number = system_errno(error) if isinstance(error, (OSError, RuntimeError)) else None
    if number not in UNWRITABLE:
        return None
    place = getattr(error, "filename2", None) or getattr(error, "filename", None) or "an output"
    failed = "read or written" if number in (errno.EACCES, errno.EPERM) else "written"
    return (
        f"{place} could not be {failed} ({os.strerror(number)}); free some space or grant access, and give "
        "the same command again"
    )


def _end_log(arguments: Sequence[str], text: str) -> None:
    """Write a stage's failure at the end of its log too, which Snakemake points to."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--log")
    log = parser.parse_known_args(arguments)[0].log
    if log:
        with suppress(OSError):  # a full disk may be what failed
            Path(log).parent.mkdir(parents=True, exist_ok=True)
            with open(log, "a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text.rstrip("\n") + "\n")


def run_stage(stage: str, arguments: Sequence[str], append_log: bool = False) -> None:
    """Run a stage in this process.

    Args:
        stage: its name.
        arguments: what follows the name on the command line.
        append_log: go on with the file of ``--log`` instead of beginning it anew.

    Raises:
        MaskDistillError: as the stage raises it.
    """
    since = begin()
    module = startup.load(f"maskdistill.cli.{stage}")
    stage_parser = argparse.ArgumentParser(prog=f"maskdistill {stage}", description=module.__doc__)
    module.add_arguments(stage_parser)
    commands = _for_each_shard(list(arguments))
    handed_on = getattr(module, "HANDED_ON", None)
    runs = [_with_all_files(_with_home(_parsed(stage_parser, given, handed_on))) for given in commands]
    log: str | None = getattr(runs[0], "log", None)
    if log and not append_log:
        Path(log).unlink(missing_ok=True)
    note_settings(_settings(runs[0]))
    if len(runs) == 1:
        module.run(runs[0])
    else:
        shards = [
            FinishedShard(run.output, [stage, *given]) for run, given in zip(runs, commands, strict=True)
        ]
        run_unfinished(shards, [partial(module.run, run) for run in runs])
    write_job_record(stage, log, since)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """A job's settings and network, for its record; mistakes in them are the stage's to report."""
    with suppress(ValueError, TypeError):
        told = {name: value for name in ("arch",) if (value := getattr(options, name, None))}
        return dict(json.loads(getattr(options, "params", "{}"))) | told
    return {}


def _parsed(parser: argparse.ArgumentParser, given: list[str], handed_on: str | None) -> argparse.Namespace:
    """The options; what follows ``--`` is added to ``handed_on`` as it stands, where there is such an option.

    argparse would refuse it behind an option that follows a positional argument.
    """
    if handed_on is None or "--" not in given:
        return parser.parse_args(given)
    place = given.index("--")
    options = parser.parse_args(given[:place])
    setattr(options, handed_on, [*getattr(options, handed_on), *given[place + 1 :]])
    return options


def _with_home(options: argparse.Namespace) -> argparse.Namespace:
    """Put the home folder in for ``~/``, which shells leave as it is in ``--out=~/x``."""

    def put_in(value: Any) -> Any:
        if isinstance(value, list):
            return [put_in(one) for one in value]
        return (
            os.path.expanduser(value) if isinstance(value, str) and value.partition("/")[0] == "~" else value
        )

    return argparse.Namespace(**{name: put_in(value) for name, value in vars(options).items()})


def _with_all_files(options: argparse.Namespace) -> argparse.Namespace:
    """In options that take several values ``{0000..0199}`` stands for all these numbers, as in bash.

    Quoted, 20,000 shards are one argument; as many arguments are more than the system takes.
    """
    for name, value in vars(options).items():
        if isinstance(value, list):
            setattr(options, name, [path for text in value for path in _expand(text)])
    return options


def _expand(text: str) -> list[str]:
    found = re.search(r"\{(\d+)\.\.(\d+)\}", text)
    if not found:
        return [text]
    first, last = found.groups()
    padded = any(len(end) > 1 and end.startswith("0") for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    step = 1 if int(first) <= int(last) else -1
    numbers = [f"{number:0{width}d}" for number in range(int(first), int(last) + step, step)]
    return [
        path for number in numbers for path in _expand(text[: found.start()] + number + text[found.end() :])
    ]


def _for_each_shard(arguments: list[str]) -> list[list[str]]:
    """The arguments for every shard that ``--each`` names; as they stand without it.

    Of an option with as many values as there are shards each takes its own.
    """
    if "--each" not in arguments:
        return [arguments]
    place = arguments.index("--each")
    first, dash, last = "".join(arguments[place + 1 : place + 2]).partition("-")
    last = last if dash else first
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise MaskDistillError("--each: give a shard, or the first and the last one: 0007 or 0010-0019")
    rest = arguments[:place] + arguments[place + 2 :]
    shards = [f"{shard:0{len(first)}d}" for shard in range(int(first), int(last) + 1)]
    starts = [place for place, argument in enumerate(rest) if place == 0 or argument.startswith("--")]
    groups = [rest[start:end] for start, end in pairwise([*starts, len(rest)])]
    return [
        [
            argument.replace("{shard}", shard)
            for group in groups
            for argument in _of_shard(group, place, len(shards))
        ]
        for place, shard in enumerate(shards)
    ]


def _of_shard(group: list[str], place: int, shards: int) -> list[str]:
    """An option and its values, of one for each shard that of the shard at this place."""
    return [group[0], group[1 + place]] if len(group) == 1 + shards else group
