"""How many cores and threads a process takes, and that its threads do not spin."""

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from maskdistill.cli import common
from maskdistill.runtime import cores, devices
from maskdistill.runtime.cores import available_cores


def system(folder: Path, groups: str, mounts: str, **files: str) -> Path:
    """A process's folder in /proc, ``{at}`` standing for where control groups are mounted, and their
    files.
    """
    at = folder / "sys"
    for name, text in files.items():
        file = at / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    proc = folder / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(groups)
    (proc / "mountinfo").write_text(mounts.format(at=at))
    return proc


V2 = "30 23 0:26 {root} {{at}} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / {{at}} rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {root} {{at}}/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 {root} {{at}}/memory rw,relatime - cgroup cgroup rw,memory\n"
)


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        pytest.param("0::/\n", V2.format(root="/"), {"cpu.max": "200000 100000"}, 2, id="v2, a container of "
        "its own"),
        pytest.param("0::/\n", V2.format(root="/"), {"cpu.max": "150000 100000"}, 2, id="v2, rounded up"),
        pytest.param("0::/\n", V2.format(root="/"), {"cpu.max": "10000 100000"}, 1, id="v2, a tenth of a "
        "core"),
        pytest.param("0::/\n", V2.format(root="/"), {"cpu.max": "max 100000"}, 16, id="v2, no quota"),
        pytest.param("0::/\n", V2.format(root="/"), {}, 16, id="v2, the host's root group"),
        pytest.param(
            "0::/user.slice/run.scope\n", V2.format(root="/"),
            {"user.slice/cpu.max": "300000 100000", "user.slice/run.scope/cpu.max": "max 100000"}, 3,
            id="v2, the quota of a group above",
        ),
        pytest.param(
            "0::/a/b\n", V2.format(root="/"), {"a/cpu.max": "300000 100000", "a/b/cpu.max": "500000 100000"},
            3,
            id="v2, the least of nested quotas",
        ),
        pytest.param(
            "0::/docker/abc\n", V2.format(root="/docker/abc"), {"cpu.max": "400000 100000"}, 4,
            id="v2, the host's name of the group",
        ),
        pytest.param("0::/../x\n", V2.format(root="/"), {"cpu.max": "400000 100000"}, 4, id="v2, beside the "
        "root"),
        pytest.param(
            "4:memory:/x\n1:cpu,cpuacct:/kubepods/p\n0::/\n", V1.format(root="/"),
            {"cpu,cpuacct/kubepods/p/cpu.cfs_quota_us": "250000",
            "cpu,cpuacct/kubepods/p/cpu.cfs_period_us": "100000"},
            3, id="v1, a group of its own",
        ),
        pytest.param(
            "1:cpu,cpuacct:/docker/abc\n", V1.format(root="/docker/abc"),
            {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "50000"}, 2,
            id="v1, in a container",
        ),
        pytest.param(
            "1:cpu,cpuacct:/\n", V1.format(root="/"),
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 16,
            id="v1, no quota",
        ),
        pytest.param(
            "4:memory:/\n", V1.format(root="/"),
            {"memory/cpu.cfs_quota_us": "100000", "memory/cpu.cfs_period_us": "100000"}, 16,
            id="v1, no group for processors",
        ),
        pytest.param("", "", {}, 16, id="no control groups"),
        pytest.param("garbage\n", "garbage\n0 - \n", {"cpu.max": "x y"}, 16, id="unreadable"),
    ],
)  # fmt: skip
def test_quotas_of_control_groups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    mounts: str,
    files: dict[str, str],
    expected: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert available_cores(system(tmp_path, groups, mounts, **files)) == expected


def test_without_a_proc_file_system_or_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores(tmp_path / "none") == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path / "none") == 1


def test_cores_follow_the_affinity_of_the_process() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}})\n"
        "from maskdistill.runtime.cores import available_cores; print(available_cores())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"


def test_threads_are_no_more_than_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # restored afterwards
    monkeypatch.setitem(
        sys.modules, "torch", argparse.Namespace(set_num_threads=lambda number: given.append(number))
    )
    given: list[int] = []
    assert [devices.set_threads(number) for number in (16, 3, 2, 0)] == [3, 3, 2, 1]
    assert given == [3, 3, 2, 1] and os.environ["OMP_NUM_THREADS"] == "1"


def test_a_stage_works_with_the_threads_that_it_may_use_and_logs_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "available_cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    args = argparse.Namespace(threads=16, log=str(tmp_path / "log"), device="cpu", gpus=0)
    common.start(args, "masks")
    assert args.threads == 1 and "threads=1 (16 granted)" in (tmp_path / "log").read_text()
    args.threads = 1
    common.start_on_device(args, "features")
    assert (tmp_path / "log").read_text().rstrip().endswith("device=cpu threads=1")


@pytest.mark.parametrize(("there", "expected"), [(1, 1), (2, 2), (64, common.MOST_THREADS)])
def test_threads_of_a_command_that_was_granted_none(
    monkeypatch: pytest.MonkeyPatch, there: int, expected: int
) -> None:
    monkeypatch.setattr(common, "available_cores", lambda: there)
    parser = argparse.ArgumentParser()
    common.add_common(parser)
    assert parser.parse_args([]).threads == expected


def libgomp_of_torch() -> Path:
    spec = find_spec("torch")
    assert spec and spec.origin
    return next((Path(spec.origin).parent / "lib").glob("libgomp*"))


@pytest.mark.parametrize(
    ("given", "policy", "spins"),
    [
        ({}, "PASSIVE", "2000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", "30000000000"),
        ({"GOMP_SPINCOUNT": "77"}, "PASSIVE", "77"),  # libgomp calls an undefined policy passive
    ],
)
def test_what_openmp_reads_when_it_is_loaded_after_the_package(
    given: dict[str, str], policy: str, spins: str
) -> None:
    """Set from Python it is in time, and what the user has set stays."""
    rest = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    code = f"import maskdistill, ctypes; ctypes.CDLL({str(libgomp_of_torch())!r})"
    environment = rest | given | {"OMP_DISPLAY_ENV": "VERBOSE"}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    ).stderr
    assert f"OMP_WAIT_POLICY = '{policy}'" in shown and f"GOMP_SPINCOUNT = '{spins}'" in shown, shown


def test_numpy_multiplies_with_one_thread() -> None:
    code = (
        "import maskdistill, numpy, threadpoolctl\n"
        "print({pool['num_threads'] for pool in threadpoolctl.threadpool_info() if pool['user_api'] == "
        "'blas'})"
    )
    rest = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    assert (
        subprocess.run([sys.executable, "-c", code], env=rest, capture_output=True, text=True).stdout
        == "{1}\n"
    )


def test_the_real_system_is_read() -> None:
    assert 1 <= available_cores(cores.PROC) <= (os.cpu_count() or 1)
