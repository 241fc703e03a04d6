"""Whitening, normalisation and K-means against scipy and slow recomputation; the clusters entry point."""

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import pytest
from scipy.cluster.vq import kmeans2, whiten

from maskdistill import store
from maskdistill.cli import main
from maskdistill.clusters import assign, column_scale, fit_kmeans, normalise
from maskdistill.data.manifest import write_manifest
from maskdistill.runtime.errors import MaskDistillError

Floats = np.ndarray[Any, np.dtype[np.float32]]


def blobs(per: int = 30, dim: int = 6, k: int = 4, spread: float = 0.05, seed: int = 0) -> tuple[Floats, Floats]:
    """``k`` well separated groups of ``per`` features, and their centres."""
    rng = np.random.default_rng(seed)
    centres = np.eye(k, dim, dtype=np.float32) * 3
    points = np.repeat(centres, per, axis=0) + rng.normal(0, spread, (per * k, dim)).astype(np.float32)
    return points.astype(np.float32), centres


def noise(count: int = 300, dim: int = 8, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(2, 3, (count, dim)).astype(np.float32)


# ---------------------------------------------------------------- whitening


def test_whitening_agrees_with_scipy_and_does_not_centre() -> None:
    features = (noise() * np.arange(1, 9)).astype(np.float32)
    mine = normalise(features, column_scale(features), l2=False)
    np.testing.assert_allclose(mine, whiten(features.astype(np.float64)), rtol=1e-5)
    np.testing.assert_allclose(mine.std(axis=0), 1, rtol=1e-4)
    assert (np.abs(mine.mean(axis=0)) > 0.4).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e30])
def test_constant_columns_stay_as_they_are(value: float) -> None:
    features = noise(1000)
    features[:, 3] = value
    scale = column_scale(features)
    assert scale[3] == 1 and (scale[np.arange(8) != 3] > 1).all()
    white = normalise(features, scale, l2=False)
    np.testing.assert_array_equal(white[:, 3], features[:, 3])
    assert np.isfinite(normalise(features, scale, l2=True)).all()


def test_one_feature_alone_is_not_scaled() -> None:
    np.testing.assert_array_equal(column_scale(noise(1)), np.ones(8))


def test_rows_have_unit_length_and_zero_rows_stay() -> None:
    features = noise()
    features[5] = 0
    before = features.copy()
    rows = normalise(features, None, l2=True)
    np.testing.assert_array_equal(features, before)
    np.testing.assert_array_equal(rows[5], 0)
    slow = [[v / sum(w * w for w in row) ** 0.5 for v in row] for row in features[:5].astype(float).tolist()]
    np.testing.assert_allclose(rows[:5], slow, rtol=1e-5)


def test_result_does_not_change_with_the_scale_of_a_column() -> None:
    features = noise()
    factors = np.array([1, 10, 0.1, 100, 5, 2, 7, 0.01], dtype=np.float32)
    first, second = (normalise(f, column_scale(f), True) for f in (features, features * factors))
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- K-means


def slow_assignment(points: Floats, centroids: Floats) -> tuple[list[int], list[float]]:
    """Nearest centroid of each point in double precision, one by one."""
    nearest, distances = [], []
    for point in points.astype(np.float64):
        squared = [float(((point - centroid) ** 2).sum()) for centroid in centroids.astype(np.float64)]
        nearest.append(int(np.argmin(squared)))
        distances.append(min(squared) ** 0.5)
    return nearest, distances


def test_result_is_a_fixed_point_of_lloyd() -> None:
    points = normalise(noise(), None, l2=True)
    found = fit_kmeans(points, 5, seed=3, niter=100, nredo=2)
    nearest, distances = slow_assignment(points, found.centroids)
    assert found.assignments.tolist() == nearest
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-6)
    assert found.inertia == pytest.approx(sum(d * d for d in distances), rel=1e-4)
    for cluster in range(5):
        mean = points[found.assignments == cluster].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(found.centroids[cluster], mean, atol=1e-4)


def test_as_good_as_scipy() -> None:
    points = normalise(noise(), None, l2=True)
    found = fit_kmeans(points, 5, seed=3, niter=50, nredo=10)
    theirs = []
    for seed in range(10):
        centroids, labels = kmeans2(points.astype(np.float64), 5, iter=50, minit="++", rng=seed)
        theirs.append(float(((points - centroids[labels]) ** 2).sum()))
    assert found.inertia <= 1.01 * min(theirs)


def test_groups_are_found() -> None:
    points, centres = blobs()
    found = fit_kmeans(points, 4, seed=0)
    for group in range(4):
        assert len(set(found.assignments[group * 30 : (group + 1) * 30].tolist())) == 1
    assert len(set(found.assignments.tolist())) == 4
    gaps = np.linalg.norm(found.centroids[:, None] - centres[None], axis=2)
    assert (gaps.min(axis=0) < 0.1).all()


def test_no_feature_is_left_out_of_large_sets() -> None:
    # FAISS samples 256 features a centroid by default: with K = 1 the centroid shows whether all were used
    points = np.random.default_rng(0).exponential(1, (3000, 2)).astype(np.float32)
    found = fit_kmeans(points, 1, seed=0, niter=5, nredo=1)
    np.testing.assert_allclose(found.centroids[0], points.astype(np.float64).mean(axis=0), rtol=1e-5)


def test_more_starts_are_never_worse_and_the_best_is_kept() -> None:
    points = noise(200, 2, seed=4)
    one = [fit_kmeans(points, 12, seed=s, niter=30, nredo=1).inertia for s in range(5)]
    many = [fit_kmeans(points, 12, seed=s, niter=30, nredo=10).inertia for s in range(5)]
    assert all(b <= a * (1 + 1e-5) for a, b in zip(one, many, strict=True))
    assert sum(many) < sum(one)


def test_seed_and_threads() -> None:
    points = noise(400, 16, seed=2)
    first = fit_kmeans(points, 9, seed=1234)
    for threads in (1, 2):
        again = fit_kmeans(points, 9, seed=1234, threads=threads)
        np.testing.assert_array_equal(first.centroids, again.centroids)
        np.testing.assert_array_equal(first.assignments, again.assignments)
    other = fit_kmeans(points, 9, seed=1235, niter=2, nredo=1)
    assert not np.array_equal(first.centroids, other.centroids)


def test_order_of_the_features_only_relabels() -> None:
    points, _ = blobs(seed=5)
    order = np.random.default_rng(0).permutation(len(points))
    first = fit_kmeans(points, 4, seed=0).assignments
    second = np.empty_like(first)
    second[order] = fit_kmeans(points[order], 4, seed=0).assignments
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 4


def test_as_many_clusters_as_features_and_more() -> None:
    points = noise(7, 3)
    assert sorted(fit_kmeans(points, 7, seed=0).assignments.tolist()) == list(range(7))
    with pytest.raises(MaskDistillError, match=r"8 clusters .* only 7 .*lower clusters\.num_clusters"):
        fit_kmeans(points, 8, seed=0)
    points[2, 1] = np.nan
    with pytest.raises(MaskDistillError, match="not finite"):
        fit_kmeans(points, 2, seed=0)


def test_assignment_of_nothing() -> None:
    found = assign(np.zeros((0, 3), np.float32), noise(2, 3))
    assert found.assignments.shape == (0,) and found.inertia == 0


def test_one_gpu_and_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = blobs()
    expected = fit_kmeans(points, 4, seed=0).centroids
    used: list[int] = []

    def to_gpu(resources: object, device: int, index: Any) -> Any:
        used.append(device)
        return index

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", to_gpu, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    fit_kmeans(points, 4, seed=0, gpu=1)
    assert used == []
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 4)
    np.testing.assert_array_equal(fit_kmeans(points, 4, seed=0, gpu=1).centroids, expected)
    fit_kmeans(points, 4, seed=0)
    assert used == [1]


# ---------------------------------------------------------------- entry point


def make_run(folder: Path) -> tuple[Floats, list[str]]:
    """Two shards of 60 masks, one an image; images 41..60 are not trained on and lie far away."""
    points, _ = blobs(per=15, dim=6)
    points[40:] += 50
    points = points * np.array([1, 2, 3, 4, 5, 0], dtype=np.float32)
    n = len(points)
    table = pd.DataFrame(
        {
            "image_id": range(1, n + 1), "key": [f"k{i}" for i in range(n)], "path": "x.jpg", "width": 20, "height": 20,
            "mode": "RGB", "sha256": "", "shard": [0] * 25 + [1] * (n - 25), "train": [i < 40 for i in range(n)],
            "eval": True, "status": "ok", "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "manifest.csv", table)
    shards = []
    for shard, (start, stop) in enumerate([(0, 25), (25, n)]):
        shards.append(str(folder / f"embeddings/shard-{shard:04d}.h5"))
        store.write_embeddings(shards[-1], points[start:stop], range(start + 1, stop + 1), range(stop - start), {})
    return points, shards


def cluster(folder: Path, shards: list[str], *options: str, k: int = 3) -> int:
    return main(
        ["clusters", "--embeddings", *shards, "--manifest", str(folder / "manifest.csv"), "--num-clusters", str(k),
         "--seed", "7", "--output", str(folder / "clusters.json"), "--gpus", "0", "--threads", "1", *options]
    )  # fmt: skip


def test_entry_point_fits_on_training_masks_and_assigns_all(tmp_path: Path) -> None:
    points, shards = make_run(tmp_path)
    assert cluster(tmp_path, shards) == 0
    content = json.loads((tmp_path / "clusters.json").read_text())
    arrays = np.load(tmp_path / "clusters.npz")
    np.testing.assert_allclose(arrays["scale"][:5], points[:40, :5].astype(np.float64).std(axis=0), rtol=1e-5)
    assert arrays["scale"][5] == 1 and arrays["centroids"].shape == (3, 6)
    white = points.astype(np.float64) / arrays["scale"]
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    nearest, distances = slow_assignment(white.astype(np.float32), arrays["centroids"])
    found = content["assignments"]
    assert [item["cluster"] for item in found] == nearest
    np.testing.assert_allclose([item["distance"] for item in found], distances, atol=1e-5)
    assert [item["image_id"] for item in found] == list(range(1, 61))
    assert [(item["shard"], item["mask_index"]) for item in found] == [(0, i) for i in range(25)] + [
        (1, i) for i in range(35)
    ]
    assert content["sizes"] == [nearest.count(cluster) for cluster in range(3)]
    assert content["inertia"] == pytest.approx(sum(d * d for d in distances[:40]), rel=1e-3)
    assert content["num_clusters"] == 3 and str(tmp_path) not in json.dumps(content["provenance"])
    assert content["provenance"]["params"] == {
        "whiten": "std", "l2": True, "niter": 20, "nredo": 5, "num_clusters": 3, "seed": 7
    }  # fmt: skip


def test_entry_point_is_deterministic_and_ignores_the_order_of_shards(tmp_path: Path) -> None:
    _, shards = make_run(tmp_path)
    outputs = []
    for order in (shards, shards, shards[::-1]):
        assert cluster(tmp_path, order) == 0
        outputs.append((tmp_path / "clusters.json").read_bytes() + (tmp_path / "clusters.npz").read_bytes())
    assert len(set(outputs)) == 1


def test_settings_reach_the_result(tmp_path: Path) -> None:
    points, shards = make_run(tmp_path)
    assert cluster(tmp_path, shards, "--params", '{"whiten": "none", "l2": false}') == 0
    arrays = np.load(tmp_path / "clusters.npz")
    np.testing.assert_array_equal(arrays["scale"], np.ones(6))
    assert np.linalg.norm(arrays["centroids"], axis=1).max() > 2
    nearest, _ = slow_assignment(points, arrays["centroids"])
    assert [item["cluster"] for item in json.loads((tmp_path / "clusters.json").read_text())["assignments"]] == nearest


def test_entry_point_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, shards = make_run(tmp_path)
    assert cluster(tmp_path, shards, k=41) == 1
    assert "41 clusters need at least as many masks, but only 40" in capsys.readouterr().err
    store.write_embeddings(shards[0], noise(2, 6), [1, 999], [0, 1], {})
    assert cluster(tmp_path, shards) == 1
    assert "no usable image 999" in capsys.readouterr().err
    store.write_embeddings(shards[0], noise(2, 5), [1, 2], [0, 1], {})
    assert cluster(tmp_path, shards) == 1
    assert "different sizes" in capsys.readouterr().err
    store.write_embeddings(shards[0], noise(2, 6), [50, 51], [0, 1], {})
    assert cluster(tmp_path, shards[:1]) == 1
    assert "no training image has a mask" in capsys.readouterr().err
    assert not (tmp_path / "clusters.json").exists()
