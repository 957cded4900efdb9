"""The first look, always: what is there, what is new, and whether a run can end well."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from lcm_lora import layout
from lcm_lora.champion import take_over
from lcm_lora.data.prepared import Prepared, first_units
from lcm_lora.errors import UserError
from lcm_lora.files import clear_others
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.look import Look, check_look, look
from lcm_lora.inventory.source import changes, touches_first
from lcm_lora.params.file import Params, load_params
from lcm_lora.params.generate import REAL
from lcm_lora.pieces import Ledger, Pieces
from lcm_lora.records import read_record, write_record
from lcm_lora.transfer.claimant import claimant

_MEND = "run `lcm-lora inventory`"
_MADE = ("images", "features", "scores")
"""Of each subject of the transfer evaluation."""
_PIECES = {"prepare": layout.SHARDS, "encode": layout.CACHE}


def run() -> None:
    """Look, check, say what is new, and write what the stages depend on."""
    params, before, now = _look()
    for line in _noticed(params, before, now):
        sys.stderr.write(f"{line}\n")
    assert now.base is not None
    champion = take_over(layout.BROUGHT, layout.CHAMPION, now.base.structure.family)
    sys.stderr.write(f"champion: {champion.version if champion else 'none'}\n")
    with Hashes(layout.HASHES) as hashes:
        _adopt(hashes)
        forget(params.generate.names, list(params.transfer.subjects), hashes)
    for name, record in now.records().items():
        write_record(layout.INVENTORY / f"{name}.json", record)
    for folder, records in now.folders().items():
        _clear(layout.INVENTORY / folder, records)
    for name in _MADE:  # the page is made of these, though they may be empty
        (layout.TRANSFER / name).mkdir(parents=True, exist_ok=True)


def _clear(folder: Path, records: Collection[str]) -> None:
    """Remove what was seen of what is named no more; what names nothing is an empty folder."""
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.json"):
        if file.stem not in records:
            file.unlink()


def _look() -> tuple[Params, Look, Look]:
    params = load_params(layout.PARAMS)
    before = Look.read(layout.INVENTORY)
    with Hashes(layout.HASHES) as hashes:
        now = look(params, hashes, before)
    check_look(params, before, now)
    return params, before, now


def _noticed(params: Params, before: Look, now: Look) -> Iterator[str]:
    """Say in a line each what is new."""
    assert now.source is not None
    yield f"source: {changes(before.source, now.source)}"
    if now.evaluation and now.evaluation.units:
        yield f"evaluation.source: {changes(before.evaluation, now.evaluation)}"
    for name in ("base", "networks"):
        old, new = before.records().get(name), now.records()[name]
        if old is not None and old != new:
            yield f"{name}: changed"
    for name, subject in now.subjects.items():
        if name in before.subjects and before.subjects[name] != subject:
            yield f"transfer subject {name}: changed"
    with contextlib.suppress(UserError):
        prepared = read_record(layout.PREPARED, Prepared, _MEND)
        head = first_units(prepared, 2 * params.evaluation.prompts)
        if params.evaluation.source is None and touches_first(head, now.source):
            yield (
                "evaluation set: the source begins otherwise than before, so it may change, and"
                " teacher and solvers be painted anew; evaluation.source names a fixed one"
            )


def forget(painters: Sequence[str], subjects: Sequence[str], hashes: Hashes) -> None:
    """Remove what was made of painters and subjects that are none any more; DVC knows nothing."""
    known = {*painters, REAL}
    for stage in ("generate", "features"):
        pieces = Pieces(layout.CHECKPOINTS / stage, hashes)
        pieces.forget_all_but({*known, *map(claimant, subjects)})
    _remove("painters", (layout.IMAGES, layout.FEATURES), known)
    _remove("subjects", tuple(layout.TRANSFER / name for name in _MADE), set(subjects))


def _remove(what: str, places: Sequence[Path], known: Collection[str]) -> None:
    if gone := [path for place in places for path in clear_others(place, known)]:
        names = ", ".join(sorted({path.name for path in gone}))
        sys.stderr.write(f"no {what} any more: {names}; their pictures are removed\n")


def _adopt(hashes: Hashes) -> None:
    """Let the next stages start from outputs that were pulled, before DVC clears them."""
    for name, out in _PIECES.items():
        with contextlib.suppress(UserError):
            ledger = read_record(layout.LEDGERS / f"{name}.json", Ledger, _MEND)
            Pieces(layout.CHECKPOINTS / name, hashes).adopt(ledger, out)
