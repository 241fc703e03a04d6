"""Evaluation: the only rules that read ground truth, after each of masks, detector and segmenter."""

if RUN.has_ground_truth:

    rule evaluate_masks:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            masks=RUN.all_shards(MASK_SHARDS),
            assignments=rules.clusters.output.assignments,
        output:
            scores=f"{SEED}/evaluation/masks.json",
        log:
            f"{RUN}/logs/evaluation/{{masks}}/k-{{k}}/seed-{{seed}}/masks.log",
        benchmark:
            f"{RUN}/benchmarks/evaluation/{{masks}}/k-{{k}}/seed-{{seed}}/masks.tsv"
        threads: 8
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            masks=RUN.braces(MASK_SHARDS),
            settings=SETTINGS.section("evaluation"),
            code=code("evaluation"),
        message:
            "evaluation: masks, {wildcards.masks}, seed {wildcards.seed}"
        shell:
            "maskdistill evaluation --stage masks --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json --masks {params.masks:q}"
            " --assignments {input.assignments:q} --num-clusters {wildcards.k} --seed {wildcards.seed}"
            " --params {params.settings:q} --output {output.scores:q} --threads {threads} --log {log:q}"

    rule evaluate_detector:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            candidates=RUN.all_shards(CANDIDATES),
            labels=RUN.all_shards(PSEUDO_LABELS),
        output:
            scores=f"{TAU}/evaluation/detector.json",
        log:
            f"{RUN}/logs/evaluation/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/tau-{{tau}}/detector.log",
        benchmark:
            f"{RUN}/benchmarks/evaluation/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/tau-{{tau}}/detector.tsv"
        threads: 8
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            candidates=RUN.braces(CANDIDATES),
            labels=RUN.braces(PSEUDO_LABELS),
            settings=SETTINGS.section("evaluation"),
            code=code("evaluation"),
        message:
            "evaluation: detector, tau {wildcards.tau}, seed {wildcards.seed}"
        shell:
            "maskdistill evaluation --stage detector --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json --candidates {params.candidates:q}"
            " --label-dirs {params.labels:q} --num-clusters {wildcards.k} --seed {wildcards.seed}"
            " --params {params.settings:q} --output {output.scores:q} --threads {threads} --log {log:q}"

    rule evaluate_segmenter:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            labels=RUN.all_shards(PREDICTIONS),
        output:
            scores=f"{ROUND}/evaluation/segmenter{{post}}.json",
        log:
            f"{RUN}/logs/evaluation/{layout.ROUND}/segmenter{{post}}.log",
        benchmark:
            f"{RUN}/benchmarks/evaluation/{layout.ROUND}/segmenter{{post}}.tsv"
        group:
            "report"
        threads: 8
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            labels=RUN.braces(PREDICTIONS),
            settings=SETTINGS.section("evaluation"),
            code=code("evaluation"),
        message:
            "evaluation: segmenter{wildcards.post}, CRF round {wildcards.round}, tau {wildcards.tau}, "
            "seed {wildcards.seed}"
        shell:
            "maskdistill evaluation --stage segmenter{wildcards.post} --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json --label-dirs {params.labels:q}"
            " --num-clusters {wildcards.k} --seed {wildcards.seed}"
            " --params {params.settings:q} --output {output.scores:q} --threads {threads} --log {log:q}"

    rule evaluate_candidates:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            candidates=RUN.all_shards(CANDIDATES),
        output:
            scores=f"{TRAINED}/evaluation/candidates.json",
        log:
            f"{RUN}/logs/evaluation/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/candidates.log",
        benchmark:
            f"{RUN}/benchmarks/evaluation/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/candidates.tsv"
        threads: 8
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            candidates=RUN.braces(CANDIDATES),
            settings=canonical_json(
                {
                    "pseudo_labels": SETTINGS.painting(),
                    "evaluation": CONFIG.evaluation.model_dump(include={"matching"}),
                }
            ),
            code=code("candidate_quality"),
        message:
            "evaluation: candidates at every threshold, seed {wildcards.seed}"
        shell:
            "maskdistill candidate_quality --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json --candidates {params.candidates:q}"
            " --num-clusters {wildcards.k} --params {params.settings:q} --output {output.scores:q}"
            " --threads {threads} --log {log:q}"

    rule baselines:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
        output:
            scores=f"{RUN}/baselines/k-{{k}}.json",
        log:
            f"{RUN}/logs/baselines/k-{{k}}.log",
        benchmark:
            f"{RUN}/benchmarks/baselines/k-{{k}}.tsv"
        group:
            "report"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            settings=SETTINGS.section("evaluation"),
            seed=CONFIG.seeds[0],
            code=code("baselines"),
        message:
            "baselines: clustering of colours"
        shell:
            "maskdistill baselines --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json"
            " --num-clusters {wildcards.k} --seed {params.seed} --params {params.settings:q}"
            " --output {output.scores:q} --threads {threads} --log {log:q}"
