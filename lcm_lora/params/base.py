"""Which Stable Diffusion is distilled."""

from __future__ import annotations

from typing import Literal

from lcm_lora.params.section import Section
from lcm_lora.params.values import Text


class Base(Section):
    """The Stable Diffusion to distil."""

    model: Text = "shapes"
    """`shapes`, a hub id, a diffusers folder, or a single .safetensors file."""
    revision: Text | None = None
    """Commit, tag or branch of a hub id; null is its main branch, as the first look finds it."""
    config: Text | None = None
    """Of a single file: a diffusers folder with its tokenizer, its configuration or both; null is
    the published configuration of its family, and CLIP's vocabulary from where it can be found."""
    vae: Text | None = None
    """Another autoencoder: a folder, a .safetensors file or a hub id; null is the base's own."""
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = None
    """What the denoiser predicts; null is what the base's files say."""
