"""Pseudo-labels: confident candidates become one label map per image."""


rule pseudo_labels:
    input:
        manifest=rules.manifest.output.manifest,
        candidates=RUN.of_part(CANDIDATES),
    output:
        labels=[directory(path) for path in RUN.of_part(PSEUDO_LABELS)],
    log:
        f"{RUN}/logs/pseudo_labels/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/tau-{{tau}}/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/pseudo_labels/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/tau-{{tau}}/{{part}}.tsv"
    threads: SHARD_THREADS
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        settings=SETTINGS.labels,
        each=RUN.each_shard,
        code=code("pseudo_labels"),
    message:
        "pseudo_labels: shard {params.each}, tau {wildcards.tau}, seed {wildcards.seed}"
    shell:
        "maskdistill pseudo_labels --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --candidates {input.candidates:q} --num-clusters {wildcards.k}"
        " --params {params.settings:q} --output {output.labels:q} --threads {threads} --log {log:q}"


rule label_summary:
    input:
        manifest=rules.manifest.output.manifest,
        candidates=RUN.all_shards(CANDIDATES),
    output:
        summary=f"{TRAINED}/label_summary.json",
    log:
        f"{RUN}/logs/label_summary/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}.log",
    benchmark:
        f"{RUN}/benchmarks/label_summary/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}.tsv"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        candidates=RUN.braces(CANDIDATES),
        settings=canonical_json(SETTINGS.painting()),
        code=code("label_summary"),
    message:
        "label_summary: pseudo-labels at other thresholds, seed {wildcards.seed}"
    shell:
        "maskdistill label_summary --manifest {input.manifest:q} --candidates {params.candidates:q}"
        " --params {params.settings:q} --output {output.summary:q} --threads {threads} --log {log:q}"
