"""The champion answers a prompt over HTTP, out of the registry of the stack and nothing else."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image
from serving import register_champion
from team import awaited
from team_stack import Stack

PROMPT = "a small red ring on a navy background"


@pytest.fixture
def address(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of the champion, which has ended afterwards."""
    stack.admit(monkeypatch)
    (tmp_path / "project").mkdir()
    _, (version, _) = register_champion(tmp_path / "project")
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = str(door.getsockname()[1])
    what = ("--model-uri", f"models:/{version.name}@champion", "--env-manager", "local")
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", "serve", *what, "--port", port],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    yield f"http://127.0.0.1:{port}"
    family = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=30)


def test_a_prompt_becomes_a_picture(address: str) -> None:
    awaited(lambda: answer_of(f"{address}/ping"), "the server")
    asked = {"dataframe_records": [{"prompt": PROMPT}], "params": {"num_inference_steps": 2}}
    said = json.loads(answer_of(f"{address}/invocations", json.dumps(asked).encode()) or b"")
    (row,) = said["predictions"]
    picture = Image.open(io.BytesIO(base64.b64decode(row["image"])))
    assert (picture.format, picture.size) == ("PNG", (16, 16))


def answer_of(url: str, body: bytes | None = None) -> bytes | None:
    """Return what a server answers; None if it does not."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read()) or b"empty"
    except OSError:
        return None
