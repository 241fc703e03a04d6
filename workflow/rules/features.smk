"""Features: CLS query and patch keys of the last attention block, by the run's backbone and by further ones
of the bench.
"""


rule features:
    input:
        manifest=rules.manifest.output.manifest,
        weights=lambda wildcards: BACKBONE_WEIGHTS[wildcards.at],
    output:
        shards=RUN.of_part(FEATURES),
    log:
        f"{RUN}/logs/features{{at}}/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/features{{at}}/{{part}}.tsv"
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=6000,
        runtime=240,
    params:
        content=lambda wildcards: RUN.contents(BACKBONE_WEIGHTS[wildcards.at]),
        settings=in_full(SETTINGS.section("features")),
        shaping=shaping(SETTINGS.section("features")),
        arch=lambda wildcards: BACKBONES[wildcards.at].arch,
        weights=lambda wildcards, input: input.weights[0] if input.weights else "random",
        each=RUN.each_shard,
        code=code("features"),
    message:
        f"features{{wildcards.at}}: shard {{params.each}} of {RUN.num_shards}"
    shell:
        "maskdistill features --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --arch {params.arch}"
        " --weights {params.weights:q} --params {params.settings:q} --output {output.shards:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"
