"""Refuse, before any work, a gate that nothing passes, or that is about what is not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import MetricRecord
from lcm_lora.params.generate import Cell
from lcm_lora.params.registry import Gate

_MOST = {"share": 1.0, "points": 100.0}
"""What a metric of this unit never exceeds."""
_NEVER_NEGATIVE = {"fd"}


def check_gate(
    gates: Sequence[Gate], cells: Iterable[Cell], metrics: Sequence[MetricRecord]
) -> None:
    """Check the rules of promotion against what will be painted and measured.

    Args:
        gates: Of `registry.gate`.
        cells: Of `generate.adapter`.
        metrics: That the table will hold of the adapter.

    Raises:
        UserError: A rule is about a cell or a metric that will not be there, can never hold, or
            says nothing; or all adapters within the limits would replace any champion.
    """
    cells = list(cells)
    painted = [(cell.steps, cell.guidance) for cell in cells if cell.seeds == 0]
    varied = {(cell.steps, cell.guidance) for cell in cells if cell.seeds}
    judged = [(gate.steps, gate.guidance) for gate in gates]
    for number, gate in enumerate(gates):
        where = f"registry.gate.{number}"
        if judged.count(judged[number]) > 1:
            raise UserError(
                f"{where}: {_place(*judged[number])} are judged twice; put the rules together"
            )
        if judged[number] not in painted:
            raise UserError(
                f"{where}: the adapter is not painted at {_place(*judged[number])}; take one of "
                f"generate.adapter.cells: {'; '.join(_place(*cell) for cell in painted)}"
            )
        told = [m for m in metrics if m.kind != "diversity" or judged[number] in varied]
        _check_rules(where, gate, {metric.name: metric for metric in told})
    if not any(gate.target or gate.guards for gate in gates):
        raise UserError(
            "registry.gate: no rule compares with the champion, so a worse adapter would replace "
            "it; name a target or a guard"
        )


def _check_rules(where: str, gate: Gate, metrics: dict[str, MetricRecord]) -> None:
    if not (gate.limits or gate.target or gate.guards):
        raise UserError(f"{where}: no rule; name limits, a target or guards, or remove it")
    for section, rules in gate.model_dump(include={"limits", "target", "guards"}).items():
        for name in rules:
            if name not in metrics:
                raise UserError(
                    f"{where}.{section}: the table will hold no {name} of that cell; take one of: "
                    f"{', '.join(metrics)}"
                )
    for name in [*gate.target, *gate.guards]:
        if metrics[name].kind == "fd" and metrics[name].reference == "teacher":
            raise UserError(
                f"{where}: {name} compares nobody, since its pictures and the teacher's share "
                "prompts; take the kernel distance (kid), or make it a limit"
            )
    if twice := sorted(gate.target.keys() & gate.guards.keys()):
        raise UserError(
            f"{where}: {twice[0]} is a target and a guard; what must be better is not worse, so "
            "remove the guard"
        )
    for name, limit in gate.limits.items():
        _check_limit(f"{where}.limits", metrics[name], limit)


def _check_limit(where: str, metric: MetricRecord, limit: float) -> None:
    most = _MOST.get(metric.unit)
    if most is not None and not metric.lower_is_better and limit > most:
        raise UserError(
            f"{where}: {metric.name} never exceeds {most:g}, so never reaches {limit:g}; lower it"
        )
    if metric.kind in _NEVER_NEGATIVE and limit < 0:
        raise UserError(
            f"{where}: {metric.name} is never below 0, so never within {limit:g}; raise it"
        )


def _place(steps: int, guidance: float) -> str:
    return f"{steps} steps, guidance {guidance:g}"
