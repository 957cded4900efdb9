"""A short distillation of the shapes base, for the tests of a run."""

from pathlib import Path

from making import CPU, shapes_inventory

from lcm_lora.bases import load_base
from lcm_lora.candidates import candidate_name
from lcm_lora.hashes import Hashes
from lcm_lora.params.distill import Distill, Guidance
from lcm_lora.params.hardware import Hardware
from lcm_lora.training.distill import Job, distill
from lcm_lora.training.origin import Origin


def params(**changes: object) -> Distill:
    values = {
        "steps": 5,
        "batch": 8,
        "guidance": Guidance(convention="imagen", low=2.0, high=4.0),
        "rank": 4,
        "alpha": 8,
        "learning_rate": 1e-3,
        "warm_up": 2,
        "checkpoint_every": 2,
        "candidates": {"first": 2, "every": 2},
        "export": "fp32",
    }
    return Distill.model_validate(values | changes)


def run(
    home: Path,
    cache: Path,
    commit: str = "a" * 40,
    hardware: Hardware = CPU,
    **changes: object,
) -> Path:
    """Distil in `home` and return the folder of the last candidate."""
    wanted = params(**changes)
    with Hashes(home / "hashes.sqlite") as hashes:
        distill(
            Job(
                wanted,
                hardware,
                lambda number: load_base(shapes_inventory(), hardware),
                cache,
                hashes,
                home / "state",
                home / "candidates",
                home / "curve",
                Origin(git_commit=commit, git_dirty=False, code_sha256="c" * 64),
            )
        )
    return home / "candidates" / candidate_name(wanted.steps)
