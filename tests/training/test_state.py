"""A checkpoint is gone on from if it is whole and has what is wanted, by all processes alike."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import params
from torch import nn

from lcm_lora.errors import UserError
from lcm_lora.store import Store, open_store
from lcm_lora.training.curve import CurveRow
from lcm_lora.training.origin import Origin
from lcm_lora.training.state import (
    State,
    follow,
    keep_candidate,
    restore,
    save_checkpoint,
    take_candidate,
)

PARAMS = params(candidates={"first": 2, "every": 9})


def fresh() -> State:
    weights = {"a": nn.Parameter(torch.zeros(3)), "b": nn.Parameter(torch.zeros(2, 2))}
    optimiser = torch.optim.AdamW(weights.values(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return State(
        weights, optimiser, scaler, Origin(git_commit="a", git_dirty=False, code_sha256="c")
    )


def step(state: State) -> None:
    for weight in state.parameters.values():
        weight.grad = torch.full_like(weight, float(state.step + 1))
    state.optimiser.step()
    state.step += 1
    state.curve.append(CurveRow(step=state.step, loss=1.0, grad_norm=1.0, learning_rate=0.1))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The checkpoints 2 and 3 of a run, which kept a candidate after step 2."""
    store, state = open_store(str(tmp_path), "distill.checkpoints"), fresh()
    for _ in range(3):
        step(state)
        if PARAMS.candidates.at(state.step):
            keep_candidate(state, store)
        save_checkpoint(state, store)
    return store


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped byte": lambda folder: flip(folder / "state.safetensors"),
    "cut tensors": lambda folder: cut(folder / "state.safetensors"),
    "no tensors": lambda folder: (folder / "state.safetensors").unlink(),
    "a cut record": lambda folder: cut(folder / "state.json"),
    "no record": lambda folder: (folder / "state.json").unlink(),
    "another record": lambda folder: (folder / "state.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_only_the_main_process_sets_a_damaged_checkpoint_aside(
    damage: str, store: Store, tmp_path: Path
) -> None:
    DAMAGES[damage](tmp_path / "step-00000003")
    names, state = store.names(), fresh()
    with pytest.raises(UserError, match="one process could read it, another could not"):
        follow(state, store, 3)
    assert store.names() == names
    assert state.step == 0
    restore(state, store, PARAMS)
    assert state.step == 2
    assert "damaged-step-00000003" in store.names()


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_checkpoint_whose_wanted_candidate_is_lost_is_passed_over_and_stays(
    damage: Callable[[Path], object],
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (candidate,) = tmp_path.glob("candidate-*")
    whole = candidate.read_bytes()
    damage(candidate)
    state = fresh()
    restore(state, store, PARAMS)
    assert state.step == 0
    assert f"{candidate.name}: " in capsys.readouterr().err
    assert {"step-00000002", "step-00000003"} <= set(store.names())
    for _ in range(2):
        step(state)
    keep_candidate(state, store)
    assert candidate.read_bytes() == whole
    restore(state, store, PARAMS)
    assert state.step == 3


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_lost_candidate_that_is_wanted_no_more_costs_no_step(
    damage: Callable[[Path], object], store: Store, tmp_path: Path
) -> None:
    (candidate,) = tmp_path.glob("candidate-*")
    damage(candidate)
    state = fresh()
    restore(state, store, params(candidates={"first": 9, "every": 9}))
    assert state.step == 3


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_a_candidate_that_is_lost_at_the_end_is_told_in_a_line(
    damage: Callable[[Path], object], store: Store, tmp_path: Path
) -> None:
    state = fresh()
    restore(state, store, PARAMS)
    take_candidate(state, 2, store)
    (candidate,) = tmp_path.glob("candidate-*")
    damage(candidate)
    with pytest.raises(UserError, match=rf"{candidate}: .*; run the same command again$") as error:
        take_candidate(state, 2, store)
    assert "\n" not in str(error.value)


def test_of_a_candidate_that_is_kept_twice_nothing_is_left_over(store: Store) -> None:
    names, state = store.names(), fresh()
    restore(state, store, params(steps=2, candidates=PARAMS.candidates.model_dump()))
    assert state.step == 2
    keep_candidate(state, store)
    assert store.names() == names


@pytest.mark.parametrize(("first", "found"), [(9, 3), (3, 2), (1, 0)])
def test_a_checkpoint_without_a_wanted_candidate_is_passed_over_and_stays(
    first: int, found: int, store: Store
) -> None:
    names, state = store.names(), fresh()
    restore(state, store, params(candidates={"first": first, "every": 9}))
    assert state.step == found
    assert store.names() == names


def test_all_processes_go_on_as_if_never_killed(store: Store) -> None:
    main, other, whole = fresh(), fresh(), fresh()
    restore(main, store, PARAMS)
    follow(other, store, main.step)
    for _ in range(3):
        step(whole)
    step(whole)
    for state in (main, other):
        step(state)
        for name, weight in state.parameters.items():
            assert torch.equal(weight, whole.parameters[name])
