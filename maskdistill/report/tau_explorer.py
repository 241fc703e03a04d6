"""The threshold explorer: what a page needs to show pseudo-labels at any threshold."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskdistill.config import Compare
from maskdistill.detector.types import Candidate
from maskdistill.pseudo_labels.confidence import levels_passed, relation
from maskdistill.pseudo_labels.painting import Overlap, painting_ranks
from maskdistill.pseudo_labels.summary import CountRow
from maskdistill.report.collect import Run
from maskdistill.report.html import Context, Picture
from maskdistill.report.truth_figures import threshold_lines

Share = Literal["precision", "coverage", "pixel_precision", "pixel_coverage", "miou"]
SHARES: dict[Share, str] = {
    "precision": "precision",
    "coverage": "coverage",
    "pixel_precision": "pixel precision",
    "pixel_coverage": "pixel coverage",
    "miou": "mIoU",
}
"""What ground truth tells at a threshold, in percent."""
DRAWN = ("precision", "coverage", "miou")


class Sample(TypedDict):
    """A picture's candidates, such that any threshold can be drawn.

    Attributes:
        width, height: of the drawing.
        found: number of candidates.
        scores: of those that are painted when all pass, best first.
        colors: theirs, as RGB.
        runs: length and rank, 0 background, in turn, row by row.
    """

    width: int
    height: int
    found: int
    scores: list[float]
    colors: list[list[int]]
    runs: list[int]


def stops(run: Run) -> list[CountRow]:
    """Counts at ascending thresholds, the run's own among them; empty if none were counted.

    Where the run's threshold is none of those that were counted and it paints masks, its row is that of the
    run's pseudo-labels themselves; where it paints something else it is left out.
    """
    rows = cast(list[CountRow], run.thresholds.to_dict("records"))
    tau, own = run.config.pseudo_labels.tau, run.pseudo_labels
    if rows and run.config.pseudo_labels.type == "mask" and all(row["tau"] != tau for row in rows):
        rows.append(
            {
                "tau": tau,
                "images_kept": own["images"] - own["fallback"] - own["empty"],
                "objects_kept": own["kept"],
                "fallback": own["fallback"],
                "empty": own["empty"],
                "mean_coverage": own["mean_coverage"],
            }
        )
    return sorted(rows, key=lambda row: float(row["tau"]))


def page_data(run: Run, samples: Sequence[Sample]) -> Context:
    """What the page's script reads, by column: one value a threshold.

    Args:
        run: everything but pictures.
        samples: see :func:`sample`.

    Returns:
        Empty where no thresholds were counted. ``truth`` is empty without ground truth; where the run's own
        threshold was not scored it has the values of the nearest one that was.
    """
    rows, scored = stops(run), run.quality["by_tau"] if run.quality else []
    if not rows:
        return {}
    taus = [float(row["tau"]) for row in rows]
    nearest = [min(scored, key=lambda row: abs(row["tau"] - tau)) for tau in taus] if scored else []
    tau = run.config.pseudo_labels.tau
    return {
        "taus": taus,
        "own": min(range(len(taus)), key=lambda place: abs(taus[place] - tau)),
        "images": int(rows[0]["images_kept"] + rows[0]["fallback"] + rows[0]["empty"]),
        "images_kept": [int(row["images_kept"]) for row in rows],
        "fallback": [int(row["fallback"]) for row in rows],
        "objects_kept": [int(row["objects_kept"]) for row in rows],
        "coverage": [round(100 * float(row["mean_coverage"]), 3) for row in rows],
        "truth": {
            name: [None if (value := row[name]) is None else round(value, 3) for row in nearest]
            for name in SHARES
            if nearest and nearest[0][name] is not None
        },
        "samples": [_by_levels(one, taus, run.config.pseudo_labels.compare) for one in samples],
    }


def _by_levels(one: Sample, taus: Sequence[float], compare: Compare) -> Context:
    """A sample with the number of thresholds that each candidate passes as ``levels`` for its ``scores``."""
    rest = {name: value for name, value in one.items() if name != "scores"}
    return rest | {"levels": levels_passed(one["scores"], compare, taus).tolist()}


def sample(
    candidates: Sequence[Candidate],
    shape: tuple[int, int],
    shown: tuple[int, int],
    overlap: Overlap,
    colors: Mapping[int, tuple[int, int, int]],
    neutral: tuple[int, int, int],
) -> Sample:
    """One picture's candidates, such that any threshold can be drawn.

    Args:
        candidates: all of the picture's.
        shape: height and width of the picture.
        shown: of the drawing.
        overlap: see :func:`maskdistill.pseudo_labels.painting.paint`.
        colors: of the categories; ``neutral`` of all others.
    """
    kept, ranks = painting_ranks(candidates, shape, overlap)
    small = np.asarray(Image.fromarray(ranks).resize((shown[1], shown[0]), Image.Resampling.NEAREST))
    return {
        "width": shown[1],
        "height": shown[0],
        "found": len(candidates),
        "scores": [candidates[i]["score"] for i in kept],
        "colors": [list(colors.get(int(candidates[i]["category_id"]), neutral)) for i in kept],
        "runs": run_lengths(small.ravel()),
    }


def run_lengths(values: npt.NDArray[np.integer]) -> list[int]:
    """Length and value of each run in turn, of (n,) values."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(starts, len(values)))
    return [int(number) for pair in zip(lengths, values[starts], strict=True) for number in pair]


def section(run: Run, samples: Sequence[Sample], pictures: Sequence[Picture]) -> Context:
    """What the template shows.

    Args:
        run: everything but pictures.
        samples: see :func:`sample`.
        pictures: the photos that they are drawn on.
    """
    data = page_data(run, samples)
    if not data:
        return {"data": {}}
    settings = run.config.pseudo_labels
    series: dict[str, Sequence[float | None]] = {
        "images with an object": [100 * kept / max(1, data["images"]) for kept in data["images_kept"]],
        "pixels": data["coverage"],
    }
    series |= {SHARES[name]: values for name, values in data["truth"].items() if name in DRAWN}
    notes = []
    if settings.type != "mask":
        notes.append(f"Counted on masks; this run paints {settings.type} instead, which covers other pixels.")
    if settings.overlap == "legacy":
        notes.append(
            "Where painted objects overlap, the better one is shown on top; this run's rule paints it below."
        )
    scored = [row["tau"] for row in run.quality["by_tau"]] if run.quality else []
    if scored and settings.tau not in scored:
        notes.append(f"Figures of ground truth at τ = {settings.tau:g} are those of the nearest hundredth.")
    return {
        "data": data,
        "plot": threshold_lines("tau", data["taus"], series),
        "shares": [(name, SHARES[name]) for name in data["truth"]],
        "pictures": pictures,
        "own": f"{settings.tau:g}",
        "relation": relation(True, settings.compare),
        "notes": notes,
    }
