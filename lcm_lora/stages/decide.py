"""The table of scores and the rules of promotion to a decision."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.evaluation.scores import read_table
from lcm_lora.gate.rules import decide
from lcm_lora.params.reading import load_section
from lcm_lora.params.registry import Registry
from lcm_lora.recipe import read_recipe
from lcm_lora.records import write_record


def run() -> None:
    """Run the stage in the working folder."""
    rules = load_section(layout.PARAMS, Registry).gate
    adapter = read_recipe(layout.ADAPTER)
    table = read_table(layout.SCORES)
    write_record(layout.DECISION, decide(table, rules, adapter.weights_sha256))
