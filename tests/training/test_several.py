"""Several processes train as one: same samples, same draws, same adapter but for rounding."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from making import CPU, shapes_inventory
from processes import command_of
from rank_work import complain, exhaust, notes, work_and_note
from safetensors.torch import load_file
from torch import Tensor

from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.bases import load_base
from lcm_lora.candidates import candidate_name
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.params.distill import Distill
from lcm_lora.records import write_record
from lcm_lora.training.distill import Job
from lcm_lora.training.launch import launch
from lcm_lora.training.origin import Origin
from lcm_lora.training.ranks import Ranks

PARAMS = {
    "steps": 1000,
    "batch": 8,
    "accumulation": 4,
    "processes": 2,
    "guidance": {"convention": "imagen", "low": 2.0, "high": 4.0},
    "rank": 4,
    "alpha": 8,
    "learning_rate": 1e-3,
    "checkpoint_every": 2,
    "export": "fp32",
}


def test_an_error_of_one_process_ends_all_and_they_share_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(UserError, match=r"^mend it, with 1 threads$"):
        launch(2, complain)
    assert not workers(os.getpid())


def test_too_little_memory_for_one_process_is_told_as_that(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(MemoryError, match="DefaultCPUAllocator"):
        launch(2, exhaust)
    assert capfd.readouterr().err == ""


@pytest.fixture
def project(data: Path, tmp_path: Path) -> Path:
    """A folder in which `lcm-lora distill` can run."""
    shutil.copytree(data / "data", tmp_path / "data")
    write_record(tmp_path / "data" / "inventory" / "base.json", shapes_inventory())
    text = json.dumps({"distill": PARAMS, "hardware": CPU.model_dump()})  # JSON is YAML
    (tmp_path / "params.yaml").write_text(text)
    return tmp_path


def workers(pid: int) -> list[psutil.Process]:
    """Return the processes of a training that the process `pid` leads."""
    children = psutil.Process(pid).children()
    return [child for child in children if "spawn_main" in " ".join(command_of(child))]


def newest(checkpoints: Path) -> int:
    """Return the step of the newest checkpoint, 0 if there is none."""
    steps = [int(path.parent.name[-8:]) for path in checkpoints.glob("*/step-*/state.json")]
    return max(steps, default=0)


def test_two_processes_are_killed_and_four_go_on(project: Path, tmp_path: Path) -> None:
    checkpoints = project / ".checkpoints" / "distill"
    command = [Path(sys.executable).with_name("lcm-lora"), "distill"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) as run:
        while not newest(checkpoints) and run.poll() is None:
            time.sleep(0.02)
        both = workers(run.pid)
        assert len(both) == 2
        both[1].send_signal(signal.SIGKILL)
        _, told = run.communicate()
    assert run.returncode == 1
    *_, last = told.splitlines()
    assert last.startswith("error: distill: its process 1 was ended by SIGKILL; run the same")
    assert "Traceback" not in told
    assert not any(worker.is_running() for worker in both)

    killed_at = newest(checkpoints)
    steps = killed_at + 2
    four, one = (
        trained(project, tmp_path / str(count), count, steps, place)
        for count, place in ((4, checkpoints), (1, tmp_path / "fresh"))
    )
    fresh = notes(tmp_path / "1")
    assert [place for place, *_ in fresh] == list(range(steps * 8))
    assert notes(tmp_path / "4") == fresh[killed_at * 8 :]
    apart = sum(float((four[name] - value).square().sum()) for name, value in one.items())
    moved = sum(float(v.square().sum()) for name, v in one.items() if "lora_up" in name)
    assert apart < 1e-4 * moved


def trained(
    project: Path, out: Path, count: int, steps: int, checkpoints: Path
) -> dict[str, Tensor]:
    """Train with `count` processes, notes in the folder `out`; return the last weights."""
    out.mkdir()
    with Hashes(out / "hashes.sqlite") as hashes:
        job = Job(
            Distill.model_validate(PARAMS | {"steps": steps}),
            CPU,
            functools.partial(load_base, shapes_inventory(), CPU),
            project / "data" / "cache",
            hashes,
            checkpoints,
            out / "candidates",
            out / "training",
            Origin(git_commit="a", git_dirty=False, code_sha256="c"),
        )
        if count == 1:
            work_and_note(Ranks(), job, out)
        else:
            launch(count, work_and_note, job, out)
    return load_file(out / "candidates" / candidate_name(steps) / WEIGHTS)
