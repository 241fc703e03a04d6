"""MaskDistill: unlabelled photographs -> masks, categories, a segmentation model and a report."""

from snakemake.utils import min_version

min_version("9.0")

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/masks.smk"
include: "workflow/rules/clusters.smk"
include: "workflow/rules/annotations.smk"
include: "workflow/rules/detector.smk"
include: "workflow/rules/trust.smk"
include: "workflow/rules/pseudo_labels.smk"
include: "workflow/rules/segmenter.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/probe.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/ablations.smk"
include: "workflow/rules/frozen.smk"
include: "workflow/rules/oracle.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/lock.smk"


# Snakemake formats the paths of environments with the checkout's before them. Groups save jobs of a cluster, elsewhere
# nothing, and Snakemake's time grows with the square of what a group's jobs read.
for made in workflow.rules:
    if not ON_CLUSTER:
        made.group = None
    if made.conda_env is not None:
        made.conda_env = unformatted(
            str(Path(workflow.basedir, "workflow/rules", made.conda_env).resolve())
        )


rule all:
    default_target: True
    input:
        f"{RUN}/report.html",
        f"{RUN}/summary.json",
        sweep_targets(),
