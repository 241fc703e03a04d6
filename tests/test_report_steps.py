"""Steps that made a run's scores worse are said in words, whatever weights it had."""

from collections.abc import Mapping

from maskdistill.report.scores import ScoreRow
from maskdistill.report.steps import worse_steps


def row(stage: str, crf_round: int | None = None, **mean: float) -> ScoreRow:
    return ScoreRow(stage, 0.4, 2, None, True, mean, {}, {}, [], crf_round=crf_round)


PETS = [
    row("masks", miou=31.34, corloc=40.0),
    row("detector", miou=27.4, corloc=41.0),
    row("segmenter", 0, miou=25.8, corloc=41.04),
    row("probe", 0, miou=1.0),
]  # fmt: skip


def test_every_step_down_and_every_stage_below_otsu_is_named() -> None:
    """The pets of the issue: Otsu 33.0, masks 31.3, detector 27.4, segmenter 25.8.

    The probe learns from labels.
    """
    baselines: Mapping[str, Mapping[str, float]] = {"color_kmeans": {"miou": 99.0}, "otsu": {"miou": 33.0}}
    assert worse_steps(PETS, baselines) == [
        "The detector scores worse than the masks before it: mIoU 27.4 after 31.3.",
        "The segmenter scores worse than the detector before it: mIoU 25.8 after 27.4.",
        *(
            f"The {stage} worse than Otsu's threshold, which splits a picture by its grey values: mIoU "
            f"{value}, Otsu"
            " 33.0."
            for stage, value in (("masks score", 31.3), ("detector scores", 27.4), ("segmenter scores", 25.8))
        ),
    ]
    assert worse_steps(PETS, {"otsu": {"miou": 20.0, "corloc": 41.0}})[2:] == [
        "The masks score worse than Otsu's threshold, which splits a picture by its grey values: CorLoc 40.0,"
        " Otsu 41.0."
    ]


def test_what_gets_better_or_looks_equal_is_not_complained_about() -> None:
    rising = [row("masks", miou=20.0), row("detector", miou=25.04), row("segmenter", 0, miou=25.01)]
    rising += [row("segmenter_crf", 0, miou=25.9), row("segmenter", 1, miou=30.0)]
    assert worse_steps(rising, {"otsu": {"miou": 15.0}}) == []
    assert worse_steps([row("detector", ap50=3.0)], {}) == []
    falling = [*rising, row("segmenter_crf", 1, miou=29.0)]
    (said,) = worse_steps(falling, {})
    assert (
        said
        == "The segmenter + CRF, round 1 scores worse than the segmenter, round 1 before it: mIoU 29.0 after "
        "30.0."
    )
