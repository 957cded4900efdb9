"""Where the shapes world's weights are in the package."""

from pathlib import Path

BASE = Path(__file__).parent / "weights" / "base"
JUDGES = Path(__file__).parent / "weights" / "judges"
CLIP = JUDGES / "clip"
JUDGE = JUDGES / "judge.safetensors"
