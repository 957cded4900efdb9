"""Kill runs and promotions at random moments, run them again, and compare how all of it ends.

    .venv/bin/python tests/kills.py --count 100 --out docs/kills.md

A trial is a toy project of its own with real git, DVC, MLflow and Prefect, in which an adapter that
is better than the champion is trained and promoted, or a promotion is carried out that a person has
approved. At a random moment SIGKILL goes to one process of the run's family, or to all of it. What
was started is started again until it ends well. Then versions, aliases, the journal's champions and
every byte of data and artifacts must be as after one run that nobody disturbed, or after two: the
second puts the champion of before away, against which the first compared. And no process is left.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from toy_project import Project, copy_of, toy  # noqa: E402

Scenario = Literal["retrain", "promote"]
COMMANDS: dict[Scenario, list[str]] = {
    "retrain": ["-m", "flows.retrain"],
    "promote": ["-m", "flows.promote", "--by", "Anna", "--why", "it is better", "--yes"],
}
_RERUNS = 4
_PATIENCE = 180.0
"""Seconds that any run may take, the minute included for which the claim of a dead one holds."""


@dataclass(frozen=True)
class End:
    """How it all ends: what a run that nobody disturbed, and one that was killed, must share."""

    versions: tuple[tuple[str, str], ...]
    aliases: tuple[tuple[str, str], ...]
    champions: tuple[str, ...]
    """As the journal tells, one after another."""
    damages: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    runs: tuple[tuple[str, str], ...]
    """Of adapters in MLflow: which, and in which state."""


@dataclass(frozen=True)
class Trial:
    """What happened in one trial."""

    scenario: Scenario
    moment: float
    """Seconds after the start."""
    victim: str
    reruns: int
    orphans: tuple[str, ...]
    differences: tuple[str, ...]


def main() -> int:
    """Run the trials, print how they ended, and write it down; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2, help="trials side by side")
    parser.add_argument("--out", type=Path, help="a page to write")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as address:
        folder = Path(name)
        os.environ["PREFECT_API_URL"] = address
        templates = prepared(folder)
        wanted = {scenario: undisturbed(folder, templates, scenario) for scenario in COMMANDS}
        chance = random.Random(asked.seed)
        plans = [plan(number, chance, wanted) for number in range(asked.count)]
        with ThreadPoolExecutor(asked.at_once) as pool:
            trials = list(pool.map(lambda p: tried(folder, templates, wanted, *p), plans))
    page = told(trials, asked.seed)
    print(page)  # noqa: T201
    if asked.out:
        asked.out.write_text(page)
    return int(any(trial.orphans or trial.differences for trial in trials))


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """Keep a Prefect server for all trials; yield its address."""
    import httpx

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api"
    environment = {**os.environ, "PREFECT_HOME": str(folder / "prefect"), "DO_NOT_TRACK": "true"}
    command = ["-m", "prefect", "server", "start", "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{address}/health").is_success:
                        break
                time.sleep(0.5)
            yield address
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.wait()
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()


def prepared(folder: Path) -> dict[Scenario, Project]:
    """Return the project that trials of each scenario start from."""
    first = toy(folder / "first")
    _well(first, COMMANDS["retrain"])
    templates: dict[Scenario, Project] = {}
    for scenario in COMMANDS:
        project = copy_of(first, folder / f"template-{scenario}")
        project.set("distill.seed", 10)  # the lower, the better the toy's adapter
        if scenario == "promote":
            project.set("registry.approval", {"by": "person", "days": 1.0})
            _well(project, COMMANDS["retrain"])
        templates[scenario] = project
    return templates


@dataclass(frozen=True)
class Undisturbed:
    """How long a scenario takes, and how it ends, when nobody disturbs it."""

    seconds: float
    ends: tuple[End, End]
    """After one run, and after the same command again: a champion of before is then put away."""


def undisturbed(
    folder: Path, templates: dict[Scenario, Project], scenario: Scenario
) -> Undisturbed:
    """Run a scenario, and once more."""
    project = copy_of(templates[scenario], folder / f"undisturbed-{scenario}")
    started = time.monotonic()
    _well(project, COMMANDS[scenario])
    seconds, once = time.monotonic() - started, end_of(project)
    _started(project, COMMANDS[scenario]).wait(_PATIENCE)
    return Undisturbed(seconds, (once, end_of(project)))


Plan = tuple[int, Scenario, float, float]
"""Of a trial: its number, what is run, when the kill comes, and who is hit: a share of 1."""


def plan(number: int, chance: random.Random, wanted: dict[Scenario, Undisturbed]) -> Plan:
    """Draw a trial."""
    scenario: Scenario = "retrain" if number % 2 == 0 else "promote"
    return number, scenario, chance.uniform(0, wanted[scenario].seconds), chance.random()


def tried(
    folder: Path,
    templates: dict[Scenario, Project],
    wanted: dict[Scenario, Undisturbed],
    number: int,
    scenario: Scenario,
    moment: float,
    whom: float,
) -> Trial:
    """Run, kill, run again, and compare."""
    project = copy_of(templates[scenario], folder / f"trial-{number}")
    run = _started(project, COMMANDS[scenario])
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(moment)
    victim, family = _kill(run.pid, whom)
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(_PATIENCE)
    _, alive = psutil.wait_procs(family, timeout=30)
    orphans = tuple(_name(one) for one in alive)
    for one in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    reruns, ends = 0, wanted[scenario].ends
    while (end := end_of(project)) not in ends and reruns < _RERUNS:
        _started(project, COMMANDS[scenario]).wait(_PATIENCE)
        reruns += 1
    differences = () if end in ends else tuple(_differences(ends[-1], end))
    trial = Trial(scenario, moment, victim, reruns, orphans, differences)
    print(f"{number}: {trial}", file=sys.stderr)  # noqa: T201
    if not differences:
        shutil.rmtree(project.root)
    return trial


def _started(project: Project, command: list[str]) -> subprocess.Popen[Any]:
    ours = {name: v for name, v in os.environ.items() if not name.startswith("MLFLOW")}
    with (project.root.parent / f"{project.root.name}.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=project.root,
            env={**ours, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(project.root / ".prefect")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _well(project: Project, command: list[str]) -> None:
    if status := _started(project, command).wait(_PATIENCE):
        log = project.root.parent / f"{project.root.name}.log"
        raise SystemExit(f"{' '.join(command)} ended with {status}: {log.read_text()[-2000:]}")


def _kill(pid: int, whom: float) -> tuple[str, list[psutil.Process]]:
    """Kill one of a family, or in a fifth of all cases everybody; return who, and the family."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return "nobody, it had ended", []
    if whom < 0.2:
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        return "all", family
    victim = family[int((whom - 0.2) / 0.8 * len(family))]
    name = _name(victim)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.kill()
    return name, family


def _name(process: psutil.Process) -> str:
    """Return what a process is in a run."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return "one that had ended"
    for word, name in {
        "guard.py": "the guard",
        "flows.command": "the flow",
        "dvc": "dvc",
        "toy.py": "the stage",
    }.items():
        if any(word == part or part.endswith(f"/{word}") for part in words):
            return name
    return "the command" if any(part.startswith("flows.") for part in words) else "a helper"


def end_of(project: Project) -> End:
    """Return what there is after a run."""
    from mlflow import MlflowClient

    from tasks.history import journal
    from tasks.history.succession import is_crowning

    client = MlflowClient(f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}")
    name = "lcm-lora-shapes"
    versions = client.search_model_versions(f"name = '{name}'")
    aliases = client.get_registered_model(name).aliases
    crowned = [e for e in journal.read(client, name) if is_crowning(e)]
    runs = client.search_runs(["1"], "tags.adapter_sha256 != ''")
    return End(
        versions=tuple(sorted((str(v.version), v.tags["adapter_sha256"]) for v in versions)),
        aliases=tuple(sorted((alias, str(version)) for alias, version in aliases.items())),
        champions=tuple(str(entry.version) for entry in crowned),
        damages=tuple(journal.verify(client, name)),
        files=tuple(_files(project.root)),
        runs=tuple(sorted((r.data.tags["adapter_sha256"], r.info.status) for r in runs)),
    )


def _files(root: Path) -> Iterator[tuple[str, str]]:
    for place in ("artifacts", "data"):
        for path in sorted((root / place).rglob("*")):
            if path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                yield str(path.relative_to(root)), content


def _differences(wanted: End, found: End) -> Iterator[str]:
    for name, value in vars(wanted).items():
        if (other := getattr(found, name)) != value:
            yield f"{name}: {sorted(set(map(str, value)) ^ set(map(str, other)))[:4]}"


def told(trials: list[Trial], seed: int) -> str:
    """Return the page of how it went."""
    date = datetime.date.today().isoformat()
    lines = [
        "# Killed at random moments",
        "",
        f"Written by `.venv/bin/python tests/kills.py --count {len(trials)} --seed {seed}` on "
        f"{date} ({platform.system()}, {os.cpu_count()} CPU cores). " + _HOW,
        "",
        "| | kills | ended as undisturbed | processes left | runs again, at most |",
        "|---|---|---|---|---|",
    ]
    for scenario in COMMANDS:
        some = [trial for trial in trials if trial.scenario == scenario]
        equal = sum(not trial.differences for trial in some)
        left = sum(len(trial.orphans) for trial in some)
        most = max((trial.reruns for trial in some), default=0)
        lines.append(f"| `{scenario}` | {len(some)} | {equal} | {left} | {most} |")
    hit = Counter(trial.victim for trial in trials)
    named = ", ".join(f"{victim} {count}" for victim, count in hit.most_common())
    lines += ["", f"Who was hit: {named}."]
    lines += [
        f"- `{t.scenario}` after {t.moment:.1f} s, {t.victim}: {'; '.join(t.differences)} "
        f"{'left: ' + ', '.join(t.orphans) if t.orphans else ''}"
        for t in trials
        if t.differences or t.orphans
    ]
    return "\n".join(lines) + "\n"


_HOW = (
    "Each kill is a SIGKILL at a random moment of a run, to one process of its family or, in a "
    "fifth of the trials, to all of it; then the same command runs again until it ends well. Equal "
    "means: the same versions, aliases, champions in the journal, runs of adapters, and every byte "
    "of data and artifacts, as after one run that nobody disturbed, or after two."
)


if __name__ == "__main__":
    sys.exit(main())
