"""Objects in the run's photographs, as files for other tools."""

# Unknown formats are refused before anything is computed; jobs do not need what it imports.
if (
    workflow.is_main_process
    and CONFIG.objects.formats != type(CONFIG.objects)().formats
):
    from maskdistill.product.objects import chosen_formats

    with refusals():
        chosen_formats(CONFIG.objects)


# The formats' folders are not outputs, which Snakemake deletes before a job: they may have been corrected by
# hand.
rule objects:
    input:
        manifest=rules.manifest.output.manifest,
        candidates=RUN.of_run(CANDIDATES, seed=CONFIG.seeds[0]),
        clusters=RUN.of_run(rules.clusters.output.clusters, seed=CONFIG.seeds[0]),
        names=RUN.names,
    output:
        objects=f"{RUN}/{layout.OBJECTS}",
    log:
        f"{RUN}/logs/objects.log",
    benchmark:
        f"{RUN}/benchmarks/objects.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        content=RUN.contents(RUN.names),
        candidates=RUN.braces(CANDIDATES, **RUN.main, seed=CONFIG.seeds[0]),
        settings=SETTINGS.own_objects,
        names=lambda wildcards, input: (
            f"--names {shlex.quote(str(input.names[0]))}"
            if CONFIG.clusters.names
            else ""
        ),
        code=code("own_objects"),
    message:
        "objects: {output.objects}"
    shell:
        "maskdistill own_objects --manifest {input.manifest:q} --candidates {params.candidates:q}"
        " --clusters {input.clusters:q} {params.names} --params {params.settings:q}"
        " --output {output.objects:q} --threads {threads} --log {log:q}"
