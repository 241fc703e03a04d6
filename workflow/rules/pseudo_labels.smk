"""Pseudo-labels: confident candidates become one label map an image."""


rule pseudo_labels:
    input:
        manifest=rules.manifest.output.manifest,
        candidates=rules.candidates.output.shard,
    output:
        labels=directory(f"{TAU}/pseudo_labels/shard-{{shard}}"),
    log:
        f"{RUN}/logs/pseudo_labels/topk-{{topk}}/k-{{k}}/seed-{{seed}}/tau-{{tau}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/pseudo_labels/topk-{{topk}}/k-{{k}}/seed-{{seed}}/tau-{{tau}}/{{shard}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        settings=lambda wildcards: section("pseudo_labels", tau=float(wildcards.tau)),
        number=lambda wildcards: int(wildcards.shard),
        code=code("pseudo_labels.py", "palette.py", "rle.py", "cli/pseudo_labels.py"),
    message:
        "pseudo_labels: shard {wildcards.shard}, tau {wildcards.tau}, seed {wildcards.seed}"
    shell:
        "maskdistill pseudo_labels --manifest {input.manifest:q} --shard {params.number}"
        " --candidates {input.candidates:q} --num-clusters {wildcards.k}"
        " --params {params.settings:q} --output {output.labels:q} --threads {threads} --log {log:q}"
