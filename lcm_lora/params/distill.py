"""How the adapter is trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from lcm_lora.params.section import Section
from lcm_lora.params.values import Seed, Text


class Guidance(Section):
    """The range the teacher's guidance is drawn from, uniformly per sample."""

    convention: Literal["imagen", "lcm"]
    """imagen: g as in diffusers' guidance_scale. lcm: w = g - 1, as in the LCM paper."""
    low: float = Field(ge=0, le=100)
    high: float = Field(ge=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Candidates(Section):
    """When the adapter is kept, for `select` to choose from; after the last step it always is."""

    first: int = Field(1000, ge=1, le=10_000_000)
    """The first step after which it is."""
    every: int = Field(500, ge=1, le=10_000_000)
    """Steps from one to the next."""

    def at(self, step: int) -> bool:
        """Tell whether the adapter is kept after a step, 1, 2, ..., that may not be the last."""
        return step >= self.first and (step - self.first) % self.every == 0


class Distill(Section):
    """LoRA consistency distillation."""

    objective: Literal["lcm"] = "lcm"
    steps: int = Field(ge=1, le=10_000_000)
    batch: int = Field(ge=1, le=65536)
    """Samples of one optimiser step, over all processes and accumulated micro-batches."""
    accumulation: int = Field(1, ge=1, le=65536)
    """Micro-batches of one optimiser step if one process makes them all; less memory, same result.
    Several processes make as many fewer each, none of them larger."""
    processes: int | None = Field(None, ge=1, le=4096)
    """That share the batch; null: one for each GPU, or one. Same result, but for rounding."""
    grid: int = Field(50, ge=1, le=10_000)
    """N, points of the solver's time grid; must divide the base's training steps."""
    guidance: Guidance
    loss: Literal["huber", "l2"] = "huber"
    huber_c: float = Field(0.001, ge=1e-8, le=1000)
    rank: int = Field(64, ge=1, le=4096)
    alpha: int = Field(64, ge=1, le=65536)
    learning_rate: float = Field(1e-4, gt=0, le=1)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate falls after the warm-up."""
    warm_up: int = Field(0, ge=0, le=10_000_000)
    """Steps over which the learning rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0, le=10)
    clip_norm: float = Field(1.0, gt=0, le=1e9)
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(500, ge=1, le=10_000_000)
    checkpoints: Text | None = None
    """Where they are kept: an fsspec URL, such as s3://bucket/folder.

    Null: in the store that LCM_LORA_STORE names, else in .checkpoints."""
    candidates: Candidates = Candidates()
    export: Literal["fp16", "bf16", "fp32"] = "fp16"
    """Dtype of the written adapters; what is trained is fp32."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.batch % self.accumulation:
            raise ValueError(f"accumulation {self.accumulation} does not divide batch {self.batch}")
        if self.processes is not None and self.processes > self.batch:
            raise ValueError(f"processes {self.processes} are more than the samples of a batch")
        return self
