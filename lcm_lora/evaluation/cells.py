"""Read what was seen of the image sets that a table compares, and refuse what cannot be compared.

Legend: N pictures, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from lcm_lora.errors import UserError
from lcm_lora.evaluation.kernel import FEWEST
from lcm_lora.evaluation.scores import CellRecord
from lcm_lora.params.generate import CHAMPION, REAL, TEACHER, Cell, Generate, cell_id
from lcm_lora.params.score import Looks
from lcm_lora.records import check_file, read_record
from lcm_lora.seeing.set_records import FeatureRecord

SUFFIX = ".safetensors"


Command = Callable[[str], str]
"""Gives the command that looks at a painter's pictures, or at `real` ones."""


@dataclass(frozen=True, slots=True)
class Map:
    """Painters who differ in weights alone."""

    points: frozenset[str]
    whole: str
    """That of them with weights of 1, with which the others are compared."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a table compares, and where its features are."""

    features: Path
    """A folder for each painter, and one of real pictures."""
    painters: tuple[str, ...]
    """In the table's order."""
    rivals: frozenset[str]
    """Those of them with whom the adapter is compared at equal cost."""
    command: Command
    """What looks at their pictures anew."""
    with_teacher: bool = False
    """The adapter is compared with the teacher's many steps too."""
    map: Map | None = None
    """Of the transfer evaluation: mixes of weights, compared with one of them."""
    looks: Looks = None
    """Which looks pictures should have, if that was judged."""

    @classmethod
    def of(cls, generate: Generate, features: Path) -> Self:
        """Return what the table of all painters of the parameters compares."""
        rivals = frozenset(generate.painters.keys() - {TEACHER})
        return cls(features, tuple(generate.names), rivals, looking_at)


def looking_at(painter: str) -> str:
    """Return the command that looks at a painter's pictures."""
    return f"lcm-lora features {painter}"


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """What `features` wrote about one image set; arrays are read when they are asked for."""

    path: Path
    record: FeatureRecord

    @property
    def id(self) -> str:
        """The one name of the cell; real pictures are no cell of a painter and are called that."""
        return REAL if self.record.painter == REAL else cell_id(self.record.painter, self._cell)

    @property
    def cell(self) -> CellRecord:
        """How the set stands in a table."""
        fields = set(CellRecord.model_fields) - {"id"}
        return CellRecord(id=self.id, **self.record.model_dump(include=fields))

    @property
    def count(self) -> int:
        """N."""
        return len(self.values("clip"))

    def values(self, array: str) -> NDArray[np.float64]:
        """Return an array [N, ...] of the record's `arrays`.

        Raises:
            UserError: It holds NaN or infinity.
        """
        with safe_open(self.path, framework="numpy") as file:
            found = np.asarray(file.get_tensor(array), np.float64)
        if not np.isfinite(found).all():
            raise UserError(f"{self.path}: {array} is not finite; check the network's weights")
        return found

    @property
    def _cell(self) -> Cell:
        record = self.record
        return Cell(steps=record.steps, guidance=record.guidance, seeds=record.seeds)


@dataclass(frozen=True, slots=True)
class Measured:
    """All sets of a table, comparable: seen by the same networks, of the same captions, one N."""

    compared: Compared
    reference: MeasuredSet
    """Real pictures of other captions."""
    real: MeasuredSet
    """Real pictures of the captions: what no painter can be expected to beat."""
    teacher: MeasuredSet
    """The teacher's pictures that others are compared with, of noises that no other starts from."""
    cells: tuple[MeasuredSet, ...]
    """All generated sets, the teacher's reference included, in the order of a table's rows."""

    @property
    def sets(self) -> tuple[MeasuredSet, ...]:
        """All sets that are measured, the real one first."""
        return self.real, *self.cells

    def noises_of(self, cell: MeasuredSet) -> list[MeasuredSet]:
        """Return the cells of the same painter, steps and guidance as `cell`, itself first."""
        others = [c for c in self.cells if _but_noise(c) == _but_noise(cell) and c is not cell]
        return [cell, *others]


def read_measured(compared: Compared) -> Measured:
    """Read the records of all features of what is compared.

    Raises:
        UserError: Some are missing, broken, or made with other networks or captions; or the
            teacher has no pictures of other noises to compare with.
    """
    folder, command = compared.features, compared.command
    real = read_features(folder / REAL / f"real{SUFFIX}", command)
    reference = read_features(folder / REAL / f"reference{SUFFIX}", command)
    cells = tuple(c for name in compared.painters for c in _read_cells(folder / name, command))
    measured = Measured(compared, reference, real, _teacher_of(compared, cells), cells)
    _check_comparable(measured)
    return measured


def read_features(path: Path, command: Command = looking_at) -> MeasuredSet:
    """Read the record beside a file of features, and check the file.

    Args:
        path: The file.
        command: What makes it anew.

    Raises:
        UserError: One is missing, damaged, or of another painter than its folder.
    """
    name, about = path.parent.name, path.with_suffix(".json")
    mend = f"run `{command(name)}`"
    record = read_record(about, FeatureRecord, mend)
    if record.painter != name:
        raise UserError(f"{about}: is of {record.painter}, not of {name}; {mend}")
    check_file(path, record.sha256, mend)
    return MeasuredSet(path, record)


def _read_cells(folder: Path, command: Command) -> list[MeasuredSet]:
    """Return a painter's sets by steps, guidance and noise.

    Raises:
        UserError: There are none, though it is not the champion; or one is missing or damaged.
    """
    # Either file names a set, so that neither can be missing unseen.
    names = {path.stem for suffix in (".json", SUFFIX) for path in folder.glob(f"*{suffix}")}
    if not names and folder.name != CHAMPION:
        raise UserError(f"{folder}: holds no features; run `{command(folder.name)}`")
    cells = [read_features(folder / f"{name}{SUFFIX}", command) for name in names]
    return sorted(cells, key=lambda c: (c.record.steps, c.record.guidance, c.record.seeds))


def _teacher_of(compared: Compared, cells: tuple[MeasuredSet, ...]) -> MeasuredSet:
    """Return the teacher's set of other noises and most evaluations.

    Raises:
        UserError: Its cell of most evaluations was painted from no other noises.
    """
    own = [cell for cell in cells if cell.record.painter == TEACHER]
    most = max((cell.record.nfe for cell in own), default=0)
    others = [cell for cell in own if cell.record.nfe == most and cell.record.seeds != 0]
    if not others:
        raise UserError(
            f"{compared.features / TEACHER}: its cell of most evaluations is not there with other "
            "noises, which all are compared with; add it again with seeds 1 to the teacher's cells"
        )
    return min(others, key=lambda cell: cell.record.seeds)


def _but_noise(cell: MeasuredSet) -> tuple[str, int, float]:
    return cell.record.painter, cell.record.steps, cell.record.guidance


def _check_comparable(measured: Measured) -> None:
    command = measured.compared.command
    count = measured.real.count
    for cell in (measured.reference, *measured.cells):
        if cell.count != count:
            raise UserError(
                f"{_title(cell)}: {cell.count} pictures, and the real ones are {count}; run "
                f"{_again(cell, command)}"
            )
        for what in _differing(cell, measured.real, cell is measured.reference):
            raise UserError(
                f"{_title(cell)}: its {what} are not those of the real pictures; run "
                f"{_again(cell, command)}"
            )
    if count < FEWEST:
        raise UserError(
            f"{measured.real.path}: {count} captions are too few for standard errors; take {FEWEST}"
        )


def _differing(cell: MeasuredSet, real: MeasuredSet, is_reference: bool) -> Iterator[str]:
    for what, read in _MUST_AGREE.items():
        if read(cell.record) != read(real.record) and not (is_reference and what == "captions"):
            yield what


def _title(cell: MeasuredSet) -> str:
    return cell.id if cell.record.painter != REAL else f"{REAL}/{cell.path.stem}"


def _again(cell: MeasuredSet, command: Command) -> str:
    names = sorted({REAL, cell.record.painter}, reverse=True)
    commands = dict.fromkeys(command(name) for name in names)
    return " and ".join(f"`{command}`" for command in commands) + " again"


_MUST_AGREE: dict[str, Callable[[FeatureRecord], Any]] = {
    "networks": lambda record: record.arrays,
    "captions": lambda record: record.captions_sha256,
    "code, libraries or device": lambda record: record.how_sha256,
}
