"""The texts around the numbers, as jinja2 templates; a name that is not given is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).parent


def render(template: str, folder: Path = _HERE, **values: Any) -> str:
    """Return a template of a folder with its values filled in; HTML is escaped.

    What it includes may lie in the folder or here.
    """
    templates = Environment(
        loader=FileSystemLoader([folder, _HERE]),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return templates.get_template(template).render(**values)
