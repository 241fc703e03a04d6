"""Clusters: CLS features of the masked images, and K-means over all of them."""


rule embeddings:
    input:
        manifest=rules.manifest.output.manifest,
        masks=RUN.of_part(MASK_SHARDS),
        weights=WEIGHTS["clusters"],
    output:
        shards=RUN.of_part(EMBEDDINGS),
    log:
        f"{RUN}/logs/embeddings/{{masks}}/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/embeddings/{{masks}}/{{part}}.tsv"
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=6000,
        runtime=240,
    params:
        content=RUN.contents(WEIGHTS["clusters"]),
        settings=in_full(SETTINGS.embeddings()),
        shaping=shaping(SETTINGS.embeddings()),
        each=RUN.each_shard,
        arch=NETWORKS["clusters"].arch,
        weights=lambda wildcards, input: input.weights[0] if input.weights else "random",
        code=code("embeddings"),
    message:
        "embeddings: shard {params.each}, {wildcards.masks}"
    shell:
        "maskdistill embeddings --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --masks {input.masks:q}"
        " --arch {params.arch} --weights {params.weights:q} --params {params.settings:q}"
        " --output {output.shards:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"


rule clusters:
    input:
        embeddings=RUN.all_shards(EMBEDDINGS),
        manifest=rules.manifest.output.manifest,
    output:
        clusters=f"{RUN}/{layout.CLUSTERS}",
        centroids=f"{SEED}/clusters.npz",
        assignments=f"{SEED}/assignments.h5",
    log:
        f"{RUN}/logs/clusters/{{masks}}/k-{{k}}/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/clusters/{{masks}}/k-{{k}}/seed-{{seed}}.tsv"
    group:
        "clusters"
    threads: 8
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=120,
    params:
        embeddings=RUN.braces(EMBEDDINGS),
        settings=lambda wildcards: SETTINGS.clusters(int(wildcards.k)),
        code=code("clusters"),
    message:
        "clusters: K-means, {wildcards.masks}, K = {wildcards.k}, seed {wildcards.seed}"
    shell:
        "maskdistill clusters --embeddings {params.embeddings:q} --manifest {input.manifest:q}"
        " --num-clusters {wildcards.k} --seed {wildcards.seed} --params {params.settings:q}"
        " --output {output.clusters:q} --assignments {output.assignments:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"


rule choose_k:
    input:
        embeddings=RUN.all_shards(EMBEDDINGS),
        manifest=rules.manifest.output.manifest,
    output:
        scores=f"{MASKS}/choose_k.csv",
    log:
        f"{RUN}/logs/choose_k/{{masks}}.log",
    benchmark:
        f"{RUN}/benchmarks/choose_k/{{masks}}.tsv"
    threads: 8
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        embeddings=RUN.braces(EMBEDDINGS),
        settings=SETTINGS.clusters(CONFIG.clusters.total, CONFIG.clusters.candidates_k),
        seed=CONFIG.seeds[0],
        code=code("choose_k"),
    message:
        "choose_k: numbers of clusters compared without labels, {wildcards.masks}"
    shell:
        "maskdistill choose_k --embeddings {params.embeddings:q} --manifest {input.manifest:q}"
        " --seed {params.seed} --params {params.settings:q} --output {output.scores:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"
