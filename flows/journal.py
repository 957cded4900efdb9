"""Show who was champion when, why and on whose word: on the terminal, or as a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table as Sheet
from rich.text import Text

from flows import worker
from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.files import write_bytes
from lcm_lora.params.file import load_params
from lcm_lora.report.templates import render
from tasks.history import journal
from tasks.history.entry import Entry, hash_of, who
from tasks.history.succession import is_crowning
from tasks.running.cost import Spent
from tasks.tracking.connecting import reading

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Reign:
    """From when to when somebody was champion."""

    entry: Entry
    until: str | None
    """Null: still."""


def run(verify: bool, page: Path | None) -> None:
    """Print the journal of the project's registered model, the newest entry first.

    Args:
        verify: Say also whether every entry is as it was made.
        page: File to write the journal to, as a page, in place of the terminal.

    Raises:
        UserError: MLflow does not answer; or `verify`, and somebody altered the journal.
    """
    name = load_params(worker.project() / layout.PARAMS).registry.name
    with reading() as client:
        entries, damages = journal.read(client, name), journal.verify(client, name)
    console = Console(highlight=False)
    if page:
        write_bytes(page, _page(client.tracking_uri, name, entries, damages).encode())
        console.print(f"{page}: {len(entries)} entries of {name}", markup=False)
    elif not verify:
        console.print(_sheet(name, entries))
    for damage in damages:
        console.print(f"altered: {damage}", markup=False, soft_wrap=True)
    if damages and verify:
        raise UserError(f"journal of {name}: {len(damages)} alterations; see above")
    if verify:
        head = hash_of(entries[-1].text) if entries else "none"
        console.print(f"{len(entries)} entries as they were made, head {head}", soft_wrap=True)


def reigns(entries: Sequence[Entry]) -> list[Reign]:
    """Return who was champion from when to when, the newest first."""
    crowned = [entry for entry in entries if is_crowning(entry)]
    ends = [*(entry.at for entry in crowned[1:]), None]
    return [Reign(entry, end) for entry, end in zip(crowned, ends, strict=True)][::-1]


def told(entries: Sequence[Entry]) -> list[Entry]:
    """Return what there is to show, the newest first: of intents only one that is still open."""
    return [e for e in entries if e.kind != "intent" or e is entries[-1]][::-1]


def _sheet(name: str, entries: Sequence[Entry]) -> Sheet:
    sheet = Sheet(title=f"Journal of {name}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for column in ("", "UTC", "what", "version", "by", "why"):
        sheet.add_column(column, overflow="fold", header_style="dim")
    for entry in told(entries):
        version = entry.version or "nobody"
        facts = (str(entry.number), _when(entry.at), _what(entry), version)
        sheet.add_row(*map(Text, (*facts, _word(entry), entry.why)))  # brackets are no markup
    return sheet


def _page(uri: str, name: str, entries: list[Entry], damages: list[str]) -> str:
    from flows.pages import server_of  # and Prefect with it, which takes seconds

    base = server_of(uri)

    def linked(version: str | None) -> str | Markup:
        if base is None or version is None:
            return who(version)
        address = f"{base}/#/models/{quote(name)}/versions/{version}"
        return Markup('<a href="{}">{}</a>').format(address, who(version))

    return render(
        "journal.html.j2",
        _TEMPLATES,
        name=name,
        count=len(entries),
        entries=told(entries),
        reigns=reigns(entries),
        damages=damages,
        head=hash_of(entries[-1].text) if entries else "",
        who=who,
        what=_what,
        when=_when,
        word=_word,
        cost=_cost,
        linked=linked,
    )


def _what(entry: Entry) -> str:
    return "rolled back" if entry.is_rollback and entry.kind == "champion" else entry.kind


def _when(at: str) -> str:
    return at[:16].replace("T", " ")


def _word(entry: Entry) -> str:
    """Say by whom something was done."""
    if entry.by is None:
        return "nobody" if entry.kind == "refused" else "somebody unknown"
    return "the gate" if entry.approval == "gate" else entry.by


def _cost(entry: Entry) -> str:
    try:
        return str(Spent.model_validate(entry.cost)) if entry.cost else ""
    except ValidationError:  # an entry of before, of costs that were counted otherwise
        return ""
