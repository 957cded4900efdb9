"""Kill a promotion at any of its calls: in the end all is as before, or all as after."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from promoting import cut_short


def test_killed_anywhere_whoever_comes_next_sets_it_right(
    client: MlflowClient, tmp_path: Path
) -> None:
    calls = 0
    while cut_short(client, tmp_path, "killed", calls + 1):
        calls += 1
    assert calls > 20
