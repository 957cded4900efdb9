"""One command brings a server to what the project wants of it, and again changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT, Project, copy_of
from processes import with_word

DEPLOYED = {
    "retrain/nightly": "cpu",
    "transfer/nightly": "cpu",
    "drift/daily": "cpu",
    "watch/hourly": "cpu",
    "promote/promote": "cpu",
    "rollback/rollback": "cpu",
    "run-stage/cpu": "cpu",
    "run-stage/gpu": "gpu",
}
CRONS = {
    "retrain/nightly": "0 2 * * *",
    "transfer/nightly": "0 6 * * *",
    "drift/daily": "0 1 * * *",
    "watch/hourly": "30 * * * *",
}
QUEUES = {"retrain": "nightly", "transfer": "nightly", "drift": "daily"}
LOST = "lcm-lora: lost runs are crashed"
PUBLISHED = "lcm-lora: retrain on a published data set"


@pytest.fixture
def deploy(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return what runs the command in the project's folder, and returns what it said."""
    from flows.deploy import main

    def run(*arguments: str) -> str:
        monkeypatch.chdir(ROOT)
        status, said = main(arguments), capsys.readouterr()
        assert status == bool(said.err)
        return said.err or said.out

    return run


def queues(client: Any) -> list[Any]:
    """Return the queues that the project has made."""
    return [client.read_work_queue_by_name(name, "cpu") for name in QUEUES]


def everything(client: Any) -> dict[str, Any]:
    """Return the ids of all that is on the server."""
    schedules = {
        (name, each.slug): (each.id, each.active)
        for name in DEPLOYED
        for each in client.read_deployment_by_name(name).schedules
    }
    return schedules | {
        **{name: client.read_deployment_by_name(name).id for name in DEPLOYED},
        **{one.name: (one.id, one.enabled) for one in client.read_automations()},
        **{one.name: one.id for one in client.read_work_pools()},
        **{f"{one.name}'s queue": (one.id, one.concurrency_limit) for one in queues(client)},
    }


def test_deployed_again_nothing_changes_and_what_is_paused_stays_so(
    client: Any, deploy: Callable[..., str]
) -> None:
    from prefect.client.schemas.actions import DeploymentUpdate

    from tasks.servers import automations

    deploy()
    deployed = {name: client.read_deployment_by_name(name) for name in DEPLOYED}
    assert {name: one.work_pool_name for name, one in deployed.items()} == DEPLOYED
    crons = {name: [s.schedule.cron for s in one.schedules] for name, one in deployed.items()}
    assert {name: cron for name, cron in crons.items() if cron} == {
        name: [cron] for name, cron in CRONS.items()
    }
    nightly = deployed["retrain/nightly"]
    client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
    client.pause_automation(client.read_automations_by_name(LOST)[0].id)
    before = everything(client)
    assert {line.split()[0] for line in deploy().splitlines()} == {"unchanged"}
    # Somebody changed something, and two made the same at once.
    client.update_deployment(nightly.id, DeploymentUpdate(description="mine"))
    client.create_automation(automations.lost_runs(automations.LOST_AFTER, begin_at_once=True))
    said = deploy().splitlines()
    changed = [line for line in said if not line.startswith("unchanged")]
    assert [line.split(maxsplit=1) for line in changed] == [
        ["changed", "deployment retrain/nightly"],
        ["changed", f"automation {LOST}"],
    ]
    assert everything(client) == before
    assert client.read_deployment(nightly.id).description != "mine"
    client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=True)
    client.resume_automation(client.read_automations_by_name(LOST)[0].id)


@pytest.mark.parametrize("flow", QUEUES)
def test_one_runs_and_one_too_many_waits_in_the_queue(
    flow: str, client: Any, deploy: Callable[..., str]
) -> None:
    """Without a lease, which the server forgets when it is restarted."""
    from prefect.states import Completed, Pending, Running

    def due() -> list[Any]:
        """Return what a worker would get now."""
        now = datetime.now(UTC)
        found = client.get_scheduled_flow_runs_for_work_pool("cpu", [flow], now)
        return [each.flow_run.id for each in found]

    deploy()
    deployment = client.read_deployment_by_name(f"{flow}/{QUEUES[flow]}")
    first, second = (client.create_flow_run_from_deployment(deployment.id).id for _ in range(2))
    for run, waiting in ((first, [second]), (second, [])):
        assert due() == [run]
        for state in (Pending(), Running()):
            client.set_flow_run_state(run, state)
            assert due() == []
        assert client.read_flow_run(run).state.state_details.deployment_concurrency_lease_id is None
        client.set_flow_run_state(run, Completed())
        assert due() == waiting


def test_prefects_own_command_takes_the_same_file_and_doubles_nothing(
    client: Any, deploy: Callable[..., str]
) -> None:
    from prefect.settings import PREFECT_API_URL

    deploy()
    before = everything(client)
    done = subprocess.run(
        [Path(sys.executable).parent / "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT,
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # It makes the automations that belong to deployments anew.
    after = everything(client) | {PUBLISHED: before[PUBLISHED]}
    assert after == before
    assert {line.split()[0] for line in deploy().splitlines()} == {"unchanged"}


def test_what_is_due_gets_planned(client: Any, deploy: Callable[..., str]) -> None:
    # With some releases of what Prefect reads time zones by, no schedule ever ran.
    from prefect.server.schemas.schedules import CronSchedule

    deploy()
    for name in CRONS:
        (schedule,) = client.read_deployment_by_name(name).schedules
        there = CronSchedule.model_validate(schedule.schedule.model_dump())
        assert len(asyncio.run(there.get_dates(n=2))) == 2


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("retrain/nightly", {"request": {"workspace": "x"}}),
        ("retrain/nightly", {"request": {"overrides": [1]}}),
        ("retrain/nightly", {"request": {"revision": ""}}),
        ("rollback/rollback", {"by": "Ada", "why": "short"}),
        ("promote/promote", {"by": ""}),
    ],
)
def test_the_server_refuses_what_no_worker_could_do(
    client: Any, deploy: Callable[..., str], name: str, parameters: dict[str, Any]
) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    deploy()
    deployment = client.read_deployment_by_name(name)
    with pytest.raises(PrefectHTTPStatusError) as refused:
        client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    assert refused.value.response.status_code == 409


def asked_for(client: Any, revision: str) -> list[Any]:
    """Return the runs that a revision was asked for in, once there is one."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        runs = [
            run
            for run in client.read_flow_runs()
            if (run.parameters.get("request") or {}).get("revision") == revision
        ]
        if runs:
            return runs
        time.sleep(0.2)
    return []


def test_announced_data_are_trained_on(
    client: Any,
    deploy: Callable[..., str],
    fresh: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from prefect.settings import PREFECT_API_URL

    from flows import announce

    deploy()
    project = copy_of(fresh, tmp_path / "project")
    monkeypatch.chdir(project.root)
    assert announce.main([]) == 0
    commit = project.call("git", "rev-parse", "HEAD").strip()
    assert capsys.readouterr().out == f"announced {commit}\n"
    (run,) = asked_for(client, commit)
    assert run.parameters["request"] == {
        **{"workspace": "isolated", "revision": commit},
        "why": f"dataset.published {commit}",
    }
    assert announce.main(["nobody-knows"]) == 1
    assert "nobody-knows" in capsys.readouterr().err
    # The team's git server does the same for whoever pushes.
    bare = tmp_path / "team.git"
    project.call("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(bare))
    shutil.copy(ROOT / "infra" / "hooks" / "post-receive", bare / "hooks")
    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    (project.root / "source" / "two.txt").write_text("two")
    pushed = project.commit("More data")
    project.call("git", "push", "--quiet", str(bare), "main", "main:other")
    assert len(asked_for(client, pushed)) == 1


def test_a_team_is_told_through_its_own_block(client: Any, deploy: Callable[..., str]) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    from tasks.servers import events

    heard: list[str] = []

    class Team(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    assert "no such block" in deploy("--notify", "custom-webhook/team")
    server = HTTPServer(("127.0.0.1", 0), Team)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    CustomWebhookNotificationBlock(
        name="team",
        url=f"http://127.0.0.1:{server.server_port}",
        json_data={"subject": "{{subject}}", "body": "{{body}}"},
        allow_private_urls=True,
    ).save("team")
    deploy("--notify", "custom-webhook/team")
    # Asked again without it, it stays.
    assert {line.split()[0] for line in deploy().splitlines()} == {"unchanged"}
    payload = {"version": "3", "reason": "better at 4 steps"}
    events.post(client, "adapter.promoted", events.model("shapes"), payload)
    end = time.monotonic() + 120
    while not heard and time.monotonic() < end:
        time.sleep(0.2)
    server.shutdown()
    said = json.loads(heard[0])
    assert said["subject"] == "lcm-lora: a new champion"
    assert "shapes" in said["body"]
    assert "reason: better at 4 steps" in said["body"]


@pytest.mark.parametrize(
    ("url", "words"),
    [("", "PREFECT_API_URL: not set"), ("http://127.0.0.1:1/api", "does not answer")],
)
def test_without_a_server_one_line_says_so(url: str, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.deploy"],
        cwd=ROOT,
        env={**os.environ, "PREFECT_API_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_two_make_at_the_same_moment_is_one_line_to_the_second(client: Any) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    from lcm_lora.errors import UserError
    from tasks.servers import prefect_server

    pool = WorkPoolCreate(name="of two", type="process")
    client.create_work_pool(pool)
    words = r"^Prefect at http.*: somebody else .*; run this again$"
    with pytest.raises(UserError, match=words), prefect_server.reached() as second:
        second.create_work_pool(pool)
    client.delete_work_pool("of two")


def test_a_pool_of_another_kind_is_left_alone(client: Any, deploy: Callable[..., str]) -> None:
    deploy()
    assert "pool cpu: is of kind process" in deploy("--pools", "docker")


@pytest.mark.parametrize("template", sorted((ROOT / "infra" / "pools").glob("*.json")))
def test_prefect_takes_each_job_template(client: Any, template: Path) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    kind = template.stem.partition("-")[0]
    made = client.create_work_pool(
        WorkPoolCreate(
            name=f"of {template.stem}",
            type=kind,
            base_job_template=json.loads(template.read_text()),
        )
    )
    assert made.type == kind
    client.delete_work_pool(made.name)


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
        assert with_word(family, "toy.py")
        run.terminate()
        run.communicate(timeout=60)
        assert run.returncode == -signal.SIGTERM
        assert psutil.wait_procs(family, timeout=30)[1] == []
