"""The promises of a run: exact resume, one adapter however the batch is cut, no silent NaN."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lcm_lora.bases import Base, load_base
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params import Base as BaseParams
from lcm_lora.params import Distill, Guidance, Hardware
from lcm_lora.training import loop
from lcm_lora.training.recipe import distill

CPU = Hardware(device="cpu", precision="fp32", threads=1)


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


def run(home: Path, cache: Path, **changes: object) -> Path:
    """Distil in `home` and return the adapter's folder."""
    base = load_base(BaseParams(), CPU)
    adapter = home / "adapter"
    distill(params(**changes), CPU, base, cache, home / "state", adapter, home / "curve", "0" * 40)
    return adapter


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


def test_a_run_with_other_parameters_does_not_resume(cache: Path, tmp_path: Path) -> None:
    run(tmp_path / "one", cache, seed=1)
    second = run(tmp_path / "one", cache, seed=2)
    alone = run(tmp_path / "two", cache, seed=2)
    assert sha256(second) == sha256(alone)


def test_accumulation_does_not_change_the_run(cache: Path, tmp_path: Path) -> None:
    whole = load_file(run(tmp_path / "1", cache) / "pytorch_lora_weights.safetensors")
    cut = load_file(run(tmp_path / "4", cache, accumulation=4) / "pytorch_lora_weights.safetensors")
    # As a whole: Adam divides by the gradient's own size, so rounding shows where that is tiny.
    apart = sum(float((cut[name] - value).square().sum()) for name, value in whole.items())
    moved = sum(float(v.square().sum()) for name, v in whole.items() if "lora_B" in name)
    assert apart < 0.01 * moved


def test_every_weight_of_the_adapter_moves(cache: Path, tmp_path: Path) -> None:
    """Catches clipping nothing, training nothing and rounding every update away."""
    adapter = load_file(run(tmp_path, cache) / "pytorch_lora_weights.safetensors")
    still = [name for name, value in adapter.items() if "lora_B" in name and not value.any()]
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


def test_the_teacher_is_untouched_by_training(base: Base, cache: Path, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    fingerprint = base.fingerprint()
    loop.train(params(steps=2), CPU, base, cache, tmp_path)
    after = base.unet.state_dict()
    for name, value in before.items():
        now = after.get(name, after.get(name.replace(".weight", ".base_layer.weight")))
        if now is None:
            now = after[name.replace(".bias", ".base_layer.bias")]
        assert torch.equal(now, value)
    assert base.fingerprint() == fingerprint


def test_latents_that_are_not_finite_are_reported(cache: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cache"
    for file in cache.rglob("*"):
        if file.is_file():
            copy = broken / file.relative_to(cache)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    for shard in (broken / "train").iterdir():
        tensors = load_file(shard)
        tensors["mean"].fill_(float("inf"))
        save_file(tensors, shard)
    with pytest.raises(UserError, match="look for broken pictures"):
        run(tmp_path / "run", broken)
