"""The families: what each is called, how it is published, and how others name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

FamilyName = Literal["sd1", "sd2", "sdxl", "ssd1b"]

_CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True, slots=True)
class Family:
    """A line of models that share an architecture and what they are told besides a caption."""

    name: FamilyName
    title: str
    is_xl: bool
    """Two text encoders, a pooled embedding and sizes, as SDXL; one encoder else."""

    @property
    def pipeline(self) -> str:
        """The diffusers pipeline that holds it."""
        return "StableDiffusionXLPipeline" if self.is_xl else "StableDiffusionPipeline"

    @property
    def configs(self) -> Path:
        """The published configuration, as a diffusers folder without weights."""
        return _CONFIGS / self.name


FAMILIES: dict[FamilyName, Family] = {
    family.name: family
    for family in (
        Family("sd1", "Stable Diffusion 1.x", is_xl=False),
        Family("sd2", "Stable Diffusion 2.x", is_xl=False),
        Family("sdxl", "Stable Diffusion XL", is_xl=True),
        Family("ssd1b", "SSD-1B", is_xl=True),
    )
}
assert tuple(FAMILIES) == get_args(FamilyName)
