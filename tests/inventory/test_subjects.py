"""A fine-tune on which the new adapter would step over another noise is no subject."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from making import shapes_inventory

from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.subjects import look_at_subjects
from lcm_lora.params.transfer import Transfer
from lcm_lora.shapes import places

SAMPLING = {"sampler": "ddim", "cells": [{"steps": 4, "guidance": 1.0}]}


def trying(base: str) -> Transfer:
    return Transfer.model_validate(
        {
            "prompts": 4,
            "painters": {"teacher": SAMPLING},
            "adapter": SAMPLING,
            "subjects": {"tuned": {"base": base}, "plain": {}},
        }
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("prediction_type", "v_prediction"),
        ("rescale_betas_zero_snr", True),
        ("num_train_timesteps", 500),
    ],
)
def test_a_fine_tune_over_another_noise_is_refused(
    setting: str, value: Any, tmp_path: Path, hashes: Hashes
) -> None:
    tuned = shutil.copytree(places.BASE, tmp_path / "tuned")
    found = look_at_subjects(trying(str(tuned)), shapes_inventory(), hashes)
    assert found["tuned"].base is not None
    assert found["plain"].base is None
    scheduler = tuned / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {setting: value}))
    with pytest.raises(UserError, match=rf"subject tuned: .*: {setting} is {value}, of base\.m"):
        look_at_subjects(trying(str(tuned)), shapes_inventory(), hashes)
