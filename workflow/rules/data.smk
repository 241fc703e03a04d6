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
            code=code("data/scenes.py", "data/shapes.py", "cli/scenes.py"),
        message:
            "scenes: generate {NUM_IMAGES} pictures"
        shell:
            "maskdistill scenes --params {params.settings:q} --output {output.images:q}"
            " --threads {threads} --log {log:q}"


rule manifest:
    input:
        images=rules.scenes.output.images if CONFIG.data.kind == "scenes" else [],
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
        settings=section("data"),
        support=section("support") if CONFIG.support else "null",
        shards=NUM_SHARDS,
        quarantined=CONFIG.max_quarantined,
        listing=[
            listing_fingerprint(source)
            for source in (CONFIG.data, CONFIG.support)
            if source
        ],
        scenes=f"--scenes-dir {RUN}/data/scenes" if CONFIG.data.kind == "scenes" else "",
        code=code(
            "data/manifest.py", "data/sources.py", "data/images.py", "cli/manifest.py"
        ),
    message:
        "manifest: decode {NUM_IMAGES} pictures, quarantine unreadable ones"
    shell:
        "maskdistill manifest --params {params.settings:q} --num-shards {params.shards} {params.scenes}"
        " --support {params.support:q} --max-quarantined {params.quarantined} --output {output.manifest:q} --threads {threads} --log {log:q}"


if HAS_GROUND_TRUTH:

    rule ground_truth:
        input:
            manifest=rules.manifest.output.manifest,
            annotations=getattr(CONFIG.data, "annotations", None) or [],
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
            code=code("data", "cli/ground_truth.py"),
        message:
            "ground_truth: one format for evaluation"
        shell:
            "maskdistill ground_truth --params {params.settings:q} --manifest {input.manifest:q}"
            " --output {output.truth:q} --threads {threads} --log {log:q}"
