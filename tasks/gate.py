"""Decide whether an adapter becomes champion: rules over score tables, nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.evaluation.table import Table, load_table
from lcm_lora.params.generate import Sampler
from lcm_lora.params.registry import Gate

_HIGHER_IS_BETTER = {"clip_score", "attributes"}
_LOWER_IS_BETTER = {"fd", "fid", "kid"}
_JUDGED: Sampler = "lcm"
_MARGIN = 1.96
"""Standard errors that a difference must exceed: one chance in forty to be fooled."""


def read(path: Path) -> Table:
    """Return a score table from its file.

    Raises:
        UserError: The file is missing or is no table.
    """
    table = load_table(path)
    if not isinstance(table.protocol.get("sha256"), str):
        raise UserError(f"{path}: not a table of scores (protocol.sha256); run `lcm-lora score`")
    return table


@dataclass(frozen=True)
class Decision:
    """Whether the alias moves, and why, in one line for people."""

    promote: bool
    reason: str


@dataclass(frozen=True)
class _Measured:
    value: float
    se: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.se:.2g}"


def decide(scores: Table, champion: Table | None, gate: Gate) -> Decision:
    """Judge an adapter by its own scores and by the champion's.

    It is promoted when it is as good as the absolute limit and either there is no champion, or it
    beats the champion on the same evaluation set by more than 1.96 standard errors of the
    difference. Both sets start from the same noise, so treating their errors as independent
    overstates the error of the difference: a promotion errs on the safe side.

    Args:
        scores: The adapter's table.
        champion: The champion's table, if there is a champion.
        gate: Metric, step count and limit.

    Raises:
        UserError: The adapter's table does not hold what the gate asks for.
    """
    measured = _find(scores, gate)
    if measured is None:
        raise UserError(
            f"the scores hold no {gate.metric} of {_JUDGED} at {gate.steps} steps; "
            f"set registry.gate.metric to one of: {', '.join(_metrics(scores))}"
        )
    higher = _higher_is_better(gate.metric)
    what = f"{gate.metric} at {gate.steps} steps is {measured}"
    passes = measured.value >= gate.limit if higher else measured.value <= gate.limit
    if not passes:
        side = "below" if higher else "above"
        return Decision(False, f"{what}, {side} the limit of {gate.limit:g}")
    if champion is None:
        return Decision(
            True, f"{what}, within the limit of {gate.limit:g}, and nobody was champion"
        )
    return _against(champion, scores, measured, what, gate)


def _against(
    champion: Table, scores: Table, measured: _Measured, what: str, gate: Gate
) -> Decision:
    if champion.protocol["sha256"] != scores.protocol["sha256"]:
        return Decision(
            False,
            "not comparable: the champion was scored on another evaluation set; run once with its "
            "data and distill parameters and today's evaluation parameters, and it is scored anew",
        )
    rival = _find(champion, gate)
    if rival is None:
        return Decision(
            False, f"not comparable: the champion has no {gate.metric} at {gate.steps} steps"
        )
    gain = rival.value - measured.value
    if _higher_is_better(gate.metric):
        gain = -gain
    margin = _MARGIN * math.hypot(measured.se, rival.se)
    side = "better" if gain > 0 else "worse"
    verdict = (
        f"{what}, the champion's {rival}: {side} by {abs(gain):.4g}, "
        f"needed better by more than {margin:.2g}"
    )
    return Decision(gain > margin, verdict)


def _find(scores: Table, gate: Gate) -> _Measured | None:
    """Return the adapter's row at the gate, of its first guidance and first set of noises."""
    rows = scores.select(sampler=_JUDGED, steps=gate.steps, metric=gate.metric, seeds=0)
    return _Measured(rows[0].value, rows[0].se) if rows else None


def _metrics(scores: Table) -> list[str]:
    return sorted({row.metric for row in scores.select(sampler=_JUDGED)})


def _higher_is_better(metric: str) -> bool:
    # fd_shapes:real is a Fréchet distance; network and reference stand behind it.
    family = metric.partition(":")[0]
    if family in _HIGHER_IS_BETTER:
        return True
    if family.partition("_")[0] in _LOWER_IS_BETTER:
        return False
    known = ", ".join([*sorted(_HIGHER_IS_BETTER), *(f"{d}_..." for d in sorted(_LOWER_IS_BETTER))])
    raise UserError(f"registry.gate.metric {metric}: no such metric; known are {known}")
