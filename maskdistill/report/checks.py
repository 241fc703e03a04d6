"""What a reader should look at before trusting a run, in plain sentences."""

import numpy as np

from maskdistill.data.dropped import DroppedRecord
from maskdistill.data.picture_names import left_out_words
from maskdistill.pseudo_labels.confidence import relation
from maskdistill.report.collect import Run
from maskdistill.report.steps import worse_steps
from maskdistill.workflow.needed_weights import rehearsal


def checks(run: Run) -> list[str]:
    """What to look at before trusting the run, in plain sentences; empty if nothing stands out."""
    notes = []
    images, coverage, sizes = run.images.usable, run.masks.coverage, run.clusters["sizes"]
    labels = run.config.pseudo_labels
    if told := rehearsal(run.config):
        notes.append(f"This run is {told}.")
    if run.config.backbone.weights == "random":
        notes.append("The backbone is untrained (weights: random); this run is good for comparison only.")
    notes += worse_steps(run.chain_rows, run.baselines)
    if count := run.image_counts["quarantined"]:
        notes.append(
            f"{count} of {run.images.total} files could not be used; the reasons are listed under Data."
        )
    if run.images.left_out:
        others = left_out_words(run.images.left_out)
        notes.append(
            "Files beside the images that look like some were left out because they cannot be decoded: "
            f"{others}."
        )
    notes += truth_notes(run.truth)
    if run.unmasked:
        notes.append(f"{run.unmasked} of {images} images have no mask.")
    if coverage.size and not 2 <= (middle := float(np.median(coverage))) <= 80:
        notes.append(
            f"Half of the masks cover {middle:.1f} % of their image or {'less' if middle < 2 else 'more'}."
        )
    if run.unused_names:
        notes.append(
            f"The names in {run.unused_names} were given to other clusters and are not used; save them again."
        )
    if empty := sizes.count(0):
        notes.append(f"{empty} of {len(sizes)} clusters are empty.")
    share = 100 * max(sizes) / max(1, sum(sizes))
    if len(sizes) > 1 and share > 60:
        notes.append(f"One cluster holds {share:.0f} % of the masks.")
    if (below := images - run.candidates.images_above) > 0.2 * images:
        where = f"{relation(True, labels.compare)} τ = {labels.tau:g}"
        notes.append(f"{below} of {images} images have no candidate {where}.")
    if empty := run.pseudo_labels["empty"]:
        notes.append(
            f"{empty} of {run.pseudo_labels['images']} pseudo-labels are empty: background everywhere."
        )
    return notes


def truth_notes(truth: DroppedRecord | None) -> list[str]:
    """What the ground truth lacks, and what was dropped of it."""
    notes: list[str] = []
    if not truth:
        return notes
    if counts := truth["counts"]:
        told = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items())
        notes.append(f"Dropped from the ground truth: {told}; the reasons are listed under Data.")
    of = truth["of"]
    for count, score in ((of["has_semantic"], "mIoU"), (of["has_masks"], "AP")):
        if count < of["images"]:
            notes.append(
                f"{count} of {of['images']} images with ground truth have masks, which {score} needs."
            )
    return notes
