"""The sections that compare candidates and predictions with the ground truth in more than one number."""

from maskdistill.evaluation.stages import STAGES
from maskdistill.report.collect import Run
from maskdistill.report.confusion import heat_map
from maskdistill.report.html import Context
from maskdistill.report.scores import first_seed
from maskdistill.report.truth_figures import quality_plot, recall_curves

PER_PLOT = 5


def quality_section(run: Run) -> Context:
    """Plots of score against IoU and of precision against recall; none without ground truth."""
    if not run.quality:
        return {"plots": [], "classes": []}
    found, curves = run.quality["quality"], run.quality["curves"]
    correlation = found["rank_correlation"]
    told = "" if correlation is None else f" Rank correlation of score and IoU: {correlation:.2f}."
    plots = []
    if found["bins"]:
        plot = quality_plot("quality-iou", found["points"], found["bins"])
        plots.append(
            (
                "Score and quality",
                plot,
                f"One dot per candidate; the line is the mean over a step of scores.{told}",
            )
        )
    if curves["agnostic"]:
        named = {f"IoU {iou}": values for iou, values in curves["agnostic"].items()}
        caption = "All candidates against all objects, whatever their class."
        plots.append(("Precision and recall", recall_curves("quality-recall", named), caption))
    names = list(curves["classes"])
    classes = []
    for start in range(0, len(names), PER_PLOT):
        named = {name: curves["classes"][name] for name in names[start : start + PER_PLOT]}
        classes.append((", ".join(named), recall_curves(f"quality-{start}", named)))
    return {"plots": plots, "classes": classes}


def confusion_tables(run: Run) -> list[Context]:
    """Heat maps of the stages of the first seed, the last stage first."""
    tables: list[Context] = []
    for stage in (stage for stage in reversed(STAGES.values()) if not stage.learns_labels):
        found = first_seed(run.rows, stage.name, run.config)
        if found is not None and found.confusion:
            labels = [
                "background",
                *(run.cluster_name(cluster) for cluster in range(len(found.confusion) - 1)),
            ]
            tables.append(
                {"title": stage.title, **heat_map(found.confusion, found.matching, labels, found.classes)}
            )
    return tables
