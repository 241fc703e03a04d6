"""Report: one self-contained page and one summary of the run."""

FIRST = {"seed": CONFIG.seeds[:1]}
PRETRAINED = [
    stage
    for stage, files in WEIGHTS.items()
    if files == [f"{RUN}/pretrain/{stage}.safetensors"]
]


rule report:
    input:
        manifest=rules.manifest.output.manifest,
        masks=of_run(MASK_SHARDS),
        clusters=of_run(rules.clusters.output.clusters, **FIRST),
        assignments=of_run(rules.clusters.output.assignments, **FIRST),
        choose_k=of_run(rules.choose_k.output.scores),
        candidates=of_run(CANDIDATES, **FIRST),
        pseudo_labels=of_run(PSEUDO_LABELS, **FIRST),
        label_summary=of_run(rules.label_summary.output.summary, **FIRST),
        trust=of_run(rules.trust.output.verdict, **FIRST),
        predictions=of_run(PREDICTIONS, **FIRST),
        sharpened=of_run(PREDICTIONS, **FIRST, post=SHARPENED),
        detector=of_run(rules.detector.output.metrics, **FIRST),
        segmenter=of_run(rules.segmenter.output.metrics, **FIRST),
        pretrain=expand(f"{RUN}/pretrain/{{stage}}.csv", stage=PRETRAINED),
        evaluations=(
            of_run(rules.evaluate_masks.output.scores)
            + of_run(rules.evaluate_masks.output.scores, masks=CONFIG.baselines.masks)
            + of_run(rules.evaluate_detector.output.scores)
            + of_run(rules.evaluate_segmenter.output.scores, round=ROUNDS)
            + of_run(
                rules.evaluate_segmenter.output.scores, round=ROUNDS[1:], post="_crf"
            )
            + (
                of_run(rules.evaluate_probe.output.scores, post=["", *SHARPENED])
                if CONFIG.probe.enabled
                else []
            )
            + beside_main(
                rules.evaluate_masks.output.scores,
                rules.evaluate_detector.output.scores,
                rules.evaluate_segmenter.output.scores,
            )
            if HAS_GROUND_TRUTH
            else []
        ),
        quality=(
            of_run(rules.evaluate_candidates.output.scores, **FIRST)
            if HAS_GROUND_TRUTH
            else []
        ),
        names=CONFIG.clusters.names or [],
        models=of_run(rules.segmenter.output.model),
        baselines=of_run(rules.baselines.output.scores) if HAS_GROUND_TRUTH else [],
        truth=rules.ground_truth.output.truth if HAS_GROUND_TRUTH else [],
    output:
        page=report(f"{RUN}/report.html", category="Run", caption="../report/page.rst"),
        summary=report(
            f"{RUN}/summary.json", category="Run", caption="../report/summary.rst"
        ),
    log:
        f"{RUN}/logs/report.log",
    benchmark:
        f"{RUN}/benchmarks/report.tsv"
    group:
        "report"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        content=contents([CONFIG.clusters.names]),
        masks=braces(MASK_SHARDS, **MAIN, seed=CONFIG.seeds[0]),
        candidates=braces(CANDIDATES, **MAIN, seed=CONFIG.seeds[0]),
        pseudo_labels=braces(PSEUDO_LABELS, **MAIN, seed=CONFIG.seeds[0]),
        predictions=braces(PREDICTIONS, **MAIN, seed=CONFIG.seeds[0], post=""),
        sharpened=lambda wildcards: [
            "--sharpened "
            + shlex.quote(
                braces(PREDICTIONS, **MAIN, seed=CONFIG.seeds[0], post=post)(wildcards)
            )
            for post in SHARPENED
        ],
        settings=canonical_json(
            CONFIG.model_dump(mode="json", exclude={"ablations", "oracle", "paper"})
        ),
        name=CONFIG.run,
        metrics=lambda wildcards, input: [
            *(f"pretrain-{stage}={RUN}/pretrain/{stage}.csv" for stage in PRETRAINED),
            f"detector={input.detector[0]}",
            f"segmenter={input.segmenter[0]}",
        ],
        scores=lambda wildcards, input: (
            f"--evaluations {shlex.join(input.evaluations)} --baselines {shlex.quote(str(input.baselines[0]))}"
            f" --ground-truth {shlex.quote(str(input.truth))} --quality {shlex.quote(str(input.quality[0]))}"
            if HAS_GROUND_TRUTH
            else ""
        ),
        benchmarks=f"{RUN}/benchmarks",
        names=lambda wildcards, input: (
            f"--names {shlex.quote(input.names)}" if CONFIG.clusters.names else ""
        ),
        code=code("report"),
    message:
        "report: {output.page}"
    shell:
        "maskdistill report --run-name {params.name} --config {params.settings:q} --manifest {input.manifest:q}"
        " --masks {params.masks:q} --clusters {input.clusters:q} --assignments {input.assignments:q}"
        " --choose-k {input.choose_k:q} --candidates {params.candidates:q}"
        " --pseudo-labels {params.pseudo_labels:q} --label-summary {input.label_summary:q}"
        " --trust {input.trust:q}"
        " --predictions {params.predictions:q} {params.sharpened} {params.scores}"
        " {params.names} --metrics {params.metrics:q} --benchmarks {params.benchmarks:q}"
        " --output {output.page:q} --summary {output.summary:q} --threads {threads} --log {log:q}"
