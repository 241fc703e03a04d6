"""Rows of the paper's Table 2 for frozen backbones: K-means of their features, and a linear probe on them.

Only for backbones in paper.backbones of the configuration. Both are evaluation: nothing else uses them.
"""

FROZEN = {backbone.folder: backbone for backbone in CONFIG.paper.backbones}

# As for the oracle: rules here inherit from these.
if FROZEN and RUN.has_ground_truth and not {"probe", "probe_predictions"} & EXCLUDED:
    BACKBONE = f"{RUN}/paper/backbones/{{backbone}}/seed-{{seed}}"
    FROZEN_PREDICTIONS = f"{BACKBONE}/{{head}}/predictions/shard-{{shard}}"
    FROZEN_NAME = BACKBONE.removeprefix(f"{RUN}/")
    with refusals():
        FROZEN_WEIGHTS = {
            name: RUN.begins_with(f"paper.backbones {name}", backbone)
            for name, backbone in FROZEN.items()
        }

    FROZEN_SETTINGS = lambda wildcards: SETTINGS.section(
        "segmenter",
        head="linear",
        arch=FROZEN[wildcards.backbone].arch,
        weights=RUN.weights_option(FROZEN_WEIGHTS[wildcards.backbone]),
    )

    wildcard_constraints:
        backbone="|".join(map(re.escape, FROZEN)),
        head="segmenter|probe",

    rule frozen:
        input:
            manifest=rules.manifest.output.manifest,
            weights=lambda wildcards: FROZEN_WEIGHTS[wildcards.backbone],
        output:
            model=f"{BACKBONE}/segmenter/model.safetensors",
        log:
            f"{RUN}/logs/{FROZEN_NAME}/frozen.log",
        benchmark:
            f"{RUN}/benchmarks/{FROZEN_NAME}/frozen.tsv"
        threads: 8
        resources:
            gpu=1,
            mem_mb=16000,
            runtime=480,
        params:
            content=lambda wildcards: RUN.contents(FROZEN_WEIGHTS[wildcards.backbone]),
            settings=in_full(FROZEN_SETTINGS),
            shaping=shaping(FROZEN_SETTINGS),
            k=CONFIG.clusters.num_clusters,
            code=code("frozen"),
        message:
            "frozen: clusters of {wildcards.backbone}'s features, seed {wildcards.seed}"
        shell:
            "maskdistill frozen --manifest {input.manifest:q} --num-clusters {params.k}"
            " --seed {wildcards.seed}"
            " --params {params.settings:q} --output {output.model:q}"
            " --gpus {resources.gpu} --threads {threads} --log {log:q}"

    use rule probe as frozen_probe with:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth_train.output.truth,
            model=rules.frozen.output.model,
        output:
            model=f"{BACKBONE}/probe/model.safetensors",
            metrics=f"{BACKBONE}/probe/metrics.csv",
        log:
            f"{RUN}/logs/{FROZEN_NAME}/probe.log",
        benchmark:
            f"{RUN}/benchmarks/{FROZEN_NAME}/probe.tsv"
        params:
            settings=in_full(SETTINGS.section("probe")),
            shaping=shaping(SETTINGS.section("probe")),
            state=RUN.at(f"{BACKBONE}/probe.state"),
            code=PROBE_CODE,
        message:
            f"frozen_probe: {{wildcards.backbone}}, {CONFIG.probe.epochs} epochs, seed {{wildcards.seed}}"

    use rule probe_predictions as frozen_predictions with:
        input:
            manifest=rules.manifest.output.manifest,
            model=f"{BACKBONE}/{{head}}/model.safetensors",
        output:
            labels=[directory(path) for path in RUN.of_part(FROZEN_PREDICTIONS)],
        log:
            f"{RUN}/logs/{FROZEN_NAME}/{{head}}/{{part}}.log",
        benchmark:
            f"{RUN}/benchmarks/{FROZEN_NAME}/{{head}}/{{part}}.tsv"
        resources:
            gpu=1,
            mem_mb=8000,
            runtime=240,
        params:
            each=RUN.each_shard,
            crf="",
            images=PREDICTED,
            listing=scored_listing(CONFIG),
            code=code("predictions", "segmenter/crf.py"),
        message:
            "frozen_predictions: {wildcards.backbone}, {wildcards.head}, shard {params.each}, "
            "seed {wildcards.seed}"

    rule evaluate_frozen:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            labels=RUN.all_shards(FROZEN_PREDICTIONS),
        output:
            scores=f"{BACKBONE}/evaluation/{{head}}.json",
        log:
            f"{RUN}/logs/{FROZEN_NAME}/evaluation/{{head}}.log",
        benchmark:
            f"{RUN}/benchmarks/{FROZEN_NAME}/evaluation/{{head}}.tsv"
        threads: 8
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            labels=RUN.braces(FROZEN_PREDICTIONS),
            k=CONFIG.clusters.num_clusters,
            # No label stands for the background, so matching bg_fixed does not apply.
            settings=SETTINGS.section("evaluation", matching="iou"),
            code=code("evaluation"),
        message:
            "evaluation: frozen {wildcards.backbone}, {wildcards.head}, seed {wildcards.seed}"
        shell:
            "maskdistill evaluation --stage {wildcards.head} --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json --label-dirs {params.labels:q}"
            " --num-clusters {params.k} --seed {wildcards.seed}"
            " --params {params.settings:q} --output {output.scores:q} --threads {threads} --log {log:q}"
