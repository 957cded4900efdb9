"""Put a subject's adapters on its base."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_lora.bases import Base
from lcm_lora.combining.delta import COMPONENTS, Component, Module
from lcm_lora.combining.fits import check_fits_networks
from lcm_lora.combining.names import as_filed
from lcm_lora.combining.read import read_lora
from lcm_lora.combining.write import kohya_tensors, suited
from lcm_lora.errors import UserError, is_out_of_memory, reason, some

if TYPE_CHECKING:
    from lcm_lora.painting.subject import Subject, Weighted


def fuse(base: Base, subject: Subject) -> None:
    """Add the adapters to the base's own fp32 weights: sampling then costs no more than without.

    Raises:
        UserError: An adapter does not fit the base, or is not finite.
    """
    if not any(adapter.weight for adapter in subject.adapters):
        return
    Wardrobe(base).wear(subject)
    base.pipeline.fuse_lora()
    base.pipeline.unload_lora_weights()


@contextlib.contextmanager
def wearing(base: Base, subject: Subject) -> Iterator[None]:
    """Keep the adapters on the base while the block runs, and leave it exactly as it was.

    Raises:
        UserError: An adapter does not fit the base, or is not finite.
    """
    Wardrobe(base).wear(subject)
    try:
        yield
    finally:
        base.pipeline.unload_lora_weights()


class Wardrobe:
    """The adapters that are loaded on a base, of which it wears what a subject asks for.

    They stay loaded, so that other weights, or another subject that shares them, cost nothing. What
    the base paints depends on what it wears alone.
    """

    def __init__(self, base: Base) -> None:
        """Begin with none."""
        self._base = base
        self._names: dict[str, str] = {}
        """Of loaded adapters, by the SHA-256 of their weights."""

    def wear(self, subject: Subject) -> None:
        """Put on the subject's adapters and no others; one of weight 0 is left off.

        Raises:
            UserError: An adapter is no plain LoRA, does not fit the base, or is not finite. Then
                none is worn.
        """
        try:
            self._wear(subject)
        except BaseException:
            self._base.pipeline.unload_lora_weights()
            self._names.clear()
            raise

    def _wear(self, subject: Subject) -> None:
        weights: dict[str, float] = {}
        for adapter in subject.adapters:
            if adapter.weight:
                name = self._loaded(adapter)
                weights[name] = weights.get(name, 0.0) + adapter.weight
        pipeline = self._base.pipeline
        if weights:
            pipeline.enable_lora()
            pipeline.set_adapters(list(weights), list(weights.values()))
        elif self._names:
            pipeline.disable_lora()

    def _loaded(self, adapter: Weighted) -> str:
        """Return the name of an adapter, after it is loaded."""
        if adapter.sha256 not in self._names:
            name = f"adapter{len(self._names)}"
            _load(self._base, adapter.file, name)
            self._names[adapter.sha256] = name
        return self._names[adapter.sha256]


def _load(base: Base, file: Path, name: str) -> None:
    """Load an adapter beside those that are loaded: all of it, at the scales that its file says.

    Diffusers alone would leave out what it does not know or the base has not, and of alphas that
    differ from module to module take one.
    """
    parts: Iterator[tuple[Component, Any]]
    parts = ((part, getattr(base.pipeline, part, None)) for part in COMPONENTS)
    networks = {part: network for part, network in parts if network is not None}
    lora = read_lora(file)
    check_fits_networks(str(file), lora, networks, base.found)
    try:
        base.pipeline.load_lora_weights(kohya_tensors(suited(lora, "kohya")), adapter_name=name)
    except Exception as error:  # there is no end to what loaders raise
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"{file}: cannot be put on {base.name} ({reason(error)}); name another adapter"
        ) from error
    worn = set(_worn(networks, name))
    if lost := [module for module in lora if module not in worn]:
        raise UserError(
            f"{file}: diffusers leaves out {some(lost)} of it; name an adapter without them"
        )


def _worn(networks: Mapping[Component, Any], name: str) -> Iterator[Module]:
    """Yield the modules beside which an adapter lies."""
    for component, network in networks.items():
        for module, layer in network.named_modules():
            if name in getattr(layer, "lora_A", ()):
                yield Module(component, as_filed(module))
