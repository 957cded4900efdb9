"""Where pictures come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lcm_lora.params.section import Section
from lcm_lora.params.values import Seed, SourcePath


class ShapesSource(Section):
    """Scenes of the embedded world."""

    kind: Literal["shapes"] = "shapes"
    count: int = Field(8192, ge=1, le=10_000_000)
    seed: Seed = 7


class FolderSource(Section):
    """Pictures with captions: NAME.txt beside NAME.png, or a metadata.jsonl (file_name, text)."""

    kind: Literal["folder"]
    path: SourcePath


class WebdatasetSource(Section):
    """Tars as img2dataset writes them: NAME.jpg, NAME.txt or NAME.json with a caption."""

    kind: Literal["webdataset"]
    path: SourcePath
    """A tar, or a folder of tars."""


Source = Annotated[ShapesSource | FolderSource | WebdatasetSource, Field(discriminator="kind")]
