"""What one per cent of new pictures costs: pictures decoded and encoded, as counts.

Ten thousand scenes as pictures with captions, once in a folder whose names lie in no order, once in
a hundred tars; then a hundred more. Counted where the work is done: at the decoder, and at the
autoencoder of the shapes base.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from bench.project import Project
from lcm_lora.data import encode, unit_shards
from lcm_lora.shapes.scenes import draw_scenes, render

FIRST, MORE = 10_000, 100
PIXELS = 16


def main() -> None:
    """Print a line for each kind of source."""
    counts = {"decoded": 0, "encoded": 0}
    judge, encoder = unit_shards.judge, encode._encoded

    def judged(raw: Any) -> Any:
        counts["decoded"] += 1
        return judge(raw)

    def encoded(autoencoder: Any, samples: Any, batch: int) -> Any:
        counts["encoded"] += len(samples)
        return encoder(autoencoder, samples, batch)

    unit_shards.judge, encode._encoded = judged, encoded
    for kind, put in (("folder", put_files), ("webdataset", put_tars)):
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder), kind, PIXELS)
            for what, indices in (("first run", (0, FIRST)), ("1 % more", (FIRST, FIRST + MORE))):
                put(project.source, range(*indices))
                counts.update(decoded=0, encoded=0)
                project.prepare()
                project.encode()
                print(f"{kind}: {what}: {counts}", flush=True)


def pictures(indices: range) -> Iterator[tuple[int, bytes, str]]:
    """Yield number, PNG and caption of scenes."""
    scenes = draw_scenes(1, indices)
    for i, scene, picture in zip(indices, scenes, render(scenes, PIXELS), strict=True):
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "PNG", compress_level=1)
        yield i, content.getvalue(), scene.caption


def put_files(source: Path, indices: range) -> None:
    """Write pictures and captions under names that lie in no order."""
    for i, content, caption in pictures(indices):
        name = f"{i * 7_919_317 % 10_000_019:08d}"
        (source / f"{name}.png").write_bytes(content)
        (source / f"{name}.txt").write_text(caption)


def put_tars(source: Path, indices: range) -> None:
    """Write pictures and captions as tars of a hundred."""
    for first in range(indices.start, indices.stop, 100):
        with tarfile.open(source / f"{first:08d}.tar", "w") as tar:
            for i, content, caption in pictures(range(first, first + 100)):
                for name, data in ((f"{i:08d}.png", content), (f"{i:08d}.txt", caption.encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    main()
