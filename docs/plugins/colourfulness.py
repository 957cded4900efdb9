"""How colourful pictures are: a metric that needs nothing but Pillow, as an example of a plug-in.

Hasler and Suesstrunk, "Measuring colourfulness in natural images", 2003: of rg = R - G and
yb = (R + G) / 2 - B, the root of the summed variances plus 0.3 times the root of the summed squares
of the means.

    python -m venv .colourfulness && .colourfulness/bin/pip install pillow

    score:
      plugins:
        colourfulness:
          command: [.colourfulness/bin/python, docs/plugins/colourfulness.py]
"""

import json
import math
import sys
from pathlib import Path

from PIL import Image


def colourfulness(picture: Image.Image) -> float:
    """Return the colourfulness of an RGB picture: 0 of grey, about 100 of a very colourful one."""
    content = picture.convert("RGB").tobytes()
    pixels = list(zip(content[0::3], content[1::3], content[2::3], strict=True))
    rg_mean, rg_variance = moments([r - g for r, g, b in pixels])
    yb_mean, yb_variance = moments([(r + g) / 2 - b for r, g, b in pixels])
    return math.sqrt(rg_variance + yb_variance) + 0.3 * math.hypot(rg_mean, yb_mean)


def moments(values: list[float]) -> tuple[float, float]:
    """Return mean and variance."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / len(values)


def main() -> None:
    """Measure the pictures of a folder, and write one value each."""
    folder, metrics = Path(sys.argv[1]), Path(sys.argv[2])
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    files = [json.loads(line)["file"] for line in lines]
    values = [colourfulness(Image.open(folder / file)) for file in files]
    metrics.write_text(json.dumps({"values": values}))


if __name__ == "__main__":
    main()
