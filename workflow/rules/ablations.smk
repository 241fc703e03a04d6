"""Target `snakemake ablations`: the rows of the paper's Table 1 and Table S1, over several seeds, on one page."""

from pathlib import PurePosixPath

WANTED = "ablations" in sys.argv  # targets are known to Snakemake only after this file

if HAS_GROUND_TRUTH:
    ABLATED = CONFIG.ablations
    PICTURED = ABLATED.seeds[:1]

    if WANTED and ABLATED.crf_rounds:
        need_crf("ablations.crf_rounds")

    rule ablations:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            masks=of_run(MASK_SHARDS),
            assignments=of_run(rules.clusters.output.assignments, seed=PICTURED),
            evaluations=of_run(rules.evaluate_masks.output.scores, seed=ABLATED.seeds)
            + ablated(
                rules.evaluate_detector.output.scores,
                rules.evaluate_segmenter.output.scores,
                ABLATED.seeds,
            ),
            labels=ablated(PSEUDO_LABELS, PREDICTIONS, PICTURED),
        output:
            page=report(
                f"{RUN}/ablations.html",
                category="Run",
                caption="../report/ablations.rst",
            ),
            summary=f"{RUN}/ablations.json",
        log:
            f"{RUN}/logs/ablations.log",
        benchmark:
            f"{RUN}/benchmarks/ablations.tsv"
        conda:
            "../../envs/maskdistill.yaml"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=60,
        params:
            masks=braces(MASK_SHARDS, **MAIN),
            labels=lambda wildcards, input: list(
                dict.fromkeys(str(PurePosixPath(path).parent) for path in input.labels)
            ),
            settings=canonical_json(
                CONFIG.model_dump(mode="json", exclude={"oracle", "paper"})
            ),
            name=CONFIG.run,
            code=code("ablations"),
        message:
            "ablations: {output.page}"
        shell:
            "maskdistill ablations --run-name {params.name} --config {params.settings:q}"
            " --manifest {input.manifest:q} --ground-truth {input.truth:q}/instances.json"
            " --masks {params.masks:q} --assignments {input.assignments:q} --evaluations {input.evaluations:q}"
            " --labels {params.labels:q} --output {output.page:q} --summary {output.summary:q}"
            " --threads {threads} --log {log:q}"

elif WANTED:
    raise WorkflowError(
        f"ablations: scores need ground truth, and data.kind {CONFIG.data.kind} has none; "
        "give data.kind coco its annotations, or use voc or scenes"
    )
