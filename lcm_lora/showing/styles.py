"""Styles that people name: LoRA files, folders or hub ids, each with a weight."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.combining.named import weighted_file
from lcm_lora.errors import UserError
from lcm_lora.families.found import BaseInventory
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.painters import adapter_file, look_at_adapter
from lcm_lora.painting.subject import Weighted

_PUBLISHED = re.compile(r"models:/([^@/]+)(?:@(?:style-)?(.+)|/(\d+))")


def styles_of(texts: Iterable[str], base: BaseInventory, hashes: Hashes) -> tuple[Weighted, ...]:
    """Return the styles that texts such as `ink.safetensors:0.8` name.

    Raises:
        UserError: One is missing, pickled, damaged, no adapter, made for another family, or its
            weight is no number or out of range.
    """
    return tuple(_style(text, base, hashes) for text in texts)


def style_of(where: str, name: str, weight: float, base: BaseInventory, hashes: Hashes) -> Weighted:
    """Return a style by its file, folder or hub id.

    Raises:
        UserError: It is missing, pickled, damaged, no adapter, or made for another family.
    """
    found = look_at_adapter(where, name, weight, base, hashes)
    return Weighted(adapter_file(found.name, found.commit), found.sha256, weight)


def style_name(name: str) -> str:
    """Return how people would call a style: by its alias, its file, its folder or its repository.

    Args:
        name: A file, a folder, a hub id, or a version in the registry.
    """
    if published := _PUBLISHED.fullmatch(name):
        model, alias, version = published.groups()
        return alias or f"{model} {version}"
    place = Path(name)
    if place.name == WEIGHTS and place.parent.name:
        return place.parent.name
    return place.name.removesuffix(".safetensors").partition("@")[0]


def _style(text: str, base: BaseInventory, hashes: Hashes) -> Weighted:
    try:
        file, weight = weighted_file(text)
    except UserError as error:
        raise UserError(f"--style {error}") from None
    return style_of("--style", str(file), weight, base, hashes)
