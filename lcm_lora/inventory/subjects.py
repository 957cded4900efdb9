"""What the subjects of the transfer evaluation name, and whether the new adapter can go there."""

from __future__ import annotations

from lcm_lora.errors import UserError
from lcm_lora.families.found import BaseInventory
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.painters import SHARED, PainterInventory, look_at_named
from lcm_lora.params.transfer import Transfer


def look_at_subjects(
    transfer: Transfer, base: BaseInventory, hashes: Hashes
) -> dict[str, PainterInventory]:
    """Return what each subject names, by its name.

    Raises:
        UserError: As `look_at_painters` does; or a fine-tune works over another noise schedule, or
            predicts something else, than the base that the new adapter was trained on.
    """
    found = {}
    for name, subject in transfer.subjects.items():
        where = f"transfer subject {name}"
        found[name] = look_at_named(where, subject.base, subject.adapters, base, hashes)
        if own := found[name].base:
            _check_alike(f"{where}: {subject.base}", own, base)
    return found


def _check_alike(where: str, own: BaseInventory, base: BaseInventory) -> None:
    for name, setting in SHARED.items():
        its, trained = getattr(own.structure, name), getattr(base.structure, name)
        if its != trained:
            raise UserError(
                f"{where}: {setting} is {its}, of base.model {trained}; take a fine-tune that the "
                "new adapter can be put on"
            )
