"""Processes share each step's batch, all of it, and no device gets more than it has memory for."""

import itertools
import math

import pytest
from making import CPU
from running import params

from lcm_lora.training.ranks import Ranks, share
from lcm_lora.training.sharing import cuts, micro_batch, processes


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("length", [8, 24])
def test_shares_are_equal_and_make_up_the_whole(length: int, count: int) -> None:
    whole = range(5, 5 + length)
    parts = [share(whole, count, number) for number in range(count)]
    assert list(itertools.chain(*parts)) == list(whole)
    assert {len(part) for part in parts} <= {length // count, length // count + 1}


@pytest.mark.parametrize("batch", [1, 2, 5, 12, 24, 30])
def test_cuts_make_up_the_batch_and_none_is_larger_than_the_largest(batch: int) -> None:
    for accumulation in (n for n in range(1, batch + 1) if batch % n == 0):
        wanted = params(batch=batch, accumulation=accumulation)
        for count in range(1, batch + 1):
            every = [cuts(wanted, Ranks(number, count)) for number in range(count)]
            assert list(itertools.chain(*itertools.chain(*every))) == list(range(batch))
            largest = max(len(cut) for cut in itertools.chain(*every))
            assert largest == micro_batch(wanted, count)
            assert math.ceil(batch / accumulation / count) <= largest <= batch // accumulation
            assert all(len(one) <= math.ceil(accumulation / count) for one in every)


def test_on_a_cpu_one_process_works_unless_more_are_asked_for() -> None:
    assert processes(params(), CPU) == 1
    assert processes(params(processes=3), CPU) == 3
