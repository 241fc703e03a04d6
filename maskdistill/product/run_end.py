"""What is said when a run has ended: where everything is, or what went wrong and where to read on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from maskdistill.formats.written import object_lines
from maskdistill.product.plan import about
from maskdistill.product.run_progress import Job
from maskdistill.product.verdict import verdict_at_the_end
from maskdistill.runtime.logs import last_lines
from maskdistill.workflow import layout
from maskdistill.workflow.commands import after_a_run, enter, seen_from_checkout

RESULTS = {"report": "report.html", "gallery": "objects.html", "summary": "summary.json"}
"""What a user looks at, below the run's folder, beside the objects."""
OF_A_LOG, OF_SNAKEMAKE = 12, 20
"""Lines that are shown of the end of a failed job's log, and of Snakemake's output."""
MOST_JOBS = 3
"""Failed jobs whose logs are shown."""


def counted(jobs: int) -> str:
    """A number of jobs in words."""
    return f"{jobs:,} job{'s' * (jobs != 1)}"


def good_end(results: Path, jobs: int, seconds: float) -> Iterator[str]:
    """Where everything is, what to type next, and the verdict.

    Args:
        results: folder of the run.
        jobs: that were run; 0 where there was nothing to do.
        seconds: that they took.
    """
    yield f"finished: {counted(jobs)} in {about(seconds)}" if jobs else "nothing to do: everything is there"
    for name, file in RESULTS.items():
        if (results / file).exists():
            yield f"  {name:8s} {results / file}"
    yield from (f"  objects  {line}" for line in object_lines(results / layout.OBJECTS))
    commands = [*enter(), *after_a_run(seen_from_checkout(results))]
    yield from ["next:", *(f"  {command}" for command in commands)]
    if said := verdict_at_the_end(results):
        yield said


def bad_end(failed: Sequence[Job], jobs: int, status: int, output: Path, lock: str | None = None) -> str:
    """The failed jobs and the ends of their logs, with remedies; else what is in the way, or the end of
    Snakemake's output.

    Args:
        failed: the jobs.
        jobs: of the run.
        status: of Snakemake; negative: the signal that ended it.
        output: the file with all that Snakemake said.
        lock: what explains that nothing was run, as of another run that is at work.
    """
    if lock and not failed:
        return f"{lock}\nall that Snakemake said: {output}"
    logs = {job: last_lines(job.log, OF_A_LOG) for job in failed[:MOST_JOBS]}
    lines = []
    if failed:
        rules = ", ".join(dict.fromkeys(job.rule for job in failed))
        lines.append(f"{len(failed)} of {counted(jobs)} failed: {rules}")
    else:
        lines.append(f"Snakemake ended {f'by signal {-status}' if status < 0 else f'with {status}'}")
    for job, end in logs.items():
        lines += [f"{job.rule}, the end of {job.log}:" if end else f"{job.rule}: its log is empty"]
        lines += [f"    {line}" for line in end]
    if not all(logs.values()) or not failed:
        lines += ["the end of what Snakemake said:"]
        lines += [f"    {line}" for line in last_lines(output, OF_SNAKEMAKE)]
    again = "once the cause is fixed, the same command continues from what is finished"
    return "\n".join([*lines, f"all that Snakemake said: {output}", again])
