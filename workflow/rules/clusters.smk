"""Clusters: CLS features of the masked images, and K-means over all of them."""

EMBEDDING_SETTINGS = canonical_json(
    CONFIG.clusters.model_dump(mode="json", include=EMBEDDING_KEYS)
)


rule embeddings:
    input:
        manifest=rules.manifest.output.manifest,
        masks=of_part(MASK_SHARDS),
        weights=WEIGHTS["clusters"],
    output:
        shards=of_part(EMBEDDINGS),
    log:
        f"{RUN}/logs/embeddings/{{masks}}/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/embeddings/{{masks}}/{{part}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=6000,
        runtime=240,
    params:
        content=contents(WEIGHTS["clusters"]),
        settings=in_full(EMBEDDING_SETTINGS),
        shaping=shaping(EMBEDDING_SETTINGS),
        each=each_shard,
        shard=one_of_each(EMBEDDINGS),
        masks=one_of_each(MASK_SHARDS),
        arch=NETWORKS["clusters"].arch,
        weights=lambda wildcards, input: input.weights[0] if input.weights else "random",
        code=code("embeddings"),
    message:
        "embeddings: shard {params.each}, {wildcards.masks}"
    shell:
        "maskdistill embeddings --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --masks {params.masks:q}"
        " --arch {params.arch} --weights {params.weights:q} --params {params.settings:q} --output {params.shard:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"


rule clusters:
    input:
        embeddings=all_shards(EMBEDDINGS),
        manifest=rules.manifest.output.manifest,
    output:
        clusters=f"{SEED}/clusters.json",
        centroids=f"{SEED}/clusters.npz",
        assignments=f"{SEED}/assignments.h5",
    log:
        f"{RUN}/logs/clusters/{{masks}}/k-{{k}}/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/clusters/{{masks}}/k-{{k}}/seed-{{seed}}.tsv"
    group:
        "clusters"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=120,
    params:
        embeddings=braces(EMBEDDINGS),
        settings=lambda wildcards: clusters_settings(int(wildcards.k)),
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
        embeddings=all_shards(EMBEDDINGS),
        manifest=rules.manifest.output.manifest,
    output:
        scores=f"{MASKS}/choose_k.csv",
    log:
        f"{RUN}/logs/choose_k/{{masks}}.log",
    benchmark:
        f"{RUN}/benchmarks/choose_k/{{masks}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        embeddings=braces(EMBEDDINGS),
        settings=clusters_settings(CONFIG.clusters.total, CONFIG.clusters.candidates_k),
        seed=CONFIG.seeds[0],
        code=code("choose_k"),
    message:
        "choose_k: numbers of clusters compared without labels, {wildcards.masks}"
    shell:
        "maskdistill choose_k --embeddings {params.embeddings:q} --manifest {input.manifest:q}"
        " --seed {params.seed} --params {params.settings:q} --output {output.scores:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"
