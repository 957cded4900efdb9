"""The promises of a run: exact resume, one adapter however the batch is cut, no silent NaN."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from making import CPU, make_cache, make_data
from running import params, run
from safetensors.torch import load_file, save_file

from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.bases import Base
from lcm_lora.candidates import candidate_name, find_candidates
from lcm_lora.data.batches import LatentCache
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.params.sources import ShapesSource
from lcm_lora.recipe import read_recipe
from lcm_lora.records import read_record
from lcm_lora.training import loop
from lcm_lora.training.curve import CURVE
from lcm_lora.training.feed import Batch
from lcm_lora.training.origin import ORIGIN, Origin
from lcm_lora.training.ranks import Ranks


def origin_of(home: Path) -> str:
    return read_record(home / "curve" / ORIGIN, Origin, "").git_commit


@pytest.fixture
def steps_made(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that says how many steps were made since it was last asked."""
    step, made = loop.Run.step, 0

    def counting(self: loop.Run, batches: Iterator[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal made
        made += 1
        return step(self, batches)

    def ask() -> int:
        nonlocal made
        made, asked = 0, made
        return asked

    monkeypatch.setattr(loop.Run, "step", counting)
    return ask


def test_two_at_once_in_a_folder_train_once(
    whole: Path, cache: Path, tmp_path: Path, steps_made: Callable[[], int]
) -> None:
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: run(tmp_path, cache), range(2)))
    assert steps_made() == 5
    for made in ("candidates", "curve"):
        assert sha256(tmp_path / made) == sha256(whole / made)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program handles it."""


@pytest.mark.parametrize("steps_lived", [1, 2, 3])
def test_a_killed_run_ends_in_the_same_bytes(
    steps_lived: int, whole: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, lived = loop.Run.step, 0

    def dying(self: loop.Run, batches: Iterator[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal lived
        if lived == steps_lived:
            raise Killed
        lived += 1
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "step", dying)
        with pytest.raises(Killed):
            run(tmp_path, cache)
    assert not (tmp_path / "candidates").exists()
    run(tmp_path, cache)
    for made in ("candidates", "curve"):
        assert sha256(tmp_path / made) == sha256(whole / made)


def test_candidates_are_the_adapters_of_shorter_runs(
    whole: Path, cache: Path, tmp_path: Path
) -> None:
    found = find_candidates(whole / "candidates")
    assert [candidate.step for candidate in found] == [2, 4, 5]
    assert [candidate.recipe().step for candidate in found] == [2, 4, 5]
    assert len({candidate.recipe().weights_sha256 for candidate in found}) == 3
    shorter = run(tmp_path, cache, steps=2)
    assert read_recipe(shorter).weights_sha256 == found[0].recipe().weights_sha256


def test_a_longer_run_goes_on_from_a_shorter_one(whole: Path, cache: Path, tmp_path: Path) -> None:
    run(tmp_path, cache, steps=3)
    run(tmp_path, cache, steps=5)
    assert sha256(tmp_path / "candidates") == sha256(whole / "candidates")


def test_with_a_falling_rate_a_longer_run_is_another(
    cache: Path, tmp_path: Path, steps_made: Callable[[], int]
) -> None:
    run(tmp_path, cache, steps=1, schedule="linear", warm_up=0)
    run(tmp_path, cache, steps=2, schedule="linear", warm_up=0)
    assert steps_made() == 1 + 2
    rates = [json.loads(line)["learning_rate"] for line in (tmp_path / "curve" / CURVE).open()]
    assert rates == pytest.approx([2e-3 / 3, 1e-3 / 3])


def test_adapters_are_written_in_another_dtype_without_training_again(
    whole: Path, cache: Path, tmp_path: Path, steps_made: Callable[[], int]
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    exact = load_file(run(tmp_path, cache) / WEIGHTS)
    halved = load_file(run(tmp_path, cache, export="fp16") / WEIGHTS)
    assert steps_made() == 0
    for name, value in exact.items():
        assert torch.equal(halved[name], value.half())


def test_what_decides_the_result_decides_whether_a_run_goes_on(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps_made: Callable[[], int],
) -> None:
    """A finished run is never taken for that of other code, libraries, data, base or parameters."""

    def train_again(cache: Path = cache, **changes: object) -> int:
        run(tmp_path, cache, steps=2, **changes)
        return steps_made()

    assert train_again() == 2
    assert train_again() == 0
    assert train_again(seed=1) == 2
    assert train_again(seed=1) == 0
    monkeypatch.setattr(loop, "code_sha256", lambda module: "other mathematics")
    assert train_again(seed=1) == 2
    monkeypatch.setattr(loop, "versions", lambda: {"torch": "another"})
    assert train_again(seed=1) == 2
    other = tmp_path / "project"
    make_data(other, ShapesSource(count=90, seed=6), held_out=0.33, selection=0.05)
    make_cache(other, batch=32)
    assert train_again(cache=other / "data" / "cache", seed=1) == 2
    assert train_again(cache=other / "data" / "cache", seed=1) == 0


def test_the_code_that_counts_is_that_of_the_step() -> None:
    from lcm_lora.code import closure

    names = {path.name for path in closure(loop.__name__)}
    assert {"step.py", "solver.py", "schedule.py", "objective.py", "adapter.py"} <= names
    assert {"batches.py", "draws.py", "bases.py"} <= names
    assert not {"page.py", "sources.py", "figures.py"} & names


def test_a_shorter_run_than_a_leftover_keeps_its_own_checkpoints(
    cache: Path, tmp_path: Path, steps_made: Callable[[], int]
) -> None:
    none = {"first": 9}
    run(tmp_path, cache, steps=6, checkpoint_every=6, candidates=none)
    steps_made()
    step, lived = loop.Run.step, 0

    def dying(self: loop.Run, batches: Iterator[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal lived
        if lived == 4:
            raise Killed
        lived += 1
        return step(self, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Run, "step", dying)
        with pytest.raises(Killed):
            run(tmp_path, cache, steps=5, checkpoint_every=2, candidates=none)
    steps_made()
    run(tmp_path, cache, steps=5, checkpoint_every=2, candidates=none)
    assert steps_made() == 1
    run(tmp_path, cache, steps=6, checkpoint_every=2, candidates=none)
    assert steps_made() == 0


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(
    whole: Path,
    cache: Path,
    tmp_path: Path,
    steps_made: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "candidates")
    (newest,) = (tmp_path / "state").glob("*/step-00000005")
    (newest / "state.json").unlink()
    run(tmp_path, cache)
    assert steps_made() == 1
    assert sha256(tmp_path / "candidates") == sha256(whole / "candidates")
    assert newest.with_name(f"damaged-{newest.name}").is_dir()
    assert f"set aside as {newest.with_name(f'damaged-{newest.name}')}" in capsys.readouterr().err


def test_other_candidates_cost_only_the_steps_that_lack_them(
    whole: Path, cache: Path, tmp_path: Path, steps_made: Callable[[], int]
) -> None:
    """No more adapters are written than are wanted, whatever was kept before."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for first, every, steps, kept in (
        (9, 2, 0, [5]),
        (5, 1, 1, [5]),
        (1, 1, 5, [1, 2, 3, 4, 5]),
        (2, 2, 0, [2, 4, 5]),
    ):
        run(tmp_path, cache, candidates={"first": first, "every": every})
        assert steps_made() == steps
        assert [found.step for found in find_candidates(tmp_path / "candidates")] == kept
    assert sha256(tmp_path / "candidates") == sha256(whole / "candidates")
    assert not list((tmp_path / "state").glob("*/damaged-*"))


def test_the_origin_is_who_made_the_last_step(cache: Path, tmp_path: Path) -> None:
    first = run(tmp_path, cache, commit="a" * 40, steps=2)
    made = sha256(first)
    assert origin_of(tmp_path) == "a" * 40
    # Finished: another commit of the same code makes no step, and is not named.
    assert sha256(run(tmp_path, cache, commit="b" * 40, steps=2)) == made
    assert origin_of(tmp_path) == "a" * 40
    run(tmp_path, cache, commit="b" * 40, steps=3)
    assert origin_of(tmp_path) == "b" * 40


def test_the_adapter_does_not_depend_on_who_made_it(cache: Path, tmp_path: Path) -> None:
    one = run(tmp_path / "one", cache, commit="a" * 40, steps=2)
    other = run(tmp_path / "other", cache, commit="b" * 40, steps=2)
    assert sha256(one) == sha256(other)
    recipe = read_recipe(one)
    assert recipe.weights_sha256 == sha256(one / WEIGHTS)
    assert recipe.data.cache_sha256 == sha256(cache / "index.json")


def test_accumulation_does_not_change_the_run(whole: Path, cache: Path, tmp_path: Path) -> None:
    at_once = load_file(whole / "candidates" / candidate_name(5) / WEIGHTS)
    cut = load_file(run(tmp_path, cache, accumulation=4) / WEIGHTS)
    # As a whole: Adam divides by the gradient's own size, so rounding shows where that is tiny.
    apart = sum(float((cut[name] - value).square().sum()) for name, value in at_once.items())
    moved = sum(float(v.square().sum()) for name, v in at_once.items() if "lora_up" in name)
    assert apart < 0.01 * moved


def test_every_weight_of_the_adapter_moves(whole: Path) -> None:
    """Catches clipping nothing, training nothing and rounding every update away."""
    adapter = load_file(whole / "candidates" / candidate_name(5) / WEIGHTS)
    still = [name for name, value in adapter.items() if "lora_up" in name and not value.any()]
    assert not still
    curve = [json.loads(line) for line in (whole / "curve" / CURVE).open()]
    assert [row["step"] for row in curve] == [1, 2, 3, 4, 5]
    assert all(row["grad_norm"] > 0 for row in curve)
    assert [row["learning_rate"] for row in curve] == [5e-4, 1e-3, 1e-3, 1e-3, 1e-3]


def test_gradient_checkpointing_changes_memory_only(
    whole: Path, cache: Path, tmp_path: Path
) -> None:
    plain = load_file(whole / "candidates" / candidate_name(2) / WEIGHTS)
    again = run(tmp_path, cache, steps=2, gradient_checkpointing=True)
    for name, value in load_file(again / WEIGHTS).items():
        torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, cache, steps=2)
    kept = sorted(p.name for p in (tmp_path / "state").glob("*/step-*"))
    nan = torch.tensor(float("nan"), requires_grad=True)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "distance", lambda *_: nan * 1)
        with pytest.raises(UserError, match=r"loss of step 3 is nan; lower distill\.learning_rate"):
            run(tmp_path, cache, steps=5)
    assert sorted(p.name for p in (tmp_path / "state").glob("*/step-*")) == kept
    run(tmp_path, cache, steps=5)


def test_a_wrong_grid_is_refused_before_training(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"distill\.grid: 48 does not divide"):
        run(tmp_path, cache, grid=48)


def test_the_teacher_is_untouched_by_training(
    base: Base, cache: Path, tmp_path: Path, hashes: Hashes
) -> None:
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    origin = Origin(git_commit="a", git_dirty=False, code_sha256="c")
    loop.train(
        params(steps=2),
        CPU,
        base,
        LatentCache(cache, hashes),
        "a cache",
        tmp_path / "s",
        origin,
        Ranks(),
    )
    after = base.unet.state_dict()
    for name, value in before.items():
        now = after.get(name, after.get(name.replace(".weight", ".base_layer.weight")))
        if now is None:
            now = after[name.replace(".bias", ".base_layer.bias")]
        assert torch.equal(now, value)


def test_latents_that_are_not_finite_are_reported(cache: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cache"
    shutil.copytree(cache, broken)
    index = json.loads((broken / "index.json").read_text())
    for shard in index["shards"]:
        tensors = load_file(broken / shard["file"])
        tensors["mean"].fill_(float("inf"))
        save_file(tensors, broken / shard["file"])
        shard["sha256"] = sha256(broken / shard["file"])
    (broken / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="look for broken pictures"):
        run(tmp_path / "run", broken)
