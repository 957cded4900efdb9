"""Source pictures to training shards, evaluation set and selection set."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.data.prepare import Places, prepare
from lcm_lora.data.unit_shards import Store
from lcm_lora.data.units import SourceInventory
from lcm_lora.hashes import Hashes
from lcm_lora.params.evaluation import Evaluation
from lcm_lora.params.prepare import Prepare
from lcm_lora.params.reading import load_section
from lcm_lora.records import read_record
from lcm_lora.stages.pieces import open_pieces

_MEND = "run `lcm-lora inventory`"
_PLACES = Places(
    shards=layout.SHARDS,
    evaluation=layout.EVALUATION,
    selection=layout.SELECTION,
    prepared=layout.PREPARED,
    ledger=layout.LEDGERS / "prepare.json",
)


def run() -> None:
    """Run the stage in the working folder."""
    params = load_section(layout.PARAMS, Prepare)
    evaluation = load_section(layout.PARAMS, Evaluation)
    source = read_record(layout.INVENTORY / "source.json", SourceInventory, _MEND)
    own = read_record(layout.INVENTORY / "evaluation.json", SourceInventory, _MEND)
    with Hashes(layout.HASHES) as hashes:
        store = Store(
            open_pieces("prepare", hashes),
            layout.CHECKPOINTS / "prepare.sqlite",
            hashes,
        )
        fixed = own if evaluation.source else None
        prepare(params, evaluation, source, fixed, store, _PLACES)
