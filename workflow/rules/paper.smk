"""Targets of the paper: `snakemake table1 table2 table3 tableS1 tableS2 figure3 figure4 figure5 qualitative`.

Each gives a page and a CSV below results/<run>/paper, with published values beside the run's own; `paper` gives all.
The rules of the evaluations do the work: maskdistill.paper.plan names the files that each target needs.
"""

from maskdistill.paper.plan import FIGURES, TARGETS, evaluations

PAPER = f"{RUN}/paper"
ASKED = {*TARGETS, "qualitative", "paper"} & {*sys.argv}

if HAS_GROUND_TRUTH:
    if CONFIG.paper.crf_rounds and ASKED & {"table2", "tableS1", "tableS2", "paper"}:
        need_crf("paper.crf_rounds")
    if not CONFIG.features.store and ASKED & {"table3", "figure4", "paper"}:
        raise WorkflowError(
            "table3, figure4: other masks need the stored keys; set features.store to true"
        )

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
                results=RUN,
                settings=canonical_json(
                    CONFIG.model_dump(
                        mode="json", exclude={"report", "ablations", "sweep"}
                    )
                ),
                code=code("paper", "paper/cited.csv", "report", "cli/paper.py"),
            message:
                "paper: {output.page}"
            shell:
                "maskdistill paper --target {params.target} --config {params.settings:q} --results {params.results:q}"
                " --output {output.page:q} --csv {output.csv:q} --plots {output.plots:q} --threads {threads} --log {log:q}"

    rule paper:
        input:
            [f"{PAPER}/{target}.html" for target in TARGETS],

elif ASKED:
    raise WorkflowError(
        f"{', '.join(sorted(ASKED))}: scores need ground truth, and data.kind {CONFIG.data.kind} has none; "
        "give data.kind coco its annotations, or use voc or scenes"
    )
