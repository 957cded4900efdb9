"""What a fine-tune or a style that changes makes due: its own transfer stages, and no training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from making import shapes_base
from presets import ROOT
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from styles import write_style_of

from lcm_lora.shapes import places
from lcm_lora.stages import inventory
from tasks.running.graph import TRANSFER_FLOW, Stage, but, of_flow, plan

WEIGHTS = Path("tuned") / "unet" / "diffusion_pytorch_model.safetensors"
STYLE = Path("style.safetensors")
SUBJECTS = {"tuned": {"base": "tuned"}, "style": {"adapters": {"style.safetensors": 1.0}}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real graph, all of it up to date: what the look saw is real, the rest stands for more."""
    root = tmp_path_factory.mktemp("due")
    params: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")
    params["transfer"]["subjects"] = SUBJECTS
    (root / "params.yaml").write_text(json.dumps(params))
    shutil.copy(ROOT / "dvc.yaml", root)
    code = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(ROOT / "lcm_lora", root / "lcm_lora", ignore=code)
    shutil.copytree(places.BASE, root / "tuned")
    write_style_of(shapes_base().pipeline, root / STYLE, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        Repo.init(no_scm=True)
        inventory.run()
        for stage in plan(root):
            for path in stage.outputs:
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text("made")
        with Repo(str(root)) as repo:
            repo.commit(force=True)
    return root


def due(root: Path) -> set[str]:
    """Return the stages that DVC would run now, before it knows what they will make."""
    inventory.run()
    return {stage.name for stage in plan(root) if stage.changes} - {"inventory"}


def after(stages: list[Stage], first: str) -> set[str]:
    """Return the stages that read, at last, what one makes."""
    found = {first}
    for stage in stages:
        if found & set(stage.upstream):
            found.add(stage.name)
    return found - {first}


@pytest.mark.parametrize(("name", "file"), [("tuned", WEIGHTS), ("style", STYLE)])
def test_what_changes_is_tried_again_and_nothing_is_trained(
    name: str, file: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    before = file.read_bytes()
    save_file({key: tensor * 1.01 for key, tensor in load_file(file).items()}, file)
    try:
        assert due(project) == {f"transfer@{name}", "transfer-report"}
    finally:
        file.write_bytes(before)  # so that the next one finds nothing else


def test_nothing_but_transfer_stages_reads_what_a_subject_makes(project: Path) -> None:
    stages = plan(project)
    for name in SUBJECTS:
        assert after(stages, f"transfer@{name}") == {
            *(f"transfer-features@{name}", f"transfer-score@{name}", "transfer-report")
        }
    flow = [stage.name for stage in of_flow(stages, TRANSFER_FLOW)]
    rest = {stage.name for stage in but(stages, TRANSFER_FLOW)}
    assert flow == [stage.name for stage in stages if stage.name in flow], "in an order that runs"
    # What they need, which is brought back where it is not here.
    needed = {"inventory", "prepare", "encode", "distill", "select"}
    assert set(flow) & rest == needed
    assert set(flow) - needed == {
        "transfer-report",
        *(
            f"{kind}@{name}"
            for kind in ("transfer", "transfer-features", "transfer-score")
            for name in SUBJECTS
        ),
    }
    assert {*flow, *rest} == {stage.name for stage in stages}
