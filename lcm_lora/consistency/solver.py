"""One step of the teacher's guided probability flow."""

from __future__ import annotations

from torch import Tensor

from lcm_lora.params.distill import Guidance


def guide(conditional: Tensor, unconditional: Tensor, w: Tensor) -> Tensor:
    """Return c + w (c - u), classifier-free guidance with the LCM paper's w (LCM equation 14).

    The scale g of Imagen and diffusers, u + g (c - u), is w + 1.
    """
    return conditional + w * (conditional - unconditional)


def lcm_range(guidance: Guidance) -> tuple[float, float]:
    """Return the bounds of w for a range given in either convention."""
    shift = 1.0 if guidance.convention == "imagen" else 0.0
    return guidance.low - shift, guidance.high - shift


def jump(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return alpha_s x0 + sigma_s eps: the DDIM step to level s (Song et al. 2021, eq. 12)."""
    return alpha * x0 + sigma * eps
