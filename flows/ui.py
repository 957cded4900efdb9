"""Open MLflow and Prefect on what the runs in this folder left, until interrupted."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from rich.console import Console

from tasks.running import process

_MLFLOW_PORT, _PREFECT_PORT = "5000", "4200"


def servers(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the command of each server, by the address where people find it."""
    store = environment["MLFLOW_TRACKING_URI"]
    commands = {
        f"http://127.0.0.1:{_PREFECT_PORT}": ["prefect", "server", "start", "--port", _PREFECT_PORT]
    }
    # A team's MLflow has its own page already.
    if store.startswith("sqlite:"):
        mlflow = ["mlflow", "server", "--backend-store-uri", store, "--port", _MLFLOW_PORT]
        commands[f"http://127.0.0.1:{_MLFLOW_PORT}"] = [*mlflow, "--workers", "1"]
    return {address: [sys.executable, "-m", *command] for address, command in commands.items()}


def main() -> int:
    """Serve until interrupted, or until a server ends by itself; return the exit status."""
    console, stop = Console(stderr=True, highlight=False, soft_wrap=True), threading.Event()
    # MLflow's job queue is eight more processes, for nothing that is used here.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    commands = servers(environment)

    def serve(command: list[str]) -> int:
        def show(line: str) -> None:
            console.print(f"{command[2]} | {line}", markup=False)

        return process.run(command, show, folder=Path.cwd(), environment=environment, stop=stop)

    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(serve, command) for command in commands.values()]
        console.print(f"open {' and '.join(commands)}; Ctrl-C ends")
        try:
            wait(futures, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt:
            return 0
        finally:
            stop.set()
    return 1


if __name__ == "__main__":
    sys.exit(main())
