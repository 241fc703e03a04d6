"""Do harm to a miniature of the demo at random moments, go on as the documentation says, and compare all
artefacts.

    python tests/chaos/run.py --seeds 0-99 --work /tmp/chaos

The undisturbed run is made once. Each seed copies it, deletes what one stage and all later ones made (a
quarter of the seeds: everything), and from there starts, harms and resumes the run. ``outcomes.jsonl`` in the
working folder gets a line a seed; seeds that stand there already are not run again. The exit status is 0 if
all ended in equal artefacts.
"""

import argparse
import json
import random
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "dag"))

from comparison import differences
from dag_project import Project, copy_project, make_project
from disturbance import KINDS, disturb, resume

STAGES = {
    "everything": ("*",),
    "features": ("features",),
    "masks": ("*/masks",),
    "embeddings": ("*/embeddings",),
    "clusters": ("topk-*/**/clusters.*", "topk-*/**/assignments.h5"),
    "annotations": ("**/annotations.*",),
    "detector": ("**/detector",),
    "candidates": ("**/candidates", "**/label_summary*"),
    "pseudo_labels": ("**/pseudo_labels",),
    "segmenter": ("**/hard-*",),
    "scores": ("*/choose_k.csv", "**/evaluation", "baselines", "objects*", "report.html", "summary.json"),
}
"""Stage -> what it makes, in the order of the DAG."""

SMALL: dict[str, Any] = {
    "num_shards": 10, "shards_per_job": 10, "crf": {"rounds": 0}, "baselines": {"masks": []},
    "data": {"kind": "scenes", "num_train": 14, "num_eval": 6, "size": 64, "difficulty": 0.3},
}  # fmt: skip
"""Beside the miniature of tests/dag: fewer and smaller scenes, and every job of a stage works through ten
shards.
"""

UNHARMED = re.compile("the run had ended|killed nothing|nothing to truncate")


def undo(project: Project, first: str) -> None:
    """Delete what a stage and all later ones made."""
    later = list(STAGES)[list(STAGES).index(first) :]
    for pattern in (pattern for stage in later for pattern in STAGES[stage]):
        for path in list(project.results.glob(pattern)):
            if path.name not in ("logs", "benchmarks"):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def run_seed(base: Project, folder: Path, seed: int) -> dict[str, Any]:
    """One disturbed run."""
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    first = "everything" if rng.random() < 0.25 else rng.choice(list(STAGES)[1:])
    outcome: dict[str, Any] = {"seed": seed, "kind": kind, "from": first}
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    project = copy_project(base, folder)
    try:
        undo(project, first)
        outcome["done"] = disturb(project, kind, rng)
        assert not UNHARMED.search(outcome["done"]), f"no harm was done: {outcome['done']}"
        said = (project.folder / "output.txt").read_text(errors="replace")
        outcome["tracebacks"] = said.count("Traceback (most recent call last)")
        outcome["resumed"] = resume(project)
        outcome["differences"] = differences(base.results, project.results)
    except AssertionError as error:
        outcome["error"] = str(error)
    outcome["seconds"] = round(time.monotonic() - began, 1)
    if is_equal(outcome):
        shutil.rmtree(folder)
    return outcome


def is_equal(outcome: dict[str, Any]) -> bool:
    """Whether a seed ended well."""
    return "error" not in outcome and not outcome["differences"]


def main() -> int:
    """Run the seeds; print one line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-99", metavar="A-B")
    parser.add_argument("--work", default="/tmp/maskdistill-chaos", type=Path)
    args = parser.parse_args()
    first, _, last = args.seeds.partition("-")
    base = Project(args.work / "undisturbed")
    if not (base.results / "summary.json").exists():
        shutil.rmtree(base.folder, ignore_errors=True)
        base = make_project(base.folder, **SMALL)
        base.snakemake()
    log = args.work / "outcomes.jsonl"
    known = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    outcomes = {outcome["seed"]: outcome for outcome in known}
    for seed in range(int(first), int(last or first) + 1):
        if seed not in outcomes:
            outcomes[seed] = run_seed(base, args.work / f"seed-{seed}", seed)
            with open(log, "a") as stream:
                stream.write(json.dumps(outcomes[seed]) + "\n")
            print(json.dumps(outcomes[seed])[:1500], flush=True)
    good = sum(map(is_equal, outcomes.values()))
    print(f"{good} of {len(outcomes)} seeds ended in the artefacts of the undisturbed run")
    return 0 if good == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
