"""The promises of a run: exact resume, one adapter however the batch is cut, no silent NaN."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from making import CPU, make_cache, make_data, shapes_base
from safetensors.torch import load_file, save_file

from lcm_lora.bases import Base
from lcm_lora.data.batches import LatentCache
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.params.distill import Distill, Guidance
from lcm_lora.params.sources import ShapesSource
from lcm_lora.recipe import read_recipe
from lcm_lora.records import read_record
from lcm_lora.training import loop
from lcm_lora.training.distill import distill
from lcm_lora.training.origin import ORIGIN, Origin


def params(**changes: object) -> Distill:
    values = {
        "steps": 5,
        "batch": 8,
        "guidance": Guidance(convention="imagen", low=2.0, high=4.0),
        "rank": 4,
        "alpha": 8,
        "learning_rate": 1e-3,
        "warm_up": 2,
        "checkpoint_every": 2,
    }
    return Distill.model_validate(values | changes)


def run(home: Path, cache: Path, commit: str = "a" * 40, **changes: object) -> Path:
    """Distil in `home` and return the adapter's folder."""
    adapter = home / "adapter"
    origin = Origin(git_commit=commit, git_dirty=False, code_sha256="c" * 64)
    with Hashes(home / "hashes.sqlite") as hashes:
        distill(
            params(**changes),
            CPU,
            shapes_base(),
            cache,
            hashes,
            home / "state",
            adapter,
            home / "curve",
            origin,
        )
    return adapter


def origin_of(home: Path) -> str:
    return read_record(home / "curve" / ORIGIN, Origin, "").git_commit


@pytest.fixture
def steps_made(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that says how many steps were made since it was last asked."""
    step, made = loop.Run.step, 0

    def counting(self: loop.Run) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal made
        made += 1
        return step(self)

    def ask() -> int:
        nonlocal made
        made, asked = 0, made
        return asked

    monkeypatch.setattr(loop.Run, "step", counting)
    return ask


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program handles it."""


@pytest.mark.parametrize("steps_lived", [0, 1, 2, 3, 4])
def test_a_killed_run_ends_in_the_same_bytes(
    steps_lived: int, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", cache)
    step, lived = loop.Run.step, 0

    def dying(self: loop.Run) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal lived
        if lived == steps_lived:
            raise Killed
        lived += 1
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "step", dying)
        with pytest.raises(Killed):
            run(tmp_path / "killed", cache)
    assert not (tmp_path / "killed" / "adapter").exists()
    resumed = run(tmp_path / "killed", cache)
    assert sha256(resumed) == sha256(whole)
    assert sha256(tmp_path / "killed" / "curve") == sha256(tmp_path / "whole" / "curve")


def test_a_longer_run_goes_on_from_a_shorter_one(cache: Path, tmp_path: Path) -> None:
    run(tmp_path / "grown", cache, steps=3)
    longer = run(tmp_path / "grown", cache, steps=5)
    at_once = run(tmp_path / "at_once", cache, steps=5)
    assert sha256(longer) == sha256(at_once)


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
    run(tmp_path, cache, steps=6, checkpoint_every=6)
    steps_made()
    step, lived = loop.Run.step, 0

    def dying(self: loop.Run) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal lived
        if lived == 4:
            raise Killed
        lived += 1
        return step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Run, "step", dying)
        with pytest.raises(Killed):
            run(tmp_path, cache, steps=5, checkpoint_every=2)
    steps_made()
    run(tmp_path, cache, steps=5, checkpoint_every=2)
    assert steps_made() == 1
    run(tmp_path, cache, steps=6, checkpoint_every=2)
    assert steps_made() == 0


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped byte": lambda folder: flip(folder / "state.safetensors"),
    "cut tensors": lambda folder: cut(folder / "state.safetensors"),
    "no tensors": lambda folder: (folder / "state.safetensors").unlink(),
    "a cut record": lambda folder: cut(folder / "state.json"),
    "no record": lambda folder: (folder / "state.json").unlink(),
    "another record": lambda folder: (folder / "state.json").write_text("{}"),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(
    cache: Path,
    tmp_path: Path,
    damage: str,
    steps_made: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = run(tmp_path / "whole", cache, steps=3)
    run(tmp_path / "hurt", cache, steps=3, checkpoint_every=1)
    shutil.rmtree(tmp_path / "hurt" / "adapter")
    (newest,) = (tmp_path / "hurt" / "state").glob("*/step-00000003")
    DAMAGES[damage](newest)
    steps_made()
    capsys.readouterr()
    again = run(tmp_path / "hurt", cache, steps=3, checkpoint_every=1)
    assert steps_made() == 1
    assert sha256(again / "pytorch_lora_weights.safetensors") == (
        sha256(whole / "pytorch_lora_weights.safetensors")
    )
    assert newest.with_name(f"damaged-{newest.name}").is_dir()
    assert f"set aside as {newest.with_name(f'damaged-{newest.name}')}" in capsys.readouterr().err


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
    assert recipe.weights_sha256 == sha256(one / "pytorch_lora_weights.safetensors")
    assert recipe.data.cache_sha256 == sha256(cache / "index.json")


def test_accumulation_does_not_change_the_run(cache: Path, tmp_path: Path) -> None:
    whole = load_file(run(tmp_path / "1", cache) / "pytorch_lora_weights.safetensors")
    cut = load_file(run(tmp_path / "4", cache, accumulation=4) / "pytorch_lora_weights.safetensors")
    # As a whole: Adam divides by the gradient's own size, so rounding shows where that is tiny.
    apart = sum(float((cut[name] - value).square().sum()) for name, value in whole.items())
    moved = sum(float(v.square().sum()) for name, v in whole.items() if "lora_up" in name)
    assert apart < 0.01 * moved


def test_every_weight_of_the_adapter_moves(cache: Path, tmp_path: Path) -> None:
    """Catches clipping nothing, training nothing and rounding every update away."""
    adapter = load_file(run(tmp_path, cache) / "pytorch_lora_weights.safetensors")
    still = [name for name, value in adapter.items() if "lora_up" in name and not value.any()]
    assert not still
    curve = [json.loads(line) for line in (tmp_path / "curve" / "curve.jsonl").open()]
    assert [row["step"] for row in curve] == [1, 2, 3, 4, 5]
    assert all(row["grad_norm"] > 0 for row in curve)
    assert [row["learning_rate"] for row in curve] == [5e-4, 1e-3, 1e-3, 1e-3, 1e-3]


def test_gradient_checkpointing_changes_memory_only(cache: Path, tmp_path: Path) -> None:
    plain = load_file(run(tmp_path / "a", cache, steps=2) / "pytorch_lora_weights.safetensors")
    again = run(tmp_path / "b", cache, steps=2, gradient_checkpointing=True)
    for name, value in load_file(again / "pytorch_lora_weights.safetensors").items():
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


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match="no multiple of 3 processes times 2 micro-batches"):
        loop._micro_batch(params(batch=8, accumulation=2), 3)


def test_a_wrong_grid_is_refused_before_training(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"distill\.grid: 48 does not divide"):
        run(tmp_path, cache, grid=48)


def test_the_teacher_is_untouched_by_training(
    base: Base, cache: Path, tmp_path: Path, hashes: Hashes
) -> None:
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    origin = Origin(git_commit="a", git_dirty=False, code_sha256="c")
    loop.train(
        params(steps=2), CPU, base, LatentCache(cache, hashes), "a cache", tmp_path / "s", origin
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
