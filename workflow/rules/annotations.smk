"""Annotations: masks and cluster ids as a COCO-format training file."""


rule annotations:
    input:
        manifest=rules.manifest.output.manifest,
        masks=all_shards(rules.masks.output.shard),
        clusters=rules.clusters.output.clusters,
    output:
        annotations=f"{SEED}/annotations.json",
    log:
        f"{RUN}/logs/annotations/topk-{{topk}}/k-{{k}}/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/annotations/topk-{{topk}}/k-{{k}}/seed-{{seed}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("annotations.py", "rle.py", "cli/annotations.py"),
    message:
        "annotations: K = {wildcards.k}, seed {wildcards.seed}"
    shell:
        "maskdistill annotations --manifest {input.manifest:q} --masks {input.masks:q}"
        " --clusters {input.clusters:q} --num-clusters {wildcards.k} --output {output.annotations:q}"
        " --threads {threads} --log {log:q}"
