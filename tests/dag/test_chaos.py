"""Five short seeds of tests/chaos: a part of the run is harmed, resumed as the documentation says, and
compared.
"""

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dag_project import Project, copy_project

sys.path.insert(0, str(Path(__file__).parents[1] / "chaos"))

from comparison import differences
from disturbance import KINDS, disturb, resume
from run import STAGES, undo

PARTS = {
    "kill_all": ("masks", "masks", ""),
    "kill_one": ("clusters", "annotations", ""),
    "read_only": ("masks", "masks", "topk-0.4/masks"),
    "disk_full": ("clusters", "annotations", ""),
    "truncate": ("masks", "masks", "features/*.h5"),
}
"""Kind of harm -> the first and the last stage of the run that suffers it, and the file or folder."""


def is_harmed(done: str) -> bool:
    return "exit 1" in done or "killed all" in done


def harmed_and_resumed(finished: Project, folder: Path, kind: str) -> tuple[str, list[str]]:
    """What was done to a part of the run, and in what it differs then.

    One job at a time, so that there are others to come; where the harm was still too late for any, again.
    """
    first, last, place = PARTS[kind]
    after = list(STAGES)[list(STAGES).index(last) + 1]
    expected = copy_project(finished, folder / "expected")
    undo(expected, after)
    options = ("--cores", "1", "--until", last)
    rng = random.Random(KINDS.index(kind))
    for number in range(5):
        project = copy_project(expected, folder / f"harmed-{number}")
        undo(project, first)
        done = disturb(project, kind, rng, options, longest=0.2, among=[place])
        if is_harmed(done):
            break
    resume(project, options)
    return done, differences(expected.results, project.results)


def test_five_harmed_runs_end_as_the_undisturbed_one(finished: Project, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        harmed = {kind: pool.submit(harmed_and_resumed, finished, tmp_path / kind, kind) for kind in KINDS}
    ended = {kind: future.result() for kind, future in harmed.items()}
    assert {kind: found for kind, (_, found) in ended.items()} == {kind: [] for kind in KINDS}
    assert [done for done, _ in ended.values() if not is_harmed(done)] == []
    assert " cut to " in ended["truncate"][0]
