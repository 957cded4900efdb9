"""What a worker does with an order: one stage, in a checkout, handed over by its content.

What goes in is pulled by the hashes ordered; what comes out is pushed, the run-cache's entry last.
So who finds the entry finds all of it, and a worker that dies on the way leaves nothing half-done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.params.file import load_params
from lcm_lora.params.plain import read_yaml
from tasks.isolated.checkout import check_installed, checkout, resolve
from tasks.isolated.request import Order
from tasks.running import cost
from tasks.running.graph import Stage, entries, stage_of
from tasks.running.run_cache import RunCache, key_of, take
from tasks.running.stage import Outcome, StageError, Watch, Workshop, make_share, reproduce

_REGISTRY = "models:/"
"""How the names of what lies in the registry begin."""


def carry_out(project: Path, order: Order, say: Callable[[str], None]) -> Outcome:
    """Make what is ordered, and bring it to the remote; a share, to the store that machines share.

    Args:
        project: The worker's clone of the project.
        order: The stage, and of what it is made.
        say: Gets every line of the stage, as they come.

    Raises:
        UserError: The worker cannot work on that commit, or the remote cannot be used.
        StageError: The stage ended badly, or made its outputs of something else.
        OverdueError: It took longer than dvc.yaml lets it.
    """
    commit = resolve(project, order.commit)
    check_installed(project, commit)
    with checkout(project, commit, order.params) as root:
        _lay_out(root, order)
        _bring_modules(project, root)
        stage = stage_of(root, order.stage)
        if order.share is not None:
            outcome, spent = make_share(stage, order.share, Workshop(root, 1), say)
            cost.keep_of_share(order.key, order.share, spent)
            return outcome
        outcome = reproduce(stage, Workshop(root, 1), say, _watch(project, root, stage, say))
        entry = entries(root / "dvc.lock")[order.stage]
        if key_of(entry) != order.key:
            raise StageError("made of something else than was ordered; nothing was handed over")
        with RunCache(root) as cache:
            cache.publish(entry)
        return outcome


def _lay_out(root: Path, order: Order) -> None:
    """Bring what goes in, as ordered."""
    given = {stage: {"cmd": "", "outs": outs} for stage, outs in order.inputs.items()}
    take(root / "dvc.lock", given)
    with RunCache(root) as cache:
        made = [Path(str(out["path"])) for outs in order.inputs.values() for out in outs]
        cache.pull([*made, *named(cache.tracked(), read_yaml(root / layout.PARAMS))])


def _bring_modules(project: Path, root: Path) -> None:
    """Bring what parameters name in the registry, as the desk did before its first look."""
    if _REGISTRY not in (root / layout.PARAMS).read_text():
        return
    from tasks.registry import bringing  # MLflow takes seconds, which few stages need
    from tasks.tracking.connecting import connect

    params = load_params(root / layout.PARAMS)
    if bringing.named(params):
        tracker = connect(project, params.registry.experiment)
        bringing.bring.fn(replace(tracker, root=root), params, clear=False)


def named(paths: list[Path], params: Any) -> list[Path]:
    """Return the paths that parameters name, or that have or hold what those name."""
    words = [Path(word) for word in _words(params)]
    return [
        path
        for path in paths
        if any(word.is_relative_to(path) or path.is_relative_to(word) for word in words)
    ]


def _words(value: Any) -> Iterator[str]:
    """Yield every text that may be a path in the project."""
    if isinstance(value, str) and value.strip("./"):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _words(one)


def _watch(project: Path, root: Path, stage: Stage, say: Callable[[str], None]) -> Watch | None:
    """Return what follows a training's curve into MLflow while it runs."""
    if layout.TRAINING not in stage.outputs:
        return None
    from tasks.tracking.connecting import connect  # the same

    params = load_params(root / layout.PARAMS)
    try:
        known = connect(project, params.registry.experiment)
    except UserError as error:  # the run is made good when the training is registered
        say(f"the curve is not followed: {error}")
        return None
    return replace(known, root=root).follow_training
