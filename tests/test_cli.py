"""The command line that all stages share: --each, logs, exit status."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from maskdistill import cli
from maskdistill.cli import _for_each_shard, main
from maskdistill.data.manifest import COLUMNS, write_manifest
from maskdistill.formats import rle
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import write_json
from maskdistill.runtime.processes import in_forks


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--a", "x"], [["--a", "x"]]),
        (["--each", "0007", "--out=s-{shard}"], [["--out=s-0007"]]),
        (["--a", "{shard}", "--each", "08-11"], [["--a", "08"], ["--a", "09"], ["--a", "10"], ["--a", "11"]]),
        (["--each", "9-10", "{shard}{shard}"], [["99"], ["1010"]]),
        (
            ["--a", "1", "2", "--each", "8-9", "--b", "3", "--c"],
            [["--a", "1", "--b", "3", "--c"], ["--a", "2", "--b", "3", "--c"]],
        ),
        (["--each", "8", "--a", "1", "--b", "2", "3"], [["--a", "1", "--b", "2", "3"]]),
    ],
)
def test_each_fills_the_shard_in(given: list[str], expected: list[list[str]]) -> None:
    assert _for_each_shard(given) == expected


@pytest.mark.parametrize("value", [["x"], ["3-"], ["-3"], ["5-4"], [], ["1-2-3"]])
def test_a_wrong_range_is_explained(value: list[str]) -> None:
    with pytest.raises(MaskDistillError, match="--each: give a shard"):
        _for_each_shard(["--each", *value])


def candidates(folder: Path, shards: int) -> None:
    """Two pictures a shard, one candidate each."""
    count = 2 * shards
    table = pd.DataFrame(
        {
            "image_id": np.arange(1, count + 1), "key": [f"p{i}" for i in range(count)], "path": "p.png",
            "width": 6,
            "height": 4, "mode": "RGB", "sha256": "", "shard": np.arange(count) // 2, "train": True,
            "eval": False,
            "status": "ok", "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "manifest.csv", table[list(COLUMNS)])
    for shard in range(shards):
        segmentation = rle.encode(np.arange(24).reshape(4, 6) % 5 == shard)
        found = [
            {"image_id": 2 * shard + i, "category_id": 1, "score": 0.95, "bbox": [0, 0, 1, 1]}
            | {"segmentation": segmentation}
            for i in (1, 2)
        ]
        write_json(folder / f"c-{shard:04d}.json", {"candidates": found})


def test_one_call_for_several_shards_equals_one_call_each(tmp_path: Path) -> None:
    candidates(tmp_path, 3)
    common = ["pseudo_labels", f"--manifest={tmp_path}/manifest.csv", "--num-clusters=2", "--threads=1"]
    log = tmp_path / "log/all.log"
    files = [f"--candidates={tmp_path}/c-{{shard}}.json", f"--output={tmp_path}/all/{{shard}}"]
    assert main([*common, "--each", "0000-0002", "--shard", "{shard}", *files, f"--log={log}"]) == 0
    for shard in range(3):
        files = [f"--candidates={tmp_path}/c-{shard:04d}.json", f"--output={tmp_path}/one/{shard:04d}"]
        assert main([*common, f"--shard={shard}", *files]) == 0
        names = sorted(path.name for path in (tmp_path / f"one/{shard:04d}").iterdir())
        assert names == [f"p{2 * shard}.png", f"p{2 * shard + 1}.png", "summary.json"]
        for name in names:
            together, alone = (tmp_path / f"{how}/{shard:04d}/{name}" for how in ("all", "one"))
            assert together.read_bytes() == alone.read_bytes()
    assert log.read_text().count("maskdistill 0") == 3, "the log of a call holds all its shards"
    assert main([*common, "--each", "0002", "--shard", "{shard}", *files, f"--log={log}"]) == 0
    assert log.read_text().count("maskdistill 0") == 1, "and begins anew with the next"


def test_a_pattern_of_shards_is_expanded_as_bash_does(tmp_path: Path) -> None:
    for text in (
        "a-{0000..0002}.json",
        "{8..11}",
        "{08..11}/{0..1}",
        "{3..1}x",
        "{1..003}",
        "{a}{shard}",
        "{2..2}",
    ):
        done = subprocess.run(["bash", "-c", f"echo {text}"], text=True, capture_output=True, check=True)
        assert cli._expand(text) == done.stdout.split(), text
    candidates(tmp_path, 3)
    common = ["label_summary", f"--manifest={tmp_path}/manifest.csv", "--threads=1"]
    for shard in range(3):
        (tmp_path / f"c-{shard:04d}.json").rename(tmp_path / f"shard-{shard:04d}.json")
    given = [f"{tmp_path}/shard-{shard:04d}.json" for shard in range(3)]
    assert main([*common, f"--output={tmp_path}/one.json", "--candidates", *given]) == 0
    assert (
        main(
            [
                *common,
                f"--output={tmp_path}/all.json",
                "--candidates",
                f"{tmp_path}/shard-{{0000..0002}}.json",
            ]
        )
        == 0
    )
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "all.json").read_bytes()


def test_the_first_bad_shard_ends_the_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    candidates(tmp_path, 3)
    broken = json.loads((tmp_path / "c-0001.json").read_text())
    broken["candidates"][0]["category_id"] = 9
    write_json(tmp_path / "c-0001.json", broken)
    files = [f"--candidates={tmp_path}/c-{{shard}}.json", f"--output={tmp_path}/all/{{shard}}"]
    common = ["pseudo_labels", f"--manifest={tmp_path}/manifest.csv", "--num-clusters=2", "--threads=1"]
    assert main([*common, "--each", "0000-0002", "--shard", "{shard}", *files, f"--log={tmp_path}/log"]) == 1
    said = capsys.readouterr().err
    assert said.count("c-0001.json: category 9") == 1
    assert (tmp_path / "log").read_text().splitlines()[-1] == said.splitlines()[-1], (
        "the log ends with the error"
    )
    assert [path.name for path in (tmp_path / "all").glob("[!.]*")] == ["0000"]


def test_a_worker_that_is_killed_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the kernel does when memory runs out: a process of a pool, and one that loads data."""

    def die(_: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    class Deadly(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> int:
            return die(index)

    loader = torch.utils.data.DataLoader(Deadly(), num_workers=1)
    for work in (lambda: list(in_forks(die, [1, 2, 3], 2)), lambda: list(loader)):
        monkeypatch.setattr(cli, "run_stage", lambda *_, work=work: work())
        assert main(["masks"]) == 1
        assert "was killed, most often because memory ran out" in capsys.readouterr().err


def test_a_disk_that_is_full_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs/masks.log"

    def fail(code: int) -> None:
        def run(*_: object) -> None:
            raise OSError(code, os.strerror(code), "results/a.json")

        monkeypatch.setattr(cli, "run_stage", run)

    fail(errno.ENOSPC)
    assert main(["masks", "--log", str(log)]) == 1
    said = capsys.readouterr().err
    assert "results/a.json could not be written (No space left on device); free some space" in said
    assert log.read_text() == said
    fail(errno.EACCES)
    assert main(["masks"]) == 1
    assert "results/a.json could not be read or written (Permission denied)" in capsys.readouterr().err
    fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        main(["masks", "--log", str(log)])
    assert log.read_text().endswith("OSError: [Errno 5] Input/output error: 'results/a.json'\n")
    assert "Traceback (most recent call last)" in log.read_text() and not capsys.readouterr().err


@pytest.mark.slow
def test_a_disk_that_hdf5_finds_full_is_a_message(tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy\n"
        "from maskdistill import cli\nfrom maskdistill.features import store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "zeros = numpy.zeros((100, 100), numpy.float32)\n"
        "cli.run_stage = lambda *_: store.write_embeddings(sys.argv[1], zeros, range(100), range(100), {})\n"
        "sys.exit(cli.main(['masks']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "e.h5"], text=True, capture_output=True)
    assert done.returncode != 0  # HDF5 itself may crash at the very end, after the message
    assert (
        "could not be written (File too large); free some space" in done.stderr
        and not (tmp_path / "e.h5").exists()
    )
