"""From what a network predicts to the clean latent and the noise."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

PredictionType = Literal["epsilon", "sample", "v_prediction"]


def convert(
    output: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor, kind: PredictionType
) -> tuple[Tensor, Tensor]:
    """Return (x0, eps), which satisfy alpha x0 + sigma eps = z, from a network's output at z.

    Args:
        output: float32 [B, C, h, w].
        z: float32 [B, C, h, w].
        alpha: float32, broadcast against z.
        sigma: float32, broadcast against z.
        kind: What the network predicts.

    Source: Salimans and Ho 2022, appendix D, for v = alpha eps - sigma x0.
    """
    match kind:
        case "epsilon":
            return (z - sigma * output) / alpha, output
        case "sample":
            return output, (z - alpha * output) / sigma
        case "v_prediction":
            return alpha * z - sigma * output, alpha * output + sigma * z
