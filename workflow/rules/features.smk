"""Features: CLS query and patch keys of the last attention block."""


rule features:
    input:
        manifest=rules.manifest.output.manifest,
        weights=WEIGHTS["backbone"],
    output:
        shard=f"{RUN}/features/shard-{{shard}}.h5",
    log:
        f"{RUN}/logs/features/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/features/{{shard}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=6000,
        runtime=240,
    params:
        settings=section("features"),
        arch=CONFIG.backbone.arch,
        weights=lambda wildcards, input: input.weights[0] if input.weights else "random",
        number=lambda wildcards: int(wildcards.shard),
        code=code("features.py", "store.py", "backbones/vit.py", "cli/features.py"),
    message:
        "features: shard {wildcards.shard} of {NUM_SHARDS}"
    shell:
        "maskdistill features --manifest {input.manifest:q} --shard {params.number} --arch {params.arch}"
        " --weights {params.weights:q} --params {params.settings:q} --output {output.shard:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"
