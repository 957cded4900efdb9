"""Half precision: it trains, an overflowing loss scale harms nothing, no copy is kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from making import shapes_inventory
from running import run
from safetensors.torch import load_file
from torch import Tensor

from lcm_lora.adapter import attach, compute_as_given
from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.bases import load_base
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params.hardware import Hardware
from lcm_lora.training import loop
from lcm_lora.training.curve import CurveRow, read_curve
from lcm_lora.training.feed import Batch

FP16 = Hardware(device="cpu", precision="fp16", threads=1)
BF16 = Hardware(device="cpu", precision="bf16", threads=1)


def curve_of(home: Path) -> list[CurveRow]:
    return read_curve(home / "curve" / "curve.jsonl", "")


@pytest.mark.parametrize(
    ("hardware", "off", "norm_off"), [(BF16, 0.5, 0.5), (FP16, 0.05, 0.1)], ids=["bf16", "fp16"]
)
def test_half_precision_trains_nearly_as_full_precision_does(
    hardware: Hardware, off: float, norm_off: float, cache: Path, tmp_path: Path
) -> None:
    """How near the norm of a gradient comes in fp16 depends on the processor: below 5 %, or 7."""
    adapter = load_file(run(tmp_path / "half", cache, hardware=hardware, steps=2) / WEIGHTS)
    assert all(value.any() for name, value in adapter.items() if "lora_up" in name)
    assert {value.dtype for value in adapter.values()} == {torch.float32}
    run(tmp_path / "full", cache, steps=2)
    for half, full in zip(curve_of(tmp_path / "half"), curve_of(tmp_path / "full"), strict=True):
        assert half.loss == pytest.approx(full.loss, rel=off)
        assert half.grad_norm == pytest.approx(full.grad_norm, rel=norm_off)


def test_an_overflowing_loss_scale_falls_and_the_run_goes_on(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after a step that changed nothing, it ends in the same bytes all the same."""
    distance, step = loop.distance, loop.Run.step
    monkeypatch.setattr(loop, "distance", lambda *given: distance(*given) * 100)
    changes: dict[str, Any] = {"hardware": FP16, "steps": 2, "checkpoint_every": 1}
    run(tmp_path / "whole", cache, **changes)
    norms = [row.grad_norm for row in curve_of(tmp_path / "whole")]
    assert [norm is None for norm in norms] == [True, False]

    def dying(self: loop.Run, batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        if self.state.step == 1:
            raise KeyboardInterrupt
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", cache, **changes)
    run(tmp_path / "killed", cache, **changes)
    for made in ("candidates", "curve"):
        assert sha256(tmp_path / "killed" / made) == sha256(tmp_path / "whole" / made)


@pytest.mark.parametrize(
    ("precision", "problem"),
    [
        ("fp16", r"the gradients of the last 3 steps overflow fp16; take bf16 or fp32"),
        ("fp32", r"the gradient of step 1 is nan; lower distill\.learning_rate"),
    ],
)
def test_gradients_that_are_never_finite_end_the_run(
    precision: Any, problem: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(online: Tensor, *_: Any) -> Tensor:
        return (online - online.detach()).abs().sqrt().sum()

    monkeypatch.setattr(loop, "distance", endless)
    monkeypatch.setattr(loop, "_MOST_OVERFLOWS", 3)
    hardware = Hardware(device="cpu", precision=precision, threads=1)
    with pytest.raises(UserError, match=problem):
        run(tmp_path, cache, hardware=hardware, checkpoint_every=1)


def backward(as_given: bool) -> tuple[int, dict[str, Tensor]]:
    """Return the bytes that a pass in bf16 keeps besides the weights, and its gradients."""
    unet = load_base(shapes_inventory(), BF16).unet
    attach(unet, 4, 4, seed=0)
    weights = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    noise = torch.Generator().manual_seed(0)
    for weight in weights.values():
        weight.data = torch.randn(weight.shape, generator=noise) / 10
    if as_given:
        compute_as_given(unet)
    held = {weight.untyped_storage().data_ptr() for weight in unet.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    z, text = torch.randn(2, 8, 8, 8, generator=noise), torch.randn(2, 9, 128, generator=noise)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        output = unet(z, torch.tensor([9, 499]), encoder_hidden_states=text).sample
    output.square().mean().backward()
    return sum(kept.values()), {name: weight.grad for name, weight in weights.items()}


def test_an_adapter_keeps_no_fp32_copy_of_its_input() -> None:
    (cast, expected), (given, found) = backward(as_given=False), backward(as_given=True)
    assert given < 0.9 * cast
    for name, gradient in expected.items():
        apart, size = (found[name] - gradient).norm(), gradient.norm()
        assert apart <= 0.02 * size, name
