"""Whether memory grows with the data: peak resident memory of the stages at 2,000 and 200,000.

Scenes of 16 pixels, each stage a process of its own, as its command is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.project import Project

STAGES = ("inventory", "prepare", "encode", "distill")
COUNTS = (2_000, 200_000)


def main() -> None:
    """Print the peak of each stage at each count, and the ratio."""
    peaks: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder), "shapes", 16, count)
            for stage in STAGES:
                peaks[stage].append(peak_of(stage, project.root))
                print(f"{stage} at {count:,}: {peaks[stage][-1]:.0f} MB", flush=True)
    for stage, (small, large) in peaks.items():
        print(f"{stage}: {small:.0f} MB, {large:.0f} MB, ratio {large / small:.3f}")


def peak_of(stage: str, folder: Path) -> float:
    """Run a stage; return its peak resident memory in MB."""
    command = [str(Path(sys.executable).with_name("lcm-lora")), stage]
    child = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"lcm-lora {stage} ended with status {status}")
    return usage.ru_maxrss / 1000


if __name__ == "__main__":
    main()
