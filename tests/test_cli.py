"""The commands as users meet them: in a process of their own, in a folder of their own."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import warm_start

from lcm_lora.errors import is_out_of_memory
from lcm_lora.files import sha256

ROOT = Path(__file__).parent.parent
LCM_LORA = Path(sys.executable).with_name("lcm-lora")
pytestmark = pytest.mark.usefixtures("warm_starts")


def call(
    *arguments: str, cwd: Path, limit: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    # What is limited is the process that is started, so it must work itself.
    cold = {name: value for name, value in os.environ.items() if name != warm_start.PLACE}
    cold["PYTHONDONTWRITEBYTECODE"] = "1"  # Python 3.11 would leave the half of a file that fits
    return subprocess.run(
        [LCM_LORA, *arguments],
        cwd=cwd,
        env=cold if limit else os.environ,
        text=True,
        capture_output=True,
        preexec_fn=limit,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project with small parameters."""
    text = (ROOT / "params.yaml").read_text()
    for old, new in (
        ("count: 8192", "count: 100"),
        ("held_out: 0.14", "held_out: 0.3"),
        ("selection: 0.03", "selection: 0.15"),
        ("prompts: 320", "prompts: 8"),
        ("prompts: 160", "prompts: 8"),
        ("selection: 192", "selection: 8"),
        ("rows: 8", "rows: 4"),
        ("worst: 12", "worst: 4"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "params.yaml").write_text(text)
    return tmp_path


def complains(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a command ended in one line that holds `words`, and with an exit code."""
    assert done.returncode == 1
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("error: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in last, last


def test_a_misspelt_parameter(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("shard_samples", "shard_sample"))
    for stage in ("inventory", "prepare"):
        complains(call(stage, cwd=project), "prepare", "shard_sample", "did you mean")


def test_no_parameters(tmp_path: Path) -> None:
    complains(call("prepare", cwd=tmp_path), "params.yaml: no such file", "lcm-lora params shapes")


def test_an_unknown_painter(project: Path) -> None:
    painters = "choose one of adapter, champion, ddim, dpmpp"
    complains(call("generate", "ddpm", cwd=project), "ddpm", painters)
    complains(call("features", "ddpm", cwd=project), "ddpm", f"{painters}, real, teacher, unipc")


def test_an_output_that_cannot_be_written(project: Path) -> None:
    (project / "data").write_text("in the way")
    complains(call("inventory", cwd=project), "data", "move what is there out of the way")
    assert (project / "data").read_text() == "in the way"


def no_file_over_8_kb() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def test_a_full_disk_keeps_what_was_made(project: Path) -> None:
    for stage in ("inventory", "prepare"):
        assert call(stage, cwd=project).returncode == 0
    before = sha256(project / "data")
    shutil.rmtree(project / ".checkpoints")
    for stage, place in (("prepare", ".tar"), ("encode", ".safetensors")):
        done = call(stage, cwd=project, limit=no_file_over_8_kb)
        complains(done, "no space left", place)
        assert sha256(project / "data") == before
        assert not [path for path in project.rglob(".*.*") if path.is_dir()]


def test_a_machine_that_pulled_the_outputs_goes_on_from_them(project: Path) -> None:
    for stage in ("inventory", "prepare"):
        assert call(stage, cwd=project).returncode == 0
    before = sha256(project / "data")
    shutil.rmtree(project / ".checkpoints")
    assert call("inventory", cwd=project).returncode == 0
    shutil.rmtree(project / "data" / "shards")  # as DVC does before it runs a stage
    done = call("prepare", cwd=project)
    assert done.returncode == 0
    assert "100 kept from earlier runs" in done.stderr
    assert sha256(project / "data") == before


def test_the_doctor_says_whether_a_run_can_start(project: Path) -> None:
    done = call("doctor", cwd=project)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "a run can start"
    assert [line.split()[1] for line in lines if line.startswith("ok ")] == [
        *("parameters", "base", "pictures", "networks", "painters", "transfer"),
        *("store", "device", "memory", "disk", "time"),
    ]
    said = " ".join(done.stdout.split())
    told = r"teacher and solvers, once, \S+ \w+, adapter and champion \S+ \w+, transfer \S+ \w+, at"
    assert re.search(told, said)
    assert not (project / "data").exists()
    text = (project / "params.yaml").read_text()
    for old, new in (
        ("batch: 32", "batch: 32768"),
        ("shapes: {kind: shapes}", "shapes: {kind: inception, path: gone.pt}"),
        ("teacher: {", "teacher: {adapters: {gone.safetensors: 1.0}, "),
        ("metric: attributes", "metric: clip_score"),
        ('"kid_shapes:teacher"', "clip_score"),
        ('"kid_shapes:teacher"', "clip_score"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    (project / "params.yaml").write_text(text)
    done = call("doctor", cwd=project)
    complains(done, "a run would fail; mend what is marked")
    said = " ".join(done.stdout.split())
    assert "no networks score.networks" in said
    assert "gone.pt: no such file" in said
    assert "no painters generate painter teacher: gone.safetensors: no such adapter" in said
    assert "no memory training takes" in said
    assert "raise distill.accumulation, set distill.gradient_checkpointing" in said


def test_what_is_bound_to_fail_fails_at_the_first_look(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    for old, new, words in (
        ("prompts: 8", "prompts: 800", ("evaluation.prompts", "100")),
        ("grid: 50", "grid: 48", ("distill.grid", "48", "1000")),
        ("    - steps: 4\n", "    - steps: 5\n", ("registry.gate.0", "not painted at 5 steps")),
        (", {steps: 50, guidance: 3.0, seeds: 1}", "", ("painter teacher", "no seeds but 0")),
        (
            "sampler: dpmpp,",
            "sampler: dpmpp, adapters: {gone.safetensors: 0.5},",
            ("painter dpmpp", "gone.safetensors", "no such adapter"),
        ),
        ("clip_norm: 1.0", "clip_norm: .inf", ("distill.clip_norm", "finite")),
        ("model: shapes", "model: gone.safetensors", ("gone.safetensors", "no such")),
    ):
        assert old in text, old
        (project / "params.yaml").write_text(text.replace(old, new, 1))
        complains(call("inventory", cwd=project), *words)
    huge = text.replace("resolution: 32", "resolution: 4096").replace(
        "count: 100", "count: 9000000"
    )
    (project / "params.yaml").write_text(huge)
    complains(call("inventory", cwd=project), "a run needs about", "are free")


def test_stages_without_their_inputs_name_the_stage_that_makes_them(project: Path) -> None:
    complains(call("prepare", cwd=project), "lcm-lora inventory")
    assert call("inventory", cwd=project).returncode == 0
    complains(call("encode", cwd=project), "lcm-lora prepare")
    complains(call("distill", cwd=project), "lcm-lora encode")
    complains(call("select", cwd=project), "lcm-lora prepare")
    complains(call("image", "a ring", cwd=project), "lcm-lora select")


def test_a_device_that_is_too_small_is_one_line() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(10**16)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_out_of_memory(RuntimeError("a defect of ours"))


def test_presets_are_printed(tmp_path: Path) -> None:
    done = call("params", "sd15", cwd=tmp_path)
    assert done.stdout == (ROOT / "lcm_lora" / "presets" / "sd15.yaml").read_text()
    complains(call("params", "sd3", cwd=tmp_path), "choose one of sd15, sdxl, shapes, ssd1b")


def small_files() -> None:
    """Let no file grow beyond what a picture takes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))


def test_a_picture_on_demand(project: Path, cache: Path) -> None:
    shutil.copytree(cache, project / "data" / "cache")
    assert call("inventory", cwd=project).returncode == 0
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(
        re.sub(r"(?s)(distill:.*?steps: )\d+(.*?batch: )\d+", r"\g<1>2\g<2>8", text)
    )
    assert call("distill", cwd=project).returncode == 0
    of = ("--adapter", "artifacts/candidates/step-00000002")
    done = call("image", "a small red ring on a navy background", *of, "--seed", "3", cwd=project)
    assert done.returncode == 0, done.stderr
    assert (project / "image.png").read_bytes()[:4] == b"\x89PNG"
    before = (project / "image.png").read_bytes()
    complains(call("image", "a ring", *of, cwd=project, limit=small_files), "no space left")
    assert (project / "image.png").read_bytes() == before
    complains(call("image", "a ring", *of, "--out", "image.xyz", cwd=project), "image.xyz", "png")


ENDED = """
import time
from pathlib import Path
from lcm_lora.cli import STAGE, app, command
from lcm_lora.files import new_folder

@command(STAGE)
def wait() -> None:
    with new_folder(Path("out")):
        print("in", flush=True)
        while True:
            time.sleep(0.1)

app(["wait"])
"""


def test_a_stage_that_is_ended_leaves_nothing_half_made(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDED]
    with subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "in\n"
        process.terminate()
        assert process.communicate() == ("", "")
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
