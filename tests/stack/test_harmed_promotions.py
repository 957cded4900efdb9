"""What tests/promotion does by killing, with calls that are refused or whose answers are lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from promoting import Harm, cut_short, mlflow_in


@pytest.mark.parametrize("harm", ["refused", "answer lost"])
def test_a_promotion_whose_calls_come_to_harm_leaves_no_half(harm: Harm, tmp_path: Path) -> None:
    calls = 0
    with mlflow_in(tmp_path) as client:
        while cut_short(client, tmp_path, harm, calls + 1):
            calls += 1
    assert calls > 20
