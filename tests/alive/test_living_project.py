"""A project that lives: pictures come and go, the base and the code change; by DVC and by the flow.

The real graph with one solver of three, on the shapes base and pieces of real photographs: in tars
that are a DVC output themselves, then in a folder. Each step is taken by one of the two drivers;
the other one then finds nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import warm_start
from mlflow import MlflowClient
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_images

from lcm_lora.shapes import places

pytestmark = pytest.mark.long
TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
NAME = "living"

NOTING = f"""
import runpy, sys
from pathlib import Path
if Path((*sys.orig_argv, "")[1]).name == "lcm-lora":
    with open(".started", "a") as notes:
        notes.write(" ".join(sys.orig_argv[2:]) + "\\n")
runpy.run_path({str(TESTS / "warm" / "sitecustomize.py")!r})
"""

PAINTERS = ("teacher", "ddim", "adapter", "champion")
EVERYTHING = {
    *("inventory", "prepare", "encode", "distill", "select", "features real"),
    *("score", "decide", "smoke", "latency", "report", "transfer-report"),
    *(f"generate {painter}" for painter in PAINTERS),
    *(f"features {painter}" for painter in PAINTERS),
}
JUDGING = {"score", "decide", "report"}
TRAINING = {"distill", "select", "generate adapter", "features adapter", "smoke", *JUDGING}
TRAINING |= {"transfer-report"}  # of no subject
COMPARING = {"generate champion", "features champion", *JUDGING}


@dataclass
class Living:
    """A real project, small: its own copy of the library, its own base, its own pictures."""

    root: Path
    printed: str = ""
    """What the last run printed."""

    def call(self, *command: str) -> str:
        """Run a command in the folder; it must succeed; return what it printed."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def run_dvc(self) -> set[str]:
        """Bring it up to date with `dvc repro`; return the stages that ran."""
        return self._run("dvc", "repro")

    def run_flow(self) -> set[str]:
        """Bring it up to date with the flow; return the stages that ran."""
        return self._run(sys.executable, "-m", "flows.retrain")

    def _run(self, *command: str) -> set[str]:
        notes = self.root / ".started"
        notes.unlink(missing_ok=True)
        self.printed = self.call(*command)
        return set(notes.read_text().splitlines())

    def set_source(self, kind: str, path: str) -> None:
        """Take training pictures from another place."""
        (self.root / "params.yaml").write_text(json.dumps(small_params(kind, path)))

    def pieces(self, stage: str) -> dict[str, int]:
        """Return the pieces of a stage, and when each was made."""
        folder = self.root / ".checkpoints" / stage
        return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    def status(self) -> Any:
        """Return what DVC says is out of date."""
        return json.loads(self.call("dvc", "status", "--json"))

    def weights(self) -> bytes:
        adapter = self.root / "artifacts" / "adapter"
        return (adapter / "pytorch_lora_weights.safetensors").read_bytes()

    def versions(self) -> list[dict[str, str]]:
        """Return the tags of the registered versions, the first one first."""
        client = MlflowClient(f"sqlite:///{self.root / '.mlflow' / 'mlflow.db'}")
        found = client.search_model_versions(f"name = '{NAME}'")
        return [dict(v.tags) for v in sorted(found, key=lambda v: int(v.version))]

    def commit(self, message: str) -> str:
        self.call("git", "add", "--all")
        who = ("-c", "user.name=Toy", "-c", "user.email=toy@example.com")
        self.call("git", *who, "commit", "--quiet", "--message", message)
        return self.call("git", "rev-parse", "HEAD").strip()


def pieces_of_photographs() -> list[Image.Image]:
    china, flower = (Image.fromarray(picture) for picture in load_sample_images().images)
    return [
        photograph.crop((x, y, x + 40, y + 40))
        for photograph in (china, flower)
        for y in range(0, 400, 40)
        for x in range(0, 600, 40)
    ]


PIECES = pieces_of_photographs()


def put_pictures(folder: Path, indices: range) -> None:
    """Write pieces of photographs with captions into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in indices:
        PIECES[i].save(folder / f"{i:04d}.png", compress_level=1)
        (folder / f"{i:04d}.txt").write_text(f"piece {i} of a photograph")


def put_tar(tar: Path, indices: range) -> None:
    """Write the same as a tar."""
    made = tar.parent.parent / "made"
    put_pictures(made, indices)
    tar.parent.mkdir(exist_ok=True)
    with tarfile.open(tar, "w") as writer:
        for path in sorted(made.iterdir()):
            writer.add(path, path.name)
    shutil.rmtree(made)


def small_params(kind: str, path: str) -> dict[str, Any]:
    """Return the shapes preset, as small as it can be, on pictures and a base of its own."""
    params: dict[str, Any] = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    teacher = [{"steps": 3, "guidance": 3.0, "seeds": seeds} for seeds in (0, 1)]
    params["base"]["model"] = "base"
    params["prepare"] |= {
        "source": {"kind": kind, "path": path},
        "held_out": 0.3,
        "selection": 0.3,
        "quality": 90,
    }
    params["evaluation"] = {"source": None, "prompts": 6, "selection": 8}
    params["transfer"]["subjects"] = {}
    params["distill"] |= {"steps": 2, "batch": 4, "rank": 2, "alpha": 2, "checkpoint_every": 1}
    params["distill"]["candidates"] = {"first": 1, "every": 1}
    params["select"] |= {"metric": "kid_shapes:real", "steps": 2}
    params["generate"] |= {
        "adapter": {"sampler": "lcm", "cells": [{"steps": 2, "guidance": 1.0}]},
        "painters": {
            "teacher": {"sampler": "ddim", "cells": teacher},
            "ddim": {"sampler": "ddim", "cells": [{"steps": 1, "guidance": 3.0}]},
        },
    }
    params["score"]["attributes"] = False
    params["report"] |= {"rows": 2, "worst": 2}
    gate = {"steps": 2, "limits": {"clip_score": 0.0}, "target": {"kid_shapes:real": 1e6}}
    params["registry"] |= {"name": NAME, "experiment": NAME, "gate": [gate], "smoke": 1}
    params["retrain"]["workers"] = 2
    return params


@pytest.fixture
def project(
    tmp_path: Path, prefect_server: None, loaded: Path, monkeypatch: pytest.MonkeyPatch
) -> Living:
    """Return a committed project whose pictures are tars under DVC."""
    from prefect.settings import PREFECT_API_URL

    made = Living(tmp_path / "project")
    shutil.copytree(
        ROOT / "lcm_lora", made.root / "lcm_lora", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(places.BASE, made.root / "base")
    shutil.copy(ROOT / ".dvcignore", made.root)
    shutil.copy(ROOT / "dvc.yaml", made.root)
    (made.root / "sitecustomize.py").write_text(NOTING)
    made.set_source("webdataset", "tars")
    ignored = ("data", "artifacts", "folder", "base", ".mlflow", ".prefect", ".checkpoints")
    lines = [*(f"/{name}/" for name in ignored), "/.started", "__pycache__"]
    (made.root / ".gitignore").write_text("\n".join(lines) + "\n")
    environment = {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "MLFLOW_TRACKING_URI": f"sqlite:///{made.root / '.mlflow' / 'mlflow.db'}",
        "HF_HUB_OFFLINE": "1",
        **warm_start.environment(loaded, made.root, ROOT),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made.call("git", "init", "--quiet", "--initial-branch", "main")
    made.call("dvc", "init", "--quiet")
    made.call("dvc", "config", "cache.type", "hardlink,copy")
    for number in range(6):
        put_tar(made.root / "tars" / f"{number}.tar", range(number * 10, number * 10 + 10))
    made.call("dvc", "add", "--quiet", "tars")
    return made


def kept_once(project: Living) -> bool:
    """Tell whether shards and latents are on disk once: memory, output and DVC's cache are one."""
    data = project.root / "data"
    files = [*(data / "shards").glob("*.tar"), *(data / "cache").glob("*.safetensors")]
    return bool(files) and all(path.stat().st_nlink >= 3 for path in files)


def harm_nothing(project: Living) -> None:
    """Check that every file in DVC's cache still is what its name says: no stage wrote into it."""
    for path in (project.root / ".dvc" / "cache" / "files" / "md5").glob("??/*"):
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        assert f"{path.parent.name}{path.name}".removesuffix(".dir") == digest


def test_a_project_lives(project: Living) -> None:
    root, tars = project.root, project.root / "tars"
    first_commit = project.commit("A project and its pictures")

    # Everything, once.
    assert project.run_flow() == EVERYTHING
    assert "source: first look: 6 tars, 60 pictures" in project.printed
    (version,) = project.versions()
    assert version["git_sha"] == first_commit
    assert "nobody was champion" in version["gate"]
    first_weights = project.weights()
    assert kept_once(project)

    # Nothing new, nothing runs but the look; a touch is nothing new.
    (tars / "0.tar").touch()
    for run in (project.run_dvc, project.run_flow):
        assert run() == {"inventory"}
        assert "source: nothing new (6 tars, 60 pictures)" in project.printed
    assert project.status() == {"inventory": ["always changed"]}
    assert len(project.versions()) == 1

    # A fifth more, as a new version of the data: only the new is prepared and encoded, teacher and
    # solver sets stay, a new adapter is trained and judged.
    kept = {stage: project.pieces(stage) for stage in ("prepare", "encode")}
    for number in (6, 7):
        put_tar(tars / f"{number}.tar", range(number * 6 + 24, number * 6 + 30))
    project.call("dvc", "add", "--quiet", "tars")
    project.commit("More pictures")
    assert project.run_dvc() == {"inventory", "prepare", "encode", *TRAINING}
    assert "source: 2 new tars, 12 pictures more: 72" in project.printed
    for stage in ("prepare", "encode"):
        assert kept[stage].items() <= project.pieces(stage).items()
        assert len(project.pieces(stage)) == len(kept[stage]) + 2
    # The flow brings the champion, which was the adapter here before, and judges once more.
    assert project.run_flow() == {"inventory", *COMPARING}
    assert "champion: living version 1" in project.printed
    assert [bool(v["gate"]) for v in project.versions()] == [True, True]
    assert project.weights() != first_weights

    # Back to the first version of the data: all is restored, and its adapter is known.
    project.call("git", "checkout", "--quiet", first_commit, "--", "tars.dvc")
    project.call("dvc", "checkout", "--quiet", "tars.dvc")
    assert project.run_flow() == {"inventory", *JUDGING}
    assert project.weights() == first_weights
    assert len(project.versions()) == 2

    # The same pictures in a folder, without one that was trained on: the sets that measure stay.
    for number in range(6):
        put_pictures(root / "folder", range(number * 10, number * 10 + 10))
    trained = trained_pictures(project)
    (root / "folder" / f"{trained[-1]}.png").unlink()
    project.set_source("folder", "folder")
    assert project.run_dvc() == {"inventory", "prepare", "encode", *TRAINING}
    assert len(trained_pictures(project)) == len(trained) - 1
    assert project.weights() != first_weights
    assert project.run_flow() == {"inventory"}
    assert len(project.versions()) == 3

    # The base is replaced by another one of the same name.
    weights = root / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, weights)
    assert project.run_flow() == EVERYTHING - {"prepare", "features real"}
    assert project.run_dvc() == {"inventory"}

    # The mathematics of the step changes: the finished run is not taken for the new one.
    step = root / "lcm_lora" / "consistency" / "solver.py"
    step.write_text(step.read_text().replace("+ w * (", "+ 1.5 * w * ("))
    commit = project.commit("Guide more")
    before = project.weights()
    assert project.run_flow() == {"inventory", *TRAINING}
    assert "resumed" not in project.printed
    assert project.weights() != before
    assert project.versions()[-1]["git_sha"] == commit
    assert kept_once(project)
    harm_nothing(project)


def trained_pictures(project: Living) -> list[str]:
    """Return the names of the pictures in the training shards, without their suffix."""
    names = []
    for path in (project.root / "data" / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            records = [tar.extractfile(m) for m in tar if m.name.endswith(".json")]
            names += [json.loads(record.read())["source"] for record in records if record]
    return sorted(name.removesuffix(".png") for name in names)
