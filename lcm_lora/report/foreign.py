"""Whether the champion paints with another base than it was distilled from: it may lose by that."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.adapter_files import RECIPE
from lcm_lora.champion import ADAPTER
from lcm_lora.champion_record import read_champion
from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import Table
from lcm_lora.recipe import Recipe, RecipeBase
from lcm_lora.records import read_record

_MEND = "run `lcm-lora inventory`"


def foreign_base(table: Table, recipe: Recipe, champion: Path) -> RecipeBase | None:
    """Return the base that the champion was distilled from, if it is not the adapter's.

    Args:
        table: Scores, for which the champion painted on the adapter's base.
        recipe: Of the adapter.
        champion: Folder of the champion as it was brought.

    Raises:
        UserError: The folder is damaged, or holds another champion than was scored.
    """
    if table.champion is None:
        return None
    if read_champion(champion) != table.champion:
        raise UserError(f"{champion}: not the champion that was scored; run `lcm-lora score`")
    base = read_record(champion / ADAPTER / RECIPE, Recipe, _MEND).base
    return None if base.sha256 == recipe.base.sha256 else base
