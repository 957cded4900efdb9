"""What one pass over pictures saves against the straightforward way, as a ratio in one process.

The straightforward way reads and decodes the files anew for each network, and scales picture by
picture with Pillow, as clean-fid does. Three networks look at pictures of 512 pixels: one of the
Inception's size (299 px), one of CLIP's (224 px, twice). Once they cost nothing, so that only what
is around them is compared; once the first is Inception v3 itself, with random weights.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from cleanfid.resize import make_resizer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from lcm_lora.data.threads import in_order
from lcm_lora.seeing.looking import BATCH, look
from lcm_lora.seeing.preparation import Preparation
from lcm_lora.seeing.resize import prepare

COUNT, PIXELS = BATCH, 512
SIDES = (299, 224, 224)

Network = Callable[[Tensor], Tensor]


def main() -> None:
    """Print both ratios, and by how much the features differ."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    free: list[Network] = [_pooled] * 3
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = _painted(Path(folder))
        _compare("networks that cost nothing", files, free, device, times=5)
        _compare("Inception v3", files, [_inception(device), *free[1:]], device, times=2)


def _compare(
    name: str, files: list[Path], networks: list[Network], device: torch.device, times: int
) -> None:
    slow, wanted = _timed(lambda: _network_by_network(files, networks, device), times)
    fast, found = _timed(lambda: _in_one_pass(files, networks, device), times)
    error = max(float((a - b).abs().max()) for a, b in zip(wanted, found, strict=True))
    print(
        f"{name}: {slow / fast:.1f} times as fast in one pass on {device.type} with"
        f" {torch.get_num_threads()} threads ({1000 * fast / COUNT:.1f} ms a picture of"
        f" {PIXELS} px, not {1000 * slow / COUNT:.1f}); features differ by {error:.1e}",
        flush=True,
    )


def _painted(folder: Path) -> list[Path]:
    """Write pictures that compress about as photographs do."""
    files = []
    for index in range(COUNT):
        noise = np.random.default_rng(index).normal(size=(PIXELS, PIXELS, 3))
        smooth = np.cumsum(np.cumsum(noise, 0), 1)
        picture = (smooth - smooth.min()) / np.ptp(smooth) * 235 + noise * 4 + 10
        files.append(folder / f"{index:08d}.png")
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(files[-1], compress_level=1)
    return files


def _network_by_network(
    files: list[Path], networks: list[Network], device: torch.device
) -> list[Tensor]:
    found = []
    for network, side in zip(networks, SIDES, strict=True):
        scale = make_resizer("PIL", False, "bicubic", (side, side))
        parts = []
        for first in range(0, COUNT, BATCH):
            opened = [Image.open(file).convert("RGB") for file in files[first : first + BATCH]]
            scaled = np.stack([scale(np.asarray(picture)) for picture in opened])
            planes = torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()
            parts.append(network(planes.to(device)).cpu())
        found.append(torch.cat(parts))
    return found


def _in_one_pass(files: list[Path], networks: list[Network], device: torch.device) -> list[Tensor]:
    viewers = {
        str(place): lambda batch, _, n=network, s=side: n(prepare(batch, Preparation(s)))
        for place, (network, side) in enumerate(zip(networks, SIDES, strict=True))
    }
    with ThreadPoolExecutor() as pool:
        pictures = in_order(pool, _decoded, (f.read_bytes() for f in files), BATCH)
        seen = look(pictures, viewers, device)
    return [torch.from_numpy(rows) for rows in seen.values()]


def _decoded(png: bytes) -> NDArray[np.uint8]:
    pixels = np.asarray(Image.open(io.BytesIO(png), formats=("PNG",)).convert("RGB"))
    hashlib.sha256(pixels.tobytes())  # as the stage does
    return pixels


def _pooled(pictures: Tensor) -> Tensor:
    return nn.functional.adaptive_avg_pool2d(pictures, 8).flatten(1)


def _inception(device: torch.device) -> Network:
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    network = inception_v3(weights=None, init_weights=False, aux_logits=False).to(device).eval()
    network.fc = nn.Identity()
    return lambda pictures: network(pictures / 127.5 - 1)


def _timed(work: Callable[[], list[Tensor]], times: int) -> tuple[float, list[Tensor]]:
    """Return the seconds of the fastest run, which others on the machine disturbed least."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - started)
    return min(seconds), found


if __name__ == "__main__":
    main()
