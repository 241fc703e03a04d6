"""How far a run is, by the events of :mod:`maskdistill.workflow.events`: a line per stage, and what remains.

Times are seconds; points in time are seconds since the epoch. A stage is a rule of the workflow.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from maskdistill.product.plan import about

TARGET = "all"
"""The rule that only asks for results; it is not counted."""


@dataclass(frozen=True)
class Job:
    """A job that was started.

    Attributes:
        rule: its stage.
        log: path of its log; empty where it has none.
        started: when.
    """

    rule: str
    log: str
    started: float


@dataclass
class Stage:
    """The jobs of one rule.

    Attributes:
        name: of the rule.
        total: jobs to be run.
        usual: seconds that a job of it usually takes; None: unknown.
        done: jobs that ended well.
        spent: seconds of these jobs, together.
        begun: when the first one started; None before.
        ended: when the last one so far ended.
    """

    name: str
    total: int
    usual: float | None = None
    done: int = 0
    spent: float = 0.0
    begun: float | None = None
    ended: float = 0.0

    def line(self, now: float, left: float | None = None) -> str:
        """Name, jobs, seconds since it began, and what remains of it, where that is known."""
        taken = (self.ended if self.done == self.total else now) - (self.begun or now)
        rest = f"  about {about(left)} left" if left else ""
        return f"  {self.name:20s} {self.done:>5,d}/{self.total:<5,d} {about(max(0.0, taken)):>7s}{rest}"


@dataclass
class Progress:
    """A run as its events tell it.

    Attributes:
        usual: name of a stage -> seconds that a job of it usually takes, asked when the jobs are known.
        told: path of a running job's log -> seconds that it still needs by its own account; None: unknown.
        stages: by name, in the order in which Snakemake counts them.
        running, failed: jobs by number.
    """

    usual: Callable[[str], float | None]
    told: Callable[[str], float | None]
    stages: dict[str, Stage] = field(default_factory=dict)
    running: dict[int, Job] = field(default_factory=dict)
    failed: dict[int, Job] = field(default_factory=dict)
    begun: float | None = None

    @property
    def total(self) -> int:
        """Jobs to be run."""
        return sum(stage.total for stage in self.stages.values())

    @property
    def done(self) -> int:
        """Jobs that ended well."""
        return sum(stage.done for stage in self.stages.values())

    def take(self, event: Mapping[str, Any]) -> str | None:
        """Take in an event; the line to print for good if a stage is complete by it, or a job failed."""
        kind, time = event["event"], event["time"]
        if kind == "run_info":
            counts = {name: count for name, count in event["stats"].items() if name not in ("total", TARGET)}
            self.stages = {name: Stage(name, count, self.usual(name)) for name, count in counts.items()}
            self.begun = time
        elif kind == "job_info" and event["rule_name"] in self.stages:
            stage = self.stages[event["rule_name"]]
            stage.begun = stage.begun or time
            self.running[event["jobid"]] = _job(event)
        elif kind == "job_finished" and event["job_id"] in self.running:
            return self._finish(event["job_id"], time)
        elif kind == "job_error":
            self.running.pop(event["jobid"], None)
            again = event["jobid"] in self.failed
            job = self.failed[event["jobid"]] = _job(event)
            said = f"  {job.rule} failed ({job.log or 'no log'}); what does not need it goes on"
            return None if again else said
        return None

    def _finish(self, number: int, time: float) -> str | None:
        job = self.running.pop(number)
        self.failed.pop(number, None)  # a second attempt
        stage = self.stages[job.rule]
        stage.done, stage.spent, stage.ended = stage.done + 1, stage.spent + time - job.started, time
        return stage.line(time) if stage.done == stage.total else None

    def left(self, stage: Stage, now: float) -> float | None:
        """Seconds of work that remain in a stage, of all its jobs together; None where nobody knows.

        A job's own account comes first, then the mean of those that ended, then what is usual.
        """
        each = stage.spent / stage.done if stage.done else stage.usual
        jobs = [job for job in self.running.values() if job.rule == stage.name]
        gone = sum(job.rule == stage.name for job in self.failed.values())
        parts = [_left_of(job, self.told(job.log), each, now) for job in jobs]
        if waiting := stage.total - stage.done - len(jobs) - gone:
            parts.append(None if each is None else waiting * each)
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def estimate(self, now: float) -> str:
        """What remains of the run, in words: "at least" where a stage is unknown; empty without any estimate.

        Jobs of the past ran side by side so many on average; those to come are taken to do so too.
        """
        lefts = [self.left(stage, now) for stage in self.stages.values() if stage.done < stage.total]
        seconds = sum(left for left in lefts if left is not None)
        worked = sum(stage.spent for stage in self.stages.values())
        worked += sum(now - job.started for job in self.running.values())
        beside = max(1.0, worked / max(1.0, now - (self.begun or now)))
        if not seconds:
            return ""
        return f"{'at least' if None in lefts else 'about'} {about(seconds / beside)} left"

    def lines(self, now: float) -> Iterator[str]:
        """A line for each stage that has running jobs, and one for the run."""
        busy = {job.rule for job in self.running.values()}
        for stage in self.stages.values():
            if stage.name in busy:
                yield stage.line(now, self.left(stage, now))
        if self.begun is not None:
            whole = Stage("together", self.total, done=self.done, begun=self.begun, ended=now)
            yield f"{whole.line(now)}  {self.estimate(now)}".rstrip()

    def one_line(self, now: float) -> str:
        """The same in one line, for a log."""
        if self.begun is None:
            return "Snakemake looks at what is to be done"
        busy = {job.rule: self.stages[job.rule] for job in self.running.values()}
        parts = [f"{self.done:,}/{self.total:,} jobs in {about(now - self.begun)}", self.estimate(now)]
        parts += [f"{stage.name} {stage.done}/{stage.total}" for stage in busy.values()]
        return "; ".join(filter(None, parts))


def _job(event: Mapping[str, Any]) -> Job:
    return Job(event["rule_name"], next(iter(event["log"]), ""), event["time"])


def _left_of(job: Job, told: float | None, each: float | None, now: float) -> float | None:
    if told is not None:
        return told
    return None if each is None else max(0.0, each - (now - job.started))
