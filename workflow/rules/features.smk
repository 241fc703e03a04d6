"""Features: CLS query and patch keys of the last attention block."""


rule features:
    input:
        manifest=rules.manifest.output.manifest,
        weights=WEIGHTS["backbone"],
    output:
        shards=of_part(FEATURES),
    log:
        f"{RUN}/logs/features/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/features/{{part}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=6000,
        runtime=240,
    params:
        content=contents(WEIGHTS["backbone"]),
        settings=in_full(section("features")),
        shaping=shaping(section("features")),
        arch=CONFIG.backbone.arch,
        weights=lambda wildcards, input: input.weights[0] if input.weights else "random",
        each=each_shard,
        shard=one_of_each(FEATURES),
        code=code("features"),
    message:
        "features: shard {params.each} of {NUM_SHARDS}"
    shell:
        "maskdistill features --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --arch {params.arch}"
        " --weights {params.weights:q} --params {params.settings:q} --output {params.shard:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"
