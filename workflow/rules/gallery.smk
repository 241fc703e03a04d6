"""All objects of the run on one page: their thumbnails, then the page, which is rebuilt in a second when the
clusters' names change.
"""


rule thumbnails:
    input:
        manifest=rules.manifest.output.manifest,
        candidates=RUN.of_run(CANDIDATES, **FIRST),
    output:
        folder=directory(f"{RUN}/objects_page"),
    log:
        f"{RUN}/logs/thumbnails.log",
    benchmark:
        f"{RUN}/benchmarks/thumbnails.tsv"
    group:
        "report"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        candidates=RUN.braces(CANDIDATES, **RUN.main, seed=CONFIG.seeds[0]),
        settings=SETTINGS.thumbnails,
        clusters=RUN.main["k"],
        code=code("thumbnails"),
    message:
        "thumbnails: {output.folder}"
    shell:
        "maskdistill thumbnails --manifest {input.manifest:q} --candidates {params.candidates:q}"
        " --num-clusters {params.clusters} --params {params.settings:q} --output {output.folder:q}"
        " --threads {threads} --log {log:q}"


rule gallery:
    input:
        folder=rules.thumbnails.output.folder,
        clusters=RUN.of_run(rules.clusters.output.clusters, **FIRST),
        names=RUN.names,
    output:
        page=f"{RUN}/objects.html",
    log:
        f"{RUN}/logs/gallery.log",
    benchmark:
        f"{RUN}/benchmarks/gallery.tsv"
    group:
        "report"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        content=RUN.contents(RUN.names),
        name=CONFIG.run,
        names=lambda wildcards, input: (
            f"--names {shlex.quote(str(input.names[0]))}"
            if CONFIG.clusters.names
            else ""
        ),
        code=code("gallery"),
    message:
        "gallery: {output.page}"
    shell:
        "maskdistill gallery --run-name {params.name} --thumbnails {input.folder:q}"
        " --clusters {input.clusters:q}"
        " {params.names} --output {output.page:q} --threads {threads} --log {log:q}"
