"""Report: one self-contained page and one summary of the run."""

PRETRAINED = [
    stage
    for stage, files in WEIGHTS.items()
    if files == [f"{RUN}/pretrain/{stage}.safetensors"]
]
# What each detector learnt from; without rounds of self-training that is the masks.
LEARNT = lambda pattern: (
    RUN.of_run(pattern, **FIRST, trained=RUN.trainings)
    if CONFIG.detector.rounds
    else []
)


rule report:
    input:
        manifest=rules.manifest.output.manifest,
        masks=RUN.of_run(MASK_SHARDS),
        clusters=RUN.of_run(rules.clusters.output.clusters, **FIRST),
        assignments=RUN.of_run(rules.clusters.output.assignments, **FIRST),
        choose_k=RUN.of_run(rules.choose_k.output.scores),
        learnt=LEARNT(ANNOTATIONS),
        learnt_index=LEARNT(ANNOTATION_INDEX),
        candidates=RUN.of_run(CANDIDATES, **FIRST),
        pseudo_labels=RUN.of_run(PSEUDO_LABELS, **FIRST),
        label_summary=RUN.of_run(rules.label_summary.output.summary, **FIRST),
        trust=RUN.of_run(rules.trust.output.verdict, **FIRST),
        objects=rules.objects.output.objects,
        predictions=RUN.of_run(PREDICTIONS, **FIRST),
        sharpened=RUN.of_run(PREDICTIONS, **FIRST, post=RUN.sharpened),
        detector=RUN.of_run(rules.detector.output.metrics, **FIRST),
        segmenter=RUN.of_run(rules.segmenter.output.metrics, **FIRST),
        pretrain=[f"{RUN}/pretrain/{stage}.csv" for stage in PRETRAINED],
        evaluations=(
            RUN.of_run(rules.evaluate_masks.output.scores)
            + RUN.of_run(
                rules.evaluate_masks.output.scores, masks=CONFIG.baselines.masks
            )
            + RUN.of_run(rules.evaluate_detector.output.scores, trained=RUN.trainings)
            + RUN.of_run(rules.evaluate_segmenter.output.scores, round=RUN.rounds)
            + RUN.of_run(
                rules.evaluate_segmenter.output.scores,
                round=RUN.rounds[1:],
                post="_crf",
            )
            + (
                RUN.of_run(
                    rules.evaluate_probe.output.scores, post=["", *RUN.sharpened]
                )
                if CONFIG.probe.enabled
                else []
            )
            + targets.beside_main(
                RUN,
                rules.evaluate_masks.output.scores,
                rules.evaluate_detector.output.scores,
                rules.evaluate_segmenter.output.scores,
            )
            if RUN.has_ground_truth
            else []
        ),
        quality=(
            RUN.of_run(rules.evaluate_candidates.output.scores, **FIRST)
            if RUN.has_ground_truth
            else []
        ),
        names=RUN.names,
        gallery=rules.gallery.output.page,
        models=RUN.of_run(rules.segmenter.output.model),
        baselines=(
            RUN.of_run(rules.baselines.output.scores) if RUN.has_ground_truth else []
        ),
        truth=rules.ground_truth.output.truth if RUN.has_ground_truth else [],
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
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        content=RUN.contents(RUN.names),
        masks=RUN.braces(MASK_SHARDS, **RUN.main, seed=CONFIG.seeds[0]),
        candidates=RUN.braces(CANDIDATES, **RUN.main, seed=CONFIG.seeds[0]),
        pseudo_labels=RUN.braces(PSEUDO_LABELS, **RUN.main, seed=CONFIG.seeds[0]),
        predictions=RUN.braces(PREDICTIONS, **RUN.main, seed=CONFIG.seeds[0], post=""),
        sharpened=lambda wildcards: [
            "--sharpened "
            + shlex.quote(
                RUN.braces(PREDICTIONS, **RUN.main, seed=CONFIG.seeds[0], post=post)(
                    wildcards
                )
            )
            for post in RUN.sharpened
        ],
        settings=SETTINGS.sections_but("ablations", "oracle", "bench", "paper"),
        name=CONFIG.run,
        metrics=lambda wildcards, input: [
            *(
                f"pretrain-{stage}={path}"
                for stage, path in zip(PRETRAINED, input.pretrain, strict=True)
            ),
            f"detector={input.detector[0]}",
            f"segmenter={input.segmenter[0]}",
        ],
        scores=lambda wildcards, input: (
            f"--evaluations {shlex.join(input.evaluations)}"
            f" --baselines {shlex.quote(str(input.baselines[0]))}"
            f" --ground-truth {shlex.quote(str(input.truth))} --quality {shlex.quote(str(input.quality[0]))}"
            if RUN.has_ground_truth
            else ""
        ),
        benchmarks=RUN.at(f"{RUN}/benchmarks"),
        names=lambda wildcards, input: (
            f"--names {shlex.quote(str(input.names[0]))}"
            if CONFIG.clusters.names
            else ""
        ),
        code=code("report"),
    message:
        "report: {output.page}"
    shell:
        "maskdistill report --run-name {params.name} --config {params.settings:q}"
        " --manifest {input.manifest:q}"
        " --masks {params.masks:q} --clusters {input.clusters:q} --assignments {input.assignments:q}"
        " --choose-k {input.choose_k:q} --candidates {params.candidates:q}"
        " --learnt {input.learnt:q} --learnt-index {input.learnt_index:q}"
        " --pseudo-labels {params.pseudo_labels:q} --label-summary {input.label_summary:q}"
        " --trust {input.trust:q} --objects {input.objects:q}"
        " --predictions {params.predictions:q} {params.sharpened} {params.scores}"
        " {params.names} --metrics {params.metrics:q} --benchmarks {params.benchmarks:q}"
        " --output {output.page:q} --summary {output.summary:q} --threads {threads} --log {log:q}"
