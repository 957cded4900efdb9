"""Who says so, and why: the form of a person's word, by Prefect and on the command line."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Annotated

from pydantic import Field

from flows import command

_NAME, _REASON = r"\S", r"\S+\s+\S+\s+\S+"

Name = Annotated[
    str, Field(min_length=1, max_length=200, pattern=_NAME, description="Who says so: a name.")
]
Reason = Annotated[
    str, Field(max_length=500, pattern=_REASON, description="Why, in at least three words.")
]


def promotion_parser() -> argparse.ArgumentParser:
    """Return the arguments of `python -m flows.promote`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.promote",
        description="Make a version champion that the gate lets pass, on your word.",
    )
    parser.add_argument(
        "version", nargs="?", metavar="VERSION", help="its number; the challenger if none is named"
    )
    _add_word(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask on the terminal")
    parser.add_argument("--shown", default="", help=argparse.SUPPRESS)  # as `asked` returns it
    return parser


def rollback_parser() -> argparse.ArgumentParser:
    """Return the arguments of `python -m flows.rollback`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.rollback",
        description="Make a champion of before champion again: the one before, or any by number.",
    )
    parser.add_argument("--to", metavar="VERSION", help="a version that was champion once")
    _add_word(parser)
    return parser


def _add_word(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", required=True, type=_name, metavar="NAME", help="who says so")
    parser.add_argument(
        "--why", required=True, type=_reason, metavar="TEXT", help="why, in at least three words"
    )


def _name(text: str) -> str:
    if not re.search(_NAME, text):
        raise argparse.ArgumentTypeError("is empty; say who you are")
    return text


def _reason(text: str) -> str:
    if not re.search(_REASON, text):
        raise argparse.ArgumentTypeError(f"{text!r} is short; say why in at least three words")
    return text


def asked(version: str | None) -> str | None:
    """Show on the terminal what a version rests on, and ask.

    Args:
        version: Its number; None for the challenger that awaits approval.

    Returns:
        Number and decision of the version that was shown; None if the person does not agree.
    """
    from lcm_lora.errors import UserError  # with what is below, seconds

    try:
        if not sys.stdin.isatty():
            raise UserError("no terminal to ask on; add --yes, or approve it in Prefect")
        shown = _show(version)
        if input("Make it champion? [y/N] ").strip().lower() in {"y", "yes"}:
            return shown
    except UserError as error:
        command.complain(str(error))
        return None
    except (EOFError, KeyboardInterrupt):
        sys.stdout.write("\n")
    command.complain("not promoted, and nothing has changed")
    return None


def _show(version: str | None) -> str:
    from dataclasses import replace
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from flows import registered, summary
    from tasks.champions import approval
    from tasks.history.entry import decision_sha256

    with registered.reached() as (tracker, params), TemporaryDirectory() as folder:
        here = replace(tracker, root=Path(folder))
        found = approval.candidate(here, params.registry.name, version)
    console = Console()
    title = f"{params.registry.name} version {found.version}, in the place of "
    console.print(title + (f"version {found.before}" if found.before else "nobody"))
    summary.show_scores(console, found.table, found.decision)
    return f"{found.version} {decision_sha256(found.decision)}"
