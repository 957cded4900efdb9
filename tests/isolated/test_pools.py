"""The project's own stages can all run elsewhere: each can be kept, and says who may take it."""

from __future__ import annotations

from pathlib import Path

from dvc.repo import Repo
from dvc.stage import PipelineStage

ROOT = Path(__file__).parents[2]


def test_every_stage_but_the_first_look_can_be_kept_and_says_where_it_runs() -> None:
    with Repo(str(ROOT)) as repo:
        stages = {s.name: s for s in repo.index.stages if isinstance(s, PipelineStage)}
    looks = {
        name
        for name, stage in stages.items()
        if stage.always_changed
        or not stage.deps
        or any(dep.protocol != "local" or not dep.is_in_repo for dep in stage.deps)
        or any(out.persist or not out.use_cache or not out.is_in_repo for out in stage.outs)
    }
    assert looks == {"inventory"}
    assert all(out.use_cache for out in stages["inventory"].outs)
    for name, stage in stages.items():
        assert stage.meta["pool"] in {"cpu", "gpu"}, name
        assert stage.meta["deadline"] >= 86_400, name
