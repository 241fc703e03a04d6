"""Target `snakemake ablations`: the rows of the paper's Table 1 and Table S1, over several seeds, on one
page.
"""

from pathlib import PurePosixPath

if RUN.has_ground_truth:
    ABLATED = CONFIG.ablations
    PICTURED = ABLATED.seeds[:1]

    if "ablations" in ASKED and ABLATED.crf_rounds and not WITH_CONDA:
        with refusals():
            targets.need_crf("ablations.crf_rounds")

    rule ablations:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            masks=RUN.of_run(MASK_SHARDS),
            assignments=RUN.of_run(rules.clusters.output.assignments, seed=PICTURED),
            evaluations=RUN.of_run(
                rules.evaluate_masks.output.scores, seed=ABLATED.seeds
            )
            + targets.ablated(
                RUN,
                rules.evaluate_detector.output.scores,
                rules.evaluate_segmenter.output.scores,
                ABLATED.seeds,
            ),
            labels=targets.ablated(RUN, PSEUDO_LABELS, PREDICTIONS, PICTURED),
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
        threads: 1
        resources:
            mem_mb=4000,
            runtime=60,
        params:
            masks=RUN.braces(MASK_SHARDS, **RUN.main),
            labels=lambda wildcards, input: list(
                dict.fromkeys(str(PurePosixPath(path).parent) for path in input.labels)
            ),
            settings=SETTINGS.sections_but("objects", "oracle", "bench", "paper"),
            name=CONFIG.run,
            code=code("ablations"),
        message:
            "ablations: {output.page}"
        shell:
            "maskdistill ablations --run-name {params.name} --config {params.settings:q}"
            " --manifest {input.manifest:q} --ground-truth {input.truth:q}/instances.json"
            " --masks {params.masks:q} --assignments {input.assignments:q}"
            " --evaluations {input.evaluations:q}"
            " --labels {params.labels:q} --output {output.page:q} --summary {output.summary:q}"
            " --threads {threads} --log {log:q}"

else:
    with refusals():
        targets.need_ground_truth(ASKED & {"ablations"}, CONFIG)
