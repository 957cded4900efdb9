"""Publish a style or a fine-tune: runs whose parameters name it take it up by themselves."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lcm_lora import layout
from lcm_lora.errors import UserError, explained
from lcm_lora.params.file import Params, load_params
from lcm_lora.shapes import places
from tasks.registry import publishing
from tasks.registry.publishing import Published
from tasks.tracking.connecting import connect
from tasks.tracking.tracker import Tracker


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish what the arguments name; return the process's exit status."""
    asked = _parser().parse_args(arguments)
    say = Console(soft_wrap=True, highlight=False).print
    complain = Console(stderr=True, soft_wrap=True, highlight=False).print
    root = Path.cwd()
    try:
        params = load_params(root / layout.PARAMS)
        tracker = connect(root, params.registry.experiment)
        published = publish(tracker, params, asked.kind, asked.name, asked.what)
    except (UserError, OSError) as error:
        said = explained(error) if isinstance(error, OSError) else error
        complain(f"error: {said}", markup=False)
        return 1
    known = "published" if published.is_new else "published before, the same content"
    say(f"{published}, {known}; parameters name it {published.name}", markup=False)
    return 0


def publish(tracker: Tracker, params: Params, kind: str, name: str, what: str) -> Published:
    """Publish a style's file, or `shapes-ink`; or the base that a fine-tune is.

    Raises:
        UserError: It cannot be what it is said to be, or the registry does not take it.
    """
    if kind == "style":
        return publishing.publish_style(tracker, params, name, places.STYLES.get(what, Path(what)))
    return publishing.publish_finetune(tracker, params, name, what)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.publish",
        description="Publish a style or a fine-tune in the registry, for base.model's family.",
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="style|finetune")
    helps = {
        "style": ("FILE", "the LoRA's file, or shapes-ink"),
        "finetune": ("BASE", "a diffusers folder, a single file, a hub id, or shapes-dusk"),
    }
    for kind, (metavar, words) in helps.items():
        own = kinds.add_parser(kind)
        own.add_argument("name", metavar="NAME", help=f"its alias is {kind}-NAME")
        own.add_argument("what", metavar=metavar, help=words)
    return parser


if __name__ == "__main__":
    sys.exit(main())
