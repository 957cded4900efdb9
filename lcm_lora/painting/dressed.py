"""Put a subject's adapters on its base."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lcm_lora.bases import Base
from lcm_lora.errors import UserError, is_out_of_memory, reason

if TYPE_CHECKING:
    from lcm_lora.painting.subject import Subject, Weighted


def fuse(base: Base, subject: Subject) -> None:
    """Add the adapters to the base's own weights: sampling then costs no more than without them.

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
            UserError: An adapter does not fit the base, or is not finite. Then none is worn.
        """
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
            try:
                _load(self._base, adapter, name)
            except BaseException:
                self._base.pipeline.unload_lora_weights()
                self._names.clear()
                raise
            self._names[adapter.sha256] = name
        return self._names[adapter.sha256]


def _load(base: Base, adapter: Weighted, name: str) -> None:
    """Load an adapter beside those that are loaded."""
    try:
        base.pipeline.load_lora_weights(
            str(adapter.file.parent), weight_name=adapter.file.name, adapter_name=name
        )
    except Exception as error:  # of keys, shapes, formats: no end to what loaders raise
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"{adapter.file}: does not fit {base.name} ({reason(error)}); name an adapter for "
            f"{base.family.title}"
        ) from error
    for part in base.pipeline.components.values():
        if isinstance(part, torch.nn.Module) and not _is_finite(part, name):
            raise UserError(
                f"{adapter.file}: holds numbers that are not finite; fetch it again, or name "
                "another adapter"
            )


def _is_finite(part: torch.nn.Module, name: str) -> bool:
    """Tell whether all that an adapter added to a part is finite."""
    added = (value for key, value in part.named_parameters() if f".{name}." in key)
    return all(bool(torch.isfinite(value).all()) for value in added)
