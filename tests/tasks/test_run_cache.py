"""The key of an entry is DVC's own: what its run-cache names an entry by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from tasks.running.run_cache import key_of


def test_a_key_is_where_dvc_keeps_the_entry(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  copy:\n    cmd: cp in out\n    deps: [in]\n    outs: [out]\n"
    )
    (tmp_path / "in").write_text("content")
    for command in (("init", "--no-scm", "-q"), ("repro", "-q")):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    entry = YAML(typ="safe").load((tmp_path / "dvc.lock").read_text())["stages"]["copy"]
    kept = [path.name for path in (tmp_path / ".dvc/cache/runs").glob("*/*")]
    assert kept == [key_of(entry)]
    entry["deps"][0]["md5"] = "0" * 32
    assert kept != [key_of(entry)]
