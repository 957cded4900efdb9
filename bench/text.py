"""What embedding captions on the fly costs, as a share of a training step's arithmetic.

Counted, not timed, on networks of the published configurations without weights.
"""

from __future__ import annotations

from lcm_lora.estimate import work
from lcm_lora.families.family import FAMILIES, FamilyName

CASES: tuple[tuple[FamilyName, int, int, int], ...] = (
    ("sd1", 512, 768, 0),
    ("sdxl", 1024, 2048, 1280),
)
"""Family, pixels of a side, and widths of a token's and of a pooled embedding."""


def main() -> None:
    """Print both shares, and what storing embeddings would take instead."""
    for name, pixels, width, pooled in CASES:
        family = FAMILIES[name]
        each = work(family.configs, pixels)
        step = each.of_training(is_checkpointed=False)
        stored = 2 * (77 * width + pooled)
        print(
            f"{family.title}, {pixels:,} px: text {each.texts / 1e9:.0f} GFLOP of a step's "
            f"{step / 1e9:.0f}: {100 * each.texts / step:.2f} %; stored in half precision it would "
            f"be {stored * 1e6 / 1e9:.0f} GB a million captions"
        )


if __name__ == "__main__":
    main()
