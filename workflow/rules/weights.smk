"""Weights: official checkpoints, downloaded once for all runs, for every network with weights: official."""

import re

from maskdistill.workflow.needed_weights import checkpoint_name, official_weights

# If networks share a file, the first counts: the backbone's section may give the file's checksum.
DOWNLOADS = {
    official.file: network
    for network in reversed(
        (
            *NETWORKS.values(),
            CONFIG.pretrain.teacher,
            *CONFIG.paper.backbones,
            *CONFIG.bench.backbones.values(),
        )
    )
    if network and (official := official_weights(network))
}

if DOWNLOADS:

    # No code among the params: a download depends only on its URL and checksum, and an existing file is only
    # checked. A local rule: a cluster's login machine reaches the network, its nodes often do not.
    rule weights:
        output:
            weights=local(update(f"{layout.OFFICIAL}/{{file}}")),
        log:
            f"{RUN}/logs/weights/{{file}}.log",
        benchmark:
            f"{RUN}/benchmarks/weights/{{file}}.tsv"
        wildcard_constraints:
            file="|".join(map(re.escape, DOWNLOADS)),
        retries: 3
        localrule: True
        threads: 1
        resources:
            mem_mb=1000,
            runtime=120,
        params:
            arch=lambda wildcards: checkpoint_name(DOWNLOADS[wildcards.file]),
            sha256=lambda wildcards: (
                f"--sha256 {DOWNLOADS[wildcards.file].sha256}"
                if getattr(DOWNLOADS[wildcards.file], "sha256", None)
                else ""
            ),
        message:
            "weights: {params.arch}, {wildcards.file}"
        shell:
            "maskdistill weights --arch {params.arch} --output {output.weights:q} {params.sha256}"
            " --threads {threads} --log {log:q}"
