"""Look at samples of two folders of training shards, and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lcm_lora.data.shards import ShardSample
from lcm_lora.drift.comparison import Seen, compare
from lcm_lora.drift.draw import draw
from lcm_lora.drift.record import DriftRecord
from lcm_lora.errors import UserError
from lcm_lora.evaluation.kernel import FEWEST
from lcm_lora.params.drift import Drift
from lcm_lora.progress import progress
from lcm_lora.seeing.looking import look
from lcm_lora.seeing.network_files import Networks
from lcm_lora.seeing.viewers import Viewers


def check(
    before: Path, now: Path, params: Drift, level: float, networks: Networks, device: torch.device
) -> DriftRecord:
    """Compare samples of the shards in `now` with those in `before`.

    Args:
        before: Shards that the champion was trained on.
        now: New ones, of the same resolution.
        params: How many samples, and the margins.
        level: Of all intervals at once.
        networks: What looks.
        device: Of torch.

    Raises:
        UserError: A folder holds no shards or too few samples, or a network is wrong.
    """
    sets = [draw(folder, params.pictures, params.seed) for folder in (before, now)]
    for folder, samples in zip((before, now), sets, strict=True):
        if len(samples) < FEWEST:
            raise UserError(f"{folder}: {len(samples)} samples; a comparison needs {FEWEST}")
    viewers = Viewers(networks, device)
    old, new = (_seen(samples, networks, viewers) for samples in sets)
    return DriftRecord(
        before=len(sets[0]),
        now=len(sets[1]),
        level=level,
        quantities=compare(old, new, params, level),
    )


def _seen(samples: Sequence[ShardSample], networks: Networks, viewers: Viewers) -> Seen:
    captions = tuple(sample.caption for sample in samples)
    eyes = {name: viewers.features(name) for name in networks.features}
    with progress("drift", len(samples), "pictures") as advance:
        pictures = (sample.picture for sample in samples)
        rows = look(pictures, {**eyes, "": viewers.clip(captions)}, viewers.device, 0, advance)
    fit = rows.pop("")
    return Seen(pictures=rows, captions=viewers.words(captions).numpy(), fit=fit)
