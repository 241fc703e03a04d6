"""Silhouettes and inertia of several numbers of clusters against slow recomputation; the entry point."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from maskdistill.cli import choose_k as stage
from maskdistill.cli import main
from maskdistill.clusters import choose_k as module
from maskdistill.clusters.choose_k import candidates, silhouettes, simplified_silhouette
from maskdistill.clusters.kmeans import assign, fit_kmeans
from maskdistill.data.manifest import write_manifest
from maskdistill.features import store

Floats = np.ndarray[Any, np.dtype[np.float32]]


def groups(k: int = 4, per: int = 30, dim: int = 5, spread: float = 0.3, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    centres = np.eye(k, dim) * 3
    return (np.repeat(centres, per, axis=0) + rng.normal(0, spread, (per * k, dim))).astype(np.float32)


def slow_silhouette(points: Floats, labels: list[int]) -> float:
    distances, total = cdist(points.astype(np.float64), points.astype(np.float64)), 0.0
    for i, own in enumerate(labels):
        members = {c: [j for j, other in enumerate(labels) if other == c and j != i] for c in set(labels)}
        if members[own]:
            a = np.mean([distances[i, j] for j in members[own]])
            b = min(np.mean([distances[i, j] for j in others]) for c, others in members.items() if c != own)
            total += (b - a) / max(a, b)
    return total / len(points)


def test_silhouettes_agree_with_their_definition() -> None:
    points = groups(per=12, spread=1)
    rng = np.random.default_rng(1)
    clusterings = [assign(points, points[:k]).assignments for k in (2, 5)] + [rng.integers(0, 9, len(points))]
    clusterings.append(np.where(np.arange(len(points)) == 3, 7, clusterings[1]))  # one alone
    found = silhouettes(points, clusterings)
    assert found == pytest.approx([slow_silhouette(points, one.tolist()) for one in clusterings], abs=1e-6)


def test_silhouette_of_equal_points() -> None:
    points = np.ones((6, 3), np.float32)
    assert silhouettes(points, [np.array([0, 0, 0, 1, 1, 1])]) == [0]


def test_silhouette_where_all_or_none_share_a_cluster() -> None:
    """scikit-learn refuses both: as of photographs that are all alike, or of a sample that misses one."""
    points = groups(k=2, per=3)
    assert silhouettes(points, [np.full(6, 3), np.arange(6)]) == [0, 0]


@pytest.mark.parametrize("chunk", [7, 512])
def test_simplified_silhouette_agrees_with_its_definition(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    points = groups(spread=1)
    centroids = points[[0, 40, 80, 81]]
    distances = np.sort(cdist(points.astype(np.float64), centroids.astype(np.float64)), axis=1)
    expected = ((distances[:, 1] - distances[:, 0]) / distances[:, 1]).mean()
    assert simplified_silhouette(points, centroids, assign(points, centroids).assignments) == pytest.approx(
        expected
    )


def test_candidates() -> None:
    assert candidates(20, 1000) == [5, 10, 14, 20, 28, 40, 80]
    assert candidates(2, 1000) == [2, 3, 4, 8]
    assert candidates(20, 29) == [5, 10, 14, 20, 28]
    assert candidates(20, 1000, [3, 999, 1000, 7]) == [3, 7, 999]
    assert candidates(20, 1) == []


def make_run(folder: Path, points: Floats) -> list[str]:
    n = len(points)
    table = pd.DataFrame(
        {
            "image_id": range(1, n + 1), "key": [f"k{i}" for i in range(n)], "path": "x.jpg", "width": 20,
            "height": 20,
            "mode": "RGB", "sha256": "", "shard": np.arange(n) * 2 // n, "train": True, "eval": False,
            "status": "ok",
            "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "manifest.csv", table)
    paths = [str(folder / f"shard-000{shard}.h5") for shard in (0, 1)]
    for path, rows in zip(paths, np.split(np.arange(n), 2), strict=True):
        store.write_embeddings(path, points[rows], (rows + 1).tolist(), range(len(rows)), {})
    return paths


def compare(folder: Path, shards: list[str], params: str = "{}") -> pd.DataFrame:
    command = ["choose_k", "--embeddings", *shards, "--manifest", str(folder / "manifest.csv"), "--seed", "5"]
    options = ["--output", str(folder / "choose_k.csv"), "--gpus", "0", "--threads", "1", "--params", params]
    assert main([*command, *options]) == 0
    return pd.read_csv(folder / "choose_k.csv", comment="#")


def test_the_number_of_planted_groups_has_the_highest_silhouette(tmp_path: Path) -> None:
    points = groups(k=6, dim=8)
    shards = make_run(tmp_path, points)
    plain = '{"num_clusters": 6, "whiten": "none", "l2": false}'
    table = compare(tmp_path, shards, plain)
    assert table["num_clusters"].tolist() == [2, 3, 4, 6, 8, 12, 24]
    for column in ("silhouette", "simplified_silhouette"):
        assert table["num_clusters"][table[column].argmax()] == 6
    assert (np.diff(table["inertia"]) < 0).all() and (table["masks"] == 180).all()
    found = assign(points, fit_kmeans(points, 6, seed=5))
    six = table[table["num_clusters"] == 6].iloc[0]
    assert six["inertia"] == pytest.approx(found.inertia, rel=1e-5)
    assert six["silhouette"] == pytest.approx(slow_silhouette(points, found.assignments.tolist()), abs=1e-5)
    first = (tmp_path / "choose_k.csv").read_bytes()
    assert (
        compare(tmp_path, shards[::-1], plain).equals(table)
        and (tmp_path / "choose_k.csv").read_bytes() == first
    )


def test_samples_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "FITTED", 90)
    monkeypatch.setattr(stage, "COMPARED", 50)
    shards = make_run(tmp_path, groups(k=6, dim=8))
    table = compare(tmp_path, shards, '{"candidates_k": [3, 6, 50, 70]}')
    assert table["num_clusters"].tolist() == [3, 6] and (table["masks"] == 90).all()


def test_two_masks_leave_nothing_to_compare(tmp_path: Path) -> None:
    shards = make_run(tmp_path, groups(k=1, per=2))
    assert compare(tmp_path, shards).empty
