"""A run stays off the network unless something that its parameters name is on the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flows.environment import stay_offline
from lcm_lora.params.base import Base
from lcm_lora.params.file import Params, load_params
from lcm_lora.params.generate import Cell, Painter
from lcm_lora.params.transfer import Subject

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")


def replaced(**sections: Any) -> Params:
    """Return this project's parameters, where nothing is on the hub, with other sections."""
    alone = PARAMS.transfer.model_copy(update={"subjects": {}})
    return PARAMS.model_copy(update={"transfer": alone} | sections)


@pytest.mark.parametrize(
    ("base", "is_offline"),
    [
        (Base(), True),
        (Base(model="folder"), True),
        (Base(model="folder", vae="folder"), True),
        (Base(vae="team/vae"), False),
        (Base(model="folder", vae="team/vae@main"), False),
        (Base(model="team/base"), False),
        (Base(model="team/base", vae="folder"), False),
        (Base(model="shapes-dusk"), True),
        (Base(model="models:/modules@finetune-dusk"), True),
    ],
)
def test_only_a_hub_id_needs_the_network(
    base: Base, is_offline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "to be restored")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    stay_offline(replaced(base=base))
    assert os.environ.get("HF_HUB_OFFLINE") == ("1" if is_offline else None)


@pytest.mark.parametrize(
    ("told", "is_offline"),
    [
        ({"base": "shapes-dusk", "adapters": {"shapes-ink": 1.0}}, True),
        ({"adapters": {"models:/modules@style-ink": 1.0, "folder": 1.0}}, True),
        ({"base": "team/fine-tune"}, False),
        ({"adapters": {"shapes-ink": 1.0, "team/style@v1": 0.5}}, False),
    ],
)
@pytest.mark.parametrize("who", ["painter", "subject"])
def test_what_painters_and_subjects_name_counts_too(
    who: str,
    told: dict[str, Any],
    is_offline: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "to be restored")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    if who == "subject":
        subjects = {"who": Subject(**told)}
        stay_offline(replaced(transfer=PARAMS.transfer.model_copy(update={"subjects": subjects})))
    else:
        drawn = Painter(sampler="lcm", cells=(Cell(steps=4, guidance=1.0),), **told)
        painters = PARAMS.generate.painters | {"who": drawn}
        stay_offline(replaced(generate=PARAMS.generate.model_copy(update={"painters": painters})))
    assert os.environ.get("HF_HUB_OFFLINE") == ("1" if is_offline else None)


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    stay_offline(replaced())
    assert os.environ["HF_HUB_OFFLINE"] == "0"
