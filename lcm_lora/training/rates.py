"""The learning rate as a pure function of the step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.optimization import get_scheduler

from lcm_lora.params.distill import Distill

_NAMES = {"constant": "constant_with_warmup"}
"""Schedules that diffusers knows by another name."""


def learning_rates(params: Distill) -> Callable[[int], float]:
    """Return the learning rate by step, 1, 2, ..., `params.steps`.

    It rises to `params.learning_rate` at the last step of the warm-up; a decay ends one step after
    the last, so that none is wasted at zero.
    """
    nothing = torch.optim.SGD([torch.zeros(())], lr=1.0)
    schedule = get_scheduler(
        _NAMES.get(params.schedule, params.schedule),
        nothing,
        num_warmup_steps=params.warm_up,
        num_training_steps=params.steps + 1,
    )
    (share,) = schedule.lr_lambdas
    return lambda step: params.learning_rate * float(share(step))
