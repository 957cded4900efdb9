"""MLflow tells another system of versions and aliases, signed, as it was once asked to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from team_stack import Stack
from toy_project import ROOT

from infra.local import waiting

SECRET = "a secret of the team"
Said = dict[str, Any]


@pytest.fixture
def heard() -> Iterator[tuple[str, queue.SimpleQueue[Said]]]:
    """Yield the address of another system, and what it hears."""
    said: queue.SimpleQueue[Said] = queue.SimpleQueue()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = [self.headers["X-MLflow-Delivery-Id"], self.headers["X-MLflow-Timestamp"]]
            signed = ".".join([*parts, body.decode()]).encode()
            mark = base64.b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).decode()
            is_signed = self.headers["X-MLflow-Signature"] == f"v1,{mark}"
            said.put({**json.loads(body), "is_signed": is_signed})
            self.send_response(204)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/registry", said
        server.shutdown()


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[str]:
    """Yield the address of an MLflow that may post to this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": key,
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            while not waiting.answers(f"{address}/health"):
                assert server.poll() is None
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()


def test_another_system_hears_of_versions_and_aliases(
    heard: tuple[str, queue.SimpleQueue[Said]],
    mlflow: str,
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, said = heard
    stack.admit(monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow)

    def deploy() -> list[str]:
        command = [sys.executable, "-m", "flows.deploy", "--webhook", url]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1].split()

    assert deploy() == ["new", "webhook", "of", "MLflow"]
    monkeypatch.setenv("LCM_LORA_WEBHOOK_SECRET", SECRET)
    assert deploy() == ["unchanged", "webhook", "of", "MLflow"]
    client = MlflowClient(mlflow)
    client.create_registered_model("told")
    run = client.create_run(client.create_experiment("by hand")).info.run_id
    client.create_model_version("told", f"runs:/{run}/model", run)
    client.set_registered_model_alias("told", "champion", "1")
    client.delete_registered_model_alias("told", "champion")
    news = [said.get(timeout=60) for _ in range(3)]
    assert sorted((one["entity"], one["action"], one["is_signed"]) for one in news) == [
        ("model_version", "created", True),
        ("model_version_alias", "created", True),
        ("model_version_alias", "deleted", True),
    ]
