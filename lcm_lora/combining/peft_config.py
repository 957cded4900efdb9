"""How PEFT's configuration and diffusers' header say by how much each module's product counts."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lcm_lora.combining.delta import Factor
from lcm_lora.errors import UserError

_SAME_BASE = {"true", "false", "none", "gaussian", "eva", "orthogonal", "mica"}
"""Ways to begin that leave the base's own weights as they are; all others change them."""


def _compiled(found: dict[str, float]) -> dict[str, float]:
    for pattern in found:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            raise ValueError(f"{pattern!r} is no pattern") from None
    return found


_Patterns = Annotated[
    dict[str, float], BeforeValidator(lambda found: found or {}), AfterValidator(_compiled)
]


class PeftConfig(BaseModel):
    """What decides the scale of each module, and whether there is more than plain LoRA."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    peft_type: str = "LORA"
    r: int = Field(default=8, gt=0)
    lora_alpha: float = 8
    alpha_pattern: _Patterns = {}
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    lora_bias: bool = False
    modules_to_save: list[str] | None = None
    init_lora_weights: Any = True
    kasa_config: Any = None

    def scale(self, module: str, rank: int) -> float:
        """Return by how much the product of a module counts, by the rank that it has."""
        alpha = _of(self.alpha_pattern, module, self.lora_alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    def other(self) -> str | None:
        """Return what it is that is no plain LoRA, if anything."""
        begun = str(self.init_lora_weights).lower()
        return next(
            (
                what
                for what, is_so in {
                    self.peft_type: self.peft_type != "LORA",
                    "DoRA": self.use_dora,
                    "a change of biases": self.bias != "none" or self.lora_bias,
                    "a change of whole modules": bool(self.modules_to_save),
                    f"a LoRA on a changed base ({begun})": begun not in _SAME_BASE,
                    "KaSA": self.kasa_config is not None,
                }.items()
                if is_so
            ),
            None,
        )


def parse_config(text: str | bytes | Mapping[str, Any], where: str) -> PeftConfig:
    """Read PEFT's configuration.

    Raises:
        UserError: It is none, or is of something other than plain LoRA.
    """
    try:
        if isinstance(text, str | bytes):
            config = PeftConfig.model_validate_json(text)
        else:
            config = PeftConfig.model_validate(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise UserError(f"{where}: no LoRA's configuration ({place}: {problem['msg']})") from None
    return config


def config_of(factors: Mapping[str, Factor]) -> dict[str, Any]:
    """Return PEFT's configuration of factors, by their modules' names.

    Rank and alpha are those that most modules have; the others are named.
    """
    rank = _most(factor.rank for factor in factors.values())
    alpha = _most(factor.alpha for factor in factors.values())
    return {
        "r": rank,
        "lora_alpha": _whole(alpha),
        "target_modules": sorted(factors),
        "rank_pattern": {n: f.rank for n, f in factors.items() if f.rank != rank},
        "alpha_pattern": {n: _whole(f.alpha) for n, f in factors.items() if f.alpha != alpha},
    }


def _most(values: Any) -> Any:
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value))


def _whole(alpha: float) -> float:
    return int(alpha) if alpha.is_integer() else alpha


def _of(patterns: Mapping[str, float], module: str, usual: float) -> float:
    """Return what PEFT would find for a module: by the first pattern that is the name's end."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return usual


def header_config(metadata: Mapping[str, str], component: str, where: str) -> PeftConfig | None:
    """Return the configuration that a diffusers file's header holds of a component, if any."""
    text = metadata.get("lora_adapter_metadata")
    if text is None:
        return None
    try:
        found = json.loads(text)
        own = {
            name.removeprefix(f"{component}."): value
            for name, value in found.items()
            if name.startswith(f"{component}.")
        }
    except (ValueError, AttributeError):
        raise UserError(f"{where}: its lora_adapter_metadata is damaged; fetch it again") from None
    return parse_config(own, where) if own else None
