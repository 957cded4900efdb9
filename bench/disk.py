"""What a training sample takes on disk, and what its compact form loses.

Measured on the two photographs that scikit-learn ships, at their own resolution, and taken to 512
and 1,024 pixels by bytes a pixel: shards as they are written, and moments in half precision.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from lcm_lora.data.pictures import crop, encoded, pixels
from lcm_lora.data.shards import SampleRecord, ShardSample, write_shard
from lcm_lora.data.texts import packed
from lcm_lora.files import write_tensors

SAMPLES = 64
"""Of a shard, so that what a file holds besides its samples is shared as in a real one."""


def main() -> None:
    """Print size and loss for the quality of each preset."""
    photographs = [Image.fromarray(picture) for picture in load_sample_images().images]
    for resolution, quality in ((512, 90), (1024, 87)):
        picture, decibels = [], []
        for photograph in photographs:
            side = min(photograph.size)
            content = encoded(crop(photograph, side).picture, quality)
            picture.append(len(content) / side**2 * resolution**2)
            error = pixels(content) - np.asarray(crop(photograph, side).picture, float)
            decibels.append(10 * np.log10(255**2 / np.mean(error**2)))
        shard, cache = overhead(), latents(resolution)
        total = np.mean(picture) + shard + cache
        print(
            f"{resolution} px, WebP {quality}: picture {np.mean(picture) / 1e3:.0f} kB"
            f" ({', '.join(f'{size / 1e3:.0f}' for size in picture)}; PSNR"
            f" {', '.join(f'{value:.1f}' for value in decibels)} dB),"
            f" record and caption {shard / 1e3:.1f} kB, latents {cache / 1e3:.0f} kB:"
            f" {total / 1e3:.0f} kB a sample"
        )


def overhead() -> float:
    """Return the bytes of a sample in a shard besides its picture."""
    record = SampleRecord(
        original_size=(1024, 1024), crop_top_left=(0, 0), sha256="0" * 64, source="0" * 40
    )
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    sample = ShardSample("0" * 19, content.getvalue(), "a caption of a usual length" * 3, record)
    samples = (sample.keyed(f"{i:019d}") for i in range(SAMPLES))
    with tempfile.TemporaryDirectory() as folder:
        write_shard(Path(folder), 0, samples, SAMPLES)
        return (Path(folder) / "00000.tar").stat().st_size / SAMPLES


def latents(resolution: int) -> float:
    """Return the bytes of a sample in the cache, its caption left out."""
    side = resolution // 8
    captions, ends = packed(["."] * SAMPLES)
    moments = torch.zeros(SAMPLES, 4, side, side, dtype=torch.float16)
    sizes = torch.zeros(SAMPLES, 6, dtype=torch.int32)
    tensors = {"mean": moments, "std": moments.clone(), "time_ids": sizes}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latents.safetensors"
        write_tensors(path, tensors | {"captions": captions, "ends": ends})
        return path.stat().st_size / SAMPLES


if __name__ == "__main__":
    main()
