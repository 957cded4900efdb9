"""A run stays off the network unless something of its base is on the hub."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.environment import stay_offline
from lcm_lora.params.base import Base


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
    ],
)
def test_only_a_hub_id_needs_the_network(
    base: Base, is_offline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "to be restored")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    stay_offline(base)
    assert os.environ.get("HF_HUB_OFFLINE") == ("1" if is_offline else None)


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    stay_offline(Base())
    assert os.environ["HF_HUB_OFFLINE"] == "0"
