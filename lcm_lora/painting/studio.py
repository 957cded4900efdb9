"""What a subject paints with: its base and its adapters, loaded when the first picture needs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lcm_lora.params.generate import Sampling
from lcm_lora.params.hardware import Hardware

if TYPE_CHECKING:
    from lcm_lora.bases import Base
    from lcm_lora.families.found import BaseInventory
    from lcm_lora.painting.dressed import Wardrobe
    from lcm_lora.painting.subject import Subject


@dataclass
class SharedBase:
    """A base on which several subjects paint in turn, each in the adapters that it wears."""

    found: BaseInventory
    hardware: Hardware

    @cached_property
    def loaded(self) -> Base:
        """The base itself."""
        from lcm_lora.bases import load_base  # heavy, and needless where all is painted

        return load_base(self.found, self.hardware)

    @cached_property
    def scheduler(self) -> dict[str, Any]:
        """The configuration of its own scheduler, before any painter set another."""
        return dict(self.loaded.pipeline.scheduler.config)

    def worn_by(self, subject: Subject) -> Base:
        """Return the base in the adapters of a subject.

        Raises:
            UserError: An adapter does not fit the base.
        """
        self._wardrobe.wear(subject)
        return self.loaded

    @cached_property
    def _wardrobe(self) -> Wardrobe:
        from lcm_lora.painting.dressed import Wardrobe

        return Wardrobe(self.loaded)


@dataclass
class Studio:
    """A subject on its base."""

    subject: Subject
    hardware: Hardware
    shared: SharedBase | None = None
    """The base of several subjects; None for one of its own."""

    @property
    def wears(self) -> bool:
        """Whether adapters lie beside the base's weights; in the last bits it paints otherwise.

        In half precision they always do: the sum would be rounded, and small updates lost.
        """
        is_fused = self.shared is None and self.hardware.precision == "fp32"
        return bool(self.subject.adapters) and not is_fused

    @cached_property
    def where(self) -> dict[str, Any]:
        """What of the hardware decides the last bits, as it is here."""
        from lcm_lora.device import decides, pick_device

        return {"precision": self.hardware.precision, **decides(pick_device(self.hardware))}

    def take(self, painter: Sampling) -> Base:
        """Return the base with a fresh scheduler of the painter.

        Raises:
            UserError: The base cannot be loaded, or an adapter does not fit it.
        """
        from lcm_lora.painting.schedulers import scheduler_of

        base, config = self._dressed()
        base.pipeline.scheduler = scheduler_of(painter.sampler, config, self.subject.lcm_config)
        return base

    def _dressed(self) -> tuple[Base, dict[str, Any]]:
        if self.shared is None:
            return self._own
        return self.shared.worn_by(self.subject), self.shared.scheduler

    @cached_property
    def _own(self) -> tuple[Base, dict[str, Any]]:
        from lcm_lora.painting.dressed import fuse

        own = SharedBase(self.subject.base, self.hardware)
        if self.wears:
            return own.worn_by(self.subject), own.scheduler
        fuse(own.loaded, self.subject)
        return own.loaded, own.scheduler
