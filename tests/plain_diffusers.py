"""Paint with plain diffusers, in a process of its own that never imports this project."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PROGRAM = """
import json, sys
import numpy, torch
from diffusers import LCMScheduler, StableDiffusionPipeline
torch.set_num_threads(1)
base, adapter, out, captions = sys.argv[1:]
pipe = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
pipe.load_lora_weights(adapter)
pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
images = []
for i, caption in enumerate(json.loads(captions)):
    state = numpy.random.SeedSequence((11, 0, i)).generate_state(1, numpy.uint64)
    generator = torch.Generator().manual_seed(int(state[0] >> numpy.uint64(1)))
    latents = torch.randn((1, 8, 8, 8), generator=generator)
    images += list(pipe([caption], latents=latents, generator=[generator],
                        num_inference_steps=4, guidance_scale=1.0, output_type="np").images)
numpy.save(out, (numpy.stack(images) * 255).round().astype("uint8"))
assert not any(name.startswith("lcm_lora") for name in sys.modules)
"""


def paint_plainly(
    base: Path, adapter: Path, captions: Sequence[str], folder: Path
) -> NDArray[np.uint8]:
    """Return pictures of captions at four steps without guidance, from seed 11.

    Args:
        base: The folder of a base whose latents are 8 x 8 x 8.
        adapter: A LoRA's file or folder.
        captions: One a picture.
        folder: To work in.
    """
    out = folder / "plain.npy"
    arguments = [str(base), str(adapter), str(out), json.dumps(list(captions))]
    subprocess.run([sys.executable, "-c", _PROGRAM, *arguments], check=True, cwd=folder)
    pictures: NDArray[np.uint8] = np.load(out)
    return pictures
