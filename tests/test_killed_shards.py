"""A job of several shards, killed again and again, goes on where it was and ends in the same bytes."""

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fork_server import fork_server
from PIL import Image

from maskdistill.cli import main
from maskdistill.formats.label_png import write_label_png
from maskdistill.runtime.files import atomic_directory, atomic_path, write_json
from maskdistill.runtime.resume import FOLDER, FinishedShard, run_unfinished

SHARDS = 24
KILLS = 10
BEGINS = " features on Python"


def features_command(folder: Path, output: str) -> list[str]:
    """The stage features over all shards of the photos in ``folder``."""
    return [
        "features", "--each", f"0000-{SHARDS - 1:04d}", f"--manifest={folder}/manifest.csv",
        "--shard={shard}",
        "--arch=vit_micro_patch8", f"--weights={folder}/weights.safetensors", "--device=cpu", "--threads=1",
        '--params={"short_side": 96, "batch_size": 2, "workers": 0}',
        f"--output={folder}/{output}/{{shard}}.h5",
    ]  # fmt: skip


def run_and_kill(command: list[str], delay: float) -> tuple[list[str], bool]:
    """Run; SIGKILL ``delay`` seconds into the second new shard or as the third begins: the log, whether it
    ended.
    """
    process = subprocess.Popen(
        [fork_server().command("maskdistill"), *command], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert process.stderr is not None
    killing = threading.Timer(delay, process.kill)
    lines, begun = [], 0
    for line in process.stderr:
        lines.append(line)
        if BEGINS in line:
            begun += 1
            if begun == 2:
                killing.start()
            elif begun == 3:
                process.kill()
    ended = process.wait() == 0
    killing.cancel()
    return lines, ended


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 4 photos a shard."""
    folder = tmp_path_factory.mktemp("killed")
    rng = np.random.default_rng(5)
    (folder / "photos").mkdir()
    for i in range(4 * SHARDS):
        picture = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture.resize((128, 96), Image.Resampling.BICUBIC).save(folder / f"photos/{i:03d}.png")
    shipped = Path(__file__).parents[1] / "config/weights/vit_micro_patch8.safetensors"
    shutil.copy(shipped, folder / "weights.safetensors")
    data = f'{{"kind": "folder", "root": "{folder}/photos"}}'
    made = ["manifest", f"--params={data}", f"--num-shards={SHARDS}", f"--output={folder}/manifest.csv"]
    assert main(made) == 0
    return folder


@pytest.mark.slow
def test_ten_kills_inside_shards(photos: Path) -> None:
    start = time.perf_counter()
    assert main(features_command(photos, "undisturbed")) == 0
    one_shard = (time.perf_counter() - start) / SHARDS
    command = features_command(photos, "killed")
    output = photos / "killed"
    chance = random.Random(10)
    kept = 0
    for _ in range(KILLS):
        lines, ended = run_and_kill(command, chance.uniform(0, one_shard))
        assert not ended, "more shards are needed for ten kills"
        assert sum("finished earlier" in line for line in lines) == kept, (
            "no finished shard is computed again"
        )
        begun = sum(BEGINS in line for line in lines)
        finished = len(list((output / FOLDER).iterdir()))
        assert finished - kept >= begun - 1, "a kill loses at most the shard that was being computed"
        kept = finished
        for written in output.glob("*.h5"):  # as Snakemake does before it starts the job again
            written.unlink()
    assert 0 < kept < SHARDS
    assert main(command) == 0
    names = [f"{shard:04d}.h5" for shard in range(SHARDS)]
    assert sorted(path.name for path in output.iterdir()) == names, (
        "no second names and no temporary files stay"
    )
    for name in names:
        assert (output / name).read_bytes() == (photos / "undisturbed" / name).read_bytes()


def write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def test_only_the_same_work_counts_as_finished(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("one")
    output = tmp_path / "out.txt"
    write(output, "made of one")
    command = [f"--input={source}", "--topk=0.4", f"--output={output}"]
    FinishedShard(output, command).keep()
    output.unlink()
    assert not FinishedShard(output, [*command, "--seed=3"]).restore(), "other settings"
    source.write_text("another")
    assert not FinishedShard(output, command).restore(), "another input"
    write(output, "made of another")
    shard = FinishedShard(output, command)
    shard.keep()
    output.unlink()
    assert shard.restore() and output.read_text() == "made of another"
    shard.forget()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.txt"]


def test_settings_longer_than_a_file_name_may_be(tmp_path: Path) -> None:
    """The detector's section as JSON has some 600 characters, and a file name at most 255."""
    output = tmp_path / "out.txt"
    write(output, "made")
    shard = FinishedShard(output, ["--params", '{"anchor_sizes":' + "9" * 600 + "}", "--output", str(output)])
    shard.keep()
    output.unlink()
    assert shard.restore() and output.read_text() == "made"


def test_folders_are_kept_whole(tmp_path: Path) -> None:
    output = tmp_path / "labels"
    with atomic_directory(output) as temporary:
        (temporary / "a.txt").write_text("a")
    shard = FinishedShard(output, ["--output", str(output)])
    shard.keep()
    shutil.rmtree(output)
    calls: list[Any] = []
    second = FinishedShard(tmp_path / "more", ["more"])
    run_unfinished([shard, second], [lambda: calls.append(1), lambda: write(tmp_path / "more", "b")])
    assert calls == [], "the first one was finished"
    assert (output / "a.txt").read_text() == "a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels", "more"]


@pytest.mark.hostile("hdf5: finished shard of a killed job, damaged", outcome="computed again")
@pytest.mark.parametrize("name", ["a.json", "labels/a.png", "labels/summary.json"])
def test_a_finished_shard_that_is_damaged_is_computed_again(tmp_path: Path, name: str) -> None:
    output = tmp_path / Path(name).parts[0]

    def make() -> None:
        if name == "a.json":
            write_json(output, {"a": 1})
        else:
            with atomic_directory(output) as folder:
                write_label_png(folder / "a.png", np.zeros((9, 9), np.uint8))
                write_json(folder / "summary.json", {"a": 1})

    make()
    before = (tmp_path / name).read_bytes()
    shard = FinishedShard(output, ["--output", str(output)])
    shard.keep()
    assert shard.restore()
    (tmp_path / name).write_bytes(before[:-20] + bytes([before[-20] ^ 1]) + before[-19:])
    shutil.rmtree(output) if output.is_dir() else output.unlink()
    assert not shard.restore()
    run_unfinished([shard], [make])
    assert (tmp_path / name).read_bytes() == before


def test_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    code = "import os, sys; from maskdistill.runtime.files import atomic_path\n"
    code += (
        "with atomic_path(sys.argv[1]) as temporary: temporary.write_text('half'); os.kill(os.getpid(), 9)"
    )
    for name in ("a.txt", "b.txt"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_path(tmp_path / "a.txt") as mine, atomic_path(tmp_path / "a.txt") as other:
        assert mine.exists() and other.exists(), "what a living process writes stays"
        assert len(list(tmp_path.glob(".a.txt*"))) == 2
    assert len(list(tmp_path.glob(".b.txt*"))) == 1, "another file's leftovers are its own"
