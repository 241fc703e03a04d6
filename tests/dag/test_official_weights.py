"""The rule weights: a transfer that is cut is continued by its retries; a file that is there is never fetched
again.
"""

import re
import sys
from pathlib import Path

from dag_project import Project, make_project

sys.path.insert(0, str(Path(__file__).parents[1]))

from range_server import RangeServer, serve

CONTENT = bytes(range(256)) * 4000
FILE = "resources/weights/dino_deitsmall16_pretrain.pth"


def project_with(folder: Path, url: str, **backbone: str) -> Project:
    """A project whose DINO ViT-S/16 comes from ``url``."""
    project = make_project(folder, backbone={"arch": "dino_vits16", "weights": "official", **backbone})
    registry = folder / "maskdistill/backbones/registry.py"
    changed, count = re.subn(r"(?m)^    url = .*$", f"    url = {url!r}", registry.read_text())
    assert count == 1
    registry.write_text(changed)
    return project


def test_retries_continue_and_what_is_there_stays(tmp_path: Path) -> None:
    with serve(RangeServer(CONTENT, cuts=[300_000, 200_000])) as server:
        project = project_with(tmp_path, server.url)
        assert {"weights", "features", "embeddings"} <= project.planned()
        project.snakemake("--printshellcmds", FILE)
        assert (tmp_path / FILE).read_bytes() == CONTENT
        assert server.requests == ["", "bytes=300000-", "bytes=500000-"]
        log = (project.results / "logs/weights/dino_deitsmall16_pretrain.pth.log").read_text()
        assert "licence of the weights: Apache-2.0" in log
        assert "weights" not in project.planned()
        project.snakemake("--force", FILE)  # checked, not fetched
        assert (tmp_path / FILE).read_bytes() == CONTENT and len(server.requests) == 3


def test_a_wrong_sum_and_a_gated_file_stop_before_anything_runs(tmp_path: Path) -> None:
    project = project_with(tmp_path, "http://127.0.0.1:9/", sha256="0" * 64)
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_bytes(CONTENT)
    output = project.snakemake("--dry-run", check=False)
    assert f"{FILE}: wrong checksum" in output and "0" * 64 in output and "Traceback" not in output
    project.configure(backbone={"arch": "dinov3_vits16", "weights": "official"})
    output = project.snakemake("--dry-run", check=False)
    assert "accept the DINOv3 License" in output and "Traceback" not in output
