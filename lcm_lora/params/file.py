"""All of params.yaml."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.params.base import Base
from lcm_lora.params.costs import Costs
from lcm_lora.params.distill import Distill
from lcm_lora.params.drift import Drift
from lcm_lora.params.encode import Encode
from lcm_lora.params.evaluation import Evaluation
from lcm_lora.params.generate import Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.plain import read_yaml
from lcm_lora.params.prepare import Prepare
from lcm_lora.params.reading import parse
from lcm_lora.params.registry import Registry
from lcm_lora.params.report import Report
from lcm_lora.params.retrain import Retrain
from lcm_lora.params.score import Score
from lcm_lora.params.section import Section
from lcm_lora.params.select import Select
from lcm_lora.params.transfer import Transfer


class Params(Section):
    """All of params.yaml."""

    hardware: Hardware
    base: Base
    prepare: Prepare
    evaluation: Evaluation
    encode: Encode
    distill: Distill
    select: Select
    generate: Generate
    score: Score
    transfer: Transfer
    report: Report
    registry: Registry
    retrain: Retrain
    drift: Drift
    costs: Costs


def load_params(path: Path) -> Params:
    """Read and check a parameter file.

    Raises:
        UserError: The file is missing, is no YAML, or holds a wrong parameter.
    """
    return parse(Params, read_yaml(path), str(path))
