"""Read the measured image sets that a table compares, and refuse what cannot be compared.

Legend: N pictures, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from lcm_lora.errors import UserError
from lcm_lora.evaluation.kernel import FEWEST
from lcm_lora.evaluation.set_records import FeatureRecord
from lcm_lora.params.generate import SAMPLERS
from lcm_lora.records import check_file, read_record


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredSet:
    """What `features` wrote about one image set."""

    record: FeatureRecord
    features: NDArray[np.float32]
    clip: NDArray[np.float32]
    attributes: NDArray[np.uint8] | None

    @property
    def sampler(self) -> str:
        """A sampler, or `real`."""
        return self.record.sampler

    @property
    def seeds(self) -> int:
        """Which set of initial noises."""
        return self.record.seeds

    @property
    def title(self) -> str:
        """The set in messages to the user."""
        record = self.record
        return f"{record.sampler} at {record.steps} steps, guidance {record.guidance:g}"


@dataclass(frozen=True, slots=True)
class Measured:
    """All sets of a table, comparable: one network, one list of captions, one N."""

    reference: MeasuredSet
    """Real pictures of other captions."""
    real: MeasuredSet
    """Real pictures of the captions: what no sampler can be expected to beat."""
    teacher: MeasuredSet
    """The teacher's set that others are compared with: its first noises, most evaluations."""
    cells: list[MeasuredSet]
    """All generated sets, the teacher's reference included, in the order of a table's rows."""

    @property
    def sets(self) -> list[MeasuredSet]:
        """All sets that are measured, the real one first."""
        return [self.real, *self.cells]


def read_measured(folder: Path) -> Measured:
    """Read all features in `folder`.

    Raises:
        UserError: Some are missing, broken, or made with other networks or captions.
    """
    real = read_features(folder / "real" / "real.safetensors")
    reference = read_features(folder / "real" / "reference.safetensors")
    cells = [cell for sampler in SAMPLERS for cell in _read_cells(folder / sampler)]
    cells.sort(key=_place)
    teachers = [cell for cell in cells if cell.sampler == "teacher" and cell.seeds == 0]
    if not teachers:
        raise UserError(
            f"{folder}/teacher: holds no image set with seeds 0, the reference; "
            "add one to generate.cells.teacher and run `lcm-lora features teacher`"
        )
    teacher = max(teachers, key=lambda cell: cell.record.nfe)
    measured = Measured(reference, real, teacher, cells)
    _check_comparable(measured)
    return measured


def read_features(path: Path) -> MeasuredSet:
    """Read one file of features and the record beside it.

    Raises:
        UserError: One is missing, damaged, or of another sampler than its folder.
    """
    name, about = path.parent.name, path.with_suffix(".json")
    mend = f"run `lcm-lora features {name}`"
    record = read_record(about, FeatureRecord, mend)
    if record.sampler != name:
        raise UserError(f"{about}: is of {record.sampler}, not of {name}; {mend}")
    check_file(path, record.sha256, mend)
    tensors = load_file(path)
    return MeasuredSet(record, tensors["features"], tensors["clip"], tensors.get("attributes"))


def _read_cells(folder: Path) -> Iterator[MeasuredSet]:
    """Yield what was measured of a sampler's image sets.

    Raises:
        UserError: There are none, or one is missing or damaged.
    """
    mend = f"run `lcm-lora features {folder.name}`"
    # Either file names a set, so that neither can be missing unseen.
    names = {path.stem for suffix in ("json", "safetensors") for path in folder.glob(f"*.{suffix}")}
    if not names:
        raise UserError(f"{folder}: holds no features; {mend}")
    for name in names:
        yield read_features(folder / f"{name}.safetensors")


def _place(cell: MeasuredSet) -> tuple[int, int, float, int]:
    record = cell.record
    return SAMPLERS.index(cell.sampler), record.steps, record.guidance, cell.seeds


def _check_comparable(measured: Measured) -> None:
    for what, read in _MUST_AGREE.items():
        expected = read(measured.real)
        for cell in [measured.reference, *measured.cells]:
            if cell is measured.reference and what == "captions":
                continue  # on purpose others
            if read(cell) != expected:
                raise UserError(
                    f"{cell.title}: its {what} are not those of the real pictures; run "
                    f"`lcm-lora features real` and `lcm-lora features {cell.sampler}` again"
                )
    if len(measured.real.features) < FEWEST:
        count = len(measured.real.features)
        raise UserError(f"generate.prompts: {count} are too few for standard errors; take {FEWEST}")


_MUST_AGREE: dict[str, Callable[[MeasuredSet], Any]] = {
    "numbers of pictures": lambda cell: len(cell.features),
    "feature networks": lambda cell: cell.record.network,
    "CLIP networks": lambda cell: cell.record.clip,
    "captions": lambda cell: cell.record.captions_sha256,
    "judged attributes": lambda cell: cell.attributes is not None,
}
