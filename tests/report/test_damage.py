"""Whatever befalls a file between stages, its reader ends in one line that says how to mend it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from damages import DAMAGES, Damage, bit
from making import make_data

from lcm_lora.data.picture_sets import read_set
from lcm_lora.errors import UserError
from lcm_lora.evaluation.cells import read_features
from lcm_lora.evaluation.scores import read_table
from lcm_lora.evaluation.selection import read_selection
from lcm_lora.gate.decision import read_decision
from lcm_lora.painting.latencies import read_latency
from lcm_lora.params.sources import ShapesSource
from lcm_lora.recipe import read_recipe
from lcm_lora.records import read_record
from lcm_lora.seeing.image_sets import captions_of, generated_sets, real_sets
from lcm_lora.training.curve import read_curve
from lcm_lora.training.origin import Origin

MEND = "run `lcm-lora distill`"
CELL, PAINT = "steps-4_guidance-1", "lcm-lora generate adapter"


@dataclass(frozen=True)
class Kind:
    """A kind of file, and what reads it from its folder."""

    folder: str
    file: str
    read: Callable[[Path], Any]

    @property
    def is_hashed(self) -> bool:
        """Whether its record holds its SHA-256."""
        return not self.file.endswith((".json", ".jsonl"))


def read_generated(folder: Path) -> None:
    for image_set in generated_sets(folder, "adapter"):
        image_set.check()
        list(image_set.pngs())


def read_real(folder: Path) -> None:
    for image_set in real_sets(folder):
        image_set.check()
        list(image_set.pngs())


KINDS = [
    *(
        Kind("images/adapter", file, read_generated)
        for file in ("painted.json", f"{CELL}.json", f"{CELL}.tar")
    ),
    Kind("images/adapter", "painted.json", lambda folder: captions_of(folder, PAINT)),
    *(
        Kind("features/adapter", file, lambda folder: read_features(folder / f"{CELL}.safetensors"))
        for file in (f"{CELL}.json", f"{CELL}.safetensors")
    ),
    Kind("adapter", "recipe.json", read_recipe),
    Kind("adapter", "pytorch_lora_weights.safetensors", read_recipe),
    Kind("training", "curve.jsonl", lambda folder: read_curve(folder / "curve.jsonl", MEND)),
    Kind("training", "origin.json", lambda f: read_record(f / "origin.json", Origin, MEND)),
    Kind("selection", "selection.json", lambda folder: read_selection(folder / "selection.json")),
    Kind("scores", "scores.json", lambda folder: read_table(folder / "scores.json")),
    Kind("", "decision.json", lambda folder: read_decision(folder / "decision.json")),
    Kind("", "latency.json", lambda folder: read_latency(folder / "latency.json")),
    *(
        Kind("evaluation", file, read_real)
        for file in ("real.json", "real.tar", "reference.json", "reference.tar")
    ),
    Kind("evaluation", "real.json", lambda folder: read_set(folder, "real")),
]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.folder}/{kind.file}")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, source = tmp_path_factory.mktemp("project"), ShapesSource(count=60, seed=3)
    return make_data(folder, source, held_out=0.3, selection=0.1) / "data" / "evaluation"


@pytest.fixture
def copied(artifacts: Path, evaluation: Path, tmp_path: Path) -> Callable[[Kind], Path]:
    """Return a function that copies the folder of a kind of file."""

    def copy(kind: Kind) -> Path:
        if not kind.folder:
            return Path(shutil.copyfile(artifacts / kind.file, tmp_path / kind.file)).parent
        source = evaluation if kind.folder == "evaluation" else artifacts / kind.folder
        return Path(shutil.copytree(source, tmp_path / kind.folder))

    return copy


@each_kind
def test_every_kind_is_read_while_it_is_whole(kind: Kind, copied: Any) -> None:
    kind.read(copied(kind))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@each_kind
def test_a_damaged_file_ends_in_one_line(kind: Kind, damage: Damage, copied: Any) -> None:
    folder = copied(kind)
    file, content = folder / kind.file, (folder / kind.file).read_bytes()
    for changed in damage(content):
        file.unlink(missing_ok=True)
        if changed is not None:
            file.write_bytes(changed)
        with pytest.raises(UserError) as error:
            kind.read(folder)
        check_line(str(error.value), kind.file)


@each_kind
def test_a_changed_bit_is_found_or_reads_as_another_value(kind: Kind, copied: Any) -> None:
    folder = copied(kind)
    file, content = folder / kind.file, (folder / kind.file).read_bytes()
    for changed in bit(content):
        assert changed is not None
        file.write_bytes(changed)
        try:
            kind.read(folder)
        except UserError as error:
            # A changed sum in a record puts the blame on the file that it is of.
            check_line(str(error), *(path.name for path in folder.iterdir()))
        else:
            assert not kind.is_hashed


@each_kind
def test_a_folder_in_the_place_of_a_file_ends_in_one_line(kind: Kind, copied: Any) -> None:
    folder = copied(kind)
    (folder / kind.file).unlink()
    (folder / kind.file).mkdir()
    with pytest.raises(UserError) as error:
        kind.read(folder)
    check_line(str(error.value), kind.file)


def check_line(message: str, *files: str) -> None:
    assert message.isprintable(), message
    assert len(message) < 600
    assert any(file in message for file in files), message
    assert re.search(
        r"run `lcm-lora (prepare|distill|select|(generate|features) adapter|score|decide|latency)`",
        message,
    )
