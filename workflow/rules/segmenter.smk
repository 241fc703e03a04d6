"""Segmenter: DeepLab-v3 on the pseudo-labels, and its label maps for the images that are scored."""


rule segmenter:
    input:
        manifest=rules.manifest.output.manifest,
        labels=all_shards(PSEUDO_LABELS),
        weights=WEIGHTS["segmenter"],
    output:
        model=f"{TAU}/segmenter/model.safetensors",
        metrics=f"{TAU}/segmenter/metrics.csv",
    log:
        f"{RUN}/logs/segmenter/{{masks}}/k-{{k}}/seed-{{seed}}/tau-{{tau}}.log",
    benchmark:
        f"{RUN}/benchmarks/segmenter/{{masks}}/k-{{k}}/seed-{{seed}}/tau-{{tau}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 16
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=2880,
    params:
        labels=braces(PSEUDO_LABELS),
        settings=section("segmenter", weights=weights_option("segmenter")),
        state=f"{TAU}/segmenter.state",
        code=code("segmenter", "backbones", "training", "cli/segmenter.py"),
    message:
        "segmenter: DeepLab-v3, {CONFIG.segmenter.epochs} epochs, tau {wildcards.tau}, seed {wildcards.seed}"
    shell:
        "maskdistill segmenter --manifest {input.manifest:q} --labels {params.labels}"
        " --num-clusters {wildcards.k} --seed {wildcards.seed} --params {params.settings:q}"
        " --output {output.model:q} --metrics {output.metrics:q} --state {params.state:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"


rule predictions:
    input:
        manifest=rules.manifest.output.manifest,
        model=rules.segmenter.output.model,
    output:
        labels=[directory(path) for path in of_part(PREDICTIONS)],
    log:
        f"{RUN}/logs/predictions/{{masks}}/k-{{k}}/seed-{{seed}}/tau-{{tau}}/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/predictions/{{masks}}/k-{{k}}/seed-{{seed}}/tau-{{tau}}/{{part}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        each=each_shard,
        shard=one_of_each(PREDICTIONS),
        code=code("segmenter", "backbones", "palette.py", "cli/predictions.py"),
        all="" if HAS_GROUND_TRUTH else "--all",
    message:
        "predictions: shard {params.each}, tau {wildcards.tau}, seed {wildcards.seed}"
    shell:
        "maskdistill predictions --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --model {input.model:q}"
        " --output {params.shard:q} {params.all}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"
