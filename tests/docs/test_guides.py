"""Whatever a guide tells to type exists, with these options; whatever it explains is really said.

Here commands are only parsed, each by its own parser. `make test-long` runs them in their order,
as far as the team's stack and a project of a moment can: see tests/stack/test_typed_guides.py.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import runpy
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from guides import DOCS, GUIDES, blocks, commands

ROOT = DOCS.parent
FLOWS = {path.stem for path in (ROOT / "flows").glob("*.py")}

OTHERS = {
    "git": "every reader has it, and its words here are ordinary",
    "curl": "the same; the stack's test sends the event, and the request's JSON is read below",
    "docker": "there is no engine where tests run; tests/infra checks what it would build",
    "cd": "the shell's own",
    "set": "the shell's own",
    ".": "the shell's own",
    "source": "the shell's own",
}
"""Programs of which only the name is looked at, and why."""


class _ParsedError(Exception):
    """A command has taken its arguments, and would now begin."""


def _begin(*_: Any, **__: Any) -> NoReturn:
    raise _ParsedError


def _python(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if words[0] == "-c":
        ast.parse(words[1])
        return
    assert words[0] == "-m"
    if words[1] == "infra.local":
        from infra.local.__main__ import app

        return _typer(app, words[2:])
    room, _, name = words[1].partition(".")
    assert room == "flows"
    assert name in FLOWS
    parse = argparse.ArgumentParser.parse_args

    def parsed(self: argparse.ArgumentParser, *arguments: Any) -> NoReturn:
        parse(self, *arguments)
        raise _ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setattr("tasks.running.process.run_attached", _begin)  # of those without arguments
    monkeypatch.setattr(sys, "argv", words[1:])
    with pytest.raises(_ParsedError):
        runpy.run_module(words[1], run_name="__main__")


def _typer(app: Any, words: list[str]) -> None:
    from typer.main import get_command

    _click(get_command(app), words)


def _click(command: Any, words: list[str]) -> None:
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, [*words])


def _lcm_lora(words: list[str], _: pytest.MonkeyPatch) -> None:
    from flows.cli import app

    _typer(app, words)


def _mlflow(words: list[str], _: pytest.MonkeyPatch) -> None:
    from mlflow.cli import cli

    _click(cli, words)


def _dvc(words: list[str], _: pytest.MonkeyPatch) -> None:
    from dvc.cli import parse_args

    parse_args(words)


def _prefect(words: list[str], _: pytest.MonkeyPatch) -> None:
    from prefect.cli._app import _app

    words = [str(uuid.UUID(int=0)) if word == "ID" else word for word in words]
    _app.parse_args(words, exit_on_error=False, print_error=False)


def _make(words: list[str], _: pytest.MonkeyPatch) -> None:
    for target in words:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target


PARSERS: dict[str, Callable[[list[str], pytest.MonkeyPatch], None]] = {
    "python": _python,
    "lcm-lora": _lcm_lora,
    "mlflow": _mlflow,
    "dvc": _dvc,
    "prefect": _prefect,
    "make": _make,
}


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_exists_with_these_options(
    guide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [*commands(guide)]
    assert found
    for program, *words in found:
        if program in OTHERS:
            continue
        with monkeypatch.context() as patch:
            try:
                PARSERS[program](words, patch)
            except (Exception, SystemExit) as error:
                pytest.fail(f"{program} {' '.join(words)}: {error!r}")


@pytest.mark.parametrize("guide", GUIDES)
def test_a_shell_can_read_every_block(guide: str) -> None:
    for block in blocks(guide):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize(
    "words",
    [
        *("python -m flows.retrain --bogus", "lcm-lora lineage --bogus", "dvc push --bogus"),
        *("prefect flow-run ls --bogus", "mlflow models serve --bogus", "make bogus"),
    ],
)
def test_a_command_that_does_not_exist_is_found(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *rest = words.split()
    with pytest.raises((Exception, SystemExit)):
        PARSERS[program](rest, monkeypatch)


def test_team_is_ready_in_less_than_ten_commands() -> None:
    first = blocks("team")[0].strip().splitlines()
    assert len(first) == 8
    assert "deployment run retrain/nightly" in first[-1]


# What servers and tools say themselves; all else in the table of alarms has to be in our code.
THEIRS = {"Crashed", "Late", "Pending", "database is locked", "status"}
THEIRS |= {"The flow was failed and never resumed"}
OF_A_READER = re.compile(r"\.\.\.|\b[A-Z]{1,}\b(?!-)|\d+")
"""Places in a quoted line that hold another word each time."""


def test_every_line_that_is_explained_is_one_that_is_said() -> None:
    said = "\n".join(_said())
    for quoted in _explained():
        for part in OF_A_READER.split(quoted):
            part = part.strip(" :,();`")
            assert len(part) < 4 or part in said, f"{quoted!r}: nothing says {part!r}"


def _explained() -> Iterator[str]:
    """Yield what the first cells of the guide's tables quote."""
    text = (DOCS / "when-it-breaks.md").read_text().partition("## What may be deleted")[0]
    for cell in re.findall(r"^\| (`.*?) \|", text, re.M):
        yield from (quoted for quoted in re.findall(r"`([^`]+)`", cell) if quoted not in THEIRS)


def _said() -> Iterator[str]:
    """Yield every text in the code, with a gap for whatever is put in."""
    for room in ("flows", "tasks", "lcm_lora", "infra"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
                    yield "".join(map(str, parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_request_of_the_guide_is_one_that_versions_take() -> None:
    from tasks.registry.versions import signature

    (asked,) = re.findall(r"--data '(\{.*?\})' --output", "".join(blocks("serving")), re.S)
    schema = signature(SimpleNamespace(steps=[4], guidance=1.0)).params  # type: ignore[arg-type]
    assert json.loads(asked)["params"].keys() == {param.name for param in schema}
    assert all("prompt" in record for record in json.loads(asked)["dataframe_records"])


@pytest.mark.parametrize("guide", GUIDES)
def test_no_link_leads_nowhere(guide: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (DOCS / f"{guide}.md").read_text()):
        name, _, anchor = target.partition("#")
        path = (DOCS / name).resolve() if name else DOCS / f"{guide}.md"
        assert path.is_file(), target
        titles = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
        assert not anchor or anchor in {_anchor(title) for title in titles}, target


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
