"""Whitening, normalisation, sampling and K-means against scipy and slow recomputation; the clusters entry
point.
"""

import json
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import pytest
from scipy.cluster.vq import kmeans2, whiten
from sklearn.cluster import MiniBatchKMeans

from maskdistill.cli import main
from maskdistill.clusters.assignments import Rows, open_assignments
from maskdistill.clusters.kmeans import (
    ColumnMoments,
    assign,
    fit,
    fit_kmeans,
    fit_minibatch,
    normalise,
    pick_gpu,
)
from maskdistill.clusters.sampling import SmallestKeys, draw, ordinals
from maskdistill.config import ClustersConfig
from maskdistill.data.manifest import write_manifest
from maskdistill.features import store
from maskdistill.runtime.errors import MaskDistillError

Floats = np.ndarray[Any, np.dtype[np.float32]]


def blobs(
    per: int = 30, dim: int = 6, k: int = 4, spread: float = 0.05, seed: int = 0
) -> tuple[Floats, Floats]:
    """``k`` well separated groups of ``per`` features, and their centres."""
    rng = np.random.default_rng(seed)
    centres = np.eye(k, dim, dtype=np.float32) * 3
    points = np.repeat(centres, per, axis=0) + rng.normal(0, spread, (per * k, dim)).astype(np.float32)
    return points.astype(np.float32), centres


def noise(count: int = 300, dim: int = 8, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(2, 3, (count, dim)).astype(np.float32)


def column_scale(features: Floats, *cuts: int) -> Floats:
    """The scale of features that come in the blocks between ``cuts``."""
    moments = ColumnMoments(features.shape[1])
    for block in np.split(features, cuts):
        moments.add(ColumnMoments.of(block))
    return moments.scale()


@dataclass(frozen=True)
class Fit:
    centroids: Floats
    assignments: Any
    distances: Floats
    inertia: float


def fitted(points: Floats, *args: Any, **kwargs: Any) -> Fit:
    """K-means, and what it does to the points it was fitted on."""
    centroids = fit_kmeans(points, *args, **kwargs)
    found = assign(points, centroids)
    return Fit(centroids, found.assignments, found.distances, found.inertia)


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


@pytest.mark.parametrize("cuts", [(), (1,), (10, 10, 250), tuple(range(1, 300))])
def test_scale_does_not_depend_on_the_blocks(cuts: tuple[int, ...]) -> None:
    features = noise() * np.float32(0.01) + np.array([0, 1, -1, 1e3, 1e4, -1e4, 5, 0], np.float32)
    expected = features.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(column_scale(features, *cuts), expected, rtol=1e-6)
    features[:, 2] = 0.1
    assert column_scale(features, *cuts)[2] == 1


# ---------------------------------------------------------------- sampling


def splitmix64(state: int) -> int:
    """One step of SplitMix64 in Python's integers."""
    value = (state + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


def slow_draw(seed: int, image_id: int, ordinal: int) -> int:
    return splitmix64(splitmix64(image_id * 2**16 + ordinal) ^ splitmix64(seed))


def test_draw_is_splitmix64() -> None:
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the generator's published first output for seed 0
    ids, places = np.array([1, 2, 2, 10_000_000]), np.array([0, 0, 1, 65_535])
    expected = [slow_draw(1234, i, j) for i, j in zip(ids.tolist(), places.tolist(), strict=True)]
    assert draw(1234, ids, places).tolist() == expected
    with pytest.raises(ValueError, match="more than 65536 masks"):
        draw(0, ids, places + 1)


def test_draws_are_uniform_and_depend_on_the_seed() -> None:
    ids = np.arange(1, 20_001)
    first, second = (draw(seed, ids, np.zeros_like(ids)) for seed in (0, 1))
    assert len(set(first.tolist()) | set(second.tolist())) == 40_000
    for keys in (first, second):
        counts = np.histogram(keys.astype(np.float64), bins=20, range=(0, 2.0**64))[0]
        assert np.square(counts - 1000).sum() / 1000 < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001
    below = 2**63
    assert abs(float(((first < below) == (second < below)).mean()) - 0.5) < 0.02


@pytest.mark.parametrize("size", [1, 7, 99, 100, 101])
def test_smallest_keys(size: int) -> None:
    keys = np.random.default_rng(0).permutation(1000).astype(np.uint64)[:100]
    held = SmallestKeys(size)
    for block in np.split(keys, [0, 3, 40, 41]):
        held.add(block)
    assert held.chosen == min(size, 100) and held.count == 100
    assert sorted(keys[keys <= held.threshold()].tolist()) == sorted(keys.tolist())[:size]


def test_ordinals() -> None:
    ids = [5, 5, 1, 5, 2, 1]
    assert ordinals(np.array(ids)).tolist() == [ids[:i].count(value) for i, value in enumerate(ids)]
    assert ordinals(np.zeros(0, np.int64)).tolist() == []


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
    found = fitted(points, 5, seed=3, niter=100, nredo=2)
    nearest, distances = slow_assignment(points, found.centroids)
    assert found.assignments.tolist() == nearest
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-6)
    assert found.inertia == pytest.approx(sum(d * d for d in distances), rel=1e-4)
    for cluster in range(5):
        mean = points[found.assignments == cluster].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(found.centroids[cluster], mean, atol=1e-4)


def test_as_good_as_scipy() -> None:
    points = normalise(noise(), None, l2=True)
    found = fitted(points, 5, seed=3, niter=50, nredo=10)
    theirs = []
    for seed in range(10):
        centroids, labels = kmeans2(points.astype(np.float64), 5, iter=50, minit="++", rng=seed)
        theirs.append(float(((points - centroids[labels]) ** 2).sum()))
    assert found.inertia <= 1.01 * min(theirs)


def test_groups_are_found() -> None:
    points, centres = blobs()
    found = fitted(points, 4, seed=0)
    for group in range(4):
        assert len(set(found.assignments[group * 30 : (group + 1) * 30].tolist())) == 1
    assert len(set(found.assignments.tolist())) == 4
    gaps = np.linalg.norm(found.centroids[:, None] - centres[None], axis=2)
    assert (gaps.min(axis=0) < 0.1).all()


def test_no_feature_is_left_out_of_large_sets() -> None:
    # FAISS samples 256 features a centroid by default: with K = 1 the centroid shows whether all were used
    points = np.random.default_rng(0).exponential(1, (3000, 2)).astype(np.float32)
    found = fitted(points, 1, seed=0, niter=5, nredo=1)
    np.testing.assert_allclose(found.centroids[0], points.astype(np.float64).mean(axis=0), rtol=1e-5)


def test_more_starts_are_never_worse_and_the_best_is_kept() -> None:
    points = noise(200, 2, seed=4)
    one = [fitted(points, 12, seed=s, niter=30, nredo=1).inertia for s in range(5)]
    many = [fitted(points, 12, seed=s, niter=30, nredo=10).inertia for s in range(5)]
    assert all(b <= a * (1 + 1e-5) for a, b in zip(one, many, strict=True))
    assert sum(many) < sum(one)


def test_seed_and_threads() -> None:
    points = noise(400, 16, seed=2)
    first = fitted(points, 9, seed=1234)
    for threads in (1, 2):
        again = fitted(points, 9, seed=1234, threads=threads)
        np.testing.assert_array_equal(first.centroids, again.centroids)
        np.testing.assert_array_equal(first.assignments, again.assignments)
    other = fitted(points, 9, seed=1235, niter=2, nredo=1)
    assert not np.array_equal(first.centroids, other.centroids)


def test_order_of_the_features_only_relabels() -> None:
    points, _ = blobs(seed=5)
    order = np.random.default_rng(0).permutation(len(points))
    first = fitted(points, 4, seed=0).assignments
    second = np.empty_like(first)
    second[order] = fitted(points[order], 4, seed=0).assignments
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 4


def test_as_many_clusters_as_features_and_more() -> None:
    points = noise(7, 3)
    assert sorted(fitted(points, 7, seed=0).assignments.tolist()) == list(range(7))
    with pytest.raises(MaskDistillError, match=r"8 clusters .* only 7 .*write `num_clusters: 7`"):
        fitted(points, 8, seed=0)
    points[2, 1] = np.nan
    with pytest.raises(MaskDistillError, match="not finite"):
        fitted(points, 2, seed=0)


def test_assignment_of_nothing() -> None:
    found = assign(np.zeros((0, 3), np.float32), noise(2, 3))
    assert found.assignments.shape == (0,) and found.inertia == 0


def test_one_gpu_and_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = blobs()
    expected = fitted(points, 4, seed=0).centroids
    used: list[int] = []
    scratch: list[int] = []

    class Resources:
        def setTempMemory(self, size: int) -> None:
            scratch.append(size)

    def to_gpu(resources: Resources, device: int, index: Any) -> Any:
        assert len(scratch) == 1, "the scratch memory is to be bounded before the index moves"
        used.append(device)
        return index

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("all GPUs were taken")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", to_gpu, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", refuse, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpus_list", refuse, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert [pick_gpu(device, 1) for device in ("auto", "cpu", "cuda:1")] == [None, None, None]
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 4)
    assert [pick_gpu(device, 1) for device in ("auto", "cpu", "cuda", "cuda:3")] == [0, None, 0, 3]
    assert pick_gpu("auto", 0) is None
    np.testing.assert_array_equal(fitted(points, 4, seed=0, gpu=1).centroids, expected)
    fitted(points, 4, seed=0)
    assert used == [1] and 0 < scratch[0] <= 2**30


def test_spherical_centroids_are_directions_of_the_means() -> None:
    points = normalise(noise(), None, l2=True)
    found = fitted(points, 5, seed=3, niter=100, nredo=2, spherical=True)
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, rtol=1e-5)
    assert (
        found.assignments.tolist() == (points.astype(np.float64) @ found.centroids.T).argmax(axis=1).tolist()
    )
    for cluster in range(5):
        mean = points[found.assignments == cluster].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(found.centroids[cluster], mean / np.linalg.norm(mean), atol=1e-4)
    assert np.linalg.norm(fit_kmeans(points, 5, seed=3), axis=1).max() < 0.999


def test_minibatch_is_scikit_learns_with_the_released_codes_settings() -> None:
    features = noise(4000, 6)
    points = whiten(features.astype(np.float64))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    theirs = MiniBatchKMeans(7, batch_size=1000, random_state=1234, n_init=3).fit(points.astype(np.float32))
    mine = fit_minibatch(normalise(features, column_scale(features), l2=True), 7, seed=1234)
    np.testing.assert_allclose(mine, theirs.cluster_centers_, atol=1e-4)
    again = fit(points.astype(np.float32), 7, 1234, ClustersConfig(algorithm="minibatch"))
    np.testing.assert_array_equal(again, theirs.cluster_centers_)


# ---------------------------------------------------------------- entry point


def make_manifest(folder: Path, shards: list[int], train: list[bool], scored: list[bool]) -> None:
    n = len(shards)
    table = pd.DataFrame(
        {
            "image_id": range(1, n + 1), "key": [f"k{i}" for i in range(n)], "path": "x.jpg", "width": 20,
            "height": 20,
            "mode": "RGB", "sha256": "", "shard": shards, "train": train, "eval": scored, "status": "ok",
            "reason": "",
        }
    )  # fmt: skip
    write_manifest(folder / "manifest.csv", table)


def write_shards(folder: Path, points: Floats, image_ids: list[int], shards: list[int]) -> list[str]:
    """Embeddings of masks in order, the mask of place i being of image ``image_ids[i]``."""
    paths = []
    of_mask = np.array(shards)[np.array(image_ids) - 1]
    for shard in sorted(set(shards)):
        paths.append(str(folder / f"embeddings/shard-{shard:04d}.h5"))
        chosen = np.flatnonzero(of_mask == shard)
        ids = np.array(image_ids)[chosen].tolist()
        store.write_embeddings(paths[-1], points[chosen], ids, range(len(chosen)), {})
    return paths


def make_run(folder: Path) -> tuple[Floats, list[str]]:
    """Two shards of 60 masks, one an image; images 41..60 are not trained on and lie far away."""
    points, _ = blobs(per=15, dim=6)
    points[40:] += 50
    points = points * np.array([1, 2, 3, 4, 5, 0], dtype=np.float32)
    n = len(points)
    shards = [0] * 25 + [1] * (n - 25)
    make_manifest(folder, shards, [i < 40 for i in range(n)], [True] * n)
    return points, write_shards(folder, points, list(range(1, n + 1)), shards)


def cluster(folder: Path, shards: list[str], *options: str, k: int = 3) -> int:
    return main(
        ["clusters", "--embeddings", *shards, "--manifest", str(folder / "manifest.csv"), "--num-clusters",
        str(k),
         "--seed", "7", "--output", str(folder / "clusters.json"), "--assignments",
         str(folder / "assignments.h5"),
         "--gpus", "0", "--threads", "1", *options]
    )  # fmt: skip


def assigned(folder: Path) -> Rows:
    with open_assignments(folder / "assignments.h5") as table:
        return table.rows(0, len(table))


def outputs(folder: Path) -> bytes:
    return b"".join(
        (folder / name).read_bytes() for name in ("clusters.json", "clusters.npz", "assignments.h5")
    )


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
    found = assigned(tmp_path)
    assert found.cluster.tolist() == nearest
    np.testing.assert_allclose(found.distance, distances, atol=1e-5)
    assert found.image_id.tolist() == list(range(1, 61))
    assert found.shard.tolist() == [0] * 25 + [1] * 35
    assert found.mask_index.tolist() == [*range(25), *range(35)]
    assert content["sizes"] == [nearest.count(cluster) for cluster in range(3)]
    assert content["inertia"] == pytest.approx(sum(d * d for d in distances[:40]), rel=1e-3)
    assert (content["num_clusters"], content["masks"], content["fitted"]) == (3, 60, 40)
    assert str(tmp_path) not in json.dumps(content["provenance"])
    assert content["provenance"]["params"] == {
        "whiten": "std", "l2": True, "algorithm": "faiss", "spherical": False, "niter": 100, "nredo": 10,
        "max_fit": 1_000_000, "num_clusters": 3, "seed": 7,
    }  # fmt: skip


def test_entry_point_is_deterministic_and_ignores_the_order_of_shards(tmp_path: Path) -> None:
    _, shards = make_run(tmp_path)
    found = []
    for order in (shards, shards, shards[::-1]):
        assert cluster(tmp_path, order) == 0
        found.append(outputs(tmp_path))
    assert len(set(found)) == 1


@pytest.mark.parametrize("max_fit", [500_000, 50])
def test_number_of_shards_does_not_matter(tmp_path: Path, max_fit: int) -> None:
    """Several masks an image, so that a mask's place in its shard changes with the shards."""
    points = noise(200, 5)
    image_ids = np.repeat(np.arange(1, 101), 2).tolist()
    found = []
    for count in (1, 3, 7):
        shards = [i * count // 100 for i in range(100)]
        make_manifest(tmp_path, shards, [True] * 100, [False] * 100)
        assert (
            cluster(
                tmp_path,
                write_shards(tmp_path, points, image_ids, shards),
                f'--params={{"max_fit":{max_fit}}}',
            )
            == 0
        )
        arrays, rows = np.load(tmp_path / "clusters.npz"), assigned(tmp_path)
        assert rows.image_id.tolist() == image_ids
        found.append((arrays["centroids"].tobytes(), rows.cluster.tolist(), rows.distance.tolist()))
        np.testing.assert_allclose(arrays["scale"], points.astype(np.float64).std(axis=0), rtol=1e-6)
    assert found[0] == found[1] == found[2]


def test_bounded_sample_is_the_rows_of_the_smallest_draws(tmp_path: Path) -> None:
    """With K = 1 the centroid is the mean of what was fitted."""
    points, shards = make_run(tmp_path)
    assert cluster(tmp_path, shards, "--params", '{"max_fit": 11, "l2": false}', k=1) == 0
    content, arrays = json.loads((tmp_path / "clusters.json").read_text()), np.load(tmp_path / "clusters.npz")
    chosen = sorted(range(40), key=lambda i: slow_draw(7, i + 1, 0))[:11]
    assert content["fitted"] == 11 and sum(content["sizes"]) == 60
    white = points.astype(np.float64) / arrays["scale"]
    np.testing.assert_allclose(arrays["centroids"][0], white[chosen].mean(axis=0), rtol=1e-4)
    expected = np.square(white[:40] - arrays["centroids"]).sum()
    assert content["inertia"] == pytest.approx(expected, rel=1e-4)


def test_support_images_are_fitted_and_images_that_are_only_scored_are_not(tmp_path: Path) -> None:
    points = noise(90, 4)
    points[30:60] += 100  # support
    points[60:] -= 1000  # only scored
    make_manifest(tmp_path, [0] * 90, [i < 30 for i in range(90)], [i >= 60 for i in range(90)])
    shards = write_shards(tmp_path, points, list(range(1, 91)), [0] * 90)
    assert cluster(tmp_path, shards, "--params", '{"l2": false}', k=1) == 0
    content, arrays = json.loads((tmp_path / "clusters.json").read_text()), np.load(tmp_path / "clusters.npz")
    scale = points[:60].astype(np.float64).std(axis=0)
    np.testing.assert_allclose(arrays["scale"], scale, rtol=1e-5)
    np.testing.assert_allclose(arrays["centroids"][0], (points[:60] / scale).mean(axis=0), rtol=1e-4)
    assert content["fitted"] == 60 and content["sizes"] == [90] and len(assigned(tmp_path).image_id) == 90


@pytest.mark.slow
def test_memory_follows_the_sample_and_not_the_masks(tmp_path: Path) -> None:
    n, dim = 60_000, 64
    shards = [i * 4 // n for i in range(n)]
    make_manifest(tmp_path, shards, [True] * n, [False] * n)
    files = write_shards(tmp_path, noise(n, dim), list(range(1, n + 1)), shards)
    tracemalloc.start()
    assert cluster(tmp_path, files, "--params", '{"max_fit": 2000, "nredo": 1, "niter": 2}') == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * dim * 4 / 2, f"{peak / 1e6:.1f} MB for a table of {n * dim * 4 / 1e6:.1f} MB"


def test_number_of_threads_does_not_matter(tmp_path: Path) -> None:
    points = noise(10_000, 5)
    shards = [i * 3 // 10_000 for i in range(10_000)]
    make_manifest(tmp_path, shards, [True] * 10_000, [False] * 10_000)
    files = write_shards(tmp_path, points, list(range(1, 10_001)), shards)
    found = []
    for threads in ("1", "3"):
        params = '{"max_fit": 4000, "niter": 5, "nredo": 2}'
        assert cluster(tmp_path, files, "--params", params, "--threads", threads) == 0
        found.append(outputs(tmp_path))
    assert found[0] == found[1]


def test_settings_reach_the_result(tmp_path: Path) -> None:
    points, shards = make_run(tmp_path)
    assert cluster(tmp_path, shards, "--params", '{"whiten": "none", "l2": false}') == 0
    arrays = np.load(tmp_path / "clusters.npz")
    np.testing.assert_array_equal(arrays["scale"], np.ones(6))
    assert np.linalg.norm(arrays["centroids"], axis=1).max() > 2
    nearest, _ = slow_assignment(points, arrays["centroids"])
    assert assigned(tmp_path).cluster.tolist() == nearest
    assert cluster(tmp_path, shards, "--params", '{"spherical": true}') == 0
    np.testing.assert_allclose(
        np.linalg.norm(np.load(tmp_path / "clusters.npz")["centroids"], axis=1), 1, rtol=1e-5
    )


def test_entry_point_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, shards = make_run(tmp_path)
    assert cluster(tmp_path, shards, k=41) == 1
    assert "41 clusters need at least as many masks, but only 40" in capsys.readouterr().err
    assert cluster(tmp_path, [*shards, shards[0]]) == 1
    assert "does not hold the masks of one shard in order" in capsys.readouterr().err
    store.write_embeddings(shards[0], noise(2, 6), [1, 999], [0, 1], {})
    assert cluster(tmp_path, shards) == 1
    assert "no usable image 999" in capsys.readouterr().err
    store.write_embeddings(shards[0], noise(2, 5), [1, 2], [0, 1], {})
    assert cluster(tmp_path, shards) == 1
    assert "different sizes" in capsys.readouterr().err
    broken = noise(2, 6)
    broken[1, 3] = np.inf
    store.write_embeddings(shards[0], broken, [1, 2], [0, 1], {})
    assert cluster(tmp_path, shards) == 1
    assert "shard-0000.h5: the embeddings hold values that are not finite" in capsys.readouterr().err
    store.write_embeddings(shards[0], noise(2, 6), [50, 51], [0, 1], {})
    assert cluster(tmp_path, shards[:1]) == 1
    assert "no training image has a mask" in capsys.readouterr().err
    assert not list(tmp_path.glob("clusters.*")) and not (tmp_path / "assignments.h5").exists()
