"""Pseudo-labels: confident candidates become one label map an image."""


rule pseudo_labels:
    input:
        manifest=rules.manifest.output.manifest,
        candidates=of_part(CANDIDATES),
    output:
        labels=[directory(path) for path in of_part(PSEUDO_LABELS)],
    log:
        f"{RUN}/logs/pseudo_labels/{{masks}}/k-{{k}}/seed-{{seed}}/tau-{{tau}}/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/pseudo_labels/{{masks}}/k-{{k}}/seed-{{seed}}/tau-{{tau}}/{{part}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: SHARD_THREADS
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        settings=lambda wildcards: label_settings(wildcards.tau),
        each=each_shard,
        shard=one_of_each(PSEUDO_LABELS),
        candidates=one_of_each(CANDIDATES),
        code=code("pseudo_labels"),
    message:
        "pseudo_labels: shard {params.each}, tau {wildcards.tau}, seed {wildcards.seed}"
    shell:
        "maskdistill pseudo_labels --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --candidates {params.candidates:q} --num-clusters {wildcards.k}"
        " --params {params.settings:q} --output {params.shard:q} --threads {threads} --log {log:q}"


rule label_summary:
    input:
        manifest=rules.manifest.output.manifest,
        candidates=all_shards(CANDIDATES),
    output:
        summary=f"{SEED}/label_summary.json",
    log:
        f"{RUN}/logs/label_summary/{{masks}}/k-{{k}}/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/label_summary/{{masks}}/k-{{k}}/seed-{{seed}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        candidates=braces(CANDIDATES),
        settings=canonical_json(
            CONFIG.pseudo_labels.model_dump(include={"compare", "overlap"})
        ),
        code=code("label_summary"),
    message:
        "label_summary: pseudo-labels at other thresholds, seed {wildcards.seed}"
    shell:
        "maskdistill label_summary --manifest {input.manifest:q} --candidates {params.candidates:q}"
        " --params {params.settings:q} --output {output.summary:q} --threads {threads} --log {log:q}"
