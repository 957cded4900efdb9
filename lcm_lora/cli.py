"""The command line: one subcommand a stage, and a few for people.

Stage commands read params.yaml in the working folder and the places of `lcm_lora.layout`. Whatever
a user can mend ends in one line on stderr and exit code 1.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from lcm_lora import layout
from lcm_lora.errors import UserError, explained, is_out_of_memory, one_of

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil a Stable Diffusion into a few-step LCM-LoRA, and measure what came out.",
)

STAGE, PEOPLE = "Stages (run by `dvc repro` and the retrain flow)", "For people"
_P = ParamSpec("_P")
_SELDOM = (50_000, 20, 100)
"""When garbage is collected: four thousand modules load first, among which there is none."""


def command(panel: str) -> Callable[[Callable[_P, None]], Callable[_P, None]]:
    """Register a subcommand that ends in one line where the user can mend what went wrong."""

    def register(body: Callable[_P, None]) -> Callable[_P, None]:
        @functools.wraps(body)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
            _quiet()
            gc.set_threshold(*_SELDOM)
            try:
                with _ended_by_sigterm() if panel == STAGE else contextlib.nullcontext():
                    body(*args, **kwargs)
            except UserError as error:
                _fail(str(error))
            except OSError as error:
                _fail(explained(error))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                _fail(_OUT_OF_MEMORY)

        return app.command(rich_help_panel=panel)(run)

    return register


@command(STAGE)
def inventory() -> None:
    """Look at sources, base and networks, and say what is new; first of all, in seconds."""
    from lcm_lora.stages import inventory

    inventory.run()


@command(STAGE)
def prepare() -> None:
    """Source pictures to training shards, evaluation set and selection set."""
    from lcm_lora.stages import prepare

    prepare.run()


@command(STAGE)
def encode(
    share: Annotated[
        str | None,
        typer.Option(help="As 2/4: make only this share, for the machine that encodes all."),
    ] = None,
) -> None:
    """Training shards to latent moments."""
    from lcm_lora.stages import encode

    encode.run(share)


@command(STAGE)
def distill() -> None:
    """Cached latents to a LoRA adapter; run it again after a kill and it goes on."""
    from lcm_lora.stages import distill

    distill.run()


@command(STAGE)
def select() -> None:
    """The best of the candidates that a training left."""
    from lcm_lora.stages import select

    select.run()


@command(STAGE)
def generate(
    name: Annotated[str, typer.Argument(help="adapter, champion, or a painter of generate")],
) -> None:
    """Image sets of one painter, for the captions of the evaluation set."""
    from lcm_lora.stages import generate

    generate.run(name)


@command(STAGE)
def features(name: Annotated[str, typer.Argument(help="a painter, or `real`")]) -> None:
    """Feature vectors and per-picture scores of image sets, painted or real."""
    from lcm_lora.stages import features

    features.run(name)


@command(STAGE)
def score() -> None:
    """Features to one tidy table, with standard errors and paired differences."""
    from lcm_lora.stages import score

    score.run()


@command(STAGE)
def decide() -> None:
    """Scores and the gate's rules to a decision about the champion, rule by rule."""
    from lcm_lora.stages import decide

    decide.run()


@command(STAGE)
def smoke() -> None:
    """Pictures that a version must paint again, through the registry, to become champion."""
    from lcm_lora.stages import smoke

    smoke.run()


@command(STAGE)
def latency() -> None:
    """How long pictures take on this device, step count by step count."""
    from lcm_lora.stages import latency

    latency.run()


@command(STAGE)
def report() -> None:
    """Figures, grids, the page and the model card."""
    from lcm_lora.stages import report

    report.run()


@command(STAGE)
def transfer(
    subject: Annotated[str, typer.Argument(help="one of transfer.subjects")],
) -> None:
    """Image sets of all who paint in a subject of the transfer evaluation."""
    from lcm_lora.stages import transfer

    transfer.run(subject)


@command(STAGE)
def transfer_features(
    subject: Annotated[str, typer.Argument(help="one of transfer.subjects")],
) -> None:
    """Feature vectors and per-picture scores of all image sets of a subject."""
    from lcm_lora.stages import transfer_features

    transfer_features.run(subject)


@command(STAGE)
def transfer_score(
    subject: Annotated[str, typer.Argument(help="one of transfer.subjects")],
) -> None:
    """Features of a subject to its table, against its own pictures in many steps."""
    from lcm_lora.stages import transfer_score

    transfer_score.run(subject)


@command(STAGE)
def transfer_report() -> None:
    """The page of the transfer evaluation."""
    from lcm_lora.stages import transfer_report

    transfer_report.run()


@command(PEOPLE)
def drift(
    before: Annotated[Path, typer.Argument(help="training shards of before")],
    now: Annotated[Path, typer.Argument(help="new training shards")],
    out: Annotated[Path, typer.Option(help="record to write")] = layout.DRIFT,
) -> None:
    """Compare new training data with those of before: pictures, captions, and their fit."""
    from lcm_lora.stages import drift

    drift.run(before, now, out)


@command(PEOPLE)
def doctor() -> None:
    """Say whether a run can end well here, and what it takes, before anything heavy."""
    from lcm_lora.doctor import examine
    from lcm_lora.hashes import Hashes
    from lcm_lora.inventory.look import Look

    is_well = True
    with Hashes(layout.HASHES) as hashes:
        for finding in examine(layout.PARAMS, hashes, Look.read(layout.INVENTORY)):
            _print_finding(finding.about, finding.says, finding.is_well)
            is_well &= finding.is_well
    if not is_well:
        raise UserError("a run would fail; mend what is marked above")
    typer.echo("a run can start")


@command(PEOPLE)
def scores(
    all: Annotated[bool, typer.Option("--all", help="Every number, a line each.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Every number, as CSV.")] = False,
) -> None:
    """Print how the adapter stands against the champion, and the decision."""
    from lcm_lora import terminal

    terminal.run(all, csv)


@command(PEOPLE)
def image(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    steps: Annotated[str, typer.Option(help="Numbers of steps, such as 1,2,4,8.")] = "4",
    subjects: Annotated[
        str, typer.Option(help="Painters, such as adapter,champion,teacher; any of `generate`.")
    ] = "adapter",
    guidance: Annotated[
        float | None, typer.Option(help="Of all but the teacher; each has its own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise that all start from.")] = 0,
    adapter: Annotated[Path, typer.Option(help="Folder of an adapter.")] = layout.ADAPTER,
    weight: Annotated[float, typer.Option(help="Of the adapter and the champion.")] = 1.0,
    style: Annotated[
        list[str] | None,
        typer.Option(help="LoRA that all wear, as FILE:0.8; again for several."),
    ] = None,
    negative: Annotated[
        str | None, typer.Option(help="What not to show; acts above guidance 1 alone.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Picture to paint over.")] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How far from the picture, 0 to 1; takes this share of the steps."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="White where the picture is painted over.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("image.png"),
) -> None:
    """Paint a prompt: one picture, or several side by side from the same noise."""
    from lcm_lora.showing.image import write_image
    from lcm_lora.showing.options import Options

    of_whom = (_words_in(subjects), _numbers_in("--steps", steps), guidance, seed)
    worn = (weight, tuple(style or ()), negative)
    options = Options(prompt, *of_whom, *worn, picture, strength, mask)
    lines = write_image(options, adapter, out)
    typer.echo("\n".join([f"{out}: {prompt}", *lines]))


@command(PEOPLE)
def combine(
    out: Annotated[Path, typer.Argument(help="Safetensors file to write; of peft a folder.")],
    adapters: Annotated[
        list[str], typer.Argument(metavar="FILE[:WEIGHT]...", help="LoRAs of any format.")
    ],
    rank: Annotated[
        int | None, typer.Option(help="Compress to a rank; the sum is exact otherwise.")
    ] = None,
    format: Annotated[str, typer.Option(help="kohya, diffusers or peft.")] = "kohya",
    dtype: Annotated[
        str | None, typer.Option(help="fp16, bf16 or fp32; the widest that went in otherwise.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="The error of every module.")] = False,
) -> None:
    """Add LoRAs up by weights, such as a style and an acceleration; or convert one."""
    from lcm_lora.combining.combine import DTYPES, Wanted
    from lcm_lora.combining.combine import combine as combined
    from lcm_lora.combining.named import weighted_file
    from lcm_lora.combining.told import tell
    from lcm_lora.combining.write import FORMATS

    wanted = Wanted(one_of(format, FORMATS), rank, one_of(dtype, DTYPES) if dtype else None)
    made = combined([weighted_file(text) for text in adapters], out, wanted)
    tell(made, out, layers)


@command(PEOPLE)
def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any that is free.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Where to listen; anybody who reaches it can paint.")
    ] = "127.0.0.1",
    open: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    style: Annotated[
        list[str] | None,
        typer.Option(help="LoRA that the page offers, as NAME=FILE; again for several."),
    ] = None,
) -> None:
    """Serve a page where one types a prompt and sees who paints what, until Ctrl-C."""
    from lcm_lora.demo.serve import serve

    serve(host, port, open, tuple(style or ()))


@command(PEOPLE)
def params(
    preset: Annotated[str, typer.Argument(help="shapes, sd15, ssd1b or sdxl")],
) -> None:
    """Print the params.yaml of a preset."""
    presets = {path.stem: path for path in (Path(__file__).parent / "presets").glob("*.yaml")}
    typer.echo(presets[one_of(preset, presets)].read_text(), nl=False)


@command(PEOPLE)
def shapes_teacher(
    out: Annotated[
        Path, typer.Argument(help="Folder to write; the shipped one is in the package.")
    ],
    effort: Annotated[float, typer.Option(help="Share of the full training steps.")] = 1.0,
) -> None:
    """Train the shapes world's Stable Diffusion, CLIP and judge as the package ships them."""
    from lcm_lora.shapes.teacher import make_weights

    make_weights(out, effort)


@command(PEOPLE)
def shapes_looks(
    out: Annotated[
        Path, typer.Argument(help="Folder to write; the shipped one is in the package.")
    ],
    effort: Annotated[float, typer.Option(help="Share of the full training steps.")] = 1.0,
) -> None:
    """Train the shapes world's style, fine-tune and judge of looks as the package ships them."""
    from lcm_lora.shapes.teacher import make_looks

    make_looks(out, effort)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C, so that nothing half made stays; not in processes forked off."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != process:
            os.kill(os.getpid(), number)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _words_in(text: str) -> tuple[str, ...]:
    """Return the words of a list with commas."""
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def _numbers_in(option: str, text: str) -> tuple[int, ...]:
    """Return the numbers of a list with commas.

    Raises:
        UserError: It is none.
    """
    words = _words_in(text)
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise UserError(f"{option} {text}: no list of numbers; write them as 1,2,4,8")
    return tuple(int(word) for word in words)


def _quiet() -> None:
    """Keep libraries from filling a log with what no user can act on."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", module=r"(?!lcm_lora)")


_OUT_OF_MEMORY = (
    "the device is too small: lower the stage's batch or raise distill.accumulation, set "
    "distill.gradient_checkpointing, or lower hardware.precision; `lcm-lora doctor` counts"
)


def _print_finding(about: str, says: str, is_well: bool) -> None:
    """Print a finding as a marked line, wrapped beside its name."""
    from rich.console import Console
    from rich.table import Table

    row = Table.grid(padding=(0, 1))
    row.add_column(width=2)
    row.add_column(width=11)
    row.add_column(ratio=1)
    row.add_row("ok" if is_well else "no", about, says, style=None if is_well else "bold red")
    Console(highlight=False).print(row, markup=False)


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(1)
