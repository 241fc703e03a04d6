"""Masks: object masks by the run's rule and by the baselines."""

if CONFIG.features.store:

    rule masks:
        input:
            features=RUN.features_behind(FEATURES),
            manifest=lambda wildcards: (
                rules.manifest.output.manifest
                if mask_folders.is_refined(wildcards.masks, CONFIG.masks)
                else []
            ),
        output:
            shards=RUN.of_part(MASK_SHARDS),
        log:
            f"{RUN}/logs/masks/{{masks}}/{{part}}.log",
        benchmark:
            f"{RUN}/benchmarks/masks/{{masks}}/{{part}}.tsv"
        group:
            "masks"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=120,
        params:
            each=RUN.each_shard,
            settings=lambda wildcards: SETTINGS.masks(wildcards.masks),
            pictures=lambda wildcards, input: (
                f"--manifest {shlex.quote(str(input.manifest))} --shard {{shard}}"
                if mask_folders.is_refined(wildcards.masks, CONFIG.masks)
                else ""
            ),
            code=lambda wildcards: code("masks")
            + mask_folders.rule_code(wildcards.masks),
        message:
            "masks: shard {params.each}, {wildcards.masks}"
        shell:
            "maskdistill masks --each {params.each} --features {input.features:q}"
            " --params {params.settings:q} {params.pictures}"
            " --output {output.shards:q} --threads {threads} --log {log:q}"

else:

    rule masks:
        input:
            manifest=rules.manifest.output.manifest,
            weights=WEIGHTS["backbone"],
        output:
            shards=RUN.of_part(MASK_SHARDS),
        log:
            f"{RUN}/logs/masks/{{masks}}/{{part}}.log",
        benchmark:
            f"{RUN}/benchmarks/masks/{{masks}}/{{part}}.tsv"
        threads: SHARD_THREADS
        resources:
            gpu=1,
            mem_mb=6000,
            runtime=240,
        params:
            settings=in_full(SETTINGS.distil()),
            shaping=shaping(SETTINGS.distil()),
            arch=CONFIG.backbone.arch,
            content=RUN.contents(WEIGHTS["backbone"]),
            weights=lambda wildcards, input: (
                input.weights[0] if input.weights else "random"
            ),
            each=RUN.each_shard,
            code=code("distil") + mask_folders.rule_code(RUN.main["masks"]),
        message:
            f"masks: shard {{params.each}} of {RUN.num_shards}, directly from the pictures"
        shell:
            "maskdistill distil --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
            " --arch {params.arch}"
            " --weights {params.weights:q} --params {params.settings:q} --output {output.shards:q}"
            " --gpus {resources.gpu} --threads {threads} --log {log:q}"
