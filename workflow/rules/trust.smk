"""Trust: whether a result can be trusted, by signals that need no label; masks and clusters are checked
before any training.
"""


# It runs before the trainings: it takes a minute and may save hours.
rule consistency:
    input:
        manifest=rules.manifest.output.manifest,
        masks=RUN.all_shards(MASK_SHARDS),
        embeddings=RUN.all_shards(EMBEDDINGS),
        weights=lambda wildcards: BACKBONE_WEIGHTS[folders.suffix_of(wildcards.masks)],
    output:
        consistency=f"{SEED}/consistency.json",
    log:
        f"{RUN}/logs/consistency/{{masks}}/k-{{k}}/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/consistency/{{masks}}/k-{{k}}/seed-{{seed}}.tsv"
    priority: 1
    threads: 8
    resources:
        gpu=1,
        mem_mb=6000,
        runtime=60,
    params:
        content=lambda wildcards: RUN.contents(
            BACKBONE_WEIGHTS[folders.suffix_of(wildcards.masks)]
        ),
        masks=RUN.braces(MASK_SHARDS),
        embeddings=RUN.braces(EMBEDDINGS),
        settings=in_full(SETTINGS.consistency),
        shaping=shaping(SETTINGS.consistency),
        arch=lambda wildcards: BACKBONES[folders.suffix_of(wildcards.masks)].arch,
        weights=lambda wildcards, input: input.weights[0] if input.weights else "random",
        code=lambda wildcards: (
            code("consistency") + mask_folders.rule_code(wildcards.masks)
        ),
    message:
        "consistency: masks and clusters repeated, seed {wildcards.seed}"
    shell:
        "maskdistill consistency --manifest {input.manifest:q} --masks {params.masks:q}"
        " --embeddings {params.embeddings:q} --arch {params.arch} --weights {params.weights:q}"
        " --num-clusters {wildcards.k} --seed {wildcards.seed} --params {params.settings:q}"
        " --output {output.consistency:q} --gpus {resources.gpu} --threads {threads} --log {log:q}"


rule trust:
    input:
        consistency=rules.consistency.output.consistency,
        candidates=RUN.all_shards(CANDIDATES),
    output:
        verdict=f"{TAU}/trust.json",
    log:
        f"{RUN}/logs/trust/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/tau-{{tau}}.log",
    benchmark:
        f"{RUN}/benchmarks/trust/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/tau-{{tau}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        candidates=RUN.braces(CANDIDATES),
        settings=SETTINGS.labels,
        code=code("trust"),
    message:
        "trust: whether the result can be trusted, tau {wildcards.tau}, seed {wildcards.seed}"
    shell:
        "maskdistill trust --consistency {input.consistency:q} --candidates {params.candidates:q}"
        " --params {params.settings:q} --output {output.verdict:q} --threads {threads} --log {log:q}"
