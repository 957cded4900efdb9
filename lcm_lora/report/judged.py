"""The table and the decision about it, only together: old rules say nothing of new numbers."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import Table, read_table
from lcm_lora.gate.decision import Decision, Rule, read_decision
from lcm_lora.recipe import Recipe


def read_judged(scores: Path, decision: Path, recipe: Recipe) -> tuple[Table, Decision]:
    """Read a table and what was decided on it about the adapter of a recipe.

    Raises:
        UserError: One is missing or damaged, or the decision is about other numbers.
    """
    table, decided = read_table(scores), read_decision(decision)
    if not _is_about(decided, table, recipe):
        raise UserError(
            f"{decision}: not about the table and the adapter that are here; run `lcm-lora decide`"
        )
    return table, decided


def _is_about(decision: Decision, table: Table, recipe: Recipe) -> bool:
    return (
        decision.protocol_sha256 == table.protocol.sha256
        and decision.adapter_sha256 == recipe.weights_sha256
        and decision.champion == table.champion
        and all(_holds_value(table, rule) for rule in decision.rules)
    )


def _holds_value(table: Table, rule: Rule) -> bool:
    """Tell whether a rule's value is what the table says."""
    cell = next((cell for cell in table.adapter if cell.id == rule.cell), None)
    row = table.row(rule.cell, rule.metric)
    if cell is None or row is None:
        return False
    if rule.kind == "limit":
        return rule.value == row.value
    other = table.counterpart(cell)
    pair = table.pair(rule.metric, cell.id, other.id) if other else None
    return rule.verdict == "no champion" if pair is None else rule.value == pair.difference
