"""Linear probe: evaluation of the segmenter's features. The only rules in which labels train anything."""

with refusals():
    targets.check_probe(RUN)

if RUN.has_ground_truth:
    PROBE = f"{ROUND}/probe"
    PROBE_PREDICTIONS = f"{PROBE}/predictions{{post}}/shard-{{shard}}"
    PROBE_CODE = code("probe")

    rule ground_truth_train:
        input:
            manifest=rules.manifest.output.manifest,
            annotations=RUN.annotations,
            built=TRUTH_RECORD if CONFIG.datasets.build else [],
        output:
            truth=directory(f"{RUN}/data/groundtruth-train"),
        log:
            f"{RUN}/logs/ground_truth_train.log",
        benchmark:
            f"{RUN}/benchmarks/ground_truth_train.tsv"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            settings=SETTINGS.section("data"),
            listing=TRUTH_LISTING,
            code=source_code("ground_truth", CONFIG),
        message:
            "ground_truth_train: labels of training images, only for the linear probe"
        shell:
            "maskdistill ground_truth --images train --params {params.settings:q}"
            " --manifest {input.manifest:q} --output {output.truth:q} --threads {threads} --log {log:q}"

    rule probe:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth_train.output.truth,
            model=rules.segmenter.output.model,
        output:
            model=f"{PROBE}/model.safetensors",
            metrics=f"{PROBE}/metrics.csv",
        log:
            f"{RUN}/logs/probe/{layout.ROUND}.log",
        benchmark:
            f"{RUN}/benchmarks/probe/{layout.ROUND}.tsv"
        threads: 16
        resources:
            gpu=1,
            mem_mb=16000,
            runtime=2880,
        params:
            settings=in_full(SETTINGS.section("probe")),
            shaping=shaping(SETTINGS.section("probe")),
            state=RUN.at(f"{ROUND}/probe.state"),
            code=PROBE_CODE,
        message:
            f"probe: last layer on labels, {CONFIG.probe.epochs} epochs, seed {{wildcards.seed}}"
        shell:
            "maskdistill probe --manifest {input.manifest:q} --ground-truth {input.truth:q}/instances.json"
            " --model {input.model:q} --seed {wildcards.seed} --params {params.settings:q}"
            " --output {output.model:q} --metrics {output.metrics:q} --state {params.state:q}"
            " --gpus {resources.gpu} --threads {threads} --log {log:q}"

    rule probe_predictions:
        input:
            manifest=rules.manifest.output.manifest,
            model=rules.probe.output.model,
        output:
            labels=[directory(path) for path in RUN.of_part(PROBE_PREDICTIONS)],
        log:
            f"{RUN}/logs/probe_predictions{{post}}/{layout.ROUND}/{{part}}.log",
        benchmark:
            f"{RUN}/benchmarks/probe_predictions{{post}}/{layout.ROUND}/{{part}}.tsv"
        threads: SHARD_THREADS
        resources:
            gpu=1,
            mem_mb=lambda wildcards, threads: 8000
            + bool(wildcards.post) * 2000 * threads,
            runtime=lambda wildcards: 1440 if wildcards.post else 240,
        params:
            each=RUN.each_shard,
            crf=SETTINGS.crf_option,
            code=predictions_code,
            images=PREDICTED,
            listing=scored_listing(CONFIG),
        message:
            "probe_predictions{wildcards.post}: shard {params.each}, seed {wildcards.seed}"
        shell:
            "maskdistill predictions --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
            " --model {input.model:q} --images {params.images:q} {params.crf} --output {output.labels:q}"
            " --gpus {resources.gpu} --threads {threads} --log {log:q}"

    rule evaluate_probe:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            labels=RUN.all_shards(PROBE_PREDICTIONS),
        output:
            scores=f"{ROUND}/evaluation/probe{{post}}.json",
        log:
            f"{RUN}/logs/evaluation/{layout.ROUND}/probe{{post}}.log",
        benchmark:
            f"{RUN}/benchmarks/evaluation/{layout.ROUND}/probe{{post}}.tsv"
        threads: 8
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            labels=RUN.braces(PROBE_PREDICTIONS),
            settings=SETTINGS.section("evaluation"),
            code=code("evaluation"),
        message:
            "evaluation: linear probe{wildcards.post}, seed {wildcards.seed}"
        shell:
            "maskdistill evaluation --stage probe{wildcards.post} --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json --label-dirs {params.labels:q}"
            " --num-clusters {wildcards.k} --seed {wildcards.seed}"
            " --params {params.settings:q} --output {output.scores:q} --threads {threads} --log {log:q}"
