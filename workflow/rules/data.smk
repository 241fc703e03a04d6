"""Data: the list of images of a source, and apart from it the ground truth."""

if CONFIG.data.kind == "scenes":

    rule scenes:
        output:
            images=directory(f"{RUN}/data/scenes"),
        log:
            f"{RUN}/logs/scenes.log",
        benchmark:
            f"{RUN}/benchmarks/scenes.tsv"
        group:
            "data"
        conda:
            "../../envs/maskdistill.yaml"
        threads: 8
        resources:
            mem_mb=2000,
            runtime=60,
        params:
            settings=section("data"),
            code=code("scenes"),
        message:
            "scenes: generate {NUM_IMAGES} pictures"
        shell:
            "maskdistill scenes --params {params.settings:q} --output {output.images:q}"
            " --threads {threads} --log {log:q}"


if CONFIG.datasets.build:
    DATASETS = "resources/datasets"  # shared between runs, as what is built
    BUILD = CONFIG.datasets.build
    KEEP_ARCHIVES = "--keep-archives" if CONFIG.datasets.keep_archives else ""

    # As for weights: no code among the params, and a local rule, tried again. What is here already is only checked.
    rule dataset:
        output:
            record=update(f"{DATASETS}/{{dataset}}/dataset.json"),
        log:
            f"{RUN}/logs/dataset/{{dataset}}.log",
        benchmark:
            f"{RUN}/benchmarks/dataset/{{dataset}}.tsv"
        wildcard_constraints:
            dataset="|".join(BUILDS[BUILD]),
        retries: 3
        localrule: True
        conda:
            "../../envs/maskdistill.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=1440,
        params:
            settings=lambda wildcards: canonical_json(
                getattr(CONFIG.datasets, wildcards.dataset).model_dump(mode="json")
            ),
        message:
            "dataset: {wildcards.dataset}, downloaded or linked"
        shell:
            "maskdistill dataset --name {wildcards.dataset} --params {params.settings:q} {KEEP_ARCHIVES}"
            " --output {output.record:q} --threads {threads} --log {log:q}"

    rule build_data:
        input:
            records=expand(rules.dataset.output.record, dataset=BUILDS[BUILD]),
        output:
            record=f"{BUILT}/{BUILD}/build.json",
        log:
            f"{RUN}/logs/build_data.log",
        benchmark:
            f"{RUN}/benchmarks/build_data.tsv"
        localrule: True
        conda:
            "../../envs/maskdistill.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=120,
        params:
            folder=f"{BUILT}/{BUILD}",
            lists="" if CONFIG.datasets.check_lists else "--any-lists",
        message:
            "build_data: {BUILD}, lists compared with the published ones"
        shell:
            "maskdistill build_data --build {BUILD} --datasets {input.records:q} {params.lists}"
            " --output {params.folder:q} --threads {threads} --log {log:q}"

    rule build_truth:
        input:
            record=rules.build_data.output.record,
            records=expand(rules.dataset.output.record, dataset=BUILDS[BUILD]),
        output:
            record=f"{BUILT}/{BUILD}/truth/build.json",
            annotations=(
                [f"{BUILT}/{BUILD}/truth/instances.json"] if BUILD == "coco20k" else []
            ),
        log:
            f"{RUN}/logs/build_truth.log",
        benchmark:
            f"{RUN}/benchmarks/build_truth.tsv"
        localrule: True
        conda:
            "../../envs/maskdistill.yaml"
        threads: 1
        resources:
            mem_mb=8000,
            runtime=120,
        params:
            folder=f"{BUILT}/{BUILD}",
        message:
            "build_truth: {BUILD}, for evaluation alone"
        shell:
            "maskdistill build_data --truth --build {BUILD} --datasets {input.records:q}"
            " --output {params.folder:q} --threads {threads} --log {log:q}"


rule manifest:
    input:
        images=(
            rules.scenes.output.images
            if CONFIG.data.kind == "scenes"
            else rules.build_data.output.record if CONFIG.datasets.build else []
        ),
    output:
        manifest=f"{RUN}/data/manifest.csv",
        index=f"{RUN}/data/manifest.index.json",
        quarantined=f"{RUN}/data/manifest.quarantined.csv",
    log:
        f"{RUN}/logs/manifest.log",
    benchmark:
        f"{RUN}/benchmarks/manifest.tsv"
    group:
        "data"
    conda:
        "../../envs/maskdistill.yaml"
    threads: 8
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        settings=untracked(canonical_json(label_free(CONFIG.data))),
        shaping=canonical_json(label_free(CONFIG.data, pictures=False)),
        support=section("support") if CONFIG.support else "null",
        shards=NUM_SHARDS,
        quarantined=untracked(CONFIG.max_quarantined),
        listing=planned_listing(CONFIG),
        scenes=f"--scenes-dir {RUN}/data/scenes" if CONFIG.data.kind == "scenes" else "",
        code=code("manifest"),
    message:
        "manifest: decode {NUM_IMAGES} pictures, quarantine unreadable ones"
    shell:
        "maskdistill manifest --params {params.settings:q} --num-shards {params.shards} {params.scenes}"
        " --support {params.support:q} --max-quarantined {params.quarantined} --listing {params.listing} --output {output.manifest:q} --threads {threads} --log {log:q}"


if HAS_GROUND_TRUTH:

    rule ground_truth:
        input:
            manifest=rules.manifest.output.manifest,
            annotations=getattr(CONFIG.data, "annotations", None) or [],
            built=rules.build_truth.output.record if CONFIG.datasets.build else [],
        output:
            truth=directory(f"{RUN}/data/groundtruth"),
        log:
            f"{RUN}/logs/ground_truth.log",
        benchmark:
            f"{RUN}/benchmarks/ground_truth.tsv"
        group:
            "data"
        conda:
            "../../envs/maskdistill.yaml"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            settings=section("data"),
            listing=TRUTH_LISTING,
            content=contents([getattr(CONFIG.data, "annotations", None)]),
            dropped=CONFIG.max_dropped,
            code=code("ground_truth"),
        message:
            "ground_truth: one format for evaluation"
        shell:
            "maskdistill ground_truth --params {params.settings:q} --manifest {input.manifest:q}"
            " --max-dropped {params.dropped} --output {output.truth:q} --threads {threads} --log {log:q}"
