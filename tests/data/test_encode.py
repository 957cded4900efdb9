"""The cache holds the autoencoder's moments, each caption once, and the sizes that SDXL is told."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from lcm_lora.data.encode import encode
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params import Encode

MakeBase = Callable[[str], Any]


def read_directly(shards: Path) -> tuple[Tensor, list[str], list[dict[str, Any]]]:
    """Return pictures in -1..1, captions and records of the training split, without our reader."""
    members: dict[str, bytes] = {}
    for path in sorted((shards / "train").iterdir()):
        with tarfile.open(path) as tar:
            members |= {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    keys = sorted({name.partition(".")[0] for name in members})
    pictures = [np.asarray(Image.open(io.BytesIO(members[f"{key}.png"]))) for key in keys]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).double() / 255 * 2 - 1
    captions = [members[f"{key}.txt"].decode() for key in keys]
    return pixels, captions, [json.loads(members[f"{key}.json"]) for key in keys]


def joined(cache: Path, name: str) -> Tensor:
    """Return a tensor of all shards of a cache."""
    return torch.cat([load_file(path)[name] for path in sorted((cache / "train").iterdir())])


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_cache_is_what_the_base_computes(
    tmp_path: Path, shards: Path, tiny_base: MakeBase, kind: str
) -> None:
    base = tiny_base(kind)
    encode(Encode(batch=5), base, shards, tmp_path / "cache")
    pixels, captions, records = read_directly(shards)
    with torch.inference_mode():
        expected = tiny_base(kind).vae.double().encode(pixels).latent_dist
    for name in ("mean", "std"):
        stored = joined(tmp_path / "cache", name)
        assert stored.dtype == torch.float32
        torch.testing.assert_close(stored.double(), getattr(expected, name), rtol=1e-4, atol=1e-5)

    unique = list(dict.fromkeys(captions))
    rows = joined(tmp_path / "cache", "caption")
    assert [unique[row] for row in rows] == captions
    embeddings = load_file(tmp_path / "cache/captions.safetensors")
    empty = load_file(tmp_path / "cache/empty.safetensors")
    names = {"sd": {"prompt_embeds"}, "sdxl": {"prompt_embeds", "pooled"}}[kind]
    assert embeddings.keys() == empty.keys() == names
    for name in names:
        assert torch.equal(embeddings[name], base.embed(unique)[name])
        assert torch.equal(empty[name], base.embed_empty()[name])

    if kind == "sdxl":
        time_ids = joined(tmp_path / "cache", "time_ids")
        assert time_ids.dtype == torch.float32
        assert time_ids.tolist() == [
            [*record["original_size"], *record["crop_top_left"], 16, 16] for record in records
        ]


def test_the_index_adds_up(tmp_path: Path, shards: Path, tiny_base: MakeBase) -> None:
    cache = tmp_path / "cache"
    encode(Encode(batch=8), tiny_base("sd"), shards, cache)
    manifest = json.loads((shards / "manifest.json").read_text())
    index = json.loads((cache / "index.json").read_text())
    listed = index.pop("shards")
    assert index == {
        "kind": "sd",
        "base": "tiny",
        "scaling_factor": 0.7,
        "channels": 3,
        "height": 8,
        "width": 8,
        "samples": manifest["counts"]["train"],
        "shards_sha256": sha256(shards / "manifest.json"),
    }
    assert [shard["samples"] for shard in listed] == [
        shard["samples"] for shard in manifest["shards"]["train"]
    ]
    for shard in listed:
        assert load_file(cache / shard["file"])["mean"].shape == (shard["samples"], 3, 8, 8)
    assert {path.stat().st_mode & 0o777 for path in cache.rglob("*.*")} == {0o644}


def test_the_batch_changes_nothing_but_speed(
    tmp_path: Path, shards: Path, tiny_base: MakeBase
) -> None:
    for batch in (1, 3, 64):
        encode(Encode(batch=batch), tiny_base("sdxl"), shards, tmp_path / f"{batch}")
    encode(Encode(batch=3), tiny_base("sdxl"), shards, tmp_path / "again")
    assert sha256(tmp_path / "3") == sha256(tmp_path / "again")
    one = {path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.safetensors")}
    for batch in (3, 64):
        other = tmp_path / f"{batch}"
        assert one == {path.relative_to(other) for path in other.rglob("*.safetensors")}
        for name in one:
            torch.testing.assert_close(load_file(tmp_path / "1" / name), load_file(other / name))


def test_a_half_precision_base_still_encodes_in_float(
    tmp_path: Path, shards: Path, tiny_base: MakeBase
) -> None:
    base = tiny_base("sd")
    base.vae.half()
    # Sums of 27 such products overflow in half precision, which ends at 65504.
    base.vae.encoder.conv_in.weight.fill_(30_000.0)
    base.dtype = torch.bfloat16
    encode(Encode(batch=8), base, shards, tmp_path / "cache")
    assert joined(tmp_path / "cache", "mean").dtype == torch.float32
    embeddings = load_file(tmp_path / "cache/captions.safetensors")
    assert embeddings["prompt_embeds"].dtype == torch.bfloat16


def test_what_is_not_finite_is_named(tmp_path: Path, shards: Path, tiny_base: MakeBase) -> None:
    base = tiny_base("sd")
    _, captions, records = read_directly(shards)
    encode_whole = base.vae.encode
    met = 0

    def encode_but_tenth(pixels: Tensor) -> Any:
        nonlocal met
        output = encode_whole(pixels)
        for row in range(len(pixels)):
            if met == 10:
                output.latent_dist.mean[row, 0, 0, 0] = torch.nan
            met += 1
        return output

    base.vae.encode = encode_but_tenth
    with pytest.raises(UserError, match=rf"sample 00000010 \({records[10]['source']}\): .*finite"):
        encode(Encode(batch=3), base, shards, tmp_path / "cache")

    base = tiny_base("sd")
    embed = base.embed

    def embed_but_one(texts: list[str]) -> dict[str, Tensor]:
        wrong = torch.tensor([text == captions[7] for text in texts])[:, None, None]
        return {name: value.masked_fill(wrong, torch.inf) for name, value in embed(texts).items()}

    base.embed = embed_but_one
    with pytest.raises(UserError, match=f"caption '{captions[7][:80]}.* not finite"):
        encode(Encode(batch=3), base, shards, tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_a_resolution_that_does_not_suit(tmp_path: Path, shards: Path, tiny_base: MakeBase) -> None:
    base = tiny_base("sd")
    base.downsampling = 5
    with pytest.raises(UserError, match=r"prepare\.resolution 16: not a multiple of 5"):
        encode(Encode(batch=8), base, shards, tmp_path / "cache")
