"""Paint one picture after another, by whoever is asked for, and keep the models loaded.

What decides a picture is the same as where image sets are painted, so it is the same picture; it
does not depend on who painted before.

Legend: H x W pixels.
"""

from __future__ import annotations

import contextlib
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

if TYPE_CHECKING:
    from lcm_lora.bases import Base

_SMALL = 2**30


@dataclass(frozen=True, slots=True)
class _Loaded:
    base: Base
    scheduler: dict[str, Any]
    """The configuration of the base's own, before any painter set another."""


class Easel:
    """Where painters take turns; not for two threads at once.

    Of a small base there is one for every subject, with its adapters in its weights. Of a large one
    there is one in memory, and it wears the adapters of whoever paints.
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
        self.is_small = all(_bytes_of(s) <= small for s in self._subjects.values())
        """Whether all models can be in memory at once."""
        self._fused: dict[str, _Loaded] = {}
        self._worn: _Loaded | None = None
        self._wearer: str | None = None
        self._clothes = contextlib.ExitStack()

    def load(self) -> None:
        """Load what can be in memory at once, so that the first picture need not wait.

        Raises:
            UserError: A base cannot be loaded, or an adapter does not fit it.
        """
        for subject in list(self._subjects.values())[: None if self.is_small else 1]:
            self._dressed(subject)

    def paint(
        self,
        asked: Asked,
        prompt: str,
        seed: int,
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> NDArray[np.uint8]:
        """Return a picture, uint8 [H, W, 3].

        Args:
            asked: By whom, in how many steps.
            prompt: What it shows.
            seed: Of its noise.
            is_given_up: Asked after each step; if so, the rest is left out and the picture spoilt.

        Raises:
            UserError: A base cannot be loaded, an adapter does not fit it, or the picture is not
                finite.
        """
        from lcm_lora.painting.paint import paint
        from lcm_lora.painting.schedulers import scheduler_of

        painter, subject = self._params.painter(asked.painter), self._subjects[asked.painter]
        loaded = self._dressed(subject)
        pipeline = loaded.base.pipeline
        pipeline.scheduler = scheduler_of(painter.sampler, loaded.scheduler, subject.lcm_config)
        how = (asked.cell, self._size, seed, 0, painter.eta)
        (picture,) = paint(loaded.base, [prompt], *how, _leaving_off(is_given_up))
        return np.asarray(picture)

    def _dressed(self, subject: Subject) -> _Loaded:
        if not self.is_small and len({s.sha256 for s in self._subjects.values()}) > 1:
            return self._dress(subject)
        if subject.sha256 not in self._fused:
            from lcm_lora.painting.dressed import fuse

            loaded = self._load(subject)
            fuse(loaded.base, subject)
            self._fused[subject.sha256] = loaded
        return self._fused[subject.sha256]

    def _dress(self, subject: Subject) -> _Loaded:
        """Return the one base, with the adapters of `subject` in place of those that it wore."""
        from lcm_lora.painting.dressed import wearing

        if self._worn is None or self._wearer != subject.sha256:
            self._clothes.close()
            self._wearer = None
            if self._worn is None or self._worn.base.found.sha256 != subject.base.sha256:
                self._worn = None  # two may not fit into memory
                self._worn = self._load(subject)
            if subject.adapters:
                self._clothes.enter_context(wearing(self._worn.base, subject))
            self._wearer = subject.sha256
        return self._worn

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
