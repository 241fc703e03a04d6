"""Targets of the paper: `snakemake table1 table2 table3 tableS1 tableS2 figure3 figure4 figure5 qualitative`.

Each gives a page and a CSV below results/<run>/paper, with published values beside the run's own; `paper` gives all.
The rules of the evaluations do the work: maskdistill.paper.plan names the files that each target needs.
"""

from maskdistill.paper.plan import FIGURES, TARGETS, evaluations

PAPER = f"{RUN}/paper"
PAPER_SETTINGS = canonical_json(
    CONFIG.model_dump(mode="json", exclude={"report", "ablations", "oracle", "sweep"})
)
SHOWN = CONFIG.paper.seeds[0]
ASKED = {*TARGETS, "qualitative", "paper"} & {*sys.argv}

if HAS_GROUND_TRUTH:
    if CONFIG.paper.crf_rounds and ASKED & {"table2", "tableS1", "tableS2", "paper"}:
        need_crf("paper.crf_rounds")
    if not CONFIG.features.store and ASKED & {"table3", "figure4", "paper"}:
        raise WorkflowError(
            "table3, figure4: other masks need the stored keys; set features.store to true"
        )
    if ASKED & {"figure3", "paper"}:
        try:
            refuse_more_clusters(CONFIG, NUM_FITTED, figure3=True)
        except MaskDistillError as error:
            raise WorkflowError(str(error)) from None

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
            conda:
                "../../envs/maskdistill.yaml"
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
                "maskdistill paper --target {params.target} --config {params.settings:q} --results {params.results:q}"
                " --output {output.page:q} --csv {output.csv:q} --plots {output.plots:q} --threads {threads} --log {log:q}"

    rule qualitative:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            masks=of_run(MASK_SHARDS),
            assignments=of_run(rules.clusters.output.assignments, seed=SHOWN),
            pseudo_labels=of_run(PSEUDO_LABELS, seed=SHOWN),
            predictions=of_run(PREDICTIONS, seed=SHOWN),
            evaluations=of_run(rules.evaluate_masks.output.scores, seed=SHOWN)
            + of_run(rules.evaluate_detector.output.scores, seed=SHOWN)
            + of_run(rules.evaluate_segmenter.output.scores, seed=SHOWN),
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
        conda:
            "../../envs/maskdistill.yaml"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=60,
        params:
            masks=braces(MASK_SHARDS, **MAIN),
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

elif ASKED:
    raise WorkflowError(
        f"{', '.join(sorted(ASKED))}: scores need ground truth, and data.kind {CONFIG.data.kind} has none; "
        "give data.kind coco its annotations, or use voc or scenes"
    )
