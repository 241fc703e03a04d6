"""Segmenter: DeepLab-v3 on the pseudo-labels, then, for each CRF round, a new one on the refined
predictions of the round before; and label maps for the images that are scored."""

SEGMENTER_SETTINGS = lambda wildcards: SETTINGS.section(
    "segmenter",
    weights=RUN.weights_option(WEIGHTS["segmenter"]),
    hard_pixels=float(wildcards.hard),
)
# Which images are predicted: those to be scored, or all. This does not depend on ground truth.
PREDICTED = str(
    CONFIG.data.scored_file() or ("eval" if CONFIG.data.kind == "scenes" else "all")
)


rule segmenter:
    input:
        manifest=rules.manifest.output.manifest,
        labels=lambda wildcards: RUN.all_shards(RUN.learnt_labels(wildcards))(wildcards),
        weights=WEIGHTS["segmenter"],
    output:
        model=f"{RUN}/{layout.SEGMENTER}",
        metrics=f"{ROUND}/segmenter/metrics.csv",
    log:
        f"{RUN}/logs/segmenter/{layout.ROUND}.log",
    benchmark:
        f"{RUN}/benchmarks/segmenter/{layout.ROUND}.tsv"
    threads: 16
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=2880,
    params:
        content=RUN.contents(WEIGHTS["segmenter"]),
        labels=lambda wildcards: RUN.braces(RUN.learnt_labels(wildcards))(wildcards),
        settings=in_full(SEGMENTER_SETTINGS),
        shaping=shaping(SEGMENTER_SETTINGS),
        state=RUN.at(f"{ROUND}/segmenter.state"),
        code=code("segmenter"),
    message:
        f"segmenter: {CONFIG.segmenter.arch}, {CONFIG.segmenter.epochs} epochs, "
        f"CRF round {{wildcards.round}},"
        " tau {wildcards.tau}, seed {wildcards.seed}"
    shell:
        "maskdistill segmenter --manifest {input.manifest:q} --labels {params.labels:q}"
        " --num-clusters {wildcards.k} --seed {wildcards.seed} --params {params.settings:q}"
        " --output {output.model:q} --metrics {output.metrics:q} --state {params.state:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"


rule refined_labels:
    input:
        manifest=rules.manifest.output.manifest,
        model=RUN.model_before,
    output:
        labels=[directory(path) for path in RUN.of_part(REFINED_LABELS)],
    log:
        f"{RUN}/logs/refined_labels/{layout.ROUND}/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/refined_labels/{layout.ROUND}/{{part}}.tsv"
    wildcard_constraints:
        round=r"[1-9]\d*",
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=lambda wildcards, threads: 4000 + 2000 * threads,
        runtime=1440,
    params:
        each=RUN.each_shard,
        crf=SETTINGS.crf,
        code=code("predictions"),
    message:
        "refined_labels: shard {params.each}, CRF round {wildcards.round}, tau {wildcards.tau}, "
        "seed {wildcards.seed}"
    shell:
        "maskdistill predictions --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --model {input.model:q} --images train --crf {params.crf:q}"
        " --output {output.labels:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"


rule predictions:
    input:
        manifest=rules.manifest.output.manifest,
        model=rules.segmenter.output.model,
    output:
        labels=[directory(path) for path in RUN.of_part(PREDICTIONS)],
    log:
        f"{RUN}/logs/predictions{{post}}/{layout.ROUND}/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/predictions{{post}}/{layout.ROUND}/{{part}}.tsv"
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=lambda wildcards, threads: 8000 + bool(wildcards.post) * 2000 * threads,
        runtime=lambda wildcards: 1440 if wildcards.post else 240,
    params:
        each=RUN.each_shard,
        crf=SETTINGS.crf_option,
        code=predictions_code,
        images=PREDICTED,
        listing=scored_listing(CONFIG),
    message:
        "predictions{wildcards.post}: shard {params.each}, CRF round {wildcards.round}, tau {wildcards.tau},"
        " seed {wildcards.seed}"
    shell:
        "maskdistill predictions --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --model {input.model:q} --images {params.images:q} {params.crf}"
        " --output {output.labels:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"
