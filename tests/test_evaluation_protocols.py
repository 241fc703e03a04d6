"""The protocols of instance AP on cases computed by hand, and against pycocotools on the objects that they
keep.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from coco_reference import class_scores, coco_eval, merged

from maskdistill.evaluation.instances import ImageInstances, image_instances
from maskdistill.evaluation.protocols import (
    PROTOCOLS,
    count_pairs,
    largest_object,
    match_instances,
    paired_object,
    protocol_scores,
    single,
    top_detection,
)
from maskdistill.formats import rle

SIZE = 40
NAMES = ("background", "apple", "pear", "plum")
Entry = dict[str, Any]


def entry(left: int, top: int, side: int, category: int, **more: Any) -> Entry:
    """A square of ``side`` pixels."""
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[top : top + side, left : left + side] = True
    encoded = rle.encode(mask)
    return {
        "category_id": category, "segmentation": encoded, "bbox": rle.bbox(encoded),
        "area": rle.area(encoded), **more,
    }  # fmt: skip


def thing(left: int, top: int, side: int = 10, category: int = 1, crowd: int = 0) -> Entry:
    return entry(left, top, side, category, iscrowd=crowd)


def found(left: int, top: int, side: int = 10, cluster: int = 1, score: float = 1.0) -> Entry:
    return entry(left, top, side, cluster, score=score)


def images(*pairs: tuple[Sequence[Entry], Sequence[Entry]]) -> list[ImageInstances]:
    """Detections and objects of images 1, 2, ..."""
    return [image_instances(number, *pair) for number, pair in enumerate(pairs, start=1)]


def ap50(scores: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: values["ap50"] for name, values in scores["protocols"].items()}


A, B, C = (0, 0), (15, 15), (29, 29)


def test_the_top_detection_is_the_first_of_the_best() -> None:
    image = images(([found(*A, score=0.3), found(*B, score=0.7), found(*C, score=0.7)], [thing(*A)]))[0]
    assert top_detection(image) == 1
    assert top_detection(images(([], [thing(*A)]))[0]) is None


def test_the_object_is_that_of_the_best_box_whatever_its_class() -> None:
    objects = [thing(*A, category=1), thing(16, 15, category=2), thing(15, 15, category=3)]
    image = images(([found(*B, cluster=1)], objects))[0]
    assert paired_object(image, 0) == 2


def test_the_first_object_wins_ties_also_where_none_overlaps() -> None:
    twins = [thing(*A), thing(*B, category=2), thing(*B, category=3)]
    assert paired_object(images(([found(*B)], twins))[0], 0) == 1
    assert paired_object(images(([found(*C)], twins))[0], 0) == 0
    assert paired_object(images(([found(*C)], []))[0], 0) is None


def test_a_crowd_region_can_be_chosen_and_is_then_no_miss_and_no_false_detection() -> None:
    data = images(
        ([found(*B, cluster=1)], [thing(*A, category=1), thing(*B, category=1, crowd=1)]),
        ([found(*A, cluster=1)], [thing(*A, category=1)]),
    )
    assert paired_object(data[0], 0) == 1
    scores = protocol_scores(data, 1, NAMES, PROTOCOLS)
    assert scores["protocols"]["semantic_single"]["objects"] == 1
    assert ap50(scores)["semantic_single"] == pytest.approx(100)
    assert scores["protocols"]["semantic_multi"]["objects"] == 2
    assert ap50(scores)["semantic_multi"] == pytest.approx(
        100 * 51 / 101
    )  # one of two objects, at precision 1


def test_corners_of_objects_are_rounded_to_whole_pixels_not_their_sides() -> None:
    """[0.4, 11.4] x .. becomes [0, 11]; [0.6, 11.4] becomes [1, 11]. The detection is [1, 11]."""
    wide, narrow = thing(*A), thing(*A, category=2)
    wide["bbox"], narrow["bbox"] = [0.4, 0.4, 11.0, 11.0], [0.6, 0.6, 10.8, 10.8]
    image = images(([found(1, 1)], [wide, narrow]))[0]
    assert paired_object(image, 0) == 1
    close, closer = thing(*A), thing(*A, category=2)  # unrounded, the first overlaps better
    close["bbox"], closer["bbox"] = [0.5, 1.0, 10.3, 10.0], [1.49, 1.0, 10.0, 10.0]
    assert paired_object(images(([found(1, 1)], [close, closer]))[0], 0) == 1


def test_the_largest_object_is_no_crowd_region_and_the_first_on_ties() -> None:
    objects = [
        thing(*A, side=5),
        thing(*B, side=9, category=2),
        thing(*C, side=9),
        thing(*A, side=30, crowd=1),
    ]
    assert largest_object(images(([], objects))[0]) == 1
    assert largest_object(images(([], objects[3:]))[0]) is None
    assert largest_object(images(([], []))[0]) is None


def test_single_keeps_one_pair_an_image() -> None:
    data = images(
        ([found(*A, score=0.2), found(*B, score=0.9)], [thing(*A), thing(*B), thing(*C)]),
        ([], [thing(*A, side=4), thing(*B)]),
        ([found(*A)], []),
        ([], []),
    )
    sizes = [
        [None if kept is None else kept.overlaps.shape for kept in map(single, data, [strict] * 4)]
        for strict in (False, True)
    ]
    assert sizes == [[(1, 1), None, None, None], [(1, 1), (0, 1), (1, 0), (0, 0)]]
    kept = single(data[0], strict=False)
    assert kept is not None and kept.overlaps.tolist() == [[1]] and kept.scores.tolist() == [0.9]


def test_images_without_detections_are_misses_for_strict_alone() -> None:
    """Images 1 and 2 are right, in 3 nothing is found, in 4 there is nothing but a detection, the best."""
    data = images(
        ([found(*A, score=0.9)], [thing(*A)]),
        ([found(*B, score=0.8)], [thing(*B), thing(*C)]),
        ([], [thing(*A), thing(*B, side=12), thing(*C)]),
        ([found(*C, score=1.0)], []),
    )
    scores = protocol_scores(data, 1, NAMES, PROTOCOLS)
    assert scores["images_without_detections"] == 1
    assert {n: (s["images"], s["objects"]) for n, s in scores["protocols"].items()} == {
        **dict.fromkeys(("agnostic_multi", "semantic_multi"), (4, 6)),
        "semantic_single": (2, 2),
        "semantic_single_strict": (4, 3),
    }
    multi = (
        34 * (2 / 3) / 101
    )  # two of six objects, the false detection before both: precision 2/3 up to recall 1/3
    strict = 67 * (2 / 3) / 101  # two of three objects
    assert ap50(scores) == pytest.approx(
        {
            **dict.fromkeys(("agnostic_multi", "semantic_multi"), 100 * multi),
            "semantic_single": 100,
            "semantic_single_strict": 100 * strict,
        }
    )


def test_hungarian_on_the_counted_pairs_then_ap_by_class() -> None:
    """Cluster 1 is paired with apples 3 times and once with a pear, cluster 2 with apples twice: 1 apple, 2
    the rest.

    Apples + pears by counts: 1-apple 2-pear = 3 + 0; 1-pear 2-apple = 1 + 2: a tie is avoided by a fourth
    apple.
    """
    rows = [(1, 1)] * 3 + [(1, 2)] + [(2, 1)] * 2
    data = images(
        *(([found(*A, cluster=cluster)], [thing(*A, category=category)]) for cluster, category in rows)
    )
    counts = count_pairs(data, 2, 3)
    assert counts.tolist() == [[3, 1, 0], [2, 0, 0]]
    counts[0, 0] = 4
    assert match_instances(counts[:, :2]).tolist() == [1, 2]  # no pair speaks for 2: it is given what is left
    counts[1, 1] = 1
    assert match_instances(counts).tolist() == [1, 2]  # 4 + 1 against 1 + 2


def test_a_class_that_is_never_an_images_top_detection_is_found() -> None:
    """A big object and a small one an image, both found; the big one has the better score everywhere."""
    image = (
        [found(*A, cluster=1, score=0.9), found(*B, cluster=2, score=0.5)],
        [thing(*A), thing(*B, category=2)],
    )
    data = images(*[image] * 5)
    assert count_pairs(data, 2, 2).tolist() == [[5, 0], [0, 0]]
    scores = protocol_scores(data, 2, NAMES[:3], PROTOCOLS)
    assert scores["instance_matching"] == {"1": 1, "2": 2}
    assert scores["protocols"]["semantic_multi"]["ap"] == pytest.approx(100)


def test_of_more_clusters_than_classes_one_without_a_pair_is_left_out() -> None:
    counts = np.array([[3, 0], [0, 0], [1, 2]])
    assert match_instances(counts).tolist() == [1, -1, 2]


def test_a_permuted_perfect_run_scores_one_hundred_by_every_protocol() -> None:
    cluster = {1: 3, 2: 1, 3: 2}
    data = images(
        *(([found(*A, cluster=cluster[c])], [thing(*A, category=c)]) for c in (1, 2, 3, 3)),
        (
            [found(*B, cluster=3, score=0.5), found(*A, cluster=2, score=0.6)],
            [thing(*A, category=3), thing(*B)],
        ),
    )
    scores = protocol_scores(data, 3, NAMES, PROTOCOLS)
    assert scores["instance_matching"] == {"1": 2, "2": 3, "3": 1}
    assert ap50(scores) == pytest.approx(dict.fromkeys(PROTOCOLS, 100))
    for name, values in scores["protocols"].items():
        semantic = name.startswith("semantic")
        assert list(values["classes"]) == (["apple", "pear", "plum"] if semantic else [])


def test_one_wrong_cluster_costs_its_class_alone() -> None:
    """Three apples, of which the second best is called a pear, and one pear, found with the lowest score."""
    data = images(
        ([found(*A, cluster=1, score=0.9)], [thing(*A, category=1)]),
        ([found(*A, cluster=2, score=0.8)], [thing(*A, category=1)]),
        ([found(*A, cluster=1, score=0.7)], [thing(*A, category=1)]),
        ([found(*A, cluster=2, score=0.6)], [thing(*A, category=2)]),
        ([found(*A, cluster=2, score=0.5)], [thing(*A, category=2)]),
    )
    scores = protocol_scores(data, 2, NAMES, ["semantic_multi", "agnostic_multi"])
    assert scores["instance_matching"] == {"1": 1, "2": 2}
    apple = 67 / 101  # two of three at precision 1
    pear = 2 / 3  # one false before both: 1/2, 2/3 becomes 2/3 everywhere
    classes = scores["protocols"]["semantic_multi"]["classes"]
    assert classes["apple"] == pytest.approx({"ap": 100 * apple, "ap50": 100 * apple, "ap75": 100 * apple})
    assert classes["pear"]["ap"] == pytest.approx(100 * pear)
    assert "plum" not in classes  # no object of it: not in the mean
    assert ap50(scores) == pytest.approx({"semantic_multi": 50 * (apple + pear), "agnostic_multi": 100})


def test_a_class_without_any_cluster_scores_zero_and_counts() -> None:
    data = images(
        ([found(*A)], [thing(*A, category=1)]),
        ([found(*A)], [thing(*A, category=1)]),
        ([found(*A)], [thing(*A, category=2)]),
    )
    scores = protocol_scores(data, 1, NAMES, ["semantic_multi"])["protocols"]["semantic_multi"]
    assert scores["classes"]["pear"]["ap"] == 0
    assert scores["ap50"] == pytest.approx(
        50
    )  # apples: the third detection is false, after both hits by its place


def test_more_clusters_than_classes_take_the_majority_each_and_the_lower_class_on_ties() -> None:
    rows = [(1, 1), (2, 1), (2, 1), (2, 2), (3, 2), (4, 3), (4, 2)]
    data = images(
        *(([found(*A, cluster=cluster)], [thing(*A, category=category)]) for cluster, category in rows)
    )
    scores = protocol_scores(data, 5, NAMES, PROTOCOLS)
    assert scores["instance_matching"] == {"1": 1, "2": 1, "3": 2, "4": 2, "5": None}
    assert scores["protocols"]["semantic_multi"]["classes"]["plum"]["ap"] == 0
    # Apples: hit, hit, hit, miss. Pears: one miss of cluster 2's pear; hit, false, hit of three objects.
    assert scores["protocols"]["semantic_multi"]["classes"]["apple"]["ap"] == pytest.approx(100)
    pear = (34 * 1 + 33 * 2 / 3) / 101
    assert scores["protocols"]["semantic_multi"]["classes"]["pear"]["ap"] == pytest.approx(100 * pear)


def test_detections_of_an_unmatched_cluster_do_not_count() -> None:
    """Of more clusters than classes, cluster 2 is never top, so it has no class."""
    data = images(
        ([found(*A, cluster=1), found(*B, cluster=2, score=0.5)], [thing(*A), thing(*B)]),
        ([found(*A, cluster=1)], [thing(*A)]),
    )
    scores = protocol_scores(data, 4, NAMES, PROTOCOLS)
    assert scores["instance_matching"] == {"1": 1, "2": None, "3": None, "4": None}
    assert ap50(scores)["semantic_multi"] == pytest.approx(100 * 67 / 101)  # two of three objects
    assert ap50(scores)["agnostic_multi"] == pytest.approx(100)
    assert ap50(scores)["semantic_single"] == pytest.approx(100)


def test_nothing_detected_anywhere_and_nothing_to_detect() -> None:
    scores = protocol_scores(images(([], [thing(*A), thing(*B, side=3)])), 4, NAMES, PROTOCOLS)
    assert scores["instance_matching"] == dict.fromkeys("1234")
    assert scores["images_without_detections"] == 1
    expected = {name: None if name.endswith("single") else 0 for name in PROTOCOLS}
    assert ap50(scores) == expected
    assert ap50(protocol_scores(images(([found(*A)], [])), 2, NAMES, PROTOCOLS)) == dict.fromkeys(PROTOCOLS)
    assert ap50(protocol_scores([], 2, NAMES, PROTOCOLS)) == dict.fromkeys(PROTOCOLS)


def test_only_what_is_asked_for_is_scored() -> None:
    data = images(([found(*A)], [thing(*A)]))
    assert list(protocol_scores(data, 1, NAMES, ["semantic_single"])["protocols"]) == ["semantic_single"]
    assert protocol_scores(data, 1, NAMES, [])["protocols"] == {}


def random_images(rng: np.random.Generator, count: int) -> list[tuple[list[Entry], list[Entry]]]:
    def place() -> tuple[int, int, int]:
        side = int(rng.integers(4, 16))
        left, top = (int(value) for value in rng.integers(0, SIZE - side, 2))
        return left, top, side

    rows = []
    for _ in range(count):
        objects = [
            thing(*place(), category=int(rng.integers(1, 4)), crowd=int(rng.random() < 0.1))
            for _ in range(rng.integers(0, 5))
        ]
        detections = [
            found(*place(), cluster=int(rng.integers(1, 6)), score=round(float(rng.random()), 1))
            for _ in range(rng.integers(0, 6))
        ]
        for item in objects:
            if rng.random() < 0.6:
                x, y, side, _ = (int(value) for value in item["bbox"])
                detections.insert(
                    0, found(x, max(0, y - 1), side, item["category_id"] + 1, round(float(rng.random()), 1))
                )
        rows.append((detections, objects))
    return rows


def slow_box_iou(first: Sequence[float], second: Sequence[float]) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = first, second
    width, height = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (aw * ah + bw * bh - shared)


def slow_selection(
    rows: list[tuple[list[Entry], list[Entry]]], objects: str
) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Images, annotations and results that a protocol keeps, in loops over dictionaries."""
    kept, truth, results = [], [], []
    for number, (detections, things) in enumerate(rows, start=1):
        if objects != "multi":
            if detections:
                top = detections[0]
                for other in detections:
                    if other["score"] > top["score"]:
                        top = other
                chosen, best = None, -1.0
                for item in things:
                    overlap = slow_box_iou(top["bbox"], item["bbox"])
                    if overlap > best:
                        chosen, best = item, overlap
                detections = [top]
            else:
                real = [item for item in things if not item["iscrowd"]]
                chosen = next((a for a in real if all(a["area"] >= b["area"] for b in real)), None)
            if objects == "single" and (chosen is None or not detections):
                continue
            things = [] if chosen is None else [chosen]
        kept.append({"id": number, "height": SIZE, "width": SIZE})
        truth += [{**item, "image_id": number} for item in things]
        results += [{**item, "image_id": number} for item in detections]
    return kept, truth, results


@pytest.mark.parametrize("seed", range(4))
def test_every_protocol_equals_pycocotools_on_what_loops_select(seed: int) -> None:
    rows = random_images(np.random.default_rng(seed), 30)
    scores = protocol_scores(images(*rows), 5, NAMES, PROTOCOLS)
    _, truth, tops = slow_selection(rows, "single")
    votes = {cluster: [0] * 4 for cluster in range(1, 6)}
    for item, detection in zip(truth, tops, strict=True):
        votes[detection["category_id"]][item["category_id"]] += 1
    majority = {
        cluster: max(range(4), key=lambda c: (row[c], -c)) for cluster, row in votes.items() if any(row)
    }
    assert scores["instance_matching"] == {str(cluster): majority.get(cluster) for cluster in votes}
    for name, values in scores["protocols"].items():
        categories, _, objects = name.partition("_")
        kept, truth, results = slow_selection(rows, objects)
        if categories == "agnostic":
            reference = coco_eval(kept, merged(truth), merged(results))
        else:
            named = [
                {**d, "category_id": majority[d["category_id"]]}
                for d in results
                if d["category_id"] in majority
            ]
            reference = coco_eval(kept, truth, named)
            expected = {NAMES[number]: 100 * row[0] for number, row in class_scores(reference).items()}
            assert {c: row["ap"] for c, row in values["classes"].items()} == pytest.approx(expected)
        found_stats = list(values.values())[:12]
        assert found_stats == pytest.approx([None if value < 0 else 100 * value for value in reference.stats])
        assert values["images"] == len(kept)
