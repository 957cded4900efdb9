"""Put a subject's adapters on its base."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lcm_lora.bases import Base
from lcm_lora.errors import UserError, is_out_of_memory, reason

if TYPE_CHECKING:
    from lcm_lora.painting.subject import Subject


def fuse(base: Base, subject: Subject) -> None:
    """Add the adapters to the base's own weights: sampling then costs no more than without them.

    Raises:
        UserError: An adapter does not fit the base.
    """
    if not subject.adapters:
        return
    _load(base, subject)
    base.pipeline.fuse_lora()
    base.pipeline.unload_lora_weights()


@contextlib.contextmanager
def wearing(base: Base, subject: Subject) -> Iterator[None]:
    """Keep the adapters on the base while the block runs, and leave it exactly as it was.

    Raises:
        UserError: An adapter does not fit the base.
    """
    _load(base, subject)
    try:
        yield
    finally:
        base.pipeline.unload_lora_weights()


def _load(base: Base, subject: Subject) -> None:
    names = []
    for number, adapter in enumerate(subject.adapters):
        names.append(f"adapter{number}")
        try:
            base.pipeline.load_lora_weights(
                str(adapter.file.parent), weight_name=adapter.file.name, adapter_name=names[-1]
            )
        except Exception as error:  # of keys, shapes, formats: no end to what loaders raise
            if is_out_of_memory(error):
                raise
            base.pipeline.unload_lora_weights()
            raise UserError(
                f"{adapter.file}: does not fit {base.name} ({reason(error)}); name an adapter for "
                f"{base.family.title}"
            ) from error
    base.pipeline.set_adapters(names, [adapter.weight for adapter in subject.adapters])
