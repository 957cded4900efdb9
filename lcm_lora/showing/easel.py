"""Paint one picture after another, by whoever is asked for, and keep the models loaded.

What decides a picture is the same as where image sets are painted. Of a small base, as it was
trained or published, it is the same picture to the bit; where adapters are worn beside the base's
weights it may differ in the last bits, and so in a pixel's last level. It never depends on who
painted before.

Legend: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcm_lora.inventory.base_files import where_is
from lcm_lora.painting.studio import SharedBase, Studio
from lcm_lora.painting.subject import Subject
from lcm_lora.params.generate import Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.showing.asked import Asked
from lcm_lora.showing.order import PLAIN, Order, Weights

_SMALL = 2**30


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
        self._known = {_who(subject) for subject in self._subjects.values()}
        self.is_small = all(_bytes_of(s) <= small for s in self._subjects.values())
        """Whether all models can be in memory at once."""
        self._own: dict[str, Studio] = {}
        """By who is in the weights."""
        self._shared: dict[str, SharedBase] = {}
        """By the base; only one of large ones."""

    def load(self, weights: Weights = PLAIN) -> None:
        """Load what can be in memory at once, so that the first picture need not wait.

        Args:
            weights: That will be asked for, of whatever amount.

        Raises:
            UserError: A base cannot be loaded, or an adapter does not fit it.
        """
        if self.is_small:
            for name, subject in self._subjects.items():
                self._studio(subject).take(self._params.painter(name))
        for name, subject in list(self._subjects.items())[: None if self.is_small else 1]:
            self._beside(weights.on(name, subject)).take(self._params.painter(name))

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
        from lcm_lora.painting.ways import paint_over

        painter, subject = self._params.painter(asked.painter), self._subjects[asked.painter]
        base = self._studio(order.weights.on(asked.painter, subject)).take(painter)
        how = (painter.eta, _leaving_off(is_given_up), order.negative)
        if order.start is not None:
            prompt, seed, start = order.prompt, order.seed, order.start
            return paint_over(base, prompt, asked.cell, seed, start, *how)
        what = ([order.prompt], asked.cell, self._size, order.seed)
        (picture,) = paint(base, *what, 0, *how)
        return np.asarray(picture)

    def _studio(self, subject: Subject) -> Studio:
        who = _who(subject)
        if not self.is_small or who not in self._known:
            return self._beside(subject)
        if who not in self._own:
            self._own[who] = Studio(subject, self._hardware)
        return self._own[who]

    def _beside(self, subject: Subject) -> Studio:
        """Return a subject whose adapters lie beside the weights of a base that others share."""
        base = subject.base.sha256
        if base not in self._shared:
            if not self.is_small:
                self._shared.clear()  # two may not fit into memory
            self._shared[base] = SharedBase(subject.base, self._hardware)
        return Studio(subject, self._hardware, self._shared[base])


def _who(subject: Subject) -> str:
    """Return what decides all that a subject paints: its weights, and its LCM schedule."""
    return f"{subject.sha256} {subject.lcm_config}"


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
