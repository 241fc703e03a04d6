"""The workflow on a real Slurm: every job through sbatch, a device of its own for each, a cancelled job
recovered.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "dag"))

from dag_project import ROOT, Project, make_project
from fork_server import fork_server
from one_node_cluster import GPUS, NoClusterError, one_node_cluster, slurm, wait_until

UUIDS = [f"GPU-{number}" for number in range(GPUS)]
HOLDER = """
import os, sys, time
from maskdistill.runtime.leases import claim_gpus
given = os.environ["CUDA_VISIBLE_DEVICES"]
claim_gpus("auto", int(sys.argv[1]))
since = time.time()
time.sleep(1)
print(given, os.environ["MASKDISTILL_LEASED"], since, time.time())
"""
ON_SLURM = (
    "--workflow-profile", "workflow/profiles/slurm", "--max-threads", "1",
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
)  # fmt: skip
EVERY_SECOND = """from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
"""
"""Between two looks at its jobs the executor waits ten seconds longer each time that none has ended."""
HELD = """            while Path("held").exists():
                __import__("time").sleep(0.05)
"""
"""A training that has written its state waits there while a file ``held`` exists."""
GROUPED = {
    "clusters_annotations_clusters": {"clusters", "annotations"},
    "data_ground_truth_manifest_scenes": {"scenes", "manifest", "ground_truth"},
    "masks_masks": {"masks"},
    "report_baselines_evaluate_segmenter_gallery_report_thumbnails": {
        "evaluate_segmenter",
        "baselines",
        "thumbnails",
        "gallery",
        "report",
    },
}
ON_GPU = {
    "features",
    "embeddings",
    "clusters_annotations_clusters",
    "choose_k",
    "consistency",
    "detector",
    "candidates",
    "segmenter",
    "predictions",
}


@dataclass(frozen=True)
class Span:
    """A job on some devices, from and until (seconds)."""

    devices: tuple[str, ...]
    since: float
    until: float

    def overlaps(self, other: "Span") -> bool:
        return self.since < other.until and other.since < self.until


def check_devices(spans: Sequence[Span]) -> None:
    """Simultaneous jobs, of which there are some, have no device in common."""
    simultaneous = [pair for pair in combinations(spans, 2) if pair[0].overlaps(pair[1])]
    assert simultaneous, spans
    for one, other in simultaneous:
        assert not set(one.devices) & set(other.devices), (one, other)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One node with four GPUs."""
    with ExitStack() as stack:
        try:
            stack.enter_context(one_node_cluster(tmp_path_factory.mktemp("slurm")))
        except NoClusterError as reason:
            pytest.skip(str(reason))
        yield


@pytest.fixture
def asked(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's GPUs as far as nvidia-smi says, and a file of the jobs that asked it: number, devices from
    Slurm.
    """
    record = tmp_path / "asked"
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(
        f"#!/bin/sh\necho $SLURM_JOB_ID $CUDA_VISIBLE_DEVICES >>{record}\nprintf '%s\\n' {' '.join(UUIDS)}\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(smi.parent), prepend=":")
    monkeypatch.setenv("MASKDISTILL_LEASES", str(tmp_path / "leases"))
    return record


def test_no_cluster_without_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NoClusterError, match="needs root"), one_node_cluster(tmp_path):
        pass


def test_a_cluster_of_others_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text("ClusterName=theirs\n")
    monkeypatch.setattr("one_node_cluster.SETTINGS", tmp_path)
    monkeypatch.setattr("one_node_cluster.LOCK", tmp_path / "lock")
    monkeypatch.setattr("one_node_cluster.install", lambda: None)
    with pytest.raises(NoClusterError, match="belongs to a cluster"), one_node_cluster(tmp_path):
        pass
    assert (tmp_path / "slurm.conf").read_text() == "ClusterName=theirs\n"


def slurm_jobs() -> dict[str, dict[str, str]]:
    """What Slurm knows of each job of this cluster, by its number."""
    lines = slurm("scontrol", "--oneliner", "show", "job").splitlines()
    found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.strip()]
    return {job["JobId"]: job for job in found if "JobId" in job}


def test_jobs_hold_the_devices_that_slurm_gives_them(asked: Path, tmp_path: Path) -> None:
    (tmp_path / "holder.py").write_text(HOLDER)
    wanted = [1, 2, 1, 1, 2, 1]
    for number, gpus in enumerate(wanted):
        slurm(
            "sbatch", f"--gpus={gpus}", f"--output={tmp_path}/{number}.out",
            f"--export=ALL,PYTHONPATH={ROOT}",
            f"--wrap={sys.executable} {tmp_path}/holder.py {gpus}",
        )  # fmt: skip
    wait_until(lambda: not slurm("squeue", "--noheader").strip(), "the jobs", 300)
    spans: list[Span] = []
    for number, gpus in enumerate(wanted):
        given, held, since, until = (tmp_path / f"{number}.out").read_text().split()
        assert held.split(",") == [UUIDS[int(device)] for device in given.split(",")], "others than Slurm's"
        assert len(given.split(",")) == gpus
        spans.append(Span(tuple(held.split(",")), float(since), float(until)))
    check_devices(spans)
    assert {device for span in spans for device in span.devices} == set(UUIDS)


def submitted_name(job: dict[str, str]) -> str:
    """Rule, or group with its rules, of a job."""
    return job.get("Comment", "").removeprefix("rule_").partition("_wildcards_")[0]


def job_of(rule: str) -> str:
    """Number of the job of a rule that runs."""
    return next(
        number
        for number, job in slurm_jobs().items()
        if submitted_name(job) == rule and job["JobState"] == "RUNNING"
    )


def span_of(job: dict[str, str], device: str) -> Span:
    """A finished job on its device; Slurm's times are whole seconds."""
    since, until = (datetime.fromisoformat(job[name]).timestamp() for name in ("StartTime", "EndTime"))
    return Span((device,), since, until)


@contextmanager
def submitted(project: Project, printed: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The run submitted as the documentation says; what Snakemake prints goes to a file."""
    command = [
        fork_server().command("python"),
        "-m",
        "snakemake",
        *ON_SLURM,
        "--configfile",
        "config/mini.yaml",
    ]
    with open(printed, "wb") as output:
        running = subprocess.Popen(
            command, cwd=project.folder, env=project.environment(), stdout=output, stderr=output
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def small_project(folder: Path) -> Project:
    """A miniature of one shard, looked at every second, whose trainings can be held."""
    project = make_project(folder, num_shards=1, baselines={"masks": []}, crf={"rounds": 0})
    (project.folder / "sitecustomize.py").write_text(EVERY_SECOND)
    loop = project.folder / "maskdistill/training/loop.py"
    saved = "            save_state(state_file, settings.fingerprint, done, state)\n"
    assert loop.read_text().count(saved) == 1
    loop.write_text(loop.read_text().replace(saved, saved + HELD))
    return project


def test_whole_run(asked: Path, tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    (project.folder / "held").touch()
    rules = set(project.rules())
    earlier = set(slurm_jobs())
    state = project.results / "topk-0.4/k-3/seed-1234/detector.state/state.pt"
    with submitted(project, tmp_path / "first") as running:
        wait_until(lambda: running.poll() is not None or state.exists(), str(state), 1800)
        slurm("scancel", job_of("detector"))
        assert running.wait(300) != 0
    (project.folder / "held").unlink()
    assert "SLURM status is: 'CANCELLED'" in (tmp_path / "first").read_text()
    assert list(project.results.rglob("detector/model.safetensors")) == [] and state.exists()
    before_recovery = set(slurm_jobs())

    with submitted(project, tmp_path / "second") as running:
        assert running.wait(1800) == 0, (tmp_path / "second").read_text()[-4000:]
    assert set(re.findall(r"^localrule (\w+):", (tmp_path / "second").read_text(), re.M)) == {"all"}
    log = project.results / "logs/detector/topk-0.4/k-3/seed-1234.log"
    assert "resumed after step" in log.read_text()
    assert (project.results / "report.html").stat().st_size > 10_000
    assert project.planned() == set(), "what Slurm made is up to date here"

    jobs = {number: job for number, job in slurm_jobs().items() if number not in earlier}
    assert sorted(job["JobState"] for job in jobs.values()) == ["CANCELLED"] + ["COMPLETED"] * (len(jobs) - 1)
    alone = rules - {"all"} - set().union(*GROUPED.values())
    assert set(map(submitted_name, jobs.values())) == alone | GROUPED.keys()
    recovered = {submitted_name(job) for number, job in jobs.items() if number not in before_recovery}
    assert not recovered & {
        "data_ground_truth_manifest_scenes",
        "features",
        "masks_masks",
        "embeddings",
        "choose_k",
    }

    devices = dict(line.split() for line in asked.read_text().splitlines())
    on_gpu = {number for number, job in jobs.items() if "gpu:1" in job.get("TresPerJob", "")}
    assert {submitted_name(jobs[number]) for number in on_gpu} == ON_GPU
    assert devices.keys() == on_gpu
    check_devices([span_of(jobs[number], device) for number, device in devices.items()])
