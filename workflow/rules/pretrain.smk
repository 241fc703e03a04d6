"""Pretrain: a backbone on the run's own unlabelled images, for every stage with weights: pretrain."""

with refusals():
    TEACHER = (
        RUN.begins_with("pretrain.teacher", CONFIG.pretrain.teacher)
        if CONFIG.pretrain.teacher
        else []
    )
PRETRAIN_SETTINGS = (
    SETTINGS.section(
        "pretrain",
        teacher=CONFIG.pretrain.teacher.model_dump() | {"weights": str(TEACHER[0])},
    )
    if TEACHER
    else SETTINGS.section("pretrain")
)


rule pretrain:
    input:
        manifest=rules.manifest.output.manifest,
        teacher=TEACHER,
    output:
        weights=f"{RUN}/pretrain/{{stage}}.safetensors",
        metrics=f"{RUN}/pretrain/{{stage}}.csv",
    log:
        f"{RUN}/logs/pretrain/{{stage}}.log",
    benchmark:
        f"{RUN}/benchmarks/pretrain/{{stage}}.tsv"
    wildcard_constraints:
        stage="|".join(NETWORKS),
    threads: 8
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=2880,
    params:
        content=RUN.contents(TEACHER),
        settings=in_full(PRETRAIN_SETTINGS),
        shaping=shaping(PRETRAIN_SETTINGS),
        arch=lambda wildcards: NETWORKS[wildcards.stage].arch,
        state=RUN.at(f"{RUN}/pretrain/{{stage}}.state"),
        code=code("pretrain"),
    message:
        "pretrain: {params.arch} without labels"
    shell:
        "maskdistill pretrain --arch {params.arch} --manifest {input.manifest:q} --params {params.settings:q}"
        " --output {output.weights:q} --metrics {output.metrics:q} --state {params.state:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"
