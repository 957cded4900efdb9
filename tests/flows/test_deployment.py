"""Prefect takes prefect.yaml as it is, its server runs, and a worker can end what it started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from conftest import ROOT, Project, copy_of


def test_every_deployment_can_be_deployed(prefect_server: None) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.settings import PREFECT_API_URL

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="cpu", type="process"))
        done = subprocess.run(
            [Path(sys.executable).parent / "prefect", "--no-prompt", "deploy", "--all"],
            cwd=ROOT,
            env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        deployed = {
            name: client.read_deployment_by_name(name)
            for name in ("retrain/nightly", "transfer/nightly")
        }
    assert {one.work_pool_name for one in deployed.values()} == {"cpu"}
    crons = {name: [s.schedule.cron for s in one.schedules] for name, one in deployed.items()}
    assert crons == {"retrain/nightly": ["0 2 * * *"], "transfer/nightly": ["0 6 * * *"]}


def test_server_takes_the_nulls_that_clients_send() -> None:
    # FastAPI from 0.154 on answers 422, and from 0.155 on the server does not even import.
    import httpx
    from prefect.server.api.server import create_app

    async def post() -> int:
        app = create_app(ephemeral=True)
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            nulls = {"flows": None, "flow_runs": None, "deployments": None, "limit": 1}
            return (await client.post("/api/flows/filter", json=nulls)).status_code

    assert asyncio.run(post()) == 200


def test_a_workers_signal_ends_the_stages(
    fresh: Project, prefect_server: None, tmp_path: Path
) -> None:
    from prefect.settings import PREFECT_API_URL

    # A worker loads the flow by its entrypoint: no launcher, no guard around it.
    project = copy_of(fresh, tmp_path / "project")
    code = "from flows.retrain import retrain; retrain()"
    server = {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    with project.standing_training("-c", code, **server) as (run, family):
        assert any("toy.py" in one.cmdline() for one in family)
        run.terminate()
        run.communicate(timeout=60)
        assert run.returncode == -signal.SIGTERM
        assert psutil.wait_procs(family, timeout=30)[1] == []
