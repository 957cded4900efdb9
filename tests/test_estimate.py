"""What a run takes is counted as it is: published arithmetic, and what torch really keeps."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from making import CPU, shapes_base, shapes_inventory
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import group_norm, interpolate, layer_norm
from torch.overrides import TorchFunctionMode

from lcm_lora.adapter import attach, compute_as_given
from lcm_lora.bases import load_base
from lcm_lora.doctor import Counts, elsewhere, painted
from lcm_lora.estimate import memory, work
from lcm_lora.families.family import FAMILIES, FamilyName
from lcm_lora.params.distill import Distill, Guidance
from lcm_lora.params.file import load_params
from lcm_lora.params.generate import ADAPTER
from lcm_lora.shapes import places

PRESETS = Path(__file__).parent.parent / "lcm_lora" / "presets"
GUIDANCE = Guidance(convention="imagen", low=3, high=3)
counted = functools.cache(work)


@pytest.mark.parametrize(
    ("family", "resolution", "tera", "denoiser", "adapter"),
    [
        # Of torch's own counter, attention included; parameters as published.
        ("sd1", 512, (0.803, 1.117, 2.514), 859_520_964, 67_252_224),
        ("sdxl", 1024, (6.761, 4.879, 10.47), 2_567_463_684, 196_751_360),
        ("ssd1b", 1024, (4.208, 4.879, 10.47), 1_331_334_404, 104_902_656),
    ],
)
def test_published_bases_take_what_is_known_of_them(
    family: FamilyName, resolution: int, tera: tuple[float, ...], denoiser: int, adapter: int
) -> None:
    configs = FAMILIES[family].configs
    each = counted(configs, resolution)
    found = (each.denoiser / 1e12, each.encoder / 1e12, each.decoder / 1e12)
    assert found == pytest.approx(tera, rel=1e-3)
    wanted = Distill(steps=1, batch=1, guidance=GUIDANCE)
    needed = memory(configs, wanted, "bf16", resolution, 1)
    assert (needed.denoiser, needed.adapter) == (2 * denoiser, 16 * adapter)


_FP32 = 2
"""Times as long as in bf16 at best: what decodes computes in fp32, on tensor cores as TF32."""


@pytest.mark.parametrize(
    ("preset", "family"), [("sd15", "sd1"), ("ssd1b", "ssd1b"), ("sdxl", "sdxl")]
)
def test_judging_a_new_adapter_costs_at_most_a_fifth_of_its_training(
    preset: str, family: FamilyName
) -> None:
    """With its champion beside it, once the teacher's and solvers' pictures exist."""
    params = load_params(PRESETS / f"{preset}.yaml")
    each = counted(FAMILIES[family].configs, params.prepare.resolution)
    kept, anew = painted(params)
    cells, prompts = params.generate.adapter.cells, params.evaluation.prompts
    assert anew == Counts(2 * prompts * sum(c.nfe for c in cells), 2 * prompts * len(cells))
    assert kept.passes > anew.passes
    samples = params.distill.steps * params.distill.batch
    training = samples * each.of_training(params.distill.gradient_checkpointing)
    judging = anew.passes * each.denoiser + _FP32 * anew.pictures * each.decoder
    assert judging < training / 5


def test_pictures_of_teacher_and_solvers_are_kept() -> None:
    params = load_params(PRESETS / "shapes.yaml")
    kept, anew = painted(params)
    generate = params.generate
    without = generate.model_copy(update={"painters": {"teacher": generate.painters["teacher"]}})
    cells = params.evaluation.prompts * len(generate.painters["ddim"].cells)
    teacher, same = painted(params.model_copy(update={"generate": without}))
    assert same == anew
    assert teacher.pictures == kept.pictures - 3 * cells == 2 * params.evaluation.prompts


def really_kept(unet: Any, batch: int) -> int:
    """Return the bytes of what backward keeps of a real pass, weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}
    kept: dict[int, int] = {}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        told = torch.zeros(batch, 77, 128)
        zeros = torch.zeros(batch, 8, 8, 8), torch.zeros(batch)
        held.append(unet(*zeros, encoder_hidden_states=told))
    return sum(kept.values())


def test_activations_are_what_torch_keeps() -> None:
    base = shapes_base()
    attach(base.unet, 16, 16, 0)
    wanted = Distill(steps=1, batch=4, rank=16, guidance=GUIDANCE)
    counted = memory(places.BASE, wanted, "fp32", 32, 4).activations
    assert counted == pytest.approx(really_kept(base.unet, 4), rel=0.03)


class AsOnAGpu(TorchFunctionMode):
    """Under autocast of the CPU, compute in fp32 what autocast of CUDA computes so."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        told = kwargs or {}
        if function in {group_norm, layer_norm, interpolate}:
            args, told = ([_exact(a) for a in args], {k: _exact(a) for k, a in told.items()})
        return function(*args, **told)


def _exact(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value


def test_in_half_precision_norms_keep_what_cuda_computes_in_fp32() -> None:
    base = load_base(shapes_inventory(), CPU.model_copy(update={"precision": "bf16"}))
    attach(base.unet, 16, 16, 0)
    compute_as_given(base.unet)
    with torch.autocast("cpu", torch.bfloat16), AsOnAGpu():
        kept = really_kept(base.unet, 4)
    wanted = Distill(steps=1, batch=4, rank=16, guidance=GUIDANCE)
    counted = memory(places.BASE, wanted, "bf16", 32, 4).activations
    assert counted == pytest.approx(kept, rel=1e-3)
    assert not torch.is_autocast_enabled("cuda")


def test_what_lowers_memory_lowers_the_estimate() -> None:
    def needed(batch: int, precision: str = "fp32", **changes: object) -> int:
        wanted = Distill.model_validate({"steps": 1, "batch": 8, "guidance": GUIDANCE} | changes)
        return memory(places.BASE, wanted, precision, 32, batch).activations

    assert needed(8) == pytest.approx(2 * needed(4), rel=0.01)
    assert needed(8, "bf16") < 0.8 * needed(8)
    assert needed(8, gradient_checkpointing=True) < 0.7 * needed(8)


def test_counting_needs_no_weights_and_leaves_none(tmp_path: Path) -> None:
    before = load_base(shapes_inventory(), CPU).unet.state_dict()
    memory(places.BASE, Distill(steps=1, batch=4, guidance=GUIDANCE), "fp32", 32, 4)
    after = load_base(shapes_inventory(), CPU).unet.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_what_is_painted_elsewhere_is_counted_of_all_who_paint_there() -> None:
    """Every painter's cells on every subject, and one for each point of its map."""
    params = load_params(PRESETS / "shapes.yaml")
    transfer = params.transfer
    assert transfer.map is not None
    cells = []
    for subject in transfer.subjects:
        for name in transfer.names(subject):
            own = transfer.adapter if name == ADAPTER else transfer.painters.get(name)
            cells += own.cells if own else (transfer.map.cell,)
    prompts = transfer.prompts
    assert elsewhere(params) == Counts(prompts * sum(c.nfe for c in cells), prompts * len(cells))
    nowhere = params.model_copy(update={"transfer": transfer.model_copy(update={"subjects": {}})})
    assert elsewhere(nowhere) == Counts(0, 0)
