"""Data: the list of a source's images and, separately, the ground truth."""

from maskdistill.config.datasets import BUILT
from maskdistill.config.roles import label_free
from maskdistill.data.official_datasets import BUILDS
from maskdistill.workflow.settings import source_code

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
        threads: 8
        resources:
            mem_mb=2000,
            runtime=60,
        params:
            settings=SETTINGS.section("data"),
            code=code("scenes"),
        message:
            f"scenes: generate {RUN.num_images} pictures"
        shell:
            "maskdistill scenes --params {params.settings:q} --output {output.images:q}"
            " --threads {threads} --log {log:q}"


if CONFIG.datasets.build:
    BUILD = CONFIG.datasets.build
    # Shared between runs, so not in a module's folder.
    BUILT_RECORD = local(f"{BUILT}/{BUILD}/build.json")
    TRUTH_RECORD = local(f"{BUILT}/{BUILD}/truth/build.json")
    DATASET_RECORDS = [
        local(f"{layout.DATASETS}/{name}/dataset.json") for name in BUILDS[BUILD]
    ]

    # As for weights: no code among the params; a local rule with retries. Existing files are only checked.
    rule dataset:
        output:
            record=local(update(f"{layout.DATASETS}/{{dataset}}/dataset.json")),
        log:
            f"{RUN}/logs/dataset/{{dataset}}.log",
        benchmark:
            f"{RUN}/benchmarks/dataset/{{dataset}}.tsv"
        wildcard_constraints:
            dataset="|".join(BUILDS[BUILD]),
        retries: 3
        localrule: True
        threads: 1
        resources:
            mem_mb=1000,
            runtime=1440,
        params:
            settings=lambda wildcards: canonical_json(
                getattr(CONFIG.datasets, wildcards.dataset).model_dump(mode="json")
            ),
            keep=untracked("--keep-archives" if CONFIG.datasets.keep_archives else ""),
        message:
            "dataset: {wildcards.dataset}, downloaded or linked"
        shell:
            "maskdistill dataset --name {wildcards.dataset} --params {params.settings:q} {params.keep}"
            " --output {output.record:q} --threads {threads} --log {log:q}"

    rule build_data:
        input:
            records=DATASET_RECORDS,
        output:
            record=BUILT_RECORD,
        log:
            f"{RUN}/logs/build_data.log",
        benchmark:
            f"{RUN}/benchmarks/build_data.tsv"
        localrule: True
        threads: 1
        resources:
            mem_mb=2000,
            runtime=120,
        params:
            build=BUILD,
            lists="" if CONFIG.datasets.check_lists else "--any-lists",
        message:
            f"build_data: {BUILD}, lists compared with the published ones"
        shell:
            "maskdistill build_data --build {params.build} --datasets {input.records:q} {params.lists}"
            ' --output "$(dirname {output.record:q})" --threads {threads} --log {log:q}'

    rule build_truth:
        input:
            record=BUILT_RECORD,
            records=DATASET_RECORDS,
        output:
            record=TRUTH_RECORD,
            annotations=(
                [local(f"{BUILT}/{BUILD}/truth/instances.json")]
                if BUILD == "coco20k"
                else []
            ),
        log:
            f"{RUN}/logs/build_truth.log",
        benchmark:
            f"{RUN}/benchmarks/build_truth.tsv"
        localrule: True
        threads: 1
        resources:
            mem_mb=8000,
            runtime=120,
        params:
            build=BUILD,
        message:
            f"build_truth: {BUILD}, only for evaluation"
        shell:
            "maskdistill build_data --truth --build {params.build} --datasets {input.records:q}"
            ' --output "$(dirname {input.record:q})" --threads {threads} --log {log:q}'


rule manifest:
    input:
        images=(
            rules.scenes.output.images
            if CONFIG.data.kind == "scenes"
            else BUILT_RECORD if CONFIG.datasets.build else []
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
    threads: 8
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        settings=untracked(canonical_json(label_free(CONFIG.data))),
        shaping=canonical_json(label_free(CONFIG.data, pictures=False)),
        support=SETTINGS.section("support") if CONFIG.support else "null",
        shards=RUN.num_shards,
        quarantined=untracked(CONFIG.max_quarantined),
        listing=planned_listing(CONFIG, RUN.at(f"{RUN}/data/manifest.csv")),
        scenes=(
            f"--scenes-dir {shlex.quote(RUN.at(f'{RUN}/data/scenes'))}"
            if CONFIG.data.kind == "scenes"
            else ""
        ),
        code=source_code("manifest", CONFIG),
    message:
        f"manifest: decode {RUN.num_images} pictures, quarantine unreadable ones"
    shell:
        "maskdistill manifest --params {params.settings:q} --num-shards {params.shards} {params.scenes}"
        " --support {params.support:q} --max-quarantined {params.quarantined} --listing {params.listing}"
        " --output {output.manifest:q} --threads {threads} --log {log:q}"


if RUN.has_ground_truth:

    rule ground_truth:
        input:
            manifest=rules.manifest.output.manifest,
            annotations=RUN.annotations,
            built=TRUTH_RECORD if CONFIG.datasets.build else [],
        output:
            truth=directory(f"{RUN}/data/groundtruth"),
        log:
            f"{RUN}/logs/ground_truth.log",
        benchmark:
            f"{RUN}/benchmarks/ground_truth.tsv"
        group:
            "data"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            settings=SETTINGS.section("data"),
            listing=TRUTH_LISTING,
            content=RUN.contents(RUN.annotations),
            dropped=CONFIG.max_dropped,
            code=source_code("ground_truth", CONFIG),
        message:
            "ground_truth: one format for evaluation"
        shell:
            "maskdistill ground_truth --params {params.settings:q} --manifest {input.manifest:q}"
            " --max-dropped {params.dropped} --output {output.truth:q} --threads {threads} --log {log:q}"
