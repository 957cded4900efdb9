"""A person's picture and mask as what is painted over: of the size that is painted."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from lcm_lora.data.pictures import crop
from lcm_lora.data.sources import decode
from lcm_lora.errors import UserError
from lcm_lora.painting.start import Start

_STRENGTH = 0.6
"""Of image-to-image, where diffusers documents LCM-LoRAs."""
_STRENGTH_UNDER_A_MASK = 1.0
_PAINTED = 128
"""Grey from which on a mask covers, as in diffusers."""


def start_of(whole: Image.Image, mask: Path | None, strength: float | None, size: int) -> Start:
    """Return what is painted over, cut to its middle square and resized as training pictures are.

    Args:
        whole: The picture, RGB.
        mask: File of the mask, of the same size as the picture; white is painted. None: all is.
        strength: How far from the picture, from 0 to 1; None is what suits.
        size: H = W in pixels that are painted.

    Raises:
        UserError: The mask is missing, no picture, of another size, or covers nothing.
    """
    covered = _covered(mask, whole, size) if mask else None
    if strength is None:
        strength = _STRENGTH_UNDER_A_MASK if covered else _STRENGTH
    return Start(crop(whole, size).picture, strength, covered)


def opened(option: str, path: Path) -> Image.Image:
    """Return the picture in a file, upright, RGB.

    Args:
        option: That names it, for messages.
        path: Its place.

    Raises:
        UserError: It is missing, or no picture.
    """
    if not path.is_file():
        raise UserError(f"{option} {path}: no such file; name a picture")
    picture = decode(path.read_bytes())
    if picture is None:
        raise UserError(
            f"{option} {path}: is no picture that can be read; name a PNG, JPEG or WebP"
        )
    return picture


def how_it_is_cut(size_found: tuple[int, int], size: int) -> str:
    """Say what is done to a picture of this width and height; nothing where it has the size."""
    width, height = size_found
    if width == height == size:
        return ""
    cut = "" if width == height else "cut to its middle square and "
    return f"{width} x {height} pixels, {cut}resized to {size} x {size}"


def _covered(mask: Path, picture: Image.Image, size: int) -> Image.Image:
    drawn = opened("--mask", mask).convert("L")
    if drawn.size != picture.size:
        (width, height), (wide, high) = drawn.size, picture.size
        raise UserError(
            f"--mask {mask}: {width} x {height} pixels, but the picture has {wide} x {high}; make "
            "them of one size"
        )
    covered = crop(drawn, size).picture
    if max(covered.tobytes()) < _PAINTED:
        raise UserError(
            f"--mask {mask}: covers nothing of the picture's middle square; draw white what is to "
            "be painted"
        )
    return covered
