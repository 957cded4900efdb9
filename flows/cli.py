"""The command `lcm-lora`: the library's own, and what needs the registry and its servers."""

from __future__ import annotations

from lcm_lora.cli import app

__all__ = ["app"]
