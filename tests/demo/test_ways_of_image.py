"""`lcm-lora image` with styles, weights, negative prompts, pictures and masks; and its guide."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demos import OTHER_STYLE, STYLE
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from lcm_lora.cli import app
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.painting.start import Start
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.generate import Cell
from lcm_lora.showing.asked import Asked
from lcm_lora.showing.easel import Easel
from lcm_lora.showing.image import write_image
from lcm_lora.showing.options import Options
from lcm_lora.showing.order import Order, Weights
from lcm_lora.stages.generate import PLACES

GUIDE = Path(__file__).parents[2] / "docs" / "ways.md"
PROMPT = "a large blue cross on a white background"
WANTED = Options(PROMPT, ("adapter",), (4,), None, 3)


def draw(path: Path, width: int, height: int, **look: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **look)
    return path


def draw_mask(path: Path, width: int, height: int, left: int) -> Path:
    """White from `left` on."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, left:] = 255
    Image.fromarray(mask).save(path)
    return path


def written(options: Options, folder: Path) -> tuple[NDArray[np.uint8], list[str]]:
    out = folder / "out.png"
    lines = write_image(options, PLACES.adapter, out)
    return np.asarray(Image.open(out)), lines


@pytest.fixture
def said(there: Path, tmp_path: Path) -> Path:
    """A folder with pictures, where the project is the working folder."""
    draw(tmp_path / "square.png", 32, 32)
    draw(tmp_path / "wide.jpg", 96, 64)
    draw_mask(tmp_path / "mask.png", 96, 64, left=48)
    draw_mask(tmp_path / "edge.png", 96, 64, left=90)
    return tmp_path


def test_a_picture_is_painted_over_and_the_cost_is_told(said: Path, easel: Easel) -> None:
    start = Start(Image.open(said / "square.png").convert("RGB"), 0.5)
    wanted = replace(WANTED, picture=said / "square.png", strength=0.5)
    made, lines = written(wanted, said)
    cell = Cell(steps=4, guidance=1.0)
    expected = easel.paint(Asked("adapter", cell), Order(PROMPT, 3, start=start))
    np.testing.assert_array_equal(made, expected)
    assert lines == [
        "adapter, 4 steps: 2 network evaluations, as strength 0.5 leaves 2 of the steps"
    ]
    _, lines = written(replace(wanted, strength=None, guidance=2.0), said)
    assert lines == [
        "adapter, 4 steps, guidance 2: 4 network evaluations, as strength 0.6 leaves 2 of the steps"
    ]


def test_what_a_mask_keeps_is_the_picture_cut_as_those_of_training_are(said: Path) -> None:
    wanted = replace(WANTED, picture=said / "wide.jpg", mask=said / "mask.png")
    made, lines = written(wanted, said)
    assert lines[0].endswith(
        "wide.jpg: 96 x 64 pixels, cut to its middle square and resized to 32 x 32"
    )
    assert made.shape == (32, 32, 3)
    # The middle square begins 16 pixels from the left, and a pixel is two of the picture's.
    middle = Image.open(said / "wide.jpg").convert("RGB")
    resized = middle.resize((32, 32), Image.Resampling.LANCZOS, box=(16, 0, 80, 64))
    np.testing.assert_array_equal(made[:, :14], np.asarray(resized)[:, :14])
    assert not np.array_equal(made[:, 16:], np.asarray(resized)[:, 16:])
    says = "adapter, 4 steps: 4 network evaluations, as strength 1 leaves 4 of the steps"
    assert lines[1:] == [says]


def test_styles_and_weights_are_worn(
    said: Path, there: Path, subjects: dict[str, Subject], easel: Easel
) -> None:
    shutil_name = said / "a:b.safetensors"
    shutil_name.write_bytes((there / OTHER_STYLE).read_bytes())
    wanted = replace(WANTED, weight=0.5, styles=(f"{STYLE}:0.75", str(shutil_name)))
    made, _ = written(wanted, said)
    files = ((there / STYLE, 0.75), (there / OTHER_STYLE, 1.0))
    styles = tuple(Weighted(file, sha256(file), weight) for file, weight in files)
    order = Order(PROMPT, 3, weights=Weights(0.5, styles))
    expected = easel.paint(Asked("adapter", Cell(steps=4, guidance=1.0)), order)
    assert np.abs(made.astype(int) - expected).max() <= 1, "the same but for rounding"
    plain = easel.paint(Asked("adapter", Cell(steps=4, guidance=1.0)), Order(PROMPT, 3))
    assert np.abs(made.astype(int) - plain).max() > 1


def test_a_negative_prompt_acts_and_where_it_does_not_is_said(said: Path) -> None:
    both = replace(WANTED, painters=("adapter", "dpmpp"), steps=(2,), negative="a cross")
    made, lines = written(both, said)
    assert lines == [
        "adapter, 2 steps: 2 network evaluations",
        "dpmpp, 2 steps, guidance 3: 4 network evaluations",
        "adapter: --negative acts above guidance 1 alone, so not here",
    ]
    plain, _ = written(replace(both, negative=None), said)
    below = slice(len(made) - len(plain) + 48, None)  # what heads the sheet says it, a line more
    rows = np.flatnonzero((made[below] != plain[48:]).any((1, 2)))
    assert len(rows)
    assert rows[0] > len(made) // 2 - 48, "the adapter's row is above"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"strength": 0.5}, "--strength: there is no picture to start from; add --picture FILE"),
        ({"mask": Path("mask.png")}, "--mask: there is no picture to start from"),
        ({"picture": "gone.png"}, "--picture gone.png: no such file; name a picture"),
        ({"picture": ""}, "no such file; name a picture"),
        ({"picture": "params.yaml"}, "--picture params.yaml: is no picture that can be read"),
        ({"picture": "square.png", "strength": 1.5}, "--strength 1.5: lies outside of 0 to 1"),
        ({"picture": "square.png", "strength": -0.1}, "--strength -0.1: lies outside of 0 to 1"),
        ({"picture": "square.png", "strength": float("nan")}, "--strength nan: lies outside of"),
        ({"picture": "square.png", "strength": 0.0}, "--strength 0: changes nothing"),
        (
            {"picture": "square.png", "strength": 0.2},
            "--strength 0.2: of 4 steps none is left; ask for --strength 0.25 or more, or for 5 ",
        ),
        ({"picture": "square.png", "mask": "gone.png"}, "--mask gone.png: no such file"),
        (
            {"picture": "square.png", "mask": "mask.png"},
            "mask.png: 96 x 64 pixels, but the picture has 32 x 32; make them of one size",
        ),
        (
            {"picture": "wide.jpg", "mask": "edge.png"},
            "edge.png: covers nothing of the picture's middle square; draw white what is",
        ),
        ({"negative": "a ring"}, "--negative: acts on nothing, as guidance above 1 alone"),
        ({"negative": " ", "guidance": 2.0}, "--negative: is empty"),
        ({"guidance": float("nan")}, "--guidance nan: lies outside of 0 to 100"),
        ({"guidance": -1.0}, "--guidance -1: lies outside of 0 to 100"),
        ({"weight": float("inf")}, "--weight inf: lies outside of -10 to 10"),
        ({"weight": 0.5, "painters": ("dpmpp",)}, "--weight: weighs adapter and champion alone"),
        ({"styles": ("gone.safetensors:1",)}, "--style: gone.safetensors: no such adapter"),
        ({"styles": ("old.ckpt",)}, "--style: old.ckpt: pickled weights are refused"),
        ({"styles": (f"{STYLE}:much",)}, "--style drawn.safetensors:much: its weight, 'much', is"),
        ({"styles": (f"{STYLE}:nan",)}, "is no finite number"),
        ({"styles": (f"{STYLE}:11",)}, "its weight lies outside of -10 to 10"),
        ({"styles": ("",)}, "names no file"),
        ({"styles": ("empty.safetensors",)}, "empty.safetensors: holds no LoRA"),
        ({"styles": ("other-family.safetensors",)}, "takes captions 768 wide, shapes tells"),
        ({"styles": ("infinite.safetensors",)}, "holds numbers that are not finite"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    said: Path, there: Path, asked: dict[str, Any], words: str
) -> None:
    bad = load_file(there / STYLE)
    key = next(key for key, value in bad.items() if value.dim() > 1)
    bad[key][0, 0] = float("inf")
    save_file(bad, said / "infinite.safetensors")
    save_file({}, said / "empty.safetensors")
    wide = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"
    save_file({wide: bad[key].new_zeros(4, 768)}, said / "other-family.safetensors")
    made = [*said.iterdir()]
    here = {path.name: path for path in made}

    def placed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(placed, value))
        return str(here[value]) if value in here else value

    told = {name: placed(value) for name, value in asked.items()}
    paths = {n: Path(v) for n, v in told.items() if n in {"picture", "mask"}}
    with pytest.raises(UserError) as error:
        write_image(replace(WANTED, **(told | paths)), PLACES.adapter, said / "out.png")
    line = re.sub(rf"{re.escape(str(said))}/", "", str(error.value))
    assert words in line
    assert "\n" not in line
    assert not (said / "out.png").exists()


def test_the_guide_is_true(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands run as they are written, in their order, and say what it says they say."""
    for name in ("artifacts", "data", "params.yaml"):
        (tmp_path / name).symlink_to(there / name)
    monkeypatch.chdir(tmp_path)
    ran, heard = 0, ""
    for language, block in re.findall(r"```(\w+)\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        if language == "text":
            assert block.strip() in heard
        if language == "python" and "PIL" in block:
            exec(block, {})
        for line in block.replace("\\\n", "").splitlines() if language == "bash" else ():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "lcm-lora"
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, result.output
            heard, ran = result.stdout, ran + 1
    assert ran >= 5
