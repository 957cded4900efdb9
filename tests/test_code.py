"""The code that a stage depends on is in dvc.yaml, completely; and it has a hash of its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lcm_lora.code import PACKAGE, ROOT, closure

# A stage of many, such as one a painter, says what each of them does.
STAGES: dict[str, Any] = {
    name: stage.get("do", stage)
    for name, stage in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].items()
}


def listed(stage: str) -> set[str]:
    """Return the files of the package that a stage's dependencies name, folders opened."""
    files: set[str] = set()
    for dep in STAGES[stage]["deps"]:
        path = ROOT / dep
        if dep.split("/")[0] == PACKAGE:
            assert path.exists(), f"{stage}: {dep} is not there"
            inside = path.rglob("*.py") if path.is_dir() else [path]
            files |= {p.relative_to(ROOT).as_posix() for p in inside if says_something(p)}
    return files


def module_of(command: str) -> str:
    return f"lcm_lora.stages.{command.replace('-', '_')}"


def says_something(path: Path) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


@pytest.mark.parametrize("stage", [s for s in STAGES if not STAGES[s].get("always_changed")])
def test_a_stage_depends_on_the_code_that_its_command_imports(stage: str) -> None:
    program, command, *_ = STAGES[stage]["cmd"].split()
    assert program == "lcm-lora"
    needed = {path.relative_to(ROOT).as_posix() for path in closure(module_of(command))}
    assert sorted(needed - listed(stage)) == [], "missing in dvc.yaml"
    assert sorted(listed(stage) - needed) == [], "in dvc.yaml, but not imported"


@pytest.mark.parametrize(
    ("command", "work"),
    [("prepare", "data.prepare"), ("report", "report.page")],
)
def test_a_closure_is_what_python_really_loads(command: str, work: str) -> None:
    """The reading of imports agrees with Python's own."""
    program = (
        f"import sys, lcm_lora.stages.{command}, lcm_lora.{work}\n"
        "for module in list(sys.modules.values()):\n"
        "    file = getattr(module, '__file__', None)\n"
        "    if module.__name__.startswith('lcm_lora') and file: print(file)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {Path(line) for line in done.stdout.splitlines()}
    assert {path for path in loaded if says_something(path)} <= set(
        closure(f"lcm_lora.stages.{command}")
    )


def test_the_command_line_runs_stages_and_computes_nothing_of_theirs() -> None:
    """So that it is no dependency: a stage's command is the module of its name, and no more."""
    tree = ast.parse((ROOT / PACKAGE / "cli.py").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    commands = {stage["cmd"].split()[1].replace("-", "_") for stage in STAGES.values()}
    for command in commands:
        lines = [ast.unparse(statement) for statement in functions[command].body[1:]]
        arguments = ", ".join(argument.arg for argument in functions[command].args.args)
        assert lines == [
            f"from lcm_lora.stages import {command}",
            f"{command}.run({arguments})",
        ]


def test_tables_rules_and_reports_do_not_decide_what_is_painted() -> None:
    """An edit of them must not paint the teacher and the solvers anew."""
    rooms = {path.parent.name for path in closure("lcm_lora.painting.sets")}
    assert not rooms & {"evaluation", "gate", "report", "stages", "training", "showing", "demo"}
    names = {path.stem for path in closure("lcm_lora.painting.sets")}
    assert not names & {"champion", "champion_record", "recipe", "terminal", "subject"}
