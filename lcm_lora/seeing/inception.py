"""The 2015 Inception network, the only one whose distances are called FID and KID."""

from __future__ import annotations

from lcm_lora.errors import UserError

INCEPTION = "inception-2015-12-05"

_SHA256 = ("f58cb9b6ec32", "19e958f4")  # how it begins and ends


def check_inception(path: str, sha256: str) -> None:
    """Refuse another network than the one that every published FID was measured with.

    Raises:
        UserError: The file of this SHA-256 is another one.
    """
    begins, ends = _SHA256
    if not (sha256.startswith(begins) and sha256.endswith(ends)):
        raise UserError(
            f"score.networks {path}: not the 2015 Inception weights: its SHA-256 begins"
            f" {sha256[:12]}, not {begins}; fetch {INCEPTION}.pt again"
        )
