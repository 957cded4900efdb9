"""Turn source pictures into training shards, and apart from them the sets that measure.

Shards are listed in the order of their content's hashes: renaming a tar trains nothing anew. The
sets are the first samples of their splits, in the order of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lcm_lora.data.choosing import Chosen, make_sets
from lcm_lora.data.picture_sets import EVALUATION, SELECTION
from lcm_lora.data.prepared import Prepared, PreparedUnit, Rejected, merged
from lcm_lora.data.shard import INDEX, Shard, ShardIndex
from lcm_lora.data.unit_shards import Made, Store, prepare_units
from lcm_lora.data.units import SourceInventory
from lcm_lora.errors import UserError
from lcm_lora.files import link, new_folder
from lcm_lora.locks import locked
from lcm_lora.params.evaluation import Evaluation
from lcm_lora.params.prepare import Prepare
from lcm_lora.params.sources import Source, WebdatasetSource
from lcm_lora.parts import Parts
from lcm_lora.pieces import content_name
from lcm_lora.records import write_record


@dataclass(frozen=True, slots=True)
class Places:
    """The outputs of `prepare`: three folders that stages read, and two files for later runs."""

    shards: Path
    evaluation: Path
    selection: Path
    prepared: Path
    ledger: Path


def prepare(
    params: Prepare,
    evaluation: Evaluation,
    source: SourceInventory,
    fixed: SourceInventory | None,
    store: Store,
    out: Places,
) -> None:
    """Write shards, evaluation set, selection set and the account of it all.

    Of two at once with the same store the second waits: each removes what it does not need itself.

    Args:
        params: How pictures are filtered, cropped, split and kept.
        evaluation: How many pictures the sets need, and whether they have a source of their own.
        source: What the first look found.
        fixed: What it found in the evaluation set's own source; None without one.
        store: What earlier runs made, and what is known of the sources' files.
        out: Where to write.

    Raises:
        UserError: A source is not what the first look found, or a split has too few samples.
    """
    with locked(store.parts.with_suffix(".lock"), "another preparation in this folder to end"):
        held_out, selection = Chosen(2 * evaluation.prompts), Chosen(evaluation.selection)
        taken = _Taken()
        for made in prepare_units(params, params.source, source.units, store):
            taken.add(made, params.source)
            selection.offer(made, made.record.selection)
            if fixed is None:
                held_out.offer(made, made.record.held_out)
        used = set(taken.keys)
        if fixed is not None and evaluation.source is not None:
            everything = params.model_copy(update={"held_out": 1.0})
            for made in prepare_units(everything, evaluation.source, fixed.units, store):
                used.add(made.key)
                held_out.offer(made, made.record.held_out)
                if held_out.is_full:
                    break
        prepared = taken.account()
        _check(params, evaluation, prepared, len(held_out.samples), len(selection.samples))
        pieces = store.pieces
        measured = make_sets(EVALUATION, held_out, params.resolution, pieces)
        chosen = make_sets(SELECTION, selection, params.resolution, pieces)
        with new_folder(out.shards) as folder:
            ledger = pieces.put(sorted(taken.keys), folder)
            write_record(folder / INDEX, taken.index(params.resolution))
        for piece, place in ((measured, out.evaluation), (chosen, out.selection)):
            with new_folder(place) as folder:
                for name in pieces.sums(piece):
                    link(pieces.path(piece) / name, folder / name)
        write_record(out.prepared, prepared)
        write_record(out.ledger, ledger)
        pieces.keep_only(used | {measured, chosen})
        with Parts(store.parts, pieces) as parts:
            parts.keep_only(used)


class _Taken:
    """What came of the training source so far, unit by unit."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self._units: list[PreparedUnit] = []
        self._shards: list[Shard] = []
        self._rejected: dict[str, Rejected] = {}

    def add(self, made: Made, source: Source) -> None:
        """Take what came of the next unit."""
        record = made.record
        self.keys.add(made.key)
        self._shards.extend(record.shards)
        self._rejected = merged(self._rejected, _named(made, source))
        self._units.append(
            PreparedUnit(
                name=made.unit.name,
                sha256=made.unit.sha256,
                train=sum(shard.samples for shard in record.shards),
                held_out=len(record.held_out),
                selection=len(record.selection),
            )
        )

    def account(self) -> Prepared:
        """Return where every picture went."""
        counts = {
            "train": sum(unit.train for unit in self._units),
            "held_out": sum(unit.held_out for unit in self._units),
            "selection": sum(unit.selection for unit in self._units),
            "rejected": sum(entry.count for entry in self._rejected.values()),
        }
        counts["read"] = sum(counts.values())
        return Prepared(units=tuple(self._units), counts=counts, rejected=self._rejected)

    def index(self, resolution: int) -> ShardIndex:
        """Return the index of all shards, as they are named in the output."""
        shards = [
            shard.model_copy(update={"file": content_name(shard.sha256, shard.file)})
            for shard in sorted(self._shards, key=lambda shard: shard.sha256)
        ]
        samples = sum(shard.samples for shard in shards)
        return ShardIndex(resolution=resolution, samples=samples, shards=tuple(shards))


def _named(made: Made, source: Source) -> dict[str, Rejected]:
    """Return a unit's rejections by names that lead to them; in a tar they begin with its own."""
    if not isinstance(source, WebdatasetSource):
        return made.record.rejected
    return {
        reason: Rejected(
            count=entry.count,
            examples=tuple(f"{made.unit.name}/{name}".rstrip("/") for name in entry.examples),
        )
        for reason, entry in made.record.rejected.items()
    }


def _check(
    params: Prepare, evaluation: Evaluation, prepared: Prepared, held_out: int, selection: int
) -> None:
    """Refuse splits that are too small for what follows, before anything heavy."""
    counts, needed = prepared.counts, 2 * evaluation.prompts
    reasons = "".join(
        f", {entry.count} {reason} ({', '.join(entry.examples)})"
        for reason, entry in prepared.rejected.items()
    )
    read = f"{counts['read']} pictures read{reasons}"
    if held_out < needed and evaluation.source is not None:
        raise UserError(
            f"evaluation.source holds {held_out} good pictures, but evaluation.prompts"
            f" {evaluation.prompts} needs {needed}, half of them as reference; lower it or add some"
        )
    if held_out < needed:
        raise UserError(
            f"prepare: {held_out} pictures held out, but evaluation.prompts {evaluation.prompts}"
            f" needs {needed}, half of them as reference; lower it, raise prepare.held_out"
            f" {params.held_out:g}, or add pictures ({read})"
        )
    if selection < evaluation.selection:
        raise UserError(
            f"prepare: {selection} pictures kept for the choice of a checkpoint, but"
            f" evaluation.selection is {evaluation.selection}; lower it, raise prepare.selection"
            f" {params.selection:g}, or add pictures ({read})"
        )
    if not counts["train"]:
        raise UserError(
            f"prepare: no pictures left to train on; mend the source, prepare.min_side"
            f" {params.min_side} or prepare.held_out {params.held_out:g} ({read})"
        )
