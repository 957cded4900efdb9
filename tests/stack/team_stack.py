"""What tests do with the team's stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from infra.local import parts, settings
from infra.local import stack as whole


@dataclass
class Stack:
    """The servers, and the workers that a test has started.

    Attributes:
        folder: Where the stack keeps all that it has; logs are in `logs/`.
        environment: What a client of the stack needs.
        said: What was said while parts started.
    """

    folder: Path
    environment: dict[str, str]
    said: list[str] = field(default_factory=list)

    def admit(self, patch: pytest.MonkeyPatch) -> None:
        """Make this process, and all that it starts, a client of the stack."""
        for name, value in self.environment.items():
            patch.setenv(name, value)

    def mend(self) -> None:
        """Start whatever server does not run, and wait until all work."""
        whole.up(self.folder, self.said.append)

    def restart(self, name: str) -> None:
        """End a part in good order, start it again, and wait until it works.

        Args:
            name: database, store, prefect, mlflow, or a worker.
        """
        if name.startswith("worker-"):
            project = parts.place_of(self.folder, name)
            assert project is not None, f"{name} is dead"
            parts.end(self.folder, [name])
            whole.employ(self.folder, project, [name], self.said.append)
            return
        parts.end(self.folder, _processes_of(name))
        self.mend()

    def kill(self, name: str) -> None:
        """Kill a part and all that it started, as if the power were cut; it stays so."""
        parts.kill(self.folder, _processes_of(name))

    def worker(self, pool: str, project: Path, number: int = 1) -> str:
        """Have a worker of a pool work in a project; return its name.

        Args:
            pool: cpu or gpu; made where it is missing.
            project: A clone of the project; a worker at another one is ended first.
            number: Which worker of the pool.
        """
        name = f"worker-{pool}" if number == 1 else f"worker-{pool}-{number}"
        whole.employ(self.folder, project, [name], self.said.append)
        return name

    def dismiss(self, name: str) -> None:
        """End a worker in good order."""
        parts.end(self.folder, [name])

    def process(self, name: str) -> psutil.Process:
        """Return the process of a part, which lives; its flow runs are among its children."""
        process = parts.process_of(self.folder, name)
        assert process is not None, f"{name} is dead"
        return process


def _processes_of(name: str) -> list[str]:
    return [name, *settings.BACKENDS] if name == settings.STORE else [name]
