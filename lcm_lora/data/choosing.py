"""Choose the first samples of a split, and make sets of real pictures of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from lcm_lora.code import code_sha256, versions
from lcm_lora.data.picture_sets import PictureSet
from lcm_lora.data.pictures import crop, encoded
from lcm_lora.data.shards import write_tar
from lcm_lora.data.sources import Rejection, content_sha256, judge
from lcm_lora.data.unit_shards import Kept, Made
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.pieces import Pieces, key_of
from lcm_lora.records import write_record


class Chosen:
    """The first samples of a split, up to as many as are wanted, and the units they are in."""

    def __init__(self, wanted: int) -> None:
        """Start without any."""
        self.wanted = wanted
        self.samples: list[Kept] = []
        self._units: list[tuple[Made, set[str]]] = []

    @property
    def is_full(self) -> bool:
        """Whether there are as many as are wanted."""
        return len(self.samples) == self.wanted

    def offer(self, made: Made, samples: Sequence[Kept]) -> None:
        """Take of a unit's samples what is still wanted."""
        taken = samples[: self.wanted - len(self.samples)]
        if taken:
            self.samples.extend(taken)
            self._units.append((made, {sample.name for sample in taken}))

    def contents(self, resolution: int) -> Iterator[bytes]:
        """Read the samples again from the source, and yield them cropped, as PNG, in order.

        Raises:
            UserError: The source is not what it was.
        """
        wanted = iter(self.samples)
        sample = next(wanted, None)
        for made, names in self._units:
            for raw in made.read(names.__contains__):
                if sample is None or content_sha256(raw) != sample.sha256:
                    continue
                found = judge(raw)
                if isinstance(found, Rejection) or found.caption != sample.caption:
                    continue
                yield encoded(crop(found.picture, resolution).picture, None)
                sample = next(wanted, None)
        if sample is not None:
            raise UserError(f"{sample.name}: vanished while it was read; run again")


def make_sets(names: tuple[str, ...], chosen: Chosen, resolution: int, pieces: Pieces) -> str:
    """Share the chosen samples equally among sets of these names, in one piece; return its key."""
    identity = [(sample.sha256, sample.caption) for sample in chosen.samples]
    key = key_of(
        samples=identity,
        names=names,
        resolution=resolution,
        code=code_sha256(__name__),
        versions=versions(),
    )
    if pieces.find(key):
        return key
    share = len(chosen.samples) // len(names)
    contents = chosen.contents(resolution)
    with pieces.make(key) as made:
        for number, name in enumerate(names):
            pngs = itertools.islice(contents, share)
            write_tar(made / f"{name}.tar", ((f"{i:08d}.png", png) for i, png in enumerate(pngs)))
            part = chosen.samples[number * share : (number + 1) * share]
            record = PictureSet(
                resolution=resolution,
                captions=tuple(sample.caption for sample in part),
                sources=tuple(sample.sha256 for sample in part),
                tar_sha256=sha256(made / f"{name}.tar"),
            )
            write_record(made / f"{name}.json", record)
    return key
