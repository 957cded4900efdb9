"""Where and how the heavy stages compute."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lcm_lora.params.section import Section


class Hardware(Section):
    """Where and how the heavy stages compute. It changes speed, and in the last bits the result."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """In which the denoiser computes; all else, and the adapter's own weights, stay fp32."""
    threads: int | None = Field(None, ge=1, le=4096)
    """CPU threads of one stage; null lets torch decide. The CPU's last bits depend on it."""
