"""The parameters: one frozen, strict section per stage, read from params.yaml.

A misspelt or ill-typed parameter is an error with one line that names it. Sections import nothing
of the stages, so that reading parameters is instant.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lcm_lora.errors import UserError

Sampler = Literal["teacher", "lcm", "ddim", "dpmpp", "unipc"]

SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
"""Every sampler that is measured: the teacher, the distilled adapter, three classical solvers."""


class Section(BaseModel):
    """A section of params.yaml: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Hardware(Section):
    """Where and how the heavy stages compute. It changes speed, and in the last bits the result."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Dtype of the frozen base; LoRA weights and all schedule arithmetic stay fp32."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of one stage; null lets torch decide. The CPU's last bits depend on it."""


class Base(Section):
    """The Stable Diffusion to distil."""

    model: str = "shapes"
    """`shapes`, a hub id, a diffusers folder, or a single .safetensors file."""
    revision: str | None = None
    """Commit of a hub id; name it, so that a run can be repeated."""


class ShapesSource(Section):
    """Scenes of the embedded world."""

    kind: Literal["shapes"] = "shapes"
    count: int = Field(8192, ge=1)
    seed: int = Field(7, ge=0)


class FolderSource(Section):
    """Pictures with captions: NAME.txt beside NAME.png, or a metadata.jsonl (file_name, text)."""

    kind: Literal["folder"]
    path: Path


class WebdatasetSource(Section):
    """Tars as img2dataset writes them: NAME.jpg, NAME.txt or NAME.json with a caption."""

    kind: Literal["webdataset"]
    path: Path
    """A tar, or a folder of tars."""


Source = Annotated[ShapesSource | FolderSource | WebdatasetSource, Field(discriminator="kind")]


class Prepare(Section):
    """Source pictures to filtered, cropped, captioned shards."""

    source: Source = ShapesSource()
    resolution: int = Field(32, ge=8, multiple_of=8)
    """Pixels of a side; the shorter side is scaled to it and the centre is kept."""
    min_side: int = Field(32, ge=1)
    """Smaller pictures are rejected rather than enlarged."""
    held_out: float = Field(0.12, gt=0, lt=1)
    """Share of samples kept for evaluation, chosen by content hash."""
    shard_samples: int = Field(1024, ge=1)


class Encode(Section):
    """Shards to latent moments and text embeddings."""

    batch: int = Field(64, ge=1)


class Guidance(Section):
    """The range the teacher's guidance is drawn from, uniformly per sample."""

    convention: Literal["imagen", "lcm"]
    """imagen: g as in diffusers' guidance_scale. lcm: w = g - 1, as in the LCM paper."""
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Distill(Section):
    """LoRA consistency distillation."""

    objective: Literal["lcm"] = "lcm"
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    """Samples of one optimiser step, over all processes and accumulated micro-batches."""
    accumulation: int = Field(1, ge=1)
    """Micro-batches of one optimiser step; less memory, same result."""
    grid: int = Field(50, ge=1)
    """N, points of the solver's time grid; must divide the base's training steps."""
    guidance: Guidance
    loss: Literal["huber", "l2"] = "huber"
    huber_c: float = Field(0.001, gt=0)
    rank: int = Field(64, ge=1)
    alpha: int = Field(64, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    warm_up: int = Field(0, ge=0)
    """Steps over which the learning rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(500, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.batch % self.accumulation:
            raise ValueError(f"accumulation {self.accumulation} does not divide batch {self.batch}")
        return self


class Cell(Section):
    """One image set of a sampler: its step count, its guidance, its noise."""

    steps: int = Field(ge=1)
    guidance: float = Field(ge=0)
    """Imagen convention; above 1 each step costs two network evaluations."""
    seeds: int = Field(0, ge=0)
    """Which set of initial noises; equal sets start picture i from the same noise everywhere."""

    @property
    def nfe(self) -> int:
        """Network evaluations a picture."""
        return self.steps * (2 if self.guidance > 1 else 1)

    @property
    def name(self) -> str:
        """The cell in file names, such as `steps-4_guidance-3` or `steps-50_guidance-3_seeds-1`."""
        seeds = f"_seeds-{self.seeds}" if self.seeds else ""
        return f"steps-{self.steps}_guidance-{self.guidance:g}{seeds}"


class Generate(Section):
    """Image sets of every sampler for the same held-out captions and the same noise."""

    prompts: int = Field(ge=4)
    """Held-out captions to paint; as many other held-out pictures are what they are compared to."""
    batch: int = Field(64, ge=1)
    seed: int = Field(0, ge=0)
    cells: dict[Sampler, tuple[Cell, ...]]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in SAMPLERS if not self.cells.get(name)]
        if missing:
            raise ValueError(f"cells of {', '.join(missing)} are missing")
        return self


class Score(Section):
    """What is measured on every image set."""

    features: str = "shapes"
    """Network of the distances: `shapes`, or the 2015 Inception TorchScript file."""
    clip: str = "shapes"
    """CLIP of the CLIP score: `shapes`, or a transformers CLIP folder."""
    attributes: bool = True
    """Judge shapes, colours and ground; for the shapes world only."""
    resamples: int = Field(400, ge=2)
    """Bootstrap resamples behind each standard error and interval."""
    seed: int = Field(0, ge=0)


class Report(Section):
    """What the report shows."""

    title: str
    rows: int = Field(8, ge=1)
    """Prompts of the comparison grid."""
    worst: int = Field(12, ge=1)
    """How many of the adapter's worst pictures are shown."""


class Gate(Section):
    """When an adapter may become champion."""

    steps: int = Field(ge=1)
    """Step count of the adapter at which it is judged."""
    metric: str
    """Metric of the table, such as `fd_shapes:real`; lower is better for distances."""
    limit: float
    """Absolute gate: the metric must be at least this good."""


class Registry(Section):
    """How the adapter enters the registry."""

    name: str
    experiment: str
    gate: Gate


class Retrain(Section):
    """How the retrain flow runs."""

    workers: int = Field(1, ge=1)
    """Stages that may run side by side on this machine."""


class Params(Section):
    """All of params.yaml."""

    hardware: Hardware
    base: Base
    prepare: Prepare
    encode: Encode
    distill: Distill
    generate: Generate
    score: Score
    report: Report
    registry: Registry
    retrain: Retrain


def load_params(path: Path) -> Params:
    """Read and check a parameter file.

    Raises:
        UserError: The file is missing, is no YAML, or holds a wrong parameter.
    """
    from ruamel.yaml import YAML, YAMLError

    try:
        # YAML 1.2, as DVC reads it: 1e-4 is a number.
        raw = YAML(typ="safe").load(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; `lcm-lora params shapes > {path}` makes one"
        ) from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return parse_params(raw, str(path))


def parse_params(raw: Any, where: str) -> Params:
    """Check parameters that came from `where`; see `load_params`."""
    try:
        # Through JSON: strict there still takes a list for a tuple and a string for a path.
        return Params.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_line(error)}") from None


def _first_line(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"]) or "the file"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        name = str(problem["loc"][-1])
        close = difflib.get_close_matches(name, sorted(_all_names(Params)), n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        return f"{place}: no such parameter{hint}{more}"
    return f"{place}: {problem['msg']}; got {json.dumps(problem['input'], default=str)[:80]}{more}"


def _all_names(section: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    pending = [section]
    while pending:
        current = pending.pop()
        for name, field in current.model_fields.items():
            names.add(name)
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                pending.append(field.annotation)
    return names
