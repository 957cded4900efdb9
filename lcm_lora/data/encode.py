"""Turn the training shards into latent moments and text embeddings, once and for all steps.

Moments rather than samples are kept, so that training still draws from the posterior; each caption
is embedded once, however many pictures it has.

Legend: N samples of a shard, C x h x w latents, U unique captions, L tokens, D and P widths of a
text embedding and of a pooled one, H = W pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from lcm_lora import files
from lcm_lora.data.shards import MANIFEST, ShardSample, read_manifest, read_shard
from lcm_lora.errors import UserError
from lcm_lora.params import Encode
from lcm_lora.progress import Advance, progress

if TYPE_CHECKING:
    from lcm_lora.bases import Base

INDEX = "index.json"
CAPTIONS = "captions.safetensors"
EMPTY = "empty.safetensors"


class CacheShard(TypedDict):
    """One shard of the cache."""

    file: str
    samples: int


class Index(TypedDict):
    """What index.json holds."""

    kind: Literal["sd", "sdxl"]
    base: str
    scaling_factor: float
    """Scaled latents are the moments' samples times this."""
    channels: int
    height: int
    width: int
    shards: list[CacheShard]
    samples: int
    shards_sha256: str
    """Of the manifest of the shards that were encoded."""


def encode(params: Encode, base: Base, shards: Path, out: Path) -> None:
    """Write the cache of the training split to the folder `out`.

    Raises:
        UserError: The shards are missing or broken, their resolution does not suit the base, or a
            latent or an embedding is not finite.
    """
    manifest = read_manifest(shards)
    _check_resolution(manifest["resolution"], base)
    vae: Any = base.vae
    # In half precision SDXL's autoencoder overflows.
    vae.float()
    rows: dict[str, int] = {}
    written: list[CacheShard] = []
    with files.new_folder(out) as folder:
        (folder / "train").mkdir()
        with progress("encode", manifest["counts"]["train"], "pictures") as advance:
            for shard in manifest["shards"]["train"]:
                tensors = _encode_shard(params, base, read_shard(shards, shard), rows, advance)
                name = str(Path(shard["file"]).with_suffix(".safetensors"))
                _save(tensors, folder / name)
                written.append({"file": name, "samples": len(tensors["mean"])})
        _save(_embed(params, base, list(rows)), folder / CAPTIONS)
        _save(base.embed_empty(), folder / EMPTY)
        channels, height, width = tensors["mean"].shape[1:]
        index: Index = {
            "kind": base.kind,
            "base": base.name,
            "scaling_factor": vae.config.scaling_factor,
            "channels": channels,
            "height": height,
            "width": width,
            "shards": written,
            "samples": sum(shard["samples"] for shard in written),
            "shards_sha256": files.sha256(shards / MANIFEST),
        }
        files.write_json(folder / INDEX, index)


def _check_resolution(resolution: int, base: Base) -> None:
    if resolution % base.downsampling:
        raise UserError(
            f"prepare.resolution {resolution}: not a multiple of {base.downsampling}, the"
            f" downsampling of base.model {base.name}; change it and run `lcm-lora prepare`"
        )


def _encode_shard(
    params: Encode,
    base: Base,
    samples: Iterator[ShardSample],
    rows: dict[str, int],
    advance: Advance,
) -> dict[str, Tensor]:
    """Return the tensors of one shard, and give captions not met before the next `rows`."""
    means: list[Tensor] = []
    stds: list[Tensor] = []
    captions: list[int] = []
    sizes: list[list[int]] = []
    while batch := list(itertools.islice(samples, params.batch)):
        mean, std = moments(base.vae, np.stack([sample.picture for sample in batch]))
        for sample, finite in zip(batch, _is_finite(mean) & _is_finite(std), strict=True):
            if not finite:
                source = sample.record["source"]
                raise UserError(
                    f"sample {sample.key} ({source}): its latent is not finite; take the picture"
                    f" out of the source, or mend the autoencoder of base.model {base.name}"
                )
        means.append(mean)
        stds.append(std)
        captions.extend(rows.setdefault(sample.caption, len(rows)) for sample in batch)
        sizes.extend(_time_ids(sample) for sample in batch)
        advance(len(batch))
    tensors = {"mean": torch.cat(means), "std": torch.cat(stds), "caption": torch.tensor(captions)}
    if base.kind == "sdxl":
        tensors["time_ids"] = torch.tensor(sizes, dtype=torch.float32)
    return tensors


@torch.inference_mode()
def moments(vae: Any, pictures: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, float32 [B, C, h, w] on the CPU and not yet scaled.

    Args:
        vae: A diffusers autoencoder in float32.
        pictures: uint8 [B, H, W, 3].
    """
    pixels = torch.from_numpy(pictures).to(vae.device).permute(0, 3, 1, 2)
    posterior = vae.encode(pixels.float() / 127.5 - 1).latent_dist
    return posterior.mean.contiguous().cpu(), posterior.std.contiguous().cpu()


def _time_ids(sample: ShardSample) -> list[int]:
    """Return SDXL's sizes: height and width, top and left of the crop, target height and width."""
    record = sample.record
    return [*record["original_size"], *record["crop_top_left"], *sample.picture.shape[:2]]


def _embed(params: Encode, base: Base, captions: list[str]) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    with progress("encode", len(captions), "captions") as advance:
        for start in range(0, len(captions), params.batch):
            batch = captions[start : start + params.batch]
            for name, embedding in base.embed(batch).items():
                for caption, finite in zip(batch, _is_finite(embedding), strict=True):
                    if not finite:
                        raise UserError(
                            f"caption {caption[:80]!r}: its embedding is not finite; change it, or"
                            " set hardware.precision to fp32"
                        )
                parts.setdefault(name, []).append(embedding.cpu())
            advance(len(batch))
    return {name: torch.cat(part) for name, part in parts.items()}


def _is_finite(batch: Tensor) -> Tensor:
    """Tell of each row whether all of it is finite, bool [B] on the CPU."""
    return batch.isfinite().flatten(1).all(1).cpu()


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path)
