"""The consistency function and the distance between its values."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

_SIGMA_DATA = 0.5
_TIMESTEP_SCALING = 10.0


def boundary(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Return (c_skip, c_out), float32 [B, 1, 1, 1], exactly (1, 0) at t = 0.

    c_skip = d^2 / (s^2 + d^2) and c_out = s / sqrt(s^2 + d^2) with s = 10 t, d = 0.5.

    Source: LCM appendix C; Song et al. 2023, equation 5, for why f(z, 0) = z.
    """
    scaled = _TIMESTEP_SCALING * timesteps.float()[:, None, None, None]
    total = scaled**2 + _SIGMA_DATA**2
    return _SIGMA_DATA**2 / total, scaled / total.sqrt()


def consistency(z: Tensor, x0: Tensor, timesteps: Tensor) -> Tensor:
    """Return f(z, t) = c_skip z + c_out x0(z, t) (LCM equation 9)."""
    c_skip, c_out = boundary(timesteps)
    return c_skip * z + c_out * x0


def distance(y: Tensor, target: Tensor, kind: Literal["huber", "l2"], huber_c: float) -> Tensor:
    """Return the mean distance of two float32 [B, C, h, w], a scalar.

    Element by element: l2 is (y - y*)^2, huber is sqrt((y - y*)^2 + c^2) - c.

    Source: Song and Dhariwal 2023, section 3.3, for huber.
    """
    square = (y - target) ** 2
    if kind == "l2":
        return square.mean()
    return ((square + huber_c**2).sqrt() - huber_c).mean()
