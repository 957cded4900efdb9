"""Which commit a project's code is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lcm_lora import layout


def working_commit(root: Path) -> tuple[str, bool]:
    """Return the commit of a folder, and whether anything there differs from it.

    Parameters and dvc.lock may differ, since both are kept beside whatever is made. Outside a
    repository the commit is `unknown`.
    """
    differing = _git(root, "status", "--porcelain", "--", ".", ":!dvc.lock", f":!{layout.PARAMS}")
    return _git(root, "rev-parse", "--verify", "--quiet", "HEAD") or "unknown", bool(differing)


def _git(root: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip()
