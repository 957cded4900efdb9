"""Where the shapes world's weights are in the package."""

from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights"

BASE = _WEIGHTS / "base"
JUDGES = _WEIGHTS / "judges"
CLIP = JUDGES / "clip"
JUDGE = JUDGES / "judge.safetensors"
LOOKS = JUDGES / "looks.safetensors"
INK = _WEIGHTS / "styles" / "ink.safetensors"
STYLES = {"shapes-ink": INK}
"""LoRAs of the base, by name."""
FINE_TUNES = {"shapes-dusk": _WEIGHTS / "finetunes" / "dusk.safetensors"}
"""The tensors in which a fine-tune differs from the base, by the fine-tune's name."""
