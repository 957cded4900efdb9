"""Parameters of a preset, changed in one place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lcm_lora.params.file import Params
from lcm_lora.params.reading import parse

ROOT = Path(__file__).parent.parent

Change = Callable[[Any], object]


def preset(change: Change = lambda raw: None, name: str = "shapes") -> Params:
    raw = YAML(typ="safe").load(ROOT / "lcm_lora" / "presets" / f"{name}.yaml")
    raw = json.loads(json.dumps(raw))  # no aliases: a change is of one place
    change(raw)
    return parse(Params, raw, "params.yaml")


def cell(steps: int, guidance: float = 1.0, seeds: int = 0) -> dict[str, Any]:
    return {"steps": steps, "guidance": guidance, "seeds": seeds}
