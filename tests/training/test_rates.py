"""The learning rate is a function of the step."""

import pytest
from running import params

from lcm_lora.training.rates import learning_rates


def rates(schedule: str, warm_up: int) -> list[float]:
    wanted = params(schedule=schedule, warm_up=warm_up, steps=20, learning_rate=0.5)
    rate = learning_rates(wanted)
    return [rate(step) for step in range(1, 21)]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_a_rate_rises_to_its_peak_at_the_last_step_of_the_warm_up(schedule: str) -> None:
    assert rates(schedule, 4)[:4] == [0.125, 0.25, 0.375, 0.5]
    assert max(rates(schedule, 4)) == 0.5
    assert rates(schedule, 40)[-1] == 0.25  # a short try of a long warm-up


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("warm_up", [0, 4])
def test_a_decay_falls_at_every_step_and_wastes_none(schedule: str, warm_up: int) -> None:
    falling = rates(schedule, warm_up)[warm_up:]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == len(falling)
    assert 0 < falling[-1] < 0.05


def test_a_constant_rate_stays() -> None:
    assert set(rates("constant", 4)[3:]) == {0.5}
    assert set(rates("constant", 0)) == {0.5}
