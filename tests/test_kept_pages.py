"""A failed report never removes the last good one."""

import os
from pathlib import Path

import pytest
from fork_server import fork_server

from maskdistill.runtime.kept_pages import KEPT, forget_pages, keep_pages, put_pages_back

ROOT = Path(__file__).parents[1]
SNAKEFILE = f"""
import shlex, sys
from types import SimpleNamespace
from maskdistill.workflow.snakemake_ways import refusals
class Run:
    shared = []
    __str__ = lambda self: "results/x"
RUN, AS_MODULE = Run(), False
CONFIG = SimpleNamespace(datasets=SimpleNamespace(build=None), data=SimpleNamespace(kind="scenes"))
include: "{ROOT}/workflow/rules/lock.smk"
rule all:
    input: f"{{RUN}}/report.html", f"{{RUN}}/summary.json",
    default_target: True
rule manifest:
    output: f"{{RUN}}/data/manifest.csv"
    shell: "echo 1 > {{output}}"
rule report:
    input: rules.manifest.output
    output: page=f"{{RUN}}/report.html", summary=f"{{RUN}}/summary.json"
    params: what=config["what"]
    shell: "echo {{params.what}} | tee {{output}} > /dev/null; test {{params.what}} != bad"
"""


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_what_is_missing_is_put_back(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/manifest.csv").write_text("m")
    write(tmp_path, report_html="old", summary_json="old", ablations_html="old", notes_txt="mine")
    keep_pages(tmp_path)
    (tmp_path / "report.html").unlink()
    (tmp_path / "summary.json").unlink()
    write(tmp_path, ablations_html="new")
    assert put_pages_back(tmp_path) == [str(tmp_path / "report.html"), str(tmp_path / "summary.json")]
    assert read(tmp_path) == {
        "report.html": "old",
        "summary.json": "old",
        "ablations.html": "new",
        "notes.txt": "mine",
    }
    manifest = os.stat(tmp_path / "data/manifest.csv").st_mtime
    assert os.stat(tmp_path / "report.html").st_mtime < manifest, "the next run makes it anew"
    assert not (tmp_path / KEPT).exists() and put_pages_back(tmp_path) == []


def test_a_page_that_is_written_anew_does_not_change_the_kept_one(tmp_path: Path) -> None:
    write(tmp_path, report_html="old")
    keep_pages(tmp_path)
    write(tmp_path, new="half")
    (tmp_path / "new").replace(tmp_path / "report.html")
    assert read(tmp_path / KEPT) == {"report.html": "old"}
    forget_pages(tmp_path)
    assert read(tmp_path) == {"report.html": "half"}


def test_a_killed_run_leaves_them_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*given: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", no_links)
    write(tmp_path, report_html="old")
    keep_pages(tmp_path)
    (tmp_path / "report.html").unlink()  # and the run is killed
    keep_pages(tmp_path)
    put_pages_back(tmp_path)
    assert read(tmp_path) == {"report.html": "old"}


@pytest.mark.slow
def test_a_report_that_fails_in_a_run(tmp_path: Path) -> None:
    """Snakemake removes outputs, and records the failed job's settings as done: the next run must make them
    anew.
    """
    (tmp_path / "Snakefile").write_text(SNAKEFILE)

    def snakemake(what: str) -> str:
        command = ["snakemake", "--cores", "1", "--quiet", "all", "--config", f"what={what}"]
        status, _, err = fork_server().run(command, tmp_path, os.environ | {"PYTHONPATH": str(ROOT)})
        return f"{status} {read(tmp_path / 'results/x').get('report.html', '').strip()} {err[-200:]}"

    assert snakemake("good").startswith("0 good")
    assert snakemake("bad").startswith("1 good results/x/report.html: the last good one was put back")
    assert snakemake("bad").startswith("1 good"), "it is tried again"
    assert snakemake("better").startswith("0 better")
    assert not (tmp_path / "results/x" / KEPT).exists()
