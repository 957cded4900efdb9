"""The command: what it prints and writes, and what it says of what cannot be combined."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from loras import ATTENTION, SHAPES, Shapes, assert_equal, assert_same, deltas, random_lora
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner, Result

from lcm_lora.cli import app
from lcm_lora.combining.add import add
from lcm_lora.combining.combine import Wanted, combine
from lcm_lora.combining.compress import compress, losses
from lcm_lora.combining.delta import Module, delta
from lcm_lora.combining.read import read_lora
from lcm_lora.combining.write import write_lora
from lcm_lora.families.header import read_header
from lcm_lora.files import sha256
from lcm_lora.shapes import places

KEY = "lora_unet_mid_block_attentions_0_proj_in"
HEADER = {
    "ss_base_model_version": "sd_v1",
    "ss_v2": "False",
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.usage_hint": "LCM sampler.",
}
FAST = random_lora(1, ranks=(3,), scales=(0.125,), dtype=torch.float16)
STYLE = random_lora(2, dict(list(SHAPES.items())[:4]), (2, 4), (0.5, 1), torch.float16)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an acceleration and a style, where a person works."""
    monkeypatch.chdir(tmp_path)
    write_lora(FAST, Path("fast.safetensors"), "kohya", HEADER)
    write_lora(STYLE, Path("ink"), "peft", {"modelspec.trigger_phrase": "in ink"})
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["combine", *words])


def complaint(*words: str) -> str:
    """Return the one line in which a call ends, and check that it left nothing behind."""
    before = {path: sha256(path) for path in Path().iterdir()}
    done = call(*words)
    assert done.exit_code == 1, done.exception
    (line,) = done.stderr.strip().splitlines()
    assert {path: sha256(path) for path in Path().iterdir()} == before
    return line.removeprefix("error: ")


def test_the_sum_is_written_and_told(folder: Path) -> None:
    done = call("both.safetensors", "fast.safetensors", "ink:0.8", "--dtype", "fp32")
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["1", "3", "0.375", "5", "+", "1", "of", "texts", "fast.safetensors"] in rows
    assert ["0.8", "2-4", "1-4", "4", "ink"] in rows
    assert "both.safetensors: rank 3-7, modules 5 + 1 of texts" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    expected = add([(FAST, 1.0), (STYLE, 0.8)])
    assert_same(deltas(read_lora(Path("both.safetensors"))), deltas(expected), 1e-6)


def test_a_converted_file_is_exact_and_says_so(folder: Path) -> None:
    done = call("converted", "fast.safetensors", "--format", "peft")
    assert "exact: nothing of the sum is lost" in done.stdout
    assert_equal(read_lora(Path("converted")), FAST)
    assert call("back.safetensors", "converted").exit_code == 0
    there, back = (load_file(f"{name}.safetensors") for name in ("fast", "back"))
    assert there.keys() == back.keys()
    assert all(torch.equal(value, back[name]) for name, value in there.items())


def test_errors_are_told_by_module_and_in_all(folder: Path) -> None:
    done = call("small.safetensors", "fast.safetensors", "ink", "--rank", "2", "--layers")
    exact = add([(FAST, 1.0), (STYLE, 1.0)])
    best = losses(exact, compress(exact, 2))
    printed = {name: float(error) for error, name in map(str.split, module_lines(done.stdout))}
    assert printed.keys() == {str(module) for module in exact}
    for loss in best:
        assert printed[str(loss.module)] == pytest.approx(loss.relative, rel=0.06)
    total = math.hypot(*(x.error for x in best)) / math.hypot(*(x.norm for x in best))
    assert f"error {total:.2g} of the sum" in done.stdout
    worst = call("small.safetensors", "fast.safetensors", "ink", "--rank", "2").stdout
    assert f"{len(exact) - 5} more below these; --layers names all" in worst
    assert len(module_lines(worst)) == 5


def module_lines(text: str) -> list[str]:
    """Return the lines that name a module and its error."""
    return [line for line in text.splitlines() if re.search(r"\d +(unet|text_encoder)\.", line)]


def test_the_same_call_writes_the_same_bytes(folder: Path) -> None:
    for format in ("kohya", "diffusers", "peft"):
        names = [f"{x}-{format}" + ("" if format == "peft" else ".safetensors") for x in "ab"]
        for name in names:
            words = (name, "fast.safetensors:0.7", "ink", "--rank", "3", "--format", format)
            assert call(*words).exit_code == 0
        assert len({sha256(Path(name)) for name in names}) == 1


def test_the_widest_dtype_is_kept_and_another_can_be_named(folder: Path) -> None:
    files = [(Path("fast.safetensors"), 1.0), (Path("ink"), 0.8)]
    for named, expected in (
        (None, torch.float16),
        ("bf16", torch.bfloat16),
        ("fp32", torch.float32),
    ):
        made = combine(files, Path("out.safetensors"), Wanted(dtype=named))  # type: ignore[arg-type]
        assert {factor.up.dtype for factor in made.lora.values()} == {expected}
        tensors = load_file("out.safetensors")
        assert {t.dtype for name, t in tensors.items() if "weight" in name} == {expected}


def test_the_header_names_the_base_and_what_went_in(folder: Path) -> None:
    assert call("both.safetensors", "fast.safetensors", "ink:0.5").exit_code == 0
    header = read_header(Path("both.safetensors")).metadata
    assert HEADER.items() <= header.items()
    assert header["modelspec.trigger_phrase"] == "in ink"
    assert header["modelspec.title"] == "1 fast + 0.5 ink"
    assert header["ss_network_module"] == "networks.lora"
    assert header["ss_network_dim"] == "Dynamic"
    went_in = json.loads(header["lcm_lora.combined"])
    assert [(part["name"], part["weight"]) for part in went_in] == [
        *(("fast.safetensors", 1.0), ("ink", 0.5)),
    ]
    assert went_in[0]["sha256"] == sha256(Path("fast.safetensors"))
    assert str(folder) not in json.dumps(header)


def test_what_counts_nothing_leaves_no_trace_and_what_is_taken_away_no_words(
    folder: Path,
) -> None:
    said = {"modelspec.trigger_phrase": "in oil", "modelspec.usage_hint": "CFG scale 7."}
    wide = random_lora(3, SHAPES, dtype=torch.float32)
    write_lora(wide, Path("oil.safetensors"), "kohya", said)
    assert call("none.safetensors", "fast.safetensors", "oil.safetensors:0").exit_code == 0
    assert call("alone.safetensors", "fast.safetensors").exit_code == 0
    assert sha256(Path("none.safetensors")) == sha256(Path("alone.safetensors"))
    assert call("away.safetensors", "fast.safetensors", "oil.safetensors:-1").exit_code == 0
    header = read_header(Path("away.safetensors")).metadata
    assert header["modelspec.title"] == "1 fast + -1 oil"
    assert header["modelspec.usage_hint"] == "LCM sampler."
    assert "modelspec.trigger_phrase" not in header


def test_a_sum_is_replaced_by_another(folder: Path) -> None:
    for out, format in (("sum.safetensors", "kohya"), ("sum", "peft")):
        Path("sum").mkdir(exist_ok=True)
        for weight in ("1", "0.5"):
            assert call(out, f"fast.safetensors:{weight}", "--format", format).exit_code == 0
        assert_same(deltas(read_lora(Path(out))), deltas(add([(FAST, 0.5)])), 1e-6)


def test_the_error_is_that_of_the_file(folder: Path) -> None:
    """Of its alphas in fp32 too, and of factors that were rounded when they were added."""
    files = [(Path("fast.safetensors"), 0.8), (Path("ink"), 1 / 3)]
    for format in ("kohya", "diffusers"):
        for taken in (files, files[:1]):
            made = combine(taken, Path("out.safetensors"), Wanted(format=format, dtype="fp32"))  # type: ignore[arg-type]
            found = deltas(read_lora(Path("out.safetensors")))
            parts = [(FAST, 0.8), (STYLE, 1 / 3)][: len(taken)]
            for loss in made.losses:
                exact = sum(
                    weight * delta(lora[loss.module])
                    for lora, weight in parts
                    if loss.module in lora
                )
                error = (found[loss.module] - exact).norm().item()
                assert error > 0
                assert loss.error == pytest.approx(error, rel=1e-3)
    assert "error 1.5e-08 of the sum, as fp32 rounds" in call("o.safetensors", "ink:0.8").stdout


def test_a_name_with_brackets_is_told_as_it_is(folder: Path) -> None:
    Path("ink").rename("ink[red]")
    assert "ink[red]" in call("out.safetensors", "ink[red]").stdout


def test_the_shipped_style_goes_by_its_name(folder: Path) -> None:
    assert call("out.safetensors", "shapes-ink:0.5").exit_code == 0
    assert_same(
        deltas(read_lora(Path("out.safetensors"))),
        deltas(add([(read_lora(places.INK), 0.5)])),
        1e-6,
    )


TEXTS: Shapes = {Module("text_encoder", "text_model.encoder.layers.0.mlp.fc1"): (4, 4)}
SECOND: Shapes = {Module("text_encoder_2", "text_projection"): (4, 4)}
DEEP: Shapes = {Module("unet", "mid_block.attentions.0.transformer_blocks.1.attn1.to_q"): (4, 4)}
WIDE: Shapes = {Module("unet", f"{ATTENTION}.attn2.to_k"): (8, 2048)}


@pytest.mark.parametrize(
    ("shapes", "version", "prefix"),
    [
        (TEXTS, None, "lora_te_"),
        (TEXTS, "sd_v1", "lora_te_"),
        (TEXTS, "sdxl_base_v1-0", "lora_te1_"),
        ({**TEXTS, **SECOND}, None, "lora_te1_"),
        ({**TEXTS, **DEEP}, None, "lora_te1_"),
        ({**TEXTS, **WIDE}, None, "lora_te1_"),
    ],
)
def test_of_two_text_encoders_the_first_is_named_so(
    shapes: Shapes, version: str | None, prefix: str, folder: Path
) -> None:
    """sd-scripts and ComfyUI look for `lora_te` in SD-1.x and SD-2.x, `lora_te1` in SDXL."""
    header = {"ss_base_model_version": version} if version else {}
    write_lora(random_lora(0, shapes), Path("in.safetensors"), "diffusers", header)
    for source, out in (("in", "once"), ("once", "again")):
        assert call(f"{out}.safetensors", f"{source}.safetensors").exit_code == 0
        header_of = read_header(Path(f"{out}.safetensors"))
        assert header_of.has(prefix)
        assert header_of.metadata.get("ss_base_model_version", "").startswith("sdxl") == (
            prefix == "lora_te1_"
        )
    tensors = load_file("once.safetensors")
    save_file(tensors, "bare.safetensors")
    assert call("last.safetensors", "bare.safetensors").exit_code == 0
    assert read_header(Path("last.safetensors")).has(prefix)


@pytest.mark.parametrize(
    ("captions", "version"), [(768, "sd_v1"), (1024, "sd_v2"), (2048, "sdxl_base_v1-0")]
)
def test_a_family_that_no_header_names_is_told_by_its_captions(
    captions: int, version: str, folder: Path
) -> None:
    shapes = {Module("unet", f"{ATTENTION}.attn2.to_k"): (8, captions)}
    write_lora(random_lora(0, shapes), Path("style.safetensors"), "diffusers", {})
    assert call("out.safetensors", "style.safetensors").exit_code == 0
    header = read_header(Path("out.safetensors")).metadata
    assert header["ss_base_model_version"] == version
    assert header["ss_network_dim"] == "2"


def strange(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    """Write a file that is no plain LoRA; return its name."""
    save_file(tensors, "strange.safetensors", metadata)
    return "strange.safetensors"


def plain(**others: Tensor) -> dict[str, Tensor]:
    """Return a LoRA of one module, with other tensors of it."""
    pair = {"lora_down.weight": torch.ones(2, 4), "lora_up.weight": torch.ones(4, 2)}
    named = {name.replace("__", "."): tensor for name, tensor in others.items()}
    return {f"{KEY}.{name}": tensor for name, tensor in (pair | named).items()}


NAN = torch.full((4, 2), math.nan)
ONES = torch.ones(4, 4)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (plain(dora_scale=ONES), f"holds DoRA, .*{KEY}.dora_scale.*merge it into its base"),
        ({f"{KEY}.lokr_w1": ONES}, "holds LoKr"),
        ({f"{KEY}.hada_w1_a": ONES}, "holds LoHa"),
        ({f"{KEY}.oft_diag": ONES}, "holds OFT"),
        ({f"{KEY}.on_input": ONES}, r"holds \(IA\)\^3"),
        (plain(w_norm=ONES), "holds a change of norms"),
        (plain(diff=ONES), "holds a change of whole weights or biases"),
        ({"unet.conv_in.lora_B.bias": ONES}, "holds a change of whole weights or biases"),
        ({"unet.conv_in.lora_magnitude_vector": ONES}, "holds DoRA"),
        ({"transformer.single_blocks.0.lora_A.weight": ONES}, "of no LoRA for a Stable Diffusion"),
        ({"lora_unet_double_blocks_0_img_mod.alpha": ONES}, "of no LoRA for a Stable Diffusion"),
        ({"model.diffusion_model.out.0.weight": ONES}, "of no LoRA for a Stable Diffusion"),
        ({}, "holds no LoRA"),
        (plain(lora_up__weight=NAN), f"{KEY}.lora_up.weight holds NaN or infinity"),
        (plain(alpha=torch.tensor(math.inf)), f"{KEY}.alpha holds NaN or infinity"),
        (plain(alpha=torch.ones(2)), "the alpha of unet.mid_block.* is no single number"),
        (plain(lora_up__weight=torch.ones(4, 3)), r"do not fit each other, \[4, 3\] and \[2, 4\]"),
        (plain(lora_mid__weight=torch.ones(2, 3, 3, 3)), "do not fit each other"),
        ({f"{KEY}.lora_down.weight": ONES}, r"mid_block.attentions.0.proj_in has no up \(or B\)"),
        ({f"{KEY}.alpha": torch.tensor(1.0)}, "has no down"),
        (plain(lora_up__weight=torch.ones(4, 2, dtype=torch.int8)), "is kept as int8"),
        (plain() | {"unet.mid_block.attentions.0.proj_in.lora_A.weight": ONES}, "are the same"),
    ],
)
def test_what_is_no_plain_lora_is_named(
    tensors: dict[str, Tensor], says: str, folder: Path
) -> None:
    line = complaint("out.safetensors", "fast.safetensors", strange(tensors))
    assert line.startswith("strange.safetensors: ")
    assert re.search(says, line), line


def test_many_names_are_a_few_and_a_count(folder: Path) -> None:
    tensors = {f"lora_unet_conv_in.lokr_w{i}": ONES + i for i in range(9)}
    line = complaint("out.safetensors", strange(tensors))
    assert "lokr_w0, lora_unet_conv_in.lokr_w1, lora_unet_conv_in.lokr_w2 and 6 more" in line


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"use_dora": True}, "says DoRA"),
        ({"bias": "all"}, "says a change of biases"),
        ({"peft_type": "LOHA"}, "says LOHA"),
        ({"modules_to_save": ["conv_in"]}, "says a change of whole modules"),
        ({"init_lora_weights": "pissa"}, r"says a LoRA on a changed base \(pissa\)"),
        ({"init_lora_weights": "lora_ga"}, r"says a LoRA on a changed base \(lora_ga\)"),
        ({"kasa_config": {"beta": 0.1}}, "says KaSA"),
        ({"alpha_pattern": {"*to_q": 4}}, r"no LoRA's configuration \(alpha_pattern: .*is no patt"),
        ({"r": 0}, r"no LoRA's configuration \(r: "),
        ({"lora_alpha": "much"}, r"no LoRA's configuration \(lora_alpha: "),
    ],
)
def test_a_peft_configuration_of_another_kind_is_named(
    change: dict[str, object], says: str, folder: Path
) -> None:
    path = Path("ink/unet/adapter_config.json")
    path = path if path.exists() else Path("ink/adapter_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    line = complaint("out.safetensors", "ink")
    assert line.startswith(f"{path}: ")
    assert re.search(says, line), line


def test_adapters_of_two_families_are_refused(folder: Path) -> None:
    for name, captions in (("one", 768), ("xl", 2048)):
        shapes = {Module("unet", f"{ATTENTION}.attn2.to_k"): (8, captions)}
        write_lora(random_lora(0, shapes), Path(f"{name}.safetensors"), "kohya", {})
    line = complaint("out.safetensors", "one.safetensors", "xl.safetensors:0.5")
    assert line == (
        "xl.safetensors: made for SDXL or SSD-1B, but one.safetensors for SD-1.x; combine "
        "adapters of one family"
    )
    shapes = {Module("unet", "conv_in"): (6, 4, 3, 3)}
    header = {"ss_base_model_version": "sdxl_base_v1-0"}
    write_lora(random_lora(0, shapes), Path("conv.safetensors"), "kohya", header)
    assert "conv.safetensors: made for SDXL" in complaint(
        "out.safetensors", "one.safetensors", "conv.safetensors"
    )


def test_shapes_that_do_not_fit_are_listed(folder: Path) -> None:
    wider = {m: (out + 1, *ins) for m, (out, *ins) in SHAPES.items() if "attn2" not in m.name}
    write_lora(random_lora(0, wider), Path("other.safetensors"), "kohya", {})
    line = complaint("out.safetensors", "fast.safetensors", "other.safetensors")
    assert line.startswith(
        "fast.safetensors and other.safetensors do not fit each other in 5 modules: "
    )
    assert "unet.conv_in is 6 x 4 x 3 x 3 and 7 x 4 x 3 x 3" in line
    assert "and 2 more; combine adapters of one family" in line


def cut_short() -> None:
    content = Path("fast.safetensors").read_bytes()
    Path("broken.safetensors").write_bytes(content[:-10])


def no_header() -> None:
    Path("broken.safetensors").write_bytes(b"not at all")


def with_notes() -> None:
    assert call("sum", "ink", "--format", "peft").exit_code == 0
    Path("sum/notes.txt").touch()


def with_runs() -> None:
    assert call("sum", "ink", "--format", "peft").exit_code == 0
    Path("sum/checkpoint-500").mkdir()


def by_hand() -> None:
    Path("sum").mkdir()
    Path("sum/adapter_config.json").write_text("{}")


def with_a_file() -> None:
    assert call("sum", "ink", "--format", "peft").exit_code == 0
    Path("sum/text_encoder").touch()


def a_link() -> None:
    for name, format in (("made", "peft"), ("made.safetensors", "kohya")):
        assert call(name, "ink", "--format", format).exit_code == 0
        Path(name.replace("made", "sum")).symlink_to(name)


def loud() -> None:
    """Two adapters whose numbers a weight of 9 takes out of what their dtypes can hold."""
    for name, dtype in (("half", torch.float16), ("full", torch.float32)):
        full = torch.full((4, 4), torch.finfo(dtype).max, dtype=dtype)
        Path(name).mkdir()
        save_file(
            {f"{KEY}.lora_down.weight": full, f"{KEY}.lora_up.weight": full.clone()},
            f"{name}/loud.safetensors",
        )


@pytest.mark.parametrize(
    ("prepare", "words", "says"),
    [
        (cut_short, ("out.safetensors", "broken.safetensors"), r"broken.* bytes where its header"),
        (no_header, ("out.safetensors", "broken.safetensors"), "no safetensors file, or damaged"),
        (lambda: Path("a.ckpt").touch(), ("out.safetensors", "a.ckpt"), "pickled weights are ref"),
        (lambda: Path("none").mkdir(), ("out.safetensors", "none"), "holds 0 safetensors files"),
        (None, ("out.safetensors", "gone.safetensors"), "gone.safetensors: no such file or folder"),
        (None, ("out.safetensors", "ink:much"), "ink:much: its weight, 'much', is no finite"),
        (None, ("out.safetensors", "ink:nan"), "'nan', is no finite number"),
        (None, ("out.safetensors", "ink:0"), "all weights are 0"),
        (None, ("out.safetensors", "ink", "--rank", "5"), "have ranks of at most 4"),
        (None, ("out.safetensors", "ink", "--rank", "0"), "name one from 1 to 4"),
        (None, ("out.safetensors", "ink", "--format", "onnx"), "onnx: not known here; choose one"),
        (None, ("out.safetensors", "ink", "--dtype", "fp8"), "fp8: not known here; choose one of"),
        (None, ("fast.safetensors", "fast.safetensors"), "fast.safetensors: is itself combined"),
        (None, ("ink", "ink", "--format", "peft"), "ink: is itself combined"),
        (None, ("ink/more.safetensors", "ink"), "ink/more.safetensors: is itself combined"),
        (None, ("fast.safetensors", "ink"), "fast.safetensors: is there, .*OUT comes first"),
        (no_header, ("broken.safetensors", "ink"), "broken.safetensors: is there, and holds what"),
        (None, ("ink", "fast.safetensors", "--format", "peft"), "ink: is there, and holds what"),
        (with_notes, ("sum", "fast.safetensors", "--format", "peft"), "sum: is there, and holds"),
        (with_runs, ("sum", "fast.safetensors", "--format", "peft"), "sum: is there, and holds"),
        (by_hand, ("sum", "fast.safetensors", "--format", "peft"), "sum: is there, and holds"),
        (with_a_file, ("sum", "fast.safetensors", "--format", "peft"), "sum: is there, and holds"),
        (a_link, ("sum", "fast.safetensors", "--format", "peft"), "sum: is a link or where you"),
        (a_link, ("sum.safetensors", "ink"), "sum.safetensors: is a link or where you work"),
        (None, ("out.pt", "ink"), "out.pt: kohya is one file; name one that ends in .safetensors"),
        (None, ("out.safetensors", "ink", "--format", "peft"), "peft is a folder; name one that"),
        (None, (".", "ink", "--format", "peft"), "is a link or where you work"),
        (None, ("..", "ink", "--format", "peft"), "is a link or where you work"),
        (None, ("out.safetensors", "ink:1e39"), "ink:1e39: its weight lies outside of -10 to 10"),
        (None, ("out.safetensors", "ink:1e-60"), r"an alpha as large or small as that of unet\."),
        (loud, ("out.safetensors", "half:9", "--format", "diffusers"), "name --dtype fp32"),
        (loud, ("out.safetensors", "full:9", "--format", "diffusers"), "name weights nearer to 1"),
    ],
)
def test_bad_input_ends_in_a_line(
    prepare: Callable[[], None] | None, words: tuple[str, ...], says: str, folder: Path
) -> None:
    if prepare:
        prepare()
    line = complaint(*words)
    assert re.search(says, line), line
