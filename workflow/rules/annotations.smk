"""Annotations: masks and cluster ids as a COCO-format training file, and those of rounds of self-training."""

from maskdistill.config.roles import round_settings


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


# A round starts from the files of the one before: its annotations, and the candidates of the detector that
# was trained on them.
rule self_annotations:
    input:
        manifest=rules.manifest.output.manifest,
        annotations=RUN.of_round_before(ANNOTATIONS),
        index=RUN.of_round_before(ANNOTATION_INDEX),
        candidates=RUN.of_round_before(CANDIDATES),
    output:
        annotations=ANNOTATIONS,
        index=ANNOTATION_INDEX,
    log:
        f"{RUN}/logs/self_annotations/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}.log",
    benchmark:
        f"{RUN}/benchmarks/self_annotations/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}.tsv"
    wildcard_constraints:
        trained=r"[/]round-[1-9]\d*",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        candidates=RUN.braces_before(CANDIDATES),
        settings=canonical_json(round_settings(CONFIG.detector)),
        code=code("self_annotations"),
    message:
        "self_annotations: K = {wildcards.k}, seed {wildcards.seed}{wildcards.trained}"
    shell:
        "maskdistill self_annotations --manifest {input.manifest:q} --annotations {input.annotations:q}"
        " --index {input.index:q} --candidates {params.candidates:q} --params {params.settings:q}"
        " --output {output.annotations:q} --output-index {output.index:q} --threads {threads} --log {log:q}"
