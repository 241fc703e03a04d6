"""Detector: Mask R-CNN on the pseudo-annotations, and its candidates for every image."""

from maskdistill.config.roles import inference_settings, training_settings

DETECTOR_ENVIRONMENT = {
    "torchvision": "../../envs/maskdistill.yaml",
    "detectron2": "../../envs/detectron2.yaml",
}[CONFIG.detector.engine]
UNUSED_ENGINES = (
    [] if CONFIG.detector.engine == "detectron2" else ["detector/detectron2_engine.py"]
)
# The training does not get settings that only matter at test time, nor do the candidates those of training.
TRAINING_SETTINGS = canonical_json(
    training_settings(CONFIG.detector)
    | {"weights": RUN.weights_option(WEIGHTS["detector"])}
)


rule detector:
    input:
        manifest=rules.manifest.output.manifest,
        annotations=ANNOTATIONS,
        index=ANNOTATION_INDEX,
        weights=WEIGHTS["detector"],
        # A round of self-training goes on from the detector of the one before, as in CutLER.
        start=RUN.of_round_before_if_any(f"{RUN}/{layout.DETECTOR}"),
    output:
        model=f"{RUN}/{layout.DETECTOR}",
        metrics=f"{TRAINED}/detector/metrics.csv",
    log:
        f"{RUN}/logs/detector/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}.log",
    benchmark:
        f"{RUN}/benchmarks/detector/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}.tsv"
    conda:
        DETECTOR_ENVIRONMENT
    threads: 16
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=2880,
    params:
        content=RUN.contents(WEIGHTS["detector"]),
        settings=in_full(TRAINING_SETTINGS),
        shaping=shaping(TRAINING_SETTINGS),
        state=RUN.at(f"{TRAINED}/detector.state"),
        code=code("detector", *UNUSED_ENGINES),
    message:
        "detector: Mask R-CNN, seed {wildcards.seed}{wildcards.trained}"
    shell:
        "maskdistill detector --manifest {input.manifest:q} --annotations {input.annotations:q}"
        " --index {input.index:q} --start {input.start:q}"
        " --seed {wildcards.seed} --params {params.settings:q} --output {output.model:q}"
        " --metrics {output.metrics:q} --state {params.state:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"


rule candidates:
    input:
        manifest=rules.manifest.output.manifest,
        model=rules.detector.output.model,
    output:
        shards=RUN.of_part(CANDIDATES),
    log:
        f"{RUN}/logs/candidates/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/{{part}}.log",
    benchmark:
        f"{RUN}/benchmarks/candidates/{{masks}}/k-{{k}}/seed-{{seed}}{{trained}}/{{part}}.tsv"
    conda:
        DETECTOR_ENVIRONMENT
    threads: SHARD_THREADS
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        settings=canonical_json(inference_settings(CONFIG.detector)),
        each=RUN.each_shard,
        code=code("candidates", *UNUSED_ENGINES),
    message:
        "candidates: shard {params.each}, seed {wildcards.seed}{wildcards.trained}"
    shell:
        "maskdistill candidates --manifest {input.manifest:q} --each {params.each} --shard {{shard}}"
        " --model {input.model:q}"
        " --params {params.settings:q} --output {output.shards:q}"
        " --gpus {resources.gpu} --threads {threads} --log {log:q}"
