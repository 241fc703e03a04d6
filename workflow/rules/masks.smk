"""Masks: one object mask an image from the affinity graph."""


rule masks:
    input:
        features=rules.features.output.shard,
        manifest=rules.manifest.output.manifest,
    output:
        shard=f"{TOPK}/masks/shard-{{shard}}.json",
    log:
        f"{RUN}/logs/masks/topk-{{topk}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/masks/topk-{{topk}}/{{shard}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        settings=lambda wildcards: section("masks", topk=float(wildcards.topk)),
        code=code("masks.py", "rle.py", "cli/masks.py"),
    message:
        "masks: shard {wildcards.shard}, top-k {wildcards.topk}"
    shell:
        "maskdistill masks --features {input.features:q} --manifest {input.manifest:q}"
        " --params {params.settings:q} --output {output.shard:q} --threads {threads} --log {log:q}"
