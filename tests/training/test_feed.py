"""What is made ahead comes in order, its errors too, and its thread ends."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lcm_lora.consistency.step import Draws
from lcm_lora.training.feed import Batch, feed

CPU = torch.device("cpu")


def batch(places: range) -> Batch:
    if 7 in places:
        raise ValueError("sample 7")
    return Batch(torch.tensor(places), {}, Draws(*[torch.zeros(())] * 3))


def places(count: int) -> Iterator[range]:
    return (range(2 * n, 2 * n + 2) for n in range(count))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("feed")]


def taken(batches: Iterator[Batch], count: int) -> list[Tensor]:
    return [next(batches).x0 for _ in range(count)]


def test_batches_come_in_order_and_errors_in_their_place() -> None:
    with feed(batch, places(10**9), CPU) as batches:
        assert torch.cat(taken(batches, 3)).tolist() == [0, 1, 2, 3, 4, 5]
        assert threads()
        with pytest.raises(ValueError, match="sample 7"):
            next(batches)
    assert not threads()


def test_the_thread_ends_with_the_block_however_that_ends() -> None:
    def killed() -> None:
        with feed(batch, places(3), CPU) as batches:
            taken(batches, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert not threads()
