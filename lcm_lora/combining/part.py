"""One of several adapters that are combined, and whether they can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.combining.delta import Lora, Module, bare
from lcm_lora.combining.names import FIRST_OF_TWO
from lcm_lora.combining.opened import open_adapter
from lcm_lora.combining.read import lora_in
from lcm_lora.errors import UserError, some
from lcm_lora.files import sha256

_CAPTIONS = {768: "SD-1.x", 1024: "SD-2.x", 2048: "SDXL or SSD-1B"}
"""Families by how wide the captions are that their attention takes."""
_VERSIONS = {"sd_v1": "SD-1.x", "sd_v2": "SD-2.x", "sdxl": "SDXL or SSD-1B"}
"""Families by how `ss_base_model_version` begins."""


@dataclass(frozen=True, slots=True)
class Part:
    """An adapter as it goes into a sum."""

    path: Path
    weight: float
    lora: Lora
    metadata: Mapping[str, str]
    """The header of its first file."""
    sha256: str
    """Of its file, or of all in its folder."""
    is_xl: bool
    """It has what only adapters of SDXL have: two text encoders, or deeper attention."""

    @property
    def captions(self) -> int | None:
        """How wide the captions are that its attention takes, if it changes that."""
        widths = (
            factor.shape[1]
            for module, factor in self.lora.items()
            if module.component == "unet" and module.name.endswith(("attn2.to_k", "attn2.to_v"))
        )
        return next(widths, None)

    @property
    def family(self) -> str | None:
        """The family that it is made for, by its shapes, header or names; None if unsaid."""
        if self.captions is not None:
            return _CAPTIONS.get(self.captions, f"a model with captions {self.captions} wide")
        version = self.metadata.get("ss_base_model_version", "")
        said = (family for begins, family in _VERSIONS.items() if version.startswith(begins))
        return next(said, _CAPTIONS[2048] if self.is_xl else None)


def read_part(path: Path, weight: float) -> Part:
    """Read an adapter that goes into a sum by its weight; see `read_lora` for what is refused."""
    files = open_adapter(path)
    lora = lora_in(files)
    is_xl = any(
        module.component == "text_encoder_2" or ".transformer_blocks.1." in module.name
        for module in lora
    )
    is_xl |= any(name.startswith(FIRST_OF_TWO) for file in files for name in file.tensors)
    return Part(path, weight, lora, files[0].metadata, sha256(path), is_xl)


def check_fit(parts: Sequence[Part]) -> None:
    """Check that adapters are made for one kind of model.

    Raises:
        UserError: They are of several families, or change one module's weight in several shapes.
    """
    first = next((part for part in parts if part.family), parts[0])
    for part in parts:
        if part.family and part.family != first.family:
            raise UserError(
                f"{part.path}: made for {part.family}, but {first.path} for {first.family}; "
                "combine adapters of one family"
            )
    for number, part in enumerate(parts):
        for earlier in parts[:number]:
            _check_shapes(earlier, part)


def _check_shapes(a: Part, b: Part) -> None:
    clashes = [
        f"{module} is {_shown(a, module)} and {_shown(b, module)}"
        for module in a.lora
        if module in b.lora and bare(a.lora[module].shape) != bare(b.lora[module].shape)
    ]
    if clashes:
        raise UserError(
            f"{a.path} and {b.path} do not fit each other in {len(clashes)} modules: "
            f"{some(clashes)}; combine adapters of one family"
        )


def _shown(part: Part, module: Module) -> str:
    return " x ".join(map(str, bare(part.lora[module].shape)))
