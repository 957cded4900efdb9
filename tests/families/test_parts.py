"""A folder's parts may be stored each in its own way; what nobody loads is no part of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from making import CPU
from mixed_folders import same, save_mixed, stored, weights
from safetensors.torch import save_file
from tiny_bases import tiny_pipeline
from torch import ones

from lcm_lora.bases import load_base
from lcm_lora.errors import UserError
from lcm_lora.families.family import FamilyName
from lcm_lora.families.found import BaseInventory
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.params.base import Base

MIXED: dict[FamilyName, dict[str, str]] = {
    "sd1": {"unet": "shards", "vae": "half"},
    "sdxl": {
        "unet": "half shards",
        "vae": "both",
        "text_encoder": "shards",
        "text_encoder_2": "half",
    },
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[FamilyName], tuple[Any, Path]]:
    """Return a function that gives a pipeline and a folder of it; do not change the folder."""
    home, known = tmp_path_factory.mktemp("mixed"), {}

    def write(family: FamilyName) -> tuple[Any, Path]:
        if family not in known:
            pipeline = tiny_pipeline(family)
            known[family] = pipeline, save_mixed(pipeline, home / family, **MIXED[family])
        return known[family]

    return write


Written = Callable[[FamilyName], tuple[Any, Path]]


@pytest.fixture
def sdxl(written: Written, tmp_path: Path) -> Path:
    """A copy of the mixed SDXL, to be changed."""
    return Path(shutil.copytree(written("sdxl")[1], tmp_path / "base"))


def look(folder: Path, hashes: Hashes, **params: str) -> BaseInventory:
    return look_at_base(Base(model=str(folder), **params), hashes)


@pytest.mark.parametrize("family", MIXED)
def test_every_part_is_loaded_as_it_is_stored(
    family: FamilyName, written: Written, hashes: Hashes
) -> None:
    pipeline, folder = written(family)
    base = load_base(look(folder, hashes), CPU)
    assert same(weights(base.pipeline), stored(pipeline, **MIXED[family]))


def test_files_that_nobody_loads_change_nothing(sdxl: Path, hashes: Hashes) -> None:
    before = look(sdxl, hashes)
    assert not any("fp16" in name for name in before.files if name.startswith("vae/"))
    save_file({"w": ones(1)}, sdxl / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    save_file({"w": ones(1)}, sdxl / "unet" / "diffusion_pytorch_model.non_ema.safetensors")
    (sdxl / "text_encoder" / "pytorch_model.bin").write_bytes(b"a pickle")
    shutil.copytree(sdxl / "vae", sdxl / "vae_1_0")
    (sdxl / "vae_decoder").mkdir()
    (sdxl / "vae_decoder" / "config.json").write_text("{}")
    assert look(sdxl, hashes) == before


def test_of_shards_beside_one_file_what_is_hashed_is_what_is_loaded(
    written: Written, hashes: Hashes, tmp_path: Path
) -> None:
    """Diffusers takes the shards, transformers the one file."""
    pipeline, _ = written("sd1")
    folder = save_mixed(pipeline, tmp_path / "base", unet="shards", text_encoder="shards")
    names = {"unet": "diffusion_pytorch_model.safetensors", "text_encoder": "model.safetensors"}
    for part, name in names.items():
        module = getattr(pipeline, part)
        save_file({n: ones(v.shape) for n, v in module.state_dict().items()}, folder / part / name)
    found = look(folder, hashes)
    assert f"unet/{names['unet']}" not in found.files
    assert "text_encoder/model.safetensors.index.json" not in found.files
    base = load_base(found, CPU)
    told = weights(base.pipeline)
    assert told["unet.conv_in.weight"].equal(pipeline.unet.conv_in.weight)
    assert told[next(name for name in told if name.startswith("text_encoder."))].eq(1).all()


def lose(folder: Path, pattern: str) -> None:
    sorted(folder.glob(pattern))[0].unlink()


def cut(folder: Path, pattern: str) -> None:
    path = sorted(folder.glob(pattern))[0]
    path.write_bytes(path.read_bytes()[:-9])


def index(content: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (path,) = (folder / "unet").glob("*.index.*")
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    return write


DAMAGES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: lose(f, "unet/*-of-*"), r"unet: lacks .*-00001-of-.*, which .* lists; fetch it ag"),
    (lambda f: cut(f, "unet/*-of-*"), r"unet/.*-of-.*: has \d+ bytes where its header says \d+"),
    (lambda f: lose(f, "unet/*.index.*"), "unet: holds no weights"),
    (index("[" * 100_000), r"unet: .*index\.fp16\.json is damaged; fetch it again"),
    (index([]), "is damaged; fetch it again"),
    (index({"weight_map": {"a": ["b"]}}), "is damaged; fetch it again"),
    (index({"weight_map": {"a": 1}}), "unet: lacks 1, which"),
    (index({"weight_map": {}}), "index.fp16.json lists no files; fetch it again"),
    (lambda f: shutil.rmtree(f / "tokenizer"), "holds no tokenizer; fetch it again"),
    (lambda f: shutil.rmtree(f / "tokenizer_2"), "holds no tokenizer_2; fetch it again"),
    (lambda f: shutil.rmtree(f / "text_encoder_2"), "text_encoder_2: holds no weights"),
    (lambda f: lose(f, "text_encoder_2/*.safetensors"), "text_encoder_2: holds no weights"),
    (lambda f: lose(f, "text_encoder_2/config.json"), r"text_encoder_2/config\.json: no such fi"),
    (lambda f: cut(f, "text_encoder_2/*.safetensors"), r"text_encoder_2/.*: has \d+ bytes where"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_what_a_folder_lacks_is_seen_at_the_first_look(
    damage: Callable[[Path], Any], message: str, sdxl: Path, hashes: Hashes
) -> None:
    damage(sdxl)
    with pytest.raises(UserError, match=message) as error:
        look(sdxl, hashes)
    assert "\n" not in str(error.value)


VAES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: (f / "vae.safetensors").write_bytes(b"PK" * 99), "no safetensors file"),
    (lambda f: save_file({"lora": ones(1)}, f / "vae.safetensors"), "holds no autoencoder; name"),
    (lambda f: f.joinpath("diffusion_pytorch_model.bin").write_bytes(b""), "pickled, which is ref"),
    (lambda f: None, "holds no weights .*name an autoencoder as base.vae"),
]


@pytest.mark.parametrize(("make", "message"), VAES)
def test_what_is_no_autoencoder_is_refused_at_the_first_look(
    make: Callable[[Path], Any], message: str, written: Written, hashes: Hashes, tmp_path: Path
) -> None:
    base = written("sd1")[1]
    vae = tmp_path / "vae"
    vae.mkdir()
    shutil.copy(base / "vae" / "config.json", vae)
    make(vae)
    file = vae / "vae.safetensors"
    with pytest.raises(UserError, match=f"^base.vae .*{message}") as error:
        look(base, hashes, vae=str(file if file.exists() else vae))
    assert "\n" not in str(error.value)
