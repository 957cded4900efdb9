"""Study what `make run` left: the adapter beside a style, in parts, and at lower ranks.

Figures and tables go to `docs/arithmetic`, what is painted to `.checkpoints/arithmetic`, so that a
study that was broken off goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.arithmetic import figures, variants
from bench.arithmetic.apart import apart
from bench.arithmetic.closeness import Closeness, Spectrum, average, closeness, spectra
from bench.arithmetic.interference import interference, noisy
from bench.arithmetic.painted import Outcome, Place, measure, outcomes, paint_all
from bench.arithmetic.sheet import sheet
from lcm_lora import layout
from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.combining.arithmetic import cosine_of_all
from lcm_lora.combining.compress import losses, overall
from lcm_lora.combining.delta import Lora
from lcm_lora.combining.read import read_lora
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import read_base
from lcm_lora.painting.sets import read_theme
from lcm_lora.painting.studio import SharedBase
from lcm_lora.painting.subject import Weighted, with_adapter
from lcm_lora.params.generate import Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score
from lcm_lora.report.tidy import csv_of
from lcm_lora.seeing.image_sets import real_set
from lcm_lora.shapes import places

_OUT = Path(__file__).parents[2] / "docs" / "arithmetic"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    style: Path
    prompts: int
    latents: int
    """Real pictures on which interference is measured."""
    out: Path


def main() -> None:
    """Study the project that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench.arithmetic", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path(), help="where `make run` ran")
    parser.add_argument("--style", type=Path, default=places.INK, help="a style LoRA")
    parser.add_argument("--prompts", type=int, default=160, help="captions that are painted")
    parser.add_argument("--latents", type=int, default=32, help="real pictures for interference")
    parser.add_argument("--out", type=Path, default=_OUT, help="folder of figures and tables")
    given = parser.parse_args()
    asked = Asked(given.style.resolve(), given.prompts, given.latents, given.out.resolve())
    os.chdir(given.project)
    try:
        study(asked)
    except UserError as error:
        sys.exit(str(error))


def study(asked: Asked) -> None:
    """Answer all questions about the adapter in the working folder."""
    asked.out.mkdir(parents=True, exist_ok=True)
    adapter = read_lora(layout.ADAPTER / WEIGHTS)
    with Hashes(layout.HASHES) as hashes:
        base = read_base(layout.INVENTORY / "base.json", hashes)
        generate = load_section(layout.PARAMS, Generate)
        place = Place(
            subject=with_adapter(base, layout.ADAPTER),
            theme=read_theme(generate, layout.EVALUATION, asked.prompts),
            hardware=load_section(layout.PARAMS, Hardware),
            score=load_section(layout.PARAMS, Score),
            folder=layout.CHECKPOINTS / "arithmetic",
            hashes=hashes,
        )
        weigh(adapter, read_lora(asked.style), asked.out)
        meet(place, asked)
        paint(place, adapter, asked.out)


def weigh(adapter: Lora, style: Lora, out: Path) -> None:
    """Say how adapter and style lie to each other, and what the adapter's singular values are."""
    near, own = closeness(adapter, style), spectra(adapter)
    print(f"cosine of the whole adapters: {cosine_of_all(adapter, style):.4f}")
    for name in ("cosine", "columns", "rows", "first_columns", "first_rows"):
        found = [getattr(each, name) for each in near]
        mean, inside = average(found), sum(each.is_by_chance for each in found)
        print(
            f"{name} in {len(near)} modules: {mean.value:.4f} on average, by chance"
            f" {mean.chance.mean:.4f} +- {mean.chance.deviation:.4f}; as by chance in {inside}"
        )
    _write(out / "closeness.csv", [_flat(each) for each in near])
    _write(out / "singular-values.csv", [_spelt(each) for each in own])
    (out / "closeness.svg").write_text(figures.closeness(near))
    (out / "energy.svg").write_text(figures.energy(adapter))


def _spelt(spectrum: Spectrum) -> dict[str, Any]:
    """Return what is known of a module's singular values as one line."""
    return asdict(spectrum) | {"values": " ".join(f"{value:.3g}" for value in spectrum.values)}


def _flat(near: Closeness) -> dict[str, Any]:
    """Return what is known of a module as one line, chance beside each number."""
    line = {}
    for name, value in asdict(near).items():
        if isinstance(value, dict):
            line |= {name: value["value"], f"{name}_chance": value["chance"]["mean"]}
            line[f"{name}_deviation"] = value["chance"]["deviation"]
        else:
            line[name] = value
    return line


def meet(place: Place, asked: Asked) -> None:
    """Say how far adapter and style together do something else than each alone."""
    shared = SharedBase(place.subject.base, place.hardware)
    real = real_set(layout.EVALUATION, "real").first(asked.latents)
    given = noisy(shared.loaded, real, place.subject.lcm_config, place.theme.seed)
    style = Weighted(asked.style, sha256(asked.style))
    meetings = interference(shared, place.subject, style, given, place.score.level)
    _write(asked.out / "interference.csv", [asdict(each) for each in meetings])
    (asked.out / "interference.svg").write_text(figures.interference(meetings))


def paint(place: Place, adapter: Lora, out: Path) -> None:
    """Say what the adapter paints without groups of its modules, with them alone, at low ranks."""
    parts, ranks = variants.ablations(adapter), variants.lower_ranks(adapter)
    lower = {variants.ranked(rank): lora for rank, lora in ranks.items()}
    paint_all(place, {variants.WHOLE: adapter, variants.NOTHING: {}} | parts | lower)
    found = compared(
        place,
        {"whole": (variants.WHOLE, variants.NOTHING), "parts": tuple(parts), "rank": tuple(lower)},
    )
    errors = {rank: overall(losses(adapter, lora)) for rank, lora in ranks.items()}
    _write(out / "painted.csv", [asdict(each) for each in found])
    _write(out / "ranks.csv", [{"rank": r, "error": e} for r, e in errors.items()])
    (out / "parts.svg").write_text(figures.parts(found, adapter))
    (out / "ranks.svg").write_text(figures.ranks(found, errors, spectra(adapter)))
    sheet(place, out / "pictures.png")


def compared(place: Place, questions: dict[str, tuple[str, ...]]) -> list[Outcome]:
    """Return how the variants of each question differ from the whole adapter, by every metric."""
    measured = measure(place, [name for names in questions.values() for name in names])
    found: list[Outcome] = []
    for question, names in questions.items():
        found += apart(question, variants.WHOLE, variants.NOTHING, names, place)
        found += outcomes(question, variants.WHOLE, names, measured, place.score)
    return found


def _write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Write lines as CSV, numbers to six digits."""
    rounded = [
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines
    ]
    path.write_text(csv_of(list(lines[0]), rounded))


if __name__ == "__main__":
    main()
