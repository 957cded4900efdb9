"""The stack holds what it is given, from whoever has a password and nobody else."""

from __future__ import annotations

from team_stack import Stack


def test_up(stack: Stack) -> None:
    assert stack.process("mlflow").is_running()
