"""Image sets: written whole, the same twice, gone on with after a kill, kept by content."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from making import CPU, make_adapter, shapes_inventory

from lcm_lora.data.picture_sets import read_set
from lcm_lora.data.shards import read_tar_members
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.painting import paint as painting
from lcm_lora.painting.latencies import read_latency
from lcm_lora.painting.sets import generate, read_theme
from lcm_lora.painting.studio import Studio
from lcm_lora.painting.subject import Subject, with_adapter
from lcm_lora.params.generate import Cell, Generate, Painter
from lcm_lora.params.hardware import Hardware
from lcm_lora.pieces import Pieces
from lcm_lora.seeing.image_sets import captions_of, generated_sets
from lcm_lora.store import Store, open_store

TWO = Cell(steps=2, guidance=1.0)
TEACHER = Painter(sampler="ddim", cells=(Cell(steps=2, guidance=1.0, seeds=1),))


@pytest.fixture(scope="session")
def adapter(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("adapter")
    return make_adapter(home, cache, steps=2, rank=4, learning_rate=2e-3)


@pytest.fixture(scope="session")
def evaluation(data: Path) -> Path:
    return data / "data" / "evaluation"


def params(*cells: Cell, batch: int = 3) -> Generate:
    painter = Painter(sampler="lcm", cells=cells or (TWO,))
    return Generate(batch=batch, seed=3, adapter=painter, painters={"teacher": TEACHER})


class Project:
    """A folder with a store, painted into by one subject."""

    def __init__(self, folder: Path, evaluation: Path, hashes: Hashes, subject: Subject) -> None:
        self.folder, self.evaluation, self.hashes = folder, evaluation, hashes
        self.subject = subject
        self.shared: Store | None = None

    def paint(self, how: Generate, name: str = "adapter", out: str | None = None) -> Path:
        place = self.folder / (out or name)
        pieces = Pieces(self.folder / "store", self.hashes, self.shared)
        theme = read_theme(how, self.evaluation)
        studio = Studio(self.subject, CPU)
        generate(name, how.painter(name), theme, studio, pieces, place)
        return place


@pytest.fixture
def project(tmp_path: Path, evaluation: Path, hashes: Hashes, adapter: Path) -> Project:
    return Project(tmp_path, evaluation, hashes, with_adapter(shapes_inventory(), adapter))


def painted_batches(monkeypatch: pytest.MonkeyPatch, dies_at: int | None = None) -> list[int]:
    """Count what is really painted; raise at the batch with this number."""
    real, firsts = painting.paint, []

    def counted(base, captions, cell, size, seed, first=0, eta=0.0):  # type: ignore[no-untyped-def]
        if dies_at == len(firsts):
            raise KeyboardInterrupt
        firsts.append(first)
        return real(base, captions, cell, size, seed, first, eta)

    monkeypatch.setattr(painting, "paint", counted)
    return firsts


def sums(folder: Path) -> dict[str, str]:
    return {file.name: sha256(file) for file in sorted(folder.iterdir())}


def test_an_image_set_is_whole_and_read_back_with_its_captions(project: Project) -> None:
    folder = project.paint(params())
    tar = folder / "steps-2_guidance-1.tar"
    assert [name for name, _ in read_tar_members(tar)] == [f"{i:08d}.png" for i in range(4)]
    record = json.loads(tar.with_suffix(".json").read_text())
    assert (record["nfe"], record["count"], record["painter"]) == (2, 4, "adapter")
    assert record["scheduler"] == {"class": "LCMScheduler", "timesteps": [999, 499]}
    assert record["tar_sha256"] == sha256(tar)
    captions = read_set(project.evaluation, "real").captions
    assert captions_of(folder, "lcm-lora generate adapter") == captions
    (found,) = generated_sets(folder, "adapter")
    assert (found.captions, found.painter, found.cell) == (captions, "adapter", TWO)


def test_killed_anywhere_it_goes_on_and_ends_with_the_same_bytes(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = params(TWO, Cell(steps=1, guidance=1.0), batch=1)
    whole = sums(project.paint(how))
    other = Project(tmp_path / "b", project.evaluation, project.hashes, project.subject)
    total = []
    for dies_at in (0, 1, 2, 3):
        with monkeypatch.context() as patched:
            firsts = painted_batches(patched, dies_at)
            with pytest.raises(KeyboardInterrupt):
                other.paint(how)
        assert len(firsts) == dies_at
        assert not (other.folder / "adapter").exists()
        total += firsts
    firsts = painted_batches(monkeypatch)
    assert sums(other.paint(how)) == whole
    assert len(total + firsts) == 8, "nothing was painted twice"


def test_killed_anywhere_another_machine_goes_on_and_ends_with_the_same_bytes(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = params(TWO, Cell(steps=1, guidance=1.0), batch=1)
    whole = sums(project.paint(how))
    shared = open_store(f"memory://{tmp_path}", "LCM_LORA_STORE")

    def machine(name: str) -> Project:
        other = Project(tmp_path / name, project.evaluation, project.hashes, project.subject)
        other.shared = shared
        return other

    total = []
    for dies_at in (3, 2):
        with monkeypatch.context() as patched:
            firsts = painted_batches(patched, dies_at)
            with pytest.raises(KeyboardInterrupt):
                machine(f"dies-at-{dies_at}").paint(how)
        assert len(firsts) == dies_at
        total += firsts
    firsts = painted_batches(monkeypatch)
    assert sums(machine("last").paint(how)) == whole
    assert len(total + firsts) == 8, "nothing was painted twice"
    champion = sums(machine("later").paint(how, "champion"))
    assert len(total + firsts) == 8
    assert {champion[name] for name in whole if name.endswith(".tar")} < set(whole.values())
    assert not [name for name in shared.names() if name.endswith(".parts")]


def test_a_new_cell_alone_is_painted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.paint(params())
    firsts = painted_batches(monkeypatch)
    project.paint(params(TWO, Cell(steps=1, guidance=1.0)))
    assert len(firsts) == 2


def test_the_champion_that_was_the_adapter_is_not_painted_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the adapter is another meanwhile: what it needed before stays in the store."""
    tar = "steps-2_guidance-1.tar"
    before = sha256(project.paint(params()) / tar)
    project.subject, old = Subject(project.subject.base), project.subject
    project.paint(params())
    project.subject = old
    firsts = painted_batches(monkeypatch)
    champion = project.paint(params(), "champion")
    assert firsts == []
    assert sha256(champion / tar) == before


def test_what_nobody_has_needed_lately_is_removed(project: Project) -> None:
    store = project.folder / "store"
    for steps in (1, 2, 3, 4):
        project.paint(params(Cell(steps=steps, guidance=1.0)))
        assert len(list(store.glob("*/pictures.tar"))) == min(steps, 2)
        assert len(list(store.iterdir())) == min(steps, 2) + 2, "and who needs them, and locks"


def test_a_damaged_picture_in_the_store_is_painted_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = sums(project.paint(params()))
    (tar,) = (project.folder / "store").glob("*/pictures.tar")
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.unlink()
    tar.write_bytes(content)
    firsts = painted_batches(monkeypatch)
    assert sums(project.paint(params())) == good
    assert len(firsts) == 2


def test_without_a_champion_there_is_nothing_and_it_says_so(
    project: Project, tmp_path: Path
) -> None:
    out, pieces = tmp_path / "champion", Pieces(tmp_path / "store", project.hashes)
    how, theme = params().adapter, read_theme(params(), project.evaluation)
    generate("champion", how, theme, None, pieces, out)
    assert generated_sets(out, "champion") == []
    assert (
        captions_of(out, "lcm-lora generate adapter")
        == read_set(project.evaluation, "real").captions
    )


def test_a_missing_evaluation_set_is_said(project: Project, tmp_path: Path) -> None:
    project.evaluation = tmp_path
    with pytest.raises(UserError, match=r"real\.json: no such file; run `lcm-lora prepare`"):
        project.paint(params())
    assert not (project.folder / "adapter").exists()


SECOND = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from test_sets import Project, TEACHER, counted_in, params
from making import shapes_inventory
from lcm_lora.hashes import Hashes
from lcm_lora.painting.subject import Subject
folder, evaluation = Path(sys.argv[3]), Path(sys.argv[4])
firsts = counted_in()
project = Project(folder, evaluation, Hashes(folder / "hashes"), Subject(shapes_inventory()))
project.paint(params(), "teacher", "second")
print(firsts)
"""


def counted_in() -> list[int]:
    """Count what this process paints, to its end."""
    return painted_batches(pytest.MonkeyPatch())


def test_of_two_stages_that_need_the_same_cell_at_once_one_paints_it_and_one_waits(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second starts between two batches of the first, under another painter's name."""
    project.subject = Subject(project.subject.base)
    how = params(batch=2).model_copy(update={"painters": {"teacher": TEACHER, "ddim": TEACHER}})
    real, firsts, second = painting.paint, [], []
    here = Path(__file__).parent
    places = [here, here.parent, project.folder, project.evaluation]

    def painted(*args, **kwargs):  # type: ignore[no-untyped-def]
        if firsts:
            command = [sys.executable, "-c", SECOND.replace("params()", "params(batch=2)")]
            process = subprocess.Popen(
                [*command, *map(str, places)], stdout=-1, stderr=-1, text=True
            )
            assert process.stderr
            second.append((process, process.stderr.readline()))
        firsts.append(args[5])
        return real(*args, **kwargs)

    monkeypatch.setattr(painting, "paint", painted)
    first = project.paint(how, "ddim")
    ((process, said),) = second
    out, errors = process.communicate()
    assert said == "waiting for another stage that makes the same\n"
    assert (process.returncode, out) == (0, "[]\n"), errors
    assert firsts == [0, 2]
    tar = "steps-2_guidance-1_seeds-1.tar"
    assert sha256(first / tar) == sha256(project.folder / "second" / tar)


def test_what_a_kill_left_beside_a_whole_cell_goes_and_kept_cells_count_as_done(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.paint(params())
    (piece,) = (project.folder / "store").glob("*/pictures.tar")
    for name in (f"{piece.parent.name}.parts", f".{piece.parent.name}.abcdefgh"):
        (project.folder / "store" / name / "some").mkdir(parents=True)
    capsys.readouterr()
    project.paint(params())
    assert {path.name for path in (project.folder / "store").iterdir()} == {
        piece.parent.name,
        "locks",
        "users",
    }
    assert "generate adapter: 4/4 pictures" in capsys.readouterr().err


def test_what_decides_the_last_bits_is_what_the_machine_has_and_not_what_was_asked(
    project: Project,
) -> None:
    def where(**asked: Any) -> dict[str, Any]:
        return Studio(project.subject, Hardware(precision="fp32", **asked)).where

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = where(device="cpu")
        torch.set_num_threads(2)
        two = where(device="cpu")
        assert where(device="cpu", threads=1) == one != two
    finally:
        torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        assert where(device="auto") == where(device="cpu")


def test_latency_has_every_step_count_once_and_says_from_how_many_timings(
    evaluation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from making import shapes_base

    from lcm_lora.painting import latency
    from lcm_lora.painting.latency import measure_latency

    monkeypatch.setattr(latency, "_BUDGET", 0.0)  # however quick the machine
    how = params(TWO, Cell(steps=16, guidance=1.0), Cell(steps=2, guidance=3.0))
    measure_latency(how, shapes_base(), evaluation, tmp_path / "latency.json")
    found = read_latency(tmp_path / "latency.json")
    assert [(c.steps, c.is_guided) for c in found.cells] == [(2, False), (2, True), (16, False)]
    assert found.repeats == 1
    assert {cell.repeats for cell in found.cells} == {1}
    assert all(cell.ms > 0 for cell in found.cells)
    assert found.of(16, 1.0) == found.cells[-1].ms
    assert found.of(16, 3.0) is None
    assert (found.batch, found.resolution) == (3, 32)
