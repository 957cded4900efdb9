"""The stages of a subject one after the other, as DVC runs them, on four captions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from making import make_adapter, shapes_inventory
from presets import cell, preset

from lcm_lora import layout
from lcm_lora.adapter_files import RECIPE
from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import Table, read_table
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.networks import look_at_networks
from lcm_lora.inventory.subjects import look_at_subjects
from lcm_lora.params.file import Params
from lcm_lora.records import write_record
from lcm_lora.stages import transfer, transfer_features, transfer_report, transfer_score

ONE = cell(1)
TRANSFER = {
    "prompts": 4,
    "painters": {
        "teacher": {"sampler": "ddim", "cells": [cell(2), cell(2, seeds=1)]},
        "ddim": {"sampler": "ddim", "cells": [ONE]},
    },
    "adapter": {"sampler": "lcm", "cells": [ONE]},
    "map": {"cell": ONE, "acceleration": [0.5, 1.0], "style": [1.0]},
    "subjects": {"ink": {"adapters": {"shapes-ink": 1.0}, "looks": ["ink"]}},
}


def look(root: Path, params: Params) -> None:
    """Write what the first look sees, as far as a subject's stages ask."""
    inventory, (name, subject), *_ = root / layout.INVENTORY, *params.transfer.subjects.items()
    with Hashes(root / layout.HASHES) as hashes:
        found = look_at_subjects(params.transfer, shapes_inventory(), hashes)
        networks = look_at_networks(params.score, hashes, looks=subject.looks)
    write_record(inventory / "base.json", shapes_inventory())
    write_record(inventory / "transfer" / f"{name}.json", found[name])
    write_record(inventory / "transfer-networks" / f"{name}.json", networks)


@pytest.fixture(scope="module")
def project(data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with data and an adapter, after its first look."""
    root = tmp_path_factory.mktemp("tried")
    params = preset(lambda p: (p.update(transfer=TRANSFER), p["report"].update(rows=2, worst=2)))
    (root / layout.PARAMS).write_text(json.dumps(params.model_dump(mode="json")))
    shutil.copytree(data / layout.EVALUATION, root / layout.EVALUATION)
    shutil.copytree(make_adapter(root / "made", cache, steps=1, rank=2), root / layout.ADAPTER)
    look(root, params)
    return root


def scored(root: Path) -> Table:
    return read_table(root / layout.TRANSFER / "scores" / "ink" / "scores.json")


def test_a_subject_is_painted_seen_scored_and_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    for stage in (transfer, transfer_features, transfer_score):
        stage.run("ink")
    transfer_report.run()
    table = scored(project)
    painters = [each.painter for each in table.cells]
    mixes = ["mix-50-100", "mix-100-100"]
    assert painters == ["real", "teacher", "teacher", "ddim", "adapter", *mixes]
    assert table.protocol.teacher == "teacher/steps-2_guidance-1_seeds-1"
    corner = (table.row(f"{who}/steps-1_guidance-1", "clip_score") for who in painters[-3::2])
    assert len({row.value for row in corner if row}) == 1, "whole weights, by either name"
    judged = [metric.name for metric in table.metrics if metric.unit == "share"]
    assert judged[-3:] == ["attributes", "look", "both"]
    met = {(pair.against, pair.a, pair.b) for pair in table.pairs if pair.metric == "look"}
    one = "steps-1_guidance-1"
    assert met == {
        ("rival", f"adapter/{one}", f"ddim/{one}"),
        ("teacher", f"adapter/{one}", "teacher/steps-2_guidance-1"),
        ("map", f"mix-50-100/{one}", f"mix-100-100/{one}"),
    }
    page = (project / layout.TRANSFER / "report" / "index.html").read_text()
    assert "<b>ink</b>, a style" in page


def test_an_adapter_of_another_base_is_put_on_none(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even on a fine-tune of the base that the project has now."""
    monkeypatch.chdir(project)
    recipe = layout.ADAPTER / RECIPE
    before: dict[str, Any] = json.loads(recipe.read_text())
    other = before | {"base": before["base"] | {"sha256": "0" * 64}}
    recipe.write_text(json.dumps(other))
    try:
        with pytest.raises(UserError, match=r"artifacts/adapter: distilled from shapes \(0000"):
            transfer.run("ink")
    finally:
        recipe.write_text(json.dumps(before))
