"""What processes do in the tests of several: in a module that a new process imports quickly."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lcm_lora.errors import UserError
from lcm_lora.training.ranks import Ranks


def complain(ranks: Ranks) -> None:
    """Complain as process 1; all others would go on for long."""
    if ranks.number == 1:
        raise UserError(f"mend it, with {torch.get_num_threads()} threads")
    time.sleep(600)


def exhaust(ranks: Ranks) -> None:
    """Ask for more memory than there is, as process 1; all others would go on for long."""
    if ranks.number == 1:
        torch.empty(10**16)
    time.sleep(600)


def work_and_note(ranks: Ranks, job: Any, folder: Path) -> None:
    """Distil, and note for which places which samples are taken and what is drawn."""
    from lcm_lora.training import loop
    from lcm_lora.training.distill import work

    draw, order = loop.draw, loop.order

    def noting(seed: int, places: Sequence[int], *more: Any) -> Any:
        drawn = draw(seed, places, *more)
        with (folder / f"{ranks.number}.jsonl").open("a") as file:
            for row, place in enumerate(places):
                (sample,) = order(samples, seed, place, 1)
                noise = drawn.step.noise[row].sum().item()
                file.write(json.dumps([place, sample, drawn.step.index[row].item(), noise]) + "\n")
        return drawn

    def counting(count: int, *more: Any) -> list[int]:
        nonlocal samples
        samples = count
        return order(count, *more)

    samples = 0
    loop.draw, loop.order = noting, counting  # type: ignore[assignment]
    try:
        work(ranks, job)
    finally:
        loop.draw, loop.order = draw, order


def notes(folder: Path) -> list[list[Any]]:
    """Return what all processes noted, by place."""
    return sorted(json.loads(line) for file in folder.glob("*.jsonl") for line in file.open())
