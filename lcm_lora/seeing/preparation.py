"""How a network wants pictures; told without torch, so that the first look can say it.

Legend: S pixels of a side that a network takes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lcm_lora.errors import UserError, reason

Colours = Literal["0..255", "-1..1", "normalised"]
Filter = Literal["bicubic", "bilinear"]
Triple = tuple[float, float, float]

_FILTERS: dict[int, Filter] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of them, which processors write down."""
_IMAGENET: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What happens to a picture before a network sees it."""

    pixels: int
    """S."""
    shortest: int | None = None
    """The shorter side is scaled to it and the centre kept; None: the whole is scaled to S x S."""
    filter: Filter = "bicubic"
    is_rounded: bool = False
    """Whether colours are whole numbers again after scaling, as processors on pictures do it."""
    colours: Colours = "0..255"
    mean: Triple = (0.0, 0.0, 0.0)
    """Taken from colours in 0..1, where they are normalised."""
    std: Triple = (1.0, 1.0, 1.0)

    def __str__(self) -> str:
        """Say it in a line, for the record of a network."""
        parts = [f"{self.filter} with antialias to {self.shortest or self.pixels} px"]
        parts += [f"its centre of {self.pixels} px"] if self.shortest else []
        parts += ["rounded"] if self.is_rounded else []
        parts += ["clipped to 0..255"]
        if self.colours == "-1..1":
            parts += ["divided by 127.5, less 1"]
        elif self.colours == "normalised":
            parts += [f"mean {_said(self.mean)} and std {_said(self.std)} of 0..1"]
        return ", ".join(parts)


def whole(pixels: int, mean: Triple, std: Triple) -> Preparation:
    """Return the preparation of a network that takes whole pictures with normalised colours."""
    return Preparation(pixels, colours="normalised", mean=mean, std=std)


DINOV2 = whole(224, *_IMAGENET)
"""Of FD-DINOv2, as dgm-eval and edm2 compute it: the whole picture, no crop."""


def clip_preparation(folder: Path, where: str) -> Preparation:
    """Return what the processor in a CLIP folder of transformers does.

    Args:
        folder: Of the CLIP.
        where: The parameter that names it.

    Raises:
        UserError: There is none, or it does what no CLIP needs.
    """
    path = folder / "preprocessor_config.json"
    try:
        return _of_processor(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{where} {folder}: not a CLIP folder with a preprocessor_config.json "
            f"({reason(error)}); mend it, or name another"
        ) from None


def _of_processor(config: dict[str, Any]) -> Preparation:
    size, crop = config["size"], config.get("crop_size", config["size"])
    shortest = size["shortest_edge"] if isinstance(size, dict) else size
    side = crop["height"] if isinstance(crop, dict) else crop
    steps = ("do_resize", "do_center_crop", "do_normalize", "do_rescale")
    if not all(config.get(step, True) for step in steps):
        raise ValueError(f"leaves out one of {', '.join(steps)}")
    if (isinstance(crop, dict) and crop["width"] != side) or not 8 <= side <= shortest <= 4096:
        raise ValueError(f"a centre of {crop} from {size} is not known here")
    return Preparation(
        side,
        shortest,
        _FILTERS[config.get("resample", 3)],
        is_rounded=True,
        colours="normalised",
        mean=_triple(config["image_mean"]),
        std=_triple(config["image_std"]),
    )


def _triple(values: Any) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _said(colours: Triple) -> str:
    return f"({', '.join(f'{value:g}' for value in colours)})"
