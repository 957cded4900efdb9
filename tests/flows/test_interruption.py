"""A run that is told to stop leaves no process behind, and says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import Done, copy_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_survivors(done: Done, tmp_path: Path, number: signal.Signals) -> None:
    from prefect.settings import PREFECT_API_URL

    project = copy_of(done.project, tmp_path / "project")
    notes = project.root / ".checkpoints"
    (notes / "hold").touch()
    (notes / "started").unlink()
    project.set("distill.seed", 1)
    flow = subprocess.Popen(
        [sys.executable, "-m", "flows.retrain"],
        cwd=project.root,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PREFECT_API_URL": str(PREFECT_API_URL.value()),
            "MLFLOW_TRACKING_URI": f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (notes / "started").exists() and flow.poll() is None:
        time.sleep(0.1)
    time.sleep(0.5)
    family = psutil.Process(flow.pid).children(recursive=True)
    assert any("toy.py" in " ".join(member.cmdline()) for member in family)
    flow.send_signal(number)
    _, errors = flow.communicate(timeout=120)
    assert flow.returncode != 0
    assert not [member for member in family if member.is_running()], errors
    if number == signal.SIGINT:
        assert errors.rstrip().splitlines()[-1].startswith("error: interrupted")
