"""What was combined, on a terminal of 80 columns: what went in, what was lost, what came out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lcm_lora.combining.combine import Combined
from lcm_lora.combining.compress import Loss, overall
from lcm_lora.combining.delta import Factor, Lora

_EXACT = 1e-12
"""An error below it is of the fp64 in which errors are computed."""
_ROUNDED = 3e-7
"""An error below it is of an alpha or of factors that are rounded to fp32."""
_WORST = 5
"""How many modules are named, unless all are asked for."""


def tell(made: Combined, out: Path, all_modules: bool) -> None:
    """Print what was combined; of modules the worst, or all."""
    console = Console(highlight=False)
    console.print(_went_in(made))
    console.print()
    _print_losses(console, made.losses, all_modules)
    size = sum(f.stat().st_size for f in ([out] if out.is_file() else out.rglob("*.safetensors")))
    rank = _ranks(made.lora.values())
    console.print(Text(f"{out}: rank {rank}, modules {_modules(made.lora)}, {size / 1e6:,.1f} MB"))


def _went_in(made: Combined) -> Table:
    sheet = _sheet("weight", "rank", "alpha", "modules")
    sheet.add_column("adapter", overflow="fold")
    for part in made.parts:
        factors = part.lora.values()
        sheet.add_row(
            f"{part.weight:g}",
            _ranks(factors),
            _span({factor.alpha for factor in factors}),
            _modules(part.lora),
            Text(part.path.name),
        )
    return sheet


def _print_losses(console: Console, losses: list[Loss], all_modules: bool) -> None:
    total = overall(losses)
    if total < _EXACT and not all_modules:
        console.print("exact: nothing of the sum is lost in any module")
        return
    if total < _ROUNDED and not all_modules:
        console.print(f"error {total:.2g} of the sum, as fp32 rounds")
        return
    console.print(f"error {total:.2g} of the sum, in the Frobenius norm; by module:")
    found = losses if all_modules else sorted(losses, key=lambda loss: -loss.relative)[:_WORST]
    sheet = _sheet("error")
    sheet.add_column("module", overflow="fold")
    for loss in found:
        sheet.add_row(f"{loss.relative:.2g}", str(loss.module))
    if more := len(losses) - len(found):
        sheet.add_row("", f"{more} more below these; --layers names all")
    console.print(sheet)
    console.print()


def _sheet(*numbers: str) -> Table:
    sheet = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in numbers:
        sheet.add_column(name, justify="right", no_wrap=True)
    return sheet


def _modules(lora: Lora) -> str:
    in_unet = sum(module.component == "unet" for module in lora)
    in_texts = len(lora) - in_unet
    return f"{in_unet} + {in_texts} of texts" if in_texts else f"{in_unet}"


def _ranks(factors: Iterable[Factor]) -> str:
    return _span({factor.rank for factor in factors})


def _span(values: Collection[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"
