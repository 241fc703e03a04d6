"""Masks: object masks by the run's rule, and beside them those of baselines."""

if CONFIG.features.store:

    rule masks:
        input:
            features=of_part(FEATURES),
            manifest=lambda wildcards: (
                rules.manifest.output.manifest
                if folders.is_refined(wildcards.masks, CONFIG.masks)
                else []
            ),
        output:
            shards=of_part(MASK_SHARDS),
        log:
            f"{RUN}/logs/masks/{{masks}}/{{part}}.log",
        benchmark:
            f"{RUN}/benchmarks/masks/{{masks}}/{{part}}.tsv"
        group:
            "masks"
        conda:
            "../../envs/maskdistill.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=120,
        params:
            each=each_shard,
            features=one_of_each(FEATURES),
            shard=one_of_each(MASK_SHARDS),
            settings=lambda wildcards: mask_settings(wildcards.masks),
            pictures=lambda wildcards, input: (
                f"--manifest {shlex.quote(str(input.manifest))} --shard {{shard}}"
                if folders.is_refined(wildcards.masks, CONFIG.masks)
                else ""
            ),
            code=lambda wildcards: code("masks") + folders.rule_code(wildcards.masks),
        message:
            "masks: shard {params.each}, {wildcards.masks}"
        shell:
            "maskdistill masks --each {params.each} --features {params.features:q}"
            " --params {params.settings:q} {params.pictures}"
            " --output {params.shard:q} --threads {threads} --log {log:q}"

else:
    DISTIL_SETTINGS = canonical_json(
        {
            "features": CONFIG.features.model_dump(mode="json"),
            "masks": CONFIG.masks.model_dump(mode="json"),
        }
    )

    rule masks:
        input:
            manifest=rules.manifest.output.manifest,
            weights=WEIGHTS["backbone"],
        output:
            shards=of_part(MASK_SHARDS),
        log:
            f"{RUN}/logs/masks/{{masks}}/{{part}}.log",
        benchmark:
            f"{RUN}/benchmarks/masks/{{masks}}/{{part}}.tsv"
        conda:
            "../../envs/maskdistill.yaml"
        threads: SHARD_THREADS
        resources:
            gpu=1,
            mem_mb=6000,
            runtime=240,
        params:
            settings=in_full(DISTIL_SETTINGS),
            shaping=shaping(DISTIL_SETTINGS),
            arch=CONFIG.backbone.arch,
            content=contents(WEIGHTS["backbone"]),
            weights=lambda wildcards, input: (
                input.weights[0] if input.weights else "random"
            ),
            each=each_shard,
            shard=one_of_each(MASK_SHARDS),
            code=code("distil") + folders.rule_code(MAIN["masks"]),
        message:
            "masks: shard {params.each} of {NUM_SHARDS}, straight from the pictures"
        shell:
            "maskdistill distil --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
            " --arch {params.arch}"
            " --weights {params.weights:q} --params {params.settings:q} --output {params.shard:q}"
            " --gpus {resources.gpu} --threads {threads} --log {log:q}"
