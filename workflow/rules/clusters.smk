"""Clusters: CLS features of the masked images, and K-means over all of them."""


rule embeddings:
    input:
        manifest=rules.manifest.output.manifest,
        masks=rules.masks.output.shard,
        weights=WEIGHTS["clusters"],
    output:
        shard=f"{TOPK}/embeddings/shard-{{shard}}.h5",
    log:
        f"{RUN}/logs/embeddings/topk-{{topk}}/{{shard}}.log",
    benchmark:
        f"{RUN}/benchmarks/embeddings/topk-{{topk}}/{{shard}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=6000,
        runtime=240,
    params:
        settings=canonical_json(
            {"input": CONFIG.clusters.input, "short_side": CONFIG.clusters.short_side}
        ),
        arch=NETWORKS["clusters"].arch,
        weights=lambda wildcards, input: input.weights[0] if input.weights else "random",
        code=code(
            "features.py",
            "store.py",
            "rle.py",
            "backbones/vit.py",
            "cli/embeddings.py",
        ),
    message:
        "embeddings: shard {wildcards.shard}, top-k {wildcards.topk}"
    shell:
        "maskdistill embeddings --manifest {input.manifest:q} --masks {input.masks:q} --arch {params.arch}"
        " --weights {params.weights:q} --params {params.settings:q} --output {output.shard:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"


rule clusters:
    input:
        embeddings=all_shards(rules.embeddings.output.shard),
        manifest=rules.manifest.output.manifest,
    output:
        clusters=f"{SEED}/clusters.json",
        centroids=f"{SEED}/clusters.npz",
    log:
        f"{RUN}/logs/clusters/topk-{{topk}}/k-{{k}}/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/clusters/topk-{{topk}}/k-{{k}}/seed-{{seed}}.tsv"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=120,
    params:
        settings=lambda wildcards: section("clusters", num_clusters=int(wildcards.k)),
        code=code("clusters.py", "store.py", "cli/clusters.py"),
    message:
        "clusters: K-means, K = {wildcards.k}, seed {wildcards.seed}"
    shell:
        "maskdistill clusters --embeddings {input.embeddings:q} --manifest {input.manifest:q}"
        " --num-clusters {wildcards.k} --seed {wildcards.seed} --params {params.settings:q}"
        " --output {output.clusters:q} --gpus {resources.gpu} --threads {threads} --log {log:q}"
