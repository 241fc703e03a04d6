"""Target `snakemake oracle`: what each stage would reach if all before it were perfect, one at a time, on one
page.

Ground truth replaces masks, categories or label maps, and the run's own stages continue from there, in a
separate folder. All rules whose names begin with `oracle` are evaluation: nothing else is made from their
outputs.
"""

# Rules that those of the oracle inherit from. If a workflow that uses this one as a module excludes one,
# Snakemake cannot make its heir (snakemake/snakemake#4148), so the whole oracle is left out.
INHERITED = {
    "embeddings",
    "clusters",
    "annotations",
    "self_annotations",
    "detector",
    "candidates",
    "pseudo_labels",
    "segmenter",
    "predictions",
    "evaluate_masks",
    "evaluate_detector",
    "evaluate_segmenter",
}

if RUN.has_ground_truth and not INHERITED & EXCLUDED:
    ORACLE_MANIFEST = f"{RUN}/{layout.ORACLE}/manifest.csv"
    ORACLE_TRUTH = f"{RUN}/oracle/groundtruth"
    FOUND_MASKS = MASK_SHARDS.replace(layout.MASKS, RUN.main["masks"])
    ORACLE_MASKS = RUN.of_oracle(MASK_SHARDS)
    ORACLE_CANDIDATES = RUN.of_oracle(CANDIDATES)
    ORACLE_LABELS = RUN.of_oracle(PSEUDO_LABELS)
    ORACLE_PREDICTIONS = RUN.of_oracle(PREDICTIONS)
    ORACLE_ASSIGNMENTS = RUN.of_oracle(rules.clusters.output.assignments)
    ORACLE_LOGS = f"{RUN}/logs/{layout.ORACLE}"
    ORACLE_TIMES = f"{RUN}/benchmarks/{layout.ORACLE}"
    AT_SEED = layout.SEED.removeprefix(layout.MASKS).strip("/")
    AT_TRAINED = layout.TRAINED.removeprefix(layout.MASKS).strip("/")
    AT_TAU = layout.TAU.removeprefix(layout.MASKS).strip("/")
    AT_ROUND = layout.ROUND.removeprefix(layout.MASKS).strip("/")

    wildcard_constraints:
        case="masks|objects|categories|annotations|labels",

    rule oracle_truth:
        input:
            manifest=rules.manifest.output.manifest,
            annotations=RUN.annotations,
            built=TRUTH_RECORD if CONFIG.datasets.build else [],
        output:
            truth=directory(ORACLE_TRUTH),
        log:
            f"{RUN}/logs/oracle/truth.log",
        benchmark:
            f"{RUN}/benchmarks/oracle/truth.tsv"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            settings=SETTINGS.section("data"),
            listing=TRUTH_LISTING,
            content=RUN.contents(RUN.annotations),
            code=source_code("ground_truth", CONFIG),
        message:
            "oracle_truth: labels of all images, only for the oracle"
        shell:
            "maskdistill ground_truth --images all --params {params.settings:q}"
            " --manifest {input.manifest:q} --output {output.truth:q} --threads {threads} --log {log:q}"

    rule oracle_manifest:
        input:
            manifest=rules.manifest.output.manifest,
            truth=rules.oracle_truth.output.truth,
        output:
            manifest=ORACLE_MANIFEST,
            index=f"{RUN}/{layout.ORACLE}/manifest.index.json",
            quarantined=f"{RUN}/{layout.ORACLE}/manifest.quarantined.csv",
        log:
            f"{ORACLE_LOGS}/manifest.log",
        benchmark:
            f"{ORACLE_TIMES}/manifest.tsv"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=60,
        params:
            code=code("oracle_manifest"),
        message:
            "oracle_manifest: {wildcards.case}"
        shell:
            "maskdistill oracle_manifest --manifest {input.manifest:q}"
            " --ground-truth {input.truth:q}/instances.json --case {wildcards.case}"
            " --output {output.manifest:q} --threads {threads} --log {log:q}"

    rule oracle_masks:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            truth=rules.oracle_truth.output.truth,
            masks=RUN.of_part(FOUND_MASKS),
        output:
            shards=RUN.of_part(ORACLE_MASKS),
        log:
            f"{ORACLE_LOGS}/masks/{{part}}.log",
        benchmark:
            f"{ORACLE_TIMES}/masks/{{part}}.tsv"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            each=RUN.each_shard,
            code=code("oracle_masks"),
        message:
            "oracle_masks: shard {params.each}, {wildcards.case}"
        shell:
            "maskdistill oracle_masks --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
            " --ground-truth {input.truth:q}/instances.json --masks {input.masks:q} --case {wildcards.case}"
            " --output {output.shards:q} --threads {threads} --log {log:q}"

    rule oracle_categories:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            masks=RUN.all_shards(ORACLE_MASKS),
        output:
            assignments=ORACLE_ASSIGNMENTS,
        log:
            f"{ORACLE_LOGS}/categories/{AT_SEED}.log",
        benchmark:
            f"{ORACLE_TIMES}/categories/{AT_SEED}.tsv"
        wildcard_constraints:
            case="categories|annotations",
        threads: 1
        resources:
            mem_mb=4000,
            runtime=60,
        params:
            masks=RUN.braces(ORACLE_MASKS),
            code=code("oracle_categories"),
        message:
            "oracle_categories: {wildcards.case}, seed {wildcards.seed}"
        shell:
            "maskdistill oracle_categories --manifest {input.manifest:q} --masks {params.masks:q}"
            " --num-clusters {wildcards.k} --output {output.assignments:q} --threads {threads} --log {log:q}"

    use rule embeddings as oracle_embeddings with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            masks=RUN.of_part(ORACLE_MASKS),
            weights=WEIGHTS["clusters"],
        output:
            shards=RUN.of_part(RUN.of_oracle(EMBEDDINGS)),
        log:
            f"{ORACLE_LOGS}/embeddings/{{part}}.log",
        benchmark:
            f"{ORACLE_TIMES}/embeddings/{{part}}.tsv"
        message:
            "oracle_embeddings: shard {params.each}, {wildcards.case}"

    use rule clusters as oracle_clusters with:
        input:
            embeddings=RUN.all_shards(RUN.of_oracle(EMBEDDINGS)),
            manifest=rules.oracle_manifest.output.manifest,
        output:
            clusters=RUN.of_oracle(rules.clusters.output.clusters),
            centroids=RUN.of_oracle(rules.clusters.output.centroids),
            assignments=ORACLE_ASSIGNMENTS,
        log:
            f"{ORACLE_LOGS}/clusters/{AT_SEED}.log",
        benchmark:
            f"{ORACLE_TIMES}/clusters/{AT_SEED}.tsv"
        wildcard_constraints:
            case="|".join(targets.CLUSTERED),
        params:
            embeddings=RUN.braces(RUN.of_oracle(EMBEDDINGS)),
        message:
            "oracle_clusters: K-means, {wildcards.case}, K = {wildcards.k}, seed {wildcards.seed}"

    use rule annotations as oracle_annotations with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            masks=RUN.all_shards(ORACLE_MASKS),
            assignments=ORACLE_ASSIGNMENTS,
        output:
            annotations=RUN.of_oracle(rules.annotations.output.annotations),
            index=RUN.of_oracle(rules.annotations.output.index),
        log:
            f"{ORACLE_LOGS}/annotations/{AT_SEED}.log",
        benchmark:
            f"{ORACLE_TIMES}/annotations/{AT_SEED}.tsv"
        params:
            masks=RUN.braces(ORACLE_MASKS),
        message:
            "oracle_annotations: {wildcards.case}, K = {wildcards.k}, seed {wildcards.seed}"

    use rule self_annotations as oracle_self_annotations with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            annotations=RUN.of_round_before(RUN.of_oracle(ANNOTATIONS)),
            index=RUN.of_round_before(RUN.of_oracle(ANNOTATION_INDEX)),
            candidates=RUN.of_round_before(ORACLE_CANDIDATES),
        output:
            annotations=RUN.of_oracle(ANNOTATIONS),
            index=RUN.of_oracle(ANNOTATION_INDEX),
        log:
            f"{ORACLE_LOGS}/self_annotations/{AT_TRAINED}.log",
        benchmark:
            f"{ORACLE_TIMES}/self_annotations/{AT_TRAINED}.tsv"
        params:
            candidates=RUN.braces_before(ORACLE_CANDIDATES),
        message:
            "oracle_self_annotations: {wildcards.case}, seed {wildcards.seed}{wildcards.trained}"

    use rule detector as oracle_detector with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            annotations=RUN.of_oracle(ANNOTATIONS),
            index=RUN.of_oracle(ANNOTATION_INDEX),
            weights=WEIGHTS["detector"],
            start=RUN.of_round_before_if_any(RUN.of_oracle(rules.detector.output.model)),
        output:
            model=RUN.of_oracle(rules.detector.output.model),
            metrics=RUN.of_oracle(rules.detector.output.metrics),
        log:
            f"{ORACLE_LOGS}/detector/{AT_TRAINED}.log",
        benchmark:
            f"{ORACLE_TIMES}/detector/{AT_TRAINED}.tsv"
        params:
            state=RUN.at(RUN.of_oracle(f"{TRAINED}/detector.state")),
        message:
            "oracle_detector: Mask R-CNN, {wildcards.case}, seed {wildcards.seed}{wildcards.trained}"

    use rule candidates as oracle_candidates with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            model=rules.oracle_detector.output.model,
        output:
            shards=RUN.of_part(ORACLE_CANDIDATES),
        log:
            f"{ORACLE_LOGS}/candidates/{AT_TRAINED}/{{part}}.log",
        benchmark:
            f"{ORACLE_TIMES}/candidates/{AT_TRAINED}/{{part}}.tsv"
        message:
            "oracle_candidates: shard {params.each}, {wildcards.case}, "
            "seed {wildcards.seed}{wildcards.trained}"

    use rule pseudo_labels as oracle_pseudo_labels with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            candidates=RUN.of_part(ORACLE_CANDIDATES),
        output:
            labels=[directory(path) for path in RUN.of_part(ORACLE_LABELS)],
        log:
            f"{ORACLE_LOGS}/pseudo_labels/{AT_TAU}/{{part}}.log",
        benchmark:
            f"{ORACLE_TIMES}/pseudo_labels/{AT_TAU}/{{part}}.tsv"
        message:
            "oracle_pseudo_labels: shard {params.each}, {wildcards.case}, seed {wildcards.seed}"

    use rule segmenter as oracle_segmenter with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            labels=lambda wildcards: (
                ORACLE_TRUTH
                if wildcards.case == "labels"
                else RUN.all_shards(ORACLE_LABELS)(wildcards)
            ),
            weights=WEIGHTS["segmenter"],
        output:
            model=RUN.of_oracle(rules.segmenter.output.model),
            metrics=RUN.of_oracle(rules.segmenter.output.metrics),
        log:
            f"{ORACLE_LOGS}/segmenter/{AT_ROUND}.log",
        benchmark:
            f"{ORACLE_TIMES}/segmenter/{AT_ROUND}.tsv"
        params:
            labels=lambda wildcards: (
                RUN.at(f"{ORACLE_TRUTH}/semantic")
                if wildcards.case == "labels"
                else RUN.braces(ORACLE_LABELS)(wildcards)
            ),
            state=RUN.at(RUN.of_oracle(f"{ROUND}/segmenter.state")),
        message:
            "oracle_segmenter: DeepLab-v3, {wildcards.case}, seed {wildcards.seed}"

    use rule predictions as oracle_predictions with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            model=rules.oracle_segmenter.output.model,
        output:
            labels=[directory(path) for path in RUN.of_part(ORACLE_PREDICTIONS)],
        log:
            f"{ORACLE_LOGS}/predictions{{post}}/{AT_ROUND}/{{part}}.log",
        benchmark:
            f"{ORACLE_TIMES}/predictions{{post}}/{AT_ROUND}/{{part}}.tsv"
        message:
            "oracle_predictions: shard {params.each}, {wildcards.case}, seed {wildcards.seed}"

    use rule evaluate_masks as oracle_evaluate_masks with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            masks=RUN.all_shards(ORACLE_MASKS),
            assignments=ORACLE_ASSIGNMENTS,
        output:
            scores=RUN.of_oracle(rules.evaluate_masks.output.scores),
        log:
            f"{ORACLE_LOGS}/evaluation/{AT_SEED}/masks.log",
        benchmark:
            f"{ORACLE_TIMES}/evaluation/{AT_SEED}/masks.tsv"
        params:
            masks=RUN.braces(ORACLE_MASKS),
        message:
            "oracle_evaluation: masks, {wildcards.case}, seed {wildcards.seed}"

    use rule evaluate_detector as oracle_evaluate_detector with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            candidates=RUN.all_shards(ORACLE_CANDIDATES),
            labels=RUN.all_shards(ORACLE_LABELS),
        output:
            scores=RUN.of_oracle(rules.evaluate_detector.output.scores),
        log:
            f"{ORACLE_LOGS}/evaluation/{AT_TAU}/detector.log",
        benchmark:
            f"{ORACLE_TIMES}/evaluation/{AT_TAU}/detector.tsv"
        params:
            candidates=RUN.braces(ORACLE_CANDIDATES),
            labels=RUN.braces(ORACLE_LABELS),
        message:
            "oracle_evaluation: detector, {wildcards.case}, seed {wildcards.seed}"

    use rule evaluate_segmenter as oracle_evaluate_segmenter with:
        input:
            manifest=rules.oracle_manifest.output.manifest,
            truth=rules.ground_truth.output.truth,
            labels=RUN.all_shards(ORACLE_PREDICTIONS),
        output:
            scores=RUN.of_oracle(rules.evaluate_segmenter.output.scores),
        log:
            f"{ORACLE_LOGS}/evaluation/{AT_ROUND}/segmenter{{post}}.log",
        benchmark:
            f"{ORACLE_TIMES}/evaluation/{AT_ROUND}/segmenter{{post}}.tsv"
        params:
            labels=RUN.braces(ORACLE_PREDICTIONS),
        message:
            "oracle_evaluation: segmenter, {wildcards.case}, seed {wildcards.seed}"

    rule oracle:
        input:
            manifest=rules.manifest.output.manifest,
            manifests=expand(ORACLE_MANIFEST, case=CONFIG.oracle.cases),
            own=RUN.of_run(rules.evaluate_masks.output.scores)
            + RUN.of_run(rules.evaluate_detector.output.scores)
            + RUN.of_run(rules.evaluate_segmenter.output.scores, round=0),
            perfect=lambda wildcards: targets.oracle_scores(
                RUN,
                rules.oracle_evaluate_masks.output.scores,
                rules.oracle_evaluate_detector.output.scores,
                rules.oracle_evaluate_segmenter.output.scores,
            ),
        output:
            page=report(
                f"{RUN}/oracle.html",
                category="Run",
                caption="../report/oracle.rst",
            ),
            summary=f"{RUN}/oracle.json",
            csv=f"{RUN}/oracle.csv",
        log:
            f"{RUN}/logs/oracle/page.log",
        benchmark:
            f"{RUN}/benchmarks/oracle/page.tsv"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            settings=SETTINGS.sections_but(
                "objects", "ablations", "bench", "paper", "report", "sweep"
            ),
            name=CONFIG.run,
            code=code("oracle"),
        message:
            "oracle: {output.page}"
        shell:
            "maskdistill oracle --run-name {params.name} --config {params.settings:q}"
            " --manifest {input.manifest:q}"
            " --oracle-manifests {input.manifests:q} --evaluations {input.own:q} {input.perfect:q}"
            " --output {output.page:q} --summary {output.summary:q} --csv {output.csv:q}"
            " --threads {threads} --log {log:q}"

elif not RUN.has_ground_truth:
    with refusals():
        targets.need_ground_truth(ASKED & {"oracle"}, CONFIG)
