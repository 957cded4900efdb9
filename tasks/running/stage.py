"""Run one stage of dvc.yaml as a Prefect task: DVC decides, a child process works."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from lcm_lora.errors import UserError
from tasks.running import cost, process
from tasks.running.graph import Stage, locked
from tasks.running.slots import Slots

Verdict = Literal["Ran", "Restored", "Unchanged"]

_EFFORT: tuple[Verdict, ...] = ("Unchanged", "Restored", "Ran")

_VERDICTS: dict[Verdict, re.Pattern[str]] = {
    "Ran": re.compile(r"Running stage '.+':$"),
    "Restored": re.compile(r"Stage '.+' is cached - skipping run"),
    "Unchanged": re.compile(r"Stage '.+' didn't change, skipping$"),
}
_CHATTER = re.compile(
    r"\s*$|> |(Generating|Updating) lock file|To track the changes|\s+git add "
    r"|To enable auto staging|\s+dvc config|Use `dvc push`|Data and pipelines are up to date"
    r"|WARNING: '.+' is empty"
)
_DVC_ERROR = "ERROR: "
_COMMAND_ENDED = re.compile(r"failed to reproduce .*, exited with (-?\d+)$")


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line of Prefect's log is worth reading; take tracebacks from users' errors."""
    if record.exc_info and isinstance(record.exc_info[1], UserError):
        record.exc_info = None
    # A failed state is said twice, the first time with the traceback of no exception.
    return not str(record.msg).startswith("Task run failed with state")


logging.getLogger("prefect.task_runs").addFilter(_is_news)


@dataclass(frozen=True)
class Outcome:
    """What became of a stage."""

    name: str
    verdict: Verdict
    seconds: float = 0.0
    is_new: bool = False
    """Its outputs are not what they were before."""


def combined(before: list[Outcome], after: list[Outcome]) -> list[Outcome]:
    """Return what became of each stage in two rounds of one run: the most, and in both the time."""
    earlier = {outcome.name: outcome for outcome in before}
    return [
        replace(
            max(outcome, first, key=lambda o: _EFFORT.index(o.verdict)),
            seconds=first.seconds + outcome.seconds,
            is_new=first.is_new or outcome.is_new,
        )
        if (first := earlier.get(outcome.name))
        else outcome
        for outcome in after
    ]


class StageError(Exception):
    """A stage ended badly; the message is its own last word."""


Watch = Callable[[], AbstractContextManager[None]]


class Workshop:
    """What the stages of one run share: the folder in which they run, side by side."""

    def __init__(self, root: Path, workers: int) -> None:
        """Let `workers` stages compute at once in the project folder `root`."""
        self.root = root
        self.slots = Slots(workers, pause=1.0)
        self.stop = threading.Event()

    @contextlib.contextmanager
    def no_survivors(self) -> Iterator[None]:
        """End every stage when the block ends by an exception, a signal's included."""
        try:
            yield
        except BaseException:
            self.stop.set()
            raise

    def update(
        self,
        stage: Stage,
        upstream: list[Outcome],
        on_line: Callable[[str], None],
        watch: Watch | None,
    ) -> Outcome:
        """Bring one stage up to date, when it is its turn.

        Args:
            stage: What to run.
            upstream: What became of the stages that it needs.
            on_line: Gets every line of the stage, as they come.
            watch: Opened while the stage's command really runs.

        Raises:
            StageError: The stage's command or DVC ended in an error.
            UserError: What the stage left is damaged.
        """
        if not stage.changes and not any(outcome.is_new for outcome in upstream):
            return Outcome(stage.name, "Unchanged")
        # What measures time has the machine to itself, where dvc.yaml says so.
        alone = bool(stage.meta.get("alone"))
        with self.slots.place(stage.chain, stage.position, alone):
            return reproduce(stage, self, on_line, watch)

    def bring_back(self, patterns: Sequence[str]) -> None:
        """Have files of outputs in the folder; here they are already."""


@task(name="stage", task_run_name="{stage.name}", cache_policy=NO_CACHE)
def run_stage(
    stage: Stage, workshop: Workshop, upstream: list[Outcome], watch: Watch | None = None
) -> State[Any]:
    """Bring one stage up to date; the state is Ran, Restored, Unchanged or Failed.

    Args:
        stage: What to run.
        workshop: Where to run it.
        upstream: What became of the stages that it needs.
        watch: Opened while the stage's command really runs.
    """
    try:
        outcome = workshop.update(stage, upstream, get_run_logger().info, watch)
    except (StageError, UserError, process.OverdueError, process.StoppedError) as error:
        return Failed(message=str(error))
    message = f"{outcome.seconds:.0f} s" if outcome.seconds else None
    return Completed(name=outcome.verdict, message=message, data=outcome)


def reproduce(
    stage: Stage, workshop: Workshop, on_line: Callable[[str], None], watch: Watch | None
) -> Outcome:
    """Let DVC run, restore or skip a stage.

    Raises:
        StageError: The stage's command or DVC ended in an error.
        UserError: What the stage left is damaged.
    """
    started, meter = time.monotonic(), _meter(stage)
    with contextlib.ExitStack() as watching:
        output = _Output(on_line, lambda: watch and watching.enter_context(watch()))
        dvc = [sys.executable, "-m", "dvc", "--wait-for-lock"]
        command = [*dvc, "repro", "--single-item", stage.name]
        status = _run(command, stage, workshop, output, meter)
        if status or not output.verdict:
            raise StageError(output.last_word(status))
    if output.verdict == "Ran":
        cost.keep_of_stage(workshop.root, stage.name, meter.read())
    # A hash that cannot be read counts as new: DVC itself then decides about what follows.
    after = locked(workshop.root)
    is_new = any(after.get(path) != before for path, before in stage.outputs.items())
    return Outcome(stage.name, output.verdict, time.monotonic() - started, is_new)


def make_share(
    stage: Stage, share: str, workshop: Workshop, on_line: Callable[[str], None]
) -> tuple[Outcome, cost.Cost]:
    """Make a share of what a stage needs, into the store that machines share; no output of it.

    Args:
        stage: What to run.
        share: As 2/4, the second of four.
        workshop: Where to run it.
        on_line: Gets every line of the stage, as they come.

    Raises:
        StageError: The stage's command ended in an error.
    """
    meter, output = _meter(stage), _Output(on_line, lambda: None)
    command = [*shlex.split(stage.command), "--share", share]
    if status := _run(command, stage, workshop, output, meter):
        raise StageError(output.last_word(status))
    spent = meter.read()
    return Outcome(stage.name, "Ran", spent.seconds), spent


def _meter(stage: Stage) -> cost.Meter:
    return cost.Meter(on_gpus=stage.meta.get("pool") == "gpu")


def _run(
    command: list[str], stage: Stage, workshop: Workshop, output: _Output, meter: cost.Meter
) -> int:
    return process.run(
        command,
        output.take,
        folder=workshop.root,
        environment=_environment(workshop.root),
        stop=workshop.stop,
        deadline=stage.meta.get("deadline"),
        on_end=meter.add_cpu_seconds,
    )


def _environment(root: Path) -> dict[str, str]:
    # The stages' commands are those of this very installation.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    ours = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    if not (root / "lcm_lora").is_dir():
        return ours
    # What they import is the folder's own, in a checkout too.
    modules = filter(None, [str(root), os.environ.get("PYTHONPATH")])
    return {**ours, "PYTHONPATH": os.pathsep.join(modules)}


class _Output:
    """Tells DVC's words from the stage's."""

    def __init__(self, on_line: Callable[[str], None], on_running: Callable[[], object]) -> None:
        self.verdict: Verdict | None = None
        self._on_line = on_line
        self._on_running = on_running
        self._error = ""
        self._dvc_error = ""
        self._last = ""

    def take(self, line: str) -> None:
        """Pass on a line of the stage; understand a line of DVC."""
        for verdict, pattern in _VERDICTS.items():
            if pattern.match(line):
                self.verdict = verdict
                if verdict == "Ran":
                    self._on_running()
                return
        if _CHATTER.match(line):
            return
        if line.startswith(_DVC_ERROR):
            self._dvc_error = line.removeprefix(_DVC_ERROR)
            return
        self._last = line
        if line.startswith("error: "):
            self._error = line.removeprefix("error: ")
        self._on_line(line)

    def last_word(self, status: int) -> str:
        """Return why the stage failed.

        Args:
            status: DVC's own exit status.
        """
        ended = _COMMAND_ENDED.match(self._dvc_error)
        status = int(ended[1]) if ended else status
        if death := process.death(status):
            return f"{death}; out of memory?" if "SIGKILL" in death else death
        if error := self._error or ("" if ended else self._dvc_error):
            return error
        last = f"; its last line was: {self._last}" if self._last else ""
        return f"ended with exit status {status} and no message{last}"
