"""Paint one picture after another, by whoever is asked for, and keep the models loaded.

What decides a picture is the same as where image sets are painted, so it is the same picture; it
does not depend on who painted before.

Legend: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lcm_lora.inventory.base_files import where_is
from lcm_lora.painting.subject import Subject
from lcm_lora.params.generate import Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.showing.asked import Asked
from lcm_lora.showing.order import PLAIN, Order, Weights

if TYPE_CHECKING:
    from lcm_lora.bases import Base
    from lcm_lora.painting.dressed import Wardrobe

_SMALL = 2**30


@dataclass(frozen=True, slots=True)
class _Loaded:
    base: Base
    scheduler: dict[str, Any]
    """The configuration of the base's own, before any painter set another."""


@dataclass(frozen=True, slots=True)
class _Worn:
    loaded: _Loaded
    wardrobe: Wardrobe


class Easel:
    """Where painters take turns; not for two threads at once.

    Of a small base there is one for every subject, with its adapters in its weights, as image sets
    are painted. Where other weights are asked for, and of a large base, there is one that wears
    the adapters of whoever paints: they stay loaded, so that a weight changes in no time.
    """

    def __init__(
        self,
        params: Generate,
        hardware: Hardware,
        size: int,
        subjects: Mapping[str, Subject],
        small: int = _SMALL,
    ) -> None:
        """Set it up; nothing loads yet.

        Args:
            params: How each painter paints.
            hardware: Where, and in which precision.
            size: H = W.
            subjects: Who each painter is.
            small: Bytes of a base's files up to which it may be loaded several times.
        """
        self._params, self._hardware, self._size = params, hardware, size
        self._subjects = dict(subjects)
        self._known = {subject.sha256 for subject in self._subjects.values()}
        self.is_small = all(_bytes_of(s) <= small for s in self._subjects.values())
        """Whether all models can be in memory at once."""
        self._fused: dict[str, _Loaded] = {}
        """By who is in the weights."""
        self._worn: dict[str, _Worn] = {}
        """By the base; only one of large ones."""

    def load(self, weights: Weights = PLAIN) -> None:
        """Load what can be in memory at once, so that the first picture need not wait.

        Args:
            weights: That will be asked for, of whatever amount.

        Raises:
            UserError: A base cannot be loaded, or an adapter does not fit it.
        """
        if self.is_small:
            for subject in self._subjects.values():
                self._dressed(subject)
        for name, subject in list(self._subjects.items())[: None if self.is_small else 1]:
            self._wearing(weights.on(name, subject))

    def paint(
        self, asked: Asked, order: Order, is_given_up: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Return a picture, uint8 [H, W, 3].

        Args:
            asked: By whom, in how many steps.
            order: What it shows, from what it starts, and with which weights.
            is_given_up: Asked after each step; if so, the rest is left out and the picture spoilt.

        Raises:
            UserError: A base cannot be loaded, an adapter does not fit it, or the picture is not
                finite.
        """
        from lcm_lora.painting.paint import paint
        from lcm_lora.painting.schedulers import scheduler_of
        from lcm_lora.painting.ways import paint_over

        painter, subject = self._params.painter(asked.painter), self._subjects[asked.painter]
        loaded = self._dressed(order.weights.on(asked.painter, subject))
        pipeline = loaded.base.pipeline
        pipeline.scheduler = scheduler_of(painter.sampler, loaded.scheduler, subject.lcm_config)
        how = (painter.eta, _leaving_off(is_given_up), order.negative)
        if order.start is not None:
            prompt, seed, start = order.prompt, order.seed, order.start
            return paint_over(loaded.base, prompt, asked.cell, seed, start, *how)
        what = ([order.prompt], asked.cell, self._size, order.seed)
        (picture,) = paint(loaded.base, *what, 0, *how)
        return np.asarray(picture)

    def _dressed(self, subject: Subject) -> _Loaded:
        if not self.is_small or subject.sha256 not in self._known:
            return self._wearing(subject)
        if subject.sha256 not in self._fused:
            from lcm_lora.painting.dressed import fuse

            loaded = self._load(subject)
            fuse(loaded.base, subject)
            self._fused[subject.sha256] = loaded
        return self._fused[subject.sha256]

    def _wearing(self, subject: Subject) -> _Loaded:
        """Return the base that wears adapters, with those of `subject` and no others."""
        from lcm_lora.painting.dressed import Wardrobe

        base = subject.base.sha256
        if base not in self._worn:
            if not self.is_small:
                self._worn.clear()  # two may not fit into memory
            loaded = self._load(subject)
            self._worn[base] = _Worn(loaded, Wardrobe(loaded.base))
        self._worn[base].wardrobe.wear(subject)
        return self._worn[base].loaded

    def _load(self, subject: Subject) -> _Loaded:
        from lcm_lora.bases import load_base

        base = load_base(subject.base, self._hardware)
        return _Loaded(base, dict(base.pipeline.scheduler.config))


def _leaving_off(is_given_up: Callable[[], bool]) -> Callable[..., dict[str, Any]]:
    """Return what diffusers calls after each step: the pipeline paints no more once given up."""

    def after_step(pipeline: Any, *_: object) -> dict[str, Any]:
        # Not from another thread: a pipeline forgets what it was told before it began.
        pipeline._interrupt = is_given_up()
        return {}

    return after_step


def _bytes_of(subject: Subject) -> int:
    model: Path = where_is(subject.base).model
    files = [model] if model.is_file() else model.rglob("*.safetensors")
    return sum(file.stat().st_size for file in files)
