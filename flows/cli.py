"""The command `lcm-lora`: the library's own, and what needs the registry and its servers."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lcm_lora.cli import PEOPLE, app, command


@command(PEOPLE)
def lineage(
    version: Annotated[
        str | None,
        typer.Argument(help="models:/NAME/3 or models:/NAME@ALIAS; the champion if none is named"),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(help="write its params.yaml and dvc.lock there, for `dvc pull` and `repro`"),
    ] = None,
) -> None:
    """What a version was made of, at which cost, and the commands that make it again."""
    from flows import lineage

    lineage.run(version, into)


@command(PEOPLE)
def journal(
    verify: Annotated[
        bool, typer.Option("--verify", help="Say whether every entry is as it was made.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option(help="HTML file to write, a page of its own.")
    ] = None,
) -> None:
    """Who was champion when, why and on whose word, the newest first."""
    from flows import journal

    journal.run(verify, page)


def main() -> None:
    """Run a command, and end when it has: to take torch and diffusers down takes two seconds."""
    try:
        app()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        atexit._run_exitfuncs()
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code)
