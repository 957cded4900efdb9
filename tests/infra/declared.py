"""What the files of infra/ declare, as data."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(INFRA / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
KUSTOMIZATION: dict[str, Any] = YAML(typ="safe").load(INFRA / "kustomization.yaml")
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for path in sorted((INFRA / "kubernetes").glob("*.yaml"))
    for manifest in YAML(typ="safe").load_all(path)
]
PATH = {"PATH": os.environ["PATH"]}

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<how>:[?-])(?P<word>[^}]*))?\}")


def settings(text: str) -> dict[str, str]:
    """Return the assignments of a file such as .env."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def drawn() -> dict[str, str]:
    """Return the settings that secrets.sh makes."""
    done = subprocess.run(
        [INFRA / "secrets.sh"], env=PATH, capture_output=True, text=True, check=True
    )
    return settings(done.stdout)


def variables(value: Any) -> list[tuple[str, str | None]]:
    """Return the variables that a part of compose.yaml asks for, and how: `:?`, `:-` or not."""
    return [(match["name"], match["how"]) for match in _VARIABLE.finditer(str(value))]


def resolved(value: Any, environment: dict[str, str]) -> Any:
    """Return a part of compose.yaml with every variable in its place, as Compose reads it.

    Raises:
        KeyError: One that must be there is missing or empty.
    """

    def one(match: re.Match[str]) -> str:
        given = environment.get(match["name"], "")
        if not given and match["how"] == ":?":
            raise KeyError(match["name"])
        return given or match["word"] or ""

    if isinstance(value, dict):
        return {key: resolved(inner, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolved(inner, environment) for inner in value]
    return _VARIABLE.sub(one, value) if isinstance(value, str) else value


def locked(path: Path) -> dict[str, set[str]]:
    """Return the versions that a lock pins, by package; Pythons and systems may have their own."""
    pins: dict[str, set[str]] = {}
    for line in path.read_text().splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            name, version = line.split()[0].split("==")
            pins.setdefault(name, set()).add(version)
    return pins


def pods() -> dict[str, dict[str, Any]]:
    """Return the pod template of each workload, by name."""
    found: dict[str, dict[str, Any]] = {}
    for manifest in MANIFESTS:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            found[manifest["metadata"]["name"]] = spec["template"]
    return found
