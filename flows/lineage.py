"""Print what a version was made of, from the registry alone, and how to make it again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from rich.console import Console
from rich.table import Table as Sheet
from rich.text import Text

from lcm_lora import layout, terminal
from lcm_lora.errors import some, without_passwords
from lcm_lora.evaluation.scores import read_table
from lcm_lora.gate.decision import read_decision
from tasks.history import journal
from tasks.registry import lineage
from tasks.registry.evidence import LOCK, Evidence, Lineage
from tasks.registry.pushing import NO_REMOTE
from tasks.registry.reference import find
from tasks.tracking.connecting import reading


def run(reference: str | None, into: Path | None) -> None:
    """Print the lineage of a version; or write its params.yaml and dvc.lock into a folder.

    Args:
        reference: Such as `models:/NAME/3`; None: the champion of the project in this folder.
        into: Where the two files go.

    Raises:
        UserError: There is no such version, or its evidence is damaged.
    """
    console = Console(highlight=False, soft_wrap=True)
    wanted = reference or lineage.champion_of(Path.cwd())
    with reading() as client, tempfile.TemporaryDirectory() as folder:
        version = find(client, wanted, "MLflow's page of models lists those that there are")
        evidence = Evidence(version, Path(folder))
        if into is not None:
            lineage.restore(evidence, into)
            console.print(f"{into}: params.yaml and dvc.lock are those of {evidence.title}")
            return
        _show(console, client, version, evidence)


def _show(
    console: Console, client: MlflowClient, version: ModelVersion, evidence: Evidence
) -> None:
    found = evidence.lineage()
    console.print(Text(evidence.title, style="bold"))
    console.print(_sheet(_facts(client, version, evidence, found)))
    console.print()
    table = read_table(evidence.file("scores.json"))
    decision = read_decision(evidence.file("decision.json"))
    terminal.show_standing(console, table, decision)
    terminal.show_rules(console, decision)
    console.print()
    if problem := _irreproducible(found):
        console.print(Text(f"Not reproducible: {problem}", style="bold red"))
        return
    console.print(Text("Made again, in an environment of its requirements.lock, by", style="bold"))
    reference = f"models:/{version.name}/{version.version}"
    registry = without_passwords(client.tracking_uri)
    for command in lineage.commands(registry, reference, found, evidence.file(LOCK)):
        console.print(f"  {command}", markup=False)
    if found.dvc_remote == NO_REMOTE:
        console.print("Its data were pushed nowhere, so the DVC cache of its project is needed")


def _irreproducible(found: Lineage) -> str | None:
    if found.git_commit == "unknown":
        return "it was trained outside a git repository, and nobody knows by which code"
    if found.git_dirty:
        return "it was trained by code that differed from the commit, and that nobody kept"
    return None


def _facts(
    client: MlflowClient, version: ModelVersion, evidence: Evidence, found: Lineage
) -> Iterator[tuple[str, str]]:
    at = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    aliases = f", now {' and '.join(version.aliases)}" if version.aliases else ""
    yield "Registered", f"{at:%Y-%m-%d %H:%M} UTC{aliases}"
    yield "Run", f"MLflow {found.mlflow_run}"
    if prefect := found.prefect:
        yield "", f"Prefect {prefect.name or ''} {prefect.url or prefect.id}"
    yield "Commit", found.git_commit + (f" of {found.git_remote}" if found.git_remote else "")
    for name, path in (
        ("Data", layout.SHARDS),
        ("Latents", layout.CACHE),
        ("Adapter", layout.ADAPTER),
    ):
        if md5 := found.outputs.get(path.as_posix()):
            yield name, f"{path}, md5 {md5} by DVC"
    yield "Pushed to", found.dvc_remote
    yield "Base", f"{found.base_model}, SHA-256 {found.base_sha256}"
    preset, differing = lineage.differences(evidence.file(layout.PARAMS.name))
    yield "Parameters", f"{some(differing)} differ from preset {preset}" if differing else preset
    yield from _history(client, version)
    yield "Cost", str(found.cost)
    yield "", f"with all that was painted and measured: {found.cost_of_all}"
    yield "Evidence", f"{evidence.uri}, {len(evidence.names)} files"


def _history(client: MlflowClient, version: ModelVersion) -> Iterator[tuple[str, str]]:
    """Yield what the journal says of a version."""
    for entry in journal.read(client, version.name):
        if entry.version == str(version.version) and entry.kind != "intent":
            by = f" by {entry.by}" if entry.by else ""
            yield "Journal", f"{entry.number}, {entry.at}: {entry.kind}{by}, {entry.why}"


def _sheet(facts: Iterator[tuple[str, str]]) -> Sheet:
    sheet = Sheet.grid(padding=(0, 2, 0, 0))
    sheet.add_column(style="dim")
    sheet.add_column(overflow="fold")
    for name, fact in facts:
        sheet.add_row(name, Text(fact))
    return sheet
