"""Which Stable Diffusion is distilled."""

from __future__ import annotations

from lcm_lora.params.section import Section
from lcm_lora.params.values import Text


class Base(Section):
    """The Stable Diffusion to distil."""

    model: Text = "shapes"
    """`shapes`, a hub id, a diffusers folder, or a single .safetensors file."""
    revision: Text | None = None
    """Commit, tag or branch of a hub id; null is its main branch, as the first look finds it."""
