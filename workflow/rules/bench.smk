"""Target `snakemake bench`: mask rules, and what is trained on their masks, compared on one page.

All use the same features, once for each backbone. The rules for masks, clusters, detector, segmenter and
evaluation do the work: the mask rule with the backbone is a wildcard of all of them.
"""

from pathlib import PurePosixPath

if RUN.has_ground_truth:
    BENCH = f"{RUN}/bench"
    BENCHED = layout.benched_folders(CONFIG)
    # The page shows the masks and the label maps of the last stage that is scored.
    LABELLED = [
        (stage, pattern)
        for stage, pattern in (
            ("detector", PSEUDO_LABELS),
            ("segmenter", PREDICTIONS),
        )
        if stage in CONFIG.bench.stages
    ][-1:]
    with refusals():
        targets.check_bench(RUN, ASKED)

    rule bench:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            evaluations=targets.benched(
                RUN,
                ("masks", rules.evaluate_masks.output.scores),
                ("detector", rules.evaluate_detector.output.scores),
                ("segmenter", rules.evaluate_segmenter.output.scores),
            ),
            masks=RUN.of_run(MASK_SHARDS, masks=BENCHED),
            assignments=RUN.of_run(
                rules.clusters.output.assignments, masks=BENCHED, **FIRST
            ),
            labels=targets.benched(RUN, *LABELLED, **FIRST, trained=RUN.main["trained"]),
            beside=[local(path) for path in CONFIG.bench.beside],
        output:
            page=report(
                f"{BENCH}/bench.html", category="Run", caption="../report/bench.rst"
            ),
            summary=f"{BENCH}/bench.json",
            scores=f"{BENCH}/bench.csv",
            pairs=f"{BENCH}/pairs.csv",
            # What changes from run to run has its own file, so that equal work gives equal bytes elsewhere.
            costs=f"{BENCH}/costs.csv",
        log:
            f"{RUN}/logs/bench.log",
        benchmark:
            f"{RUN}/benchmarks/bench.tsv"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=60,
        params:
            masks=lambda wildcards: [
                RUN.braces(MASK_SHARDS, masks=name)(wildcards) for name in BENCHED
            ],
            labels=lambda wildcards, input: list(
                dict.fromkeys(str(PurePosixPath(path).parent) for path in input.labels)
            ),
            benchmarks=RUN.at(f"{RUN}/benchmarks"),
            content=RUN.contents(CONFIG.bench.beside),
            settings=SETTINGS.sections_but(
                "objects", "ablations", "oracle", "paper", "report", "sweep"
            ),
            code=code("bench"),
        message:
            "bench: {output.page}"
        shell:
            "maskdistill bench --config {params.settings:q} --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json --evaluations {input.evaluations:q}"
            " --masks {params.masks:q} --assignments {input.assignments:q} --labels {params.labels:q}"
            " --beside {input.beside:q} --benchmarks {params.benchmarks:q} --output {output.page:q}"
            " --summary {output.summary:q} --scores {output.scores:q} --pairs {output.pairs:q}"
            " --costs {output.costs:q} --threads {threads} --log {log:q}"

else:
    with refusals():
        targets.need_ground_truth(ASKED & {"bench"}, CONFIG)
