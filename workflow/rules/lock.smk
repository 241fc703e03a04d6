"""One run at a time in a results folder: a conflict is reported before Snakemake checks its own lock."""

from snakemake.io import IOFile

from maskdistill.product.finished_run import of_other_pictures
from maskdistill.product.verdict import verdict_at_the_end
from maskdistill.runtime.kept_pages import forget_pages, keep_pages, put_pages_back
from maskdistill.runtime.run_lock import explain_lock, hold_run, refuse_while_alive
from maskdistill.workflow.needed_weights import rehearsal

if workflow.is_main_process and not AS_MODULE and "--unlock" not in sys.argv:
    AS_CALLED = (
        [sys.executable, "-m", "snakemake"]
        if sys.argv[0].endswith(".py")
        else sys.argv[:1]
    )
    LOCK = explain_lock(
        str(RUN),
        ".snakemake/locks",
        shlex.join([*AS_CALLED, "--unlock", *sys.argv[1:]]),
        RUN.shared,
    )
    if LOCK:
        print(LOCK, file=sys.stderr)

if workflow.is_main_process and not AS_MODULE:
    if OTHERS := of_other_pictures(Path(str(RUN)), CONFIG):
        print(OTHERS, file=sys.stderr)

if workflow.is_main_process and not AS_MODULE and "--unlock" in sys.argv:
    with refusals():
        refuse_while_alive(str(RUN))


def check_truth_once():
    """Check the ground truth, if this run reads it and it exists already, before anything is trained."""
    if workflow.touch:
        return
    from maskdistill.data.truth_check import (
        check_truth,
    )  # jobs do not need what it imports

    reads = {job.rule.name for job in workflow.dag.needrun_jobs()}
    truths = {"ground_truth", "ground_truth_train", "oracle_truth"}
    if reads & truths and not CONFIG.datasets.build:
        learnt = CONFIG.probe.enabled or "oracle_truth" in reads
        if found := check_truth(CONFIG.data, CONFIG.max_dropped, learnt):
            print(f"ground truth: {found}", file=sys.stderr)


onstart:
    with refusals():
        hold_run(str(RUN))
        check_truth_once()
    keep_pages(str(RUN))
    if told := rehearsal(CONFIG):
        print(f"This run is {told}.", file=sys.stderr)


onsuccess:
    forget_pages(str(RUN))
    if told := rehearsal(CONFIG):
        print(f"This run was {told}.", file=sys.stderr)
    if said := verdict_at_the_end(str(RUN)):
        print(said, file=sys.stderr)


onerror:
    # Snakemake must forget these pages: it has recorded the failed job's settings for them.
    for page in put_pages_back(str(RUN)):
        workflow.persistence.cleanup_metadata(IOFile(page))
        print(
            f"{page}: the last good one was put back; the next run makes it anew",
            file=sys.stderr,
        )
