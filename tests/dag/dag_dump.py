"""Print the jobs of a DAG as JSON: with the files, params and command of each, and whether it would run.

    python dag_dump.py [--needed] CONFIGFILE[,...] [TARGET ...]

A list of jobs for each configuration file. Snakemake's own dry run prints neither files nor params, and
starting it takes longer than a plan of the miniature. Run in the project's folder.
"""

import json
import sys
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
    WorkflowSettings,
)


def jobs(configfile: str, targets: list[str], needed: bool) -> list[dict[str, Any]]:
    """Every job of the DAG, or with ``needed`` those that would run."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api:
        called = api.workflow(
            resource_settings=ResourceSettings(cores=2, resources={"gpu": 0}),
            config_settings=ConfigSettings(configfiles=(Path(configfile),)),
            workflow_settings=WorkflowSettings(),
            snakefile=Path("Snakefile"),
        )
        called.dag(DAGSettings(targets=frozenset(targets), forceall=not needed))
        workflow = called._workflow
        workflow._prepare_dag(forceall=not needed, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        return [
            {
                "rule": job.rule.name,
                "wildcards": dict(job.wildcards_dict),
                "inputs": list(map(str, job.input)),
                "outputs": list(map(str, job.output)),
                "params": {name: repr(value) for name, value in job.params.items()},
                "command": job.shellcmd or "",
                "parents": sorted({parent.rule.name for parent in workflow.dag.dependencies[job]}),
            }
            for job in (workflow.dag.needrun_jobs() if needed else workflow.dag.jobs)
        ]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    only_needed = arguments[0] == "--needed"
    targets = arguments[only_needed + 1 :]
    print(json.dumps([jobs(name, targets, only_needed) for name in arguments[only_needed].split(",")]))
