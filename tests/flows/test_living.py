"""A project that lives: pictures come and go, the base and the code change; by DVC and by the flow.

The real stages on the shapes base, with pieces of real photographs, each step by one of the two
drivers; the other one then finds nothing to do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from mlflow import MlflowClient
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_images

from lcm_lora.evaluation.table import load_table
from lcm_lora.params.generate import SAMPLERS
from lcm_lora.shapes import places

ROOT = Path(__file__).parents[2]
NAME = "living"

NOTING = """
import sys
from pathlib import Path
if len(sys.orig_argv) > 1 and Path(sys.orig_argv[1]).name == "lcm-lora":
    with open(".started", "a") as notes:
        notes.write(" ".join(sys.orig_argv[2:]) + "\\n")
"""

EVERYTHING = {
    *("inventory", "prepare", "encode", "distill", "score", "report", "features real"),
    *(f"generate {sampler}" for sampler in SAMPLERS),
    *(f"features {sampler}" for sampler in SAMPLERS),
}
TRAINING = {"distill", "generate lcm", "features lcm", "score", "report"}
"""What follows from new latents, or from a new way to train on them."""


class Living(Project):
    """A real project, small: its own copy of the library, its own base, its own pictures."""

    def run_dvc(self) -> set[str]:
        """Bring it up to date with `dvc repro`; return the stages that ran."""
        return self._run("dvc", "repro")

    def run_flow(self) -> set[str]:
        """Bring it up to date with the flow; return the stages that ran."""
        return self._run(sys.executable, "-m", "flows.retrain")

    def _run(self, *command: str) -> set[str]:
        notes = self.root / ".started"
        notes.unlink(missing_ok=True)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = done.stdout
        assert done.returncode == 0, self.printed
        return set(notes.read_text().splitlines())

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


def small_params(kind: str) -> dict[str, Any]:
    """Return the shapes preset, as small as it can be, on pictures and a base of its own."""
    params: dict[str, Any] = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    cells = {"teacher": (3, 3.0), "lcm": (2, 1.0), "ddim": (1, 3.0), "dpmpp": (1, 3.0)}
    params["base"]["model"] = "base"
    params["prepare"] |= {
        "source": {"kind": kind, "path": "source"},
        "held_out": 0.3,
        "selection": 0.05,
        "quality": 90,
    }
    params["evaluation"] = {"source": None, "prompts": 6, "selection": 1}
    params["distill"] |= {"steps": 2, "batch": 4, "rank": 2, "alpha": 2, "checkpoint_every": 1}
    params["generate"]["cells"] = {
        name: [{"steps": steps, "guidance": guidance}]
        for name, (steps, guidance) in (cells | {"unipc": (1, 3.0)}).items()
    }
    params["score"] |= {"attributes": False, "resamples": 20}
    params["report"] |= {"rows": 2, "worst": 2}
    gate = {"steps": 2, "metric": "clip_score", "limit": 0.0}
    params["registry"] = {"name": NAME, "experiment": NAME, "gate": gate}
    params["retrain"]["workers"] = 2
    return params


@pytest.fixture
def make(
    tmp_path: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Living]:
    """Return a function that makes a committed project with a source of a kind."""
    from prefect.settings import PREFECT_API_URL

    def build(kind: str) -> Living:
        project = Living(tmp_path / "project")
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "lcm_lora", project.root / "lcm_lora", ignore=ignore)
        shutil.copytree(places.BASE, project.root / "base")
        (project.root / "sitecustomize.py").write_text(NOTING)
        (project.root / "params.yaml").write_text(json.dumps(small_params(kind)))
        shutil.copy(ROOT / "dvc.yaml", project.root)
        ignored = ("data", "artifacts", "source", "base", ".mlflow", ".prefect", ".checkpoints")
        lines = [*(f"/{name}/" for name in ignored), "/.started", "__pycache__"]
        (project.root / ".gitignore").write_text("\n".join(lines) + "\n")
        environment = {
            "PYTHONPATH": f"{project.root}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PREFECT_API_URL": str(PREFECT_API_URL.value()),
            "MLFLOW_TRACKING_URI": f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}",
            "HF_HUB_OFFLINE": "1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        project.call("git", "init", "--quiet", "--initial-branch", "main")
        project.call("dvc", "init", "--quiet")
        project.call("dvc", "config", "cache.type", "reflink,hardlink,copy")
        project.commit("A project")
        return project

    return build


def harm_nothing(project: Living) -> None:
    """Check that every file in DVC's cache still is what its name says."""
    import hashlib

    for path in (project.root / ".dvc" / "cache" / "files" / "md5").glob("??/*"):
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        assert f"{path.parent.name}{path.name}".removesuffix(".dir") == digest


def test_a_project_on_a_folder_lives(make: Callable[[str], Living]) -> None:
    project = make("folder")
    source, root = project.root / "source", project.root
    put_pictures(source, range(100, 160))
    first_commit = project.call("git", "rev-parse", "HEAD").strip()

    assert project.run_flow() == EVERYTHING
    assert len(project.versions()) == 1
    assert project.versions()[0]["git_sha"] == first_commit
    assert "nobody was champion" in project.versions()[0]["gate"]
    for run in (project.run_dvc, project.run_flow, project.run_dvc):
        assert run() == {"inventory"}
    assert project.status() == {"inventory": ["always changed"]}
    assert len(project.versions()) == 1

    # A fifth more: sorted behind, so that the evaluation set stays; run by DVC.
    kept = {stage: project.pieces(stage) for stage in ("prepare", "encode")}
    put_pictures(source, range(160, 172))
    assert project.run_dvc() == {"inventory", "prepare", "encode", *TRAINING}
    for stage in ("prepare", "encode"):
        # What was made of the runs of pictures that stayed is what was made then.
        now = project.pieces(stage)
        assert {k: v for k, v in now.items() if k in kept[stage]}.items() <= kept[stage].items()
    assert project.run_flow() == {"inventory"}
    assert len(project.versions()) == 2
    assert project.versions()[1]["gate"]

    # A picture is touched, which is no change; then one of those that train is removed.
    (source / "0100.png").touch()
    assert project.run_dvc() == {"inventory"}
    before = project.weights()
    trained = trained_pictures(project)
    (source / trained[-1]).unlink()
    assert project.run_flow() == {"inventory", "prepare", "encode", *TRAINING}
    assert project.weights() != before
    assert len(trained_pictures(project)) == len(trained) - 1
    assert project.run_dvc() == {"inventory"}

    # The base is replaced by another one of the same name.
    weights = root / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, weights)
    assert project.run_flow() == EVERYTHING - {"prepare", "features real"}
    assert project.run_dvc() == {"inventory"}

    # The mathematics of the step changes.
    step = root / "lcm_lora" / "consistency" / "solver.py"
    step.write_text(step.read_text().replace("+ w * (", "+ 1.5 * w * ("))
    commit = project.commit("Guide more")
    before = project.weights()
    assert project.run_dvc() == {"inventory", *TRAINING}
    assert "resumed" not in project.printed
    assert project.weights() != before
    assert project.run_flow() == {"inventory"}
    assert project.versions()[-1]["git_sha"] == commit
    harm_nothing(project)


def trained_pictures(project: Living) -> list[str]:
    """Return the names of the pictures in the training shards."""
    names = []
    for path in (project.root / "data" / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            records = [tar.extractfile(m) for m in tar if m.name.endswith(".json")]
            names += [json.loads(record.read())["source"] for record in records if record]
    return sorted(names)


def test_a_project_on_tars_lives(make: Callable[[str], Living]) -> None:
    project = make("webdataset")
    tars = project.root / "source"
    for number in range(6):
        put_tar(tars / f"{number}.tar", range(number * 10, number * 10 + 10))

    assert project.run_dvc() == EVERYTHING
    assert project.run_flow() == {"inventory"}
    assert len(project.versions()) == 1
    table = load_table(project.root / "artifacts" / "scores" / "scores.json")
    painted = {row.sampler for row in table.rows}
    assert painted == {"real", *SAMPLERS}

    # Two new tars; the pieces of the old ones are kept as they are.
    kept = {stage: project.pieces(stage) for stage in ("prepare", "encode")}
    put_tar(tars / "6.tar", range(60, 66))
    put_tar(tars / "7.tar", range(66, 72))
    assert project.run_flow() == {"inventory", "prepare", "encode", *TRAINING}
    assert "2 new tars, 12 pictures more: 72" in project.printed
    for stage in ("prepare", "encode"):
        # Besides two new ones, the sets that measure are pieces too.
        assert kept[stage].items() <= project.pieces(stage).items()
        assert len(project.pieces(stage)) == len(kept[stage]) + 2
    assert len(project.versions()) == 2
    assert project.run_dvc() == {"inventory"}

    # A tar is renamed: nothing follows; another is written anew without one of its pictures.
    (tars / "7.tar").rename(tars / "8.tar")
    assert project.run_dvc() == {"inventory", "prepare"}
    put_tar(tars / "6.tar", range(60, 65))
    assert project.run_dvc() == {"inventory", "prepare", "encode", *TRAINING}
    assert project.run_flow() == {"inventory"}
    assert len(project.versions()) == 3
    harm_nothing(project)
