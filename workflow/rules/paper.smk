"""Targets of the paper: `snakemake table1 table2 table3 tableS1 tableS2 figure3 figure4 figure5 qualitative`.

Each makes a page and a CSV below results/<run>/paper, with published values beside the run's own; `paper`
makes all. The evaluation rules do the work: maskdistill.paper.plan names the files that each target needs.
"""

from maskdistill.paper.plan import FIGURES, TARGETS, evaluations

PAPER = f"{RUN}/paper"
PAPER_SETTINGS = SETTINGS.sections_but(
    "objects", "report", "ablations", "oracle", "bench", "sweep"
)
SHOWN = CONFIG.paper.seeds[0]
PAPER_ASKED = {*TARGETS, "qualitative", "paper"} & ASKED

if RUN.has_ground_truth:
    with refusals():
        targets.check_paper(RUN, ASKED, WITH_CONDA)

    for target in TARGETS:

        rule:
            name:
                target
            input:
                evaluations=[f"{RUN}/{path}" for path in evaluations(target, CONFIG)],
            output:
                page=report(
                    f"{PAPER}/{target}.html",
                    category="Paper",
                    caption="../report/paper.rst",
                ),
                csv=f"{PAPER}/{target}.csv",
                plots=(
                    [f"{PAPER}/{target}.{kind}" for kind in ("svg", "png")]
                    if target in FIGURES
                    else []
                ),
            log:
                f"{RUN}/logs/paper/{target}.log",
            benchmark:
                f"{RUN}/benchmarks/paper/{target}.tsv"
            threads: 1
            resources:
                mem_mb=2000,
                runtime=30,
            params:
                target=target,
                results=lambda _, output: str(Path(output.page).parents[1]),
                settings=PAPER_SETTINGS,
                code=code("paper"),
            message:
                "paper: {output.page}"
            shell:
                "maskdistill paper --target {params.target} --config {params.settings:q}"
                " --results {params.results:q}"
                " --output {output.page:q} --csv {output.csv:q} --plots {output.plots:q} --threads {threads}"
                " --log {log:q}"

    rule qualitative:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            masks=RUN.of_run(MASK_SHARDS),
            assignments=RUN.of_run(rules.clusters.output.assignments, seed=SHOWN),
            pseudo_labels=RUN.of_run(PSEUDO_LABELS, seed=SHOWN),
            predictions=RUN.of_run(PREDICTIONS, seed=SHOWN),
            evaluations=RUN.of_run(rules.evaluate_masks.output.scores, seed=SHOWN)
            + RUN.of_run(rules.evaluate_detector.output.scores, seed=SHOWN)
            + RUN.of_run(rules.evaluate_segmenter.output.scores, seed=SHOWN),
        output:
            page=report(
                f"{PAPER}/qualitative.html",
                category="Paper",
                caption="../report/paper.rst",
            ),
            csv=f"{PAPER}/qualitative.csv",
            grid=f"{PAPER}/qualitative.png",
        log:
            f"{RUN}/logs/paper/qualitative.log",
        benchmark:
            f"{RUN}/benchmarks/paper/qualitative.tsv"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=60,
        params:
            masks=RUN.braces(MASK_SHARDS, **RUN.main),
            labels=lambda wildcards, input: str(Path(input.pseudo_labels[0]).parent),
            predictions=lambda wildcards, input: str(Path(input.predictions[0]).parent),
            seed=SHOWN,
            settings=PAPER_SETTINGS,
            code=code("qualitative"),
        message:
            "paper: {output.page}"
        shell:
            "maskdistill qualitative --config {params.settings:q} --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json --masks {params.masks:q}"
            " --assignments {input.assignments:q} --pseudo-labels {params.labels:q}"
            " --predictions {params.predictions:q} --evaluations {input.evaluations:q} --seed {params.seed}"
            " --output {output.page:q} --csv {output.csv:q} --grid {output.grid:q}"
            " --threads {threads} --log {log:q}"

    rule paper:
        input:
            [f"{PAPER}/{target}.html" for target in (*TARGETS, "qualitative")],

else:
    with refusals():
        targets.need_ground_truth(PAPER_ASKED, CONFIG)
