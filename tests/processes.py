"""The processes of a run, which come and go while a test looks at them."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def with_word(family: Iterable[psutil.Process], word: str) -> list[psutil.Process]:
    """Return those that live and whose command has this argument, in the order given."""
    return [one for one in family if word in command_of(one)]


def command_of(process: psutil.Process) -> list[str]:
    """Return the arguments of a process; none if it has ended, as git does at any moment."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def variable(process: psutil.Process, name: str) -> str:
    """Return an environment variable; nothing for one who has ended or is another user's."""
    try:
        return process.environ().get(name, "")
    except psutil.Error:
        return ""
