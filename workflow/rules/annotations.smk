"""Annotations: masks and cluster ids as a COCO-format training file."""


rule annotations:
    input:
        manifest=rules.manifest.output.manifest,
        masks=RUN.all_shards(MASK_SHARDS),
        assignments=rules.clusters.output.assignments,
    output:
        annotations=f"{SEED}/annotations.json",
        index=f"{SEED}/annotations.h5",
    log:
        f"{RUN}/logs/annotations/{{masks}}/k-{{k}}/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/annotations/{{masks}}/k-{{k}}/seed-{{seed}}.tsv"
    group:
        "clusters"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        masks=RUN.braces(MASK_SHARDS),
        settings=SETTINGS.section("pseudo_annotations"),
        code=code("annotations"),
    message:
        "annotations: K = {wildcards.k}, seed {wildcards.seed}"
    shell:
        "maskdistill annotations --manifest {input.manifest:q} --masks {params.masks:q}"
        " --assignments {input.assignments:q} --num-clusters {wildcards.k} --params {params.settings:q}"
        " --output {output.annotations:q} --index {output.index:q} --threads {threads} --log {log:q}"
