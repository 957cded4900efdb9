"""Scenes of the shapes world as training shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from lcm_lora.data.pictures import encoded
from lcm_lora.data.shard import INDEX, ShardIndex
from lcm_lora.data.shards import SampleRecord, ShardSample, write_shard
from lcm_lora.records import write_record
from lcm_lora.shapes.scenes import draw_scenes, render

Save = Callable[[str, Iterable[ShardSample]], Path]


def save(folder: Path, samples: Iterable[ShardSample]) -> Path:
    """Write samples as shards of 40, named by their content as `prepare` does, and their index."""
    folder.mkdir(parents=True)
    rest, shards = iter(samples), []
    while written := write_shard(folder, len(shards), rest, 40):
        name = f"{written.shard.sha256[:24]}.tar"
        (folder / written.shard.file).rename(folder / name)
        shards.append(written.shard.model_copy(update={"file": name}))
    count = sum(shard.samples for shard in shards)
    write_record(folder / INDEX, ShardIndex(resolution=32, samples=count, shards=tuple(shards)))
    return folder


def scenes(first: int, count: int, word: str = "") -> list[ShardSample]:
    """Return the next scenes whose caption has a word."""
    found = draw_scenes(3, range(first, first + 40 * count))
    chosen = [scene for scene in found if word in scene.caption][:count]
    record = SampleRecord(original_size=(32, 32), crop_top_left=(0, 0), sha256="", source="")
    return [
        ShardSample(f"{i:06d}", encoded(Image.fromarray(picture), None), scene.caption, record)
        for i, (scene, picture) in enumerate(zip(chosen, render(chosen, 32), strict=True))
    ]
