"""The command: see `infra.local`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from infra.local import stack
from infra.local.workers import NAMES
from lcm_lora.errors import UserError, explained

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The team's stack as plain processes of this machine.",
)

Folder = Annotated[Path, typer.Option(help="Where the stack keeps all that it has.")]
_FOLDER = Path(".stack")


@app.command()
def up(
    folder: Folder = _FOLDER,
    project: Annotated[Path, typer.Option(help="The clone that workers work in.")] = Path(),
    workers: Annotated[
        bool, typer.Option("--workers", help="Start workers though nothing is deployed yet.")
    ] = False,
) -> None:
    """Start whatever does not run, and wait until all of it works."""
    start = time.monotonic()
    with _explained():
        place = folder.resolve()
        stack.up(place, _say)
        if workers or stack.is_deployed(place):
            stack.employ(place, project.resolve(), NAMES, _say)
    _say(f"all of it works after {time.monotonic() - start:.0f} s")
    _say(f"for this shell:  set -a; . {folder}/env; set +a")
    status(folder)


@app.command()
def down(folder: Folder = _FOLDER) -> None:
    """End all of it; `up` finds everything still there."""
    with _explained():
        stack.down(folder.resolve())


@app.command()
def status(folder: Folder = _FOLDER) -> None:
    """Say how each part is; the exit status is 1 if one does not work."""
    with _explained():
        conditions = stack.conditions(folder.resolve())
    for condition in conditions:
        _say(f"{condition.name:<16} {condition.word:<7} {condition.about}")
    if any(condition.word != "well" for condition in conditions):
        raise typer.Exit(1)


@app.command()
def backup(file: Annotated[Path, typer.Argument()], folder: Folder = _FOLDER) -> None:
    """Write what the databases hold to FILE, while everything runs."""
    with _explained():
        stack.save(folder.resolve(), file.resolve())


@app.command()
def restore(file: Annotated[Path, typer.Argument()], folder: Folder = _FOLDER) -> None:
    """Make the databases what they were when FILE was written, also those of another stack."""
    with _explained():
        stack.load(folder.resolve(), file.resolve(), _say)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    except OSError as error:
        sys.stderr.write(f"error: {explained(error)}\n")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what has started stays, `down` ends it\n")
        raise typer.Exit(130) from None


if __name__ == "__main__":
    app()
