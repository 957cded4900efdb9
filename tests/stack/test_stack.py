"""The stack holds what it is given, from whoever has a password and from nobody else."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import fsspec
import psutil
import pytest
from botocore.exceptions import ClientError
from botocore.session import Session
from team_stack import Stack
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from infra.local import parts, settings
from lcm_lora import records

ADAPTER = os.urandom(100_000)
_HELLO = """
from prefect import flow

@flow
def hello(name: str) -> str:
    with open("greeted", "a") as file:
        file.write(f"{name}\\n")
    return name
"""


def status_of(url: str, method: str = "GET", body: bytes | None = None, user: str = "") -> int:
    """Return what a server answers to a request, with a name and password if given."""
    request = urllib.request.Request(url, data=body, method=method)
    request.add_header("Content-Type", "application/json")
    if user:
        request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def as_client(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process, and what it starts, a client of the stack."""
    stack.admit(monkeypatch)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def call(folder: Path, *command: str) -> str:
    """Run a command, which must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def infra(*arguments: str) -> tuple[int, str]:
    """Run `python -m infra.local`; return its exit status and all that it says."""
    command = [sys.executable, "-m", "infra.local", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_nobody_without_a_password_reads_or_writes_runs_registry_or_artifacts(
    stack: Stack,
) -> None:
    mlflow = stack.environment["MLFLOW_TRACKING_URI"]
    artifact = f"{mlflow}/api/2.0/mlflow-artifacts/artifacts/0/found/model"
    doors = [
        (f"{mlflow}/", "GET", None),
        (f"{mlflow}/api/2.0/mlflow/experiments/search", "POST", b'{"max_results": 1}'),
        (f"{mlflow}/api/2.0/mlflow/runs/create", "POST", b'{"experiment_id": "0"}'),
        (f"{mlflow}/api/2.0/mlflow/registered-models/search", "GET", None),
        (f"{mlflow}/api/2.0/mlflow/registered-models/create", "POST", b'{"name": "mine"}'),
        (f"{mlflow}/graphql", "POST", b"{}"),
        (artifact, "GET", None),
        (artifact, "PUT", b"mine"),
    ]
    for url, method, body in doors:
        for user in ("", "admin:", "admin:password", "nobody:nobody"):
            assert status_of(url, method, body, user) == 401, (url, user)


def test_nobody_without_a_password_reads_or_writes_flow_runs_or_events(stack: Stack) -> None:
    prefect = stack.environment["PREFECT_API_URL"]
    doors = [
        ("flow_runs/filter", b"{}"),
        ("deployments/filter", b"{}"),
        ("flows/", b'{"name":"x"}'),
    ]
    for path, body in doors:
        for user in ("", "admin:", "admin:password"):
            assert status_of(f"{prefect}/{path}", "POST", body, user) == 401, (path, user)
    address = prefect.replace("http", "ws", 1) + "/events/out"
    with connect(address, subprotocols=["prefect"]) as socket:
        socket.send(json.dumps({"type": "auth", "token": "guess"}))
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)


def test_nobody_without_keys_reads_or_writes_the_store(stack: Stack) -> None:
    own = settings.known(stack.folder)
    address = own.address(settings.STORE)
    for path in ("/mlflow/x", "/v1/AUTH_artifacts/mlflow/x", "/v1/AUTH_workers/lcm-lora/x"):
        for method, body in (("GET", None), ("PUT", b"mine"), ("DELETE", None)):
            assert status_of(f"{address}{path}", method, body) in {400, 401, 403}, (path, method)
    workers = own.secrets.tenants[settings.WORKERS]
    for keys in (
        ("workers:workers", "guess"),
        ("artifacts:artifacts", "guess"),
        ("artifacts:artifacts", workers),
        ("workers:workers", workers),  # it reaches artifacts through MLflow alone, under a name
    ):
        denied(address, keys, settings.BUCKETS[settings.ARTIFACTS])


def denied(address: str, keys: tuple[str, str], bucket: str) -> None:
    """See that S3 neither lists nor takes anything for these keys."""
    client = Session().create_client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
    )
    denials = "SignatureDoesNotMatch|AccessDenied|NoSuchBucket"
    with pytest.raises(ClientError, match=denials):
        client.list_objects_v2(Bucket=bucket)
    with pytest.raises(ClientError, match=denials):
        client.put_object(Bucket=bucket, Key="x", Body=b"mine")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_does_not_enter_by_the_back_rooms(stack: Stack) -> None:
    own = settings.known(stack.folder)
    program = (
        "import sys, urllib.request\n"
        "try: urllib.request.urlopen(sys.argv[1])\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    for name in settings.BACKENDS:
        url = f"{own.address(name)}/disk/0/AUTH_workers"
        asks = ["/usr/bin/python3", "-I", "-c", program, url]
        done = subprocess.run(asks, user="nobody", capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "403", name
        assert status_of(url) != 403  # the store's own user does


def test_registry_takes_a_version_and_its_artifact_through_mlflow(
    stack: Stack, as_client: None, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient()
    run = client.create_run("0")
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(ADAPTER)
    client.log_artifact(run.info.run_id, str(path), "adapter")
    client.create_registered_model("lcm-lora")
    source = f"runs:/{run.info.run_id}/adapter"
    client.create_model_version("lcm-lora", source, run.info.run_id)
    client.set_registered_model_alias("lcm-lora", "champion", "1")
    assert champion(tmp_path / "back") == ADAPTER


def champion(folder: Path) -> bytes:
    """Return the bytes of the champion's adapter, as MLflow hands them out."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    version = MlflowClient().get_model_version_by_alias("lcm-lora", "champion")
    uri = f"runs:/{version.run_id}/adapter/adapter.safetensors"
    return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder))).read_bytes()


def test_store_takes_files_of_one_part_and_of_several(stack: Stack, as_client: None) -> None:
    files, place = fsspec.url_to_fs(f"{stack.environment['LCM_LORA_STORE']}/test")
    for size in (10, 20_000_000):
        content = os.urandom(size)
        with files.open(f"{place}/{size}", "wb", block_size=5 * 2**20) as file:  # S3's least
            file.write(content)
        with files.open(f"{place}/{size}", "rb") as file:
            assert file.read() == content
    assert len(files.ls(place)) == 2
    files.rm(place, recursive=True)
    files.invalidate_cache()
    assert not files.exists(place)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is versioned by DVC."""
    return tmp_path_factory.mktemp("versioned")


def test_dvc_pushes_to_the_store_and_pulls_from_it(
    stack: Stack, as_client: None, data: Path
) -> None:
    (data / "pictures").mkdir()
    for number in range(20):
        (data / "pictures" / str(number)).write_text(f"picture {number}")
    for command in (
        "git init --quiet",
        "dvc init --quiet",
        f"dvc remote add --default team s3://{settings.BUCKETS[settings.WORKERS]}/dvc",
        "dvc add --quiet pictures",
        "dvc push --quiet",
    ):
        call(data, *command.split())
    pulled_again(data)


def pulled_again(data: Path) -> None:
    """Forget every picture, and get them back from the remote."""
    for command in ("rm -r pictures .dvc/cache", "dvc pull --quiet"):
        call(data, *command.split())
    assert (data / "pictures" / "7").read_text() == "picture 7"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one flow."""
    folder = tmp_path_factory.mktemp("hello")
    (folder / "hello.py").write_text(_HELLO)
    return folder


def greeted(project: Path, name: str) -> None:
    """Have the worker run the flow, which must succeed."""
    call(
        project, "prefect", "deployment", "run", "hello/hello", "--param", f"name={name}", "--watch"
    )
    assert name in (project / "greeted").read_text().split()


def test_worker_runs_flows_in_its_project(stack: Stack, as_client: None, project: Path) -> None:
    worker = stack.worker("cpu", project)
    call(project, "prefect", "--no-prompt", "deploy", "hello.py:hello", "-n", "hello", "-p", "cpu")
    greeted(project, "Ada")
    environment = stack.process(worker).environ()
    assert environment["LCM_LORA_PROJECT"] == str(project)
    assert stack.environment.items() <= environment.items()


def test_no_secret_is_in_process_lists_logs_or_flow_runs(stack: Stack, as_client: None) -> None:
    own = settings.known(stack.folder).secrets
    secrets = {own.database, own.prefect, own.mlflow, own.sessions, own.paths}
    secrets |= set(own.tenants.values())
    assert len(secrets) == 7
    seen = {"ps": subprocess.check_output(["ps", "-eo", "args"], text=True)}
    seen |= {str(log): log.read_text() for log in (stack.folder / "logs").iterdir()}
    runs = call(stack.folder, "prefect", "api", "POST", "/flow_runs/filter", "--data", "{}")
    assert "Ada" in runs
    seen["flow runs"] = runs
    seen["said"] = "\n".join(stack.said)
    found = [place for place, text in seen.items() for secret in secrets if secret in text]
    assert found == []


def test_what_has_secrets_is_for_its_owner_alone(stack: Stack) -> None:
    assert stack.folder.stat().st_mode & 0o777 == 0o700
    own = settings.known(stack.folder).secrets
    secrets = [own.database, own.prefect, own.mlflow, *own.tenants.values()]
    seen = 0
    for folder, _, names in os.walk(stack.folder):
        for path in (Path(folder, name) for name in names):
            # The servers are at work, and remove files of their own.
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and path.suffix in {"", ".ini", ".conf", ".json"}:
                    content, mode = path.read_bytes(), path.stat().st_mode
                    if any(secret.encode() in content for secret in secrets):
                        assert mode & 0o077 == 0, path
                        seen += 1
    assert seen > 0


def everything_is_there(stack: Stack, folder: Path, data: Path, project: Path, name: str) -> None:
    assert champion(folder / name) == ADAPTER
    pulled_again(data)
    greeted(project, name)


def test_all_is_there_after_the_database_was_started_again(
    stack: Stack, as_client: None, tmp_path: Path, data: Path, project: Path
) -> None:
    others = {name: stack.process(name).pid for name in ("prefect", "mlflow", "worker-cpu")}
    stack.restart("database")
    everything_is_there(stack, tmp_path, data, project, "database")
    assert {name: stack.process(name).pid for name in others} == others


@pytest.mark.parametrize("part", ["store", "prefect", "mlflow", "worker-cpu"])
def test_a_part_has_all_it_had_after_it_was_started_again(
    stack: Stack, as_client: None, tmp_path: Path, data: Path, project: Path, part: str
) -> None:
    stack.restart(part)
    if part in {"store", "mlflow"}:
        assert champion(tmp_path / part) == ADAPTER
    if part == "store":
        pulled_again(data)
    if part in {"prefect", "worker-cpu"}:
        greeted(project, part)


def test_a_killed_part_is_told_and_mended_alone(
    stack: Stack, as_client: None, tmp_path: Path, data: Path, project: Path
) -> None:
    where = ("--folder", str(stack.folder))
    assert infra("status", *where)[0] == 0
    before = {name: stack.process(name).pid for name in ("prefect", "store", "worker-cpu")}
    for name in ("database", "store-object"):
        stack.process(name).kill()
    # Only the process that was started: what it started itself goes on without it.
    orphans = stack.process("mlflow").children()
    stack.process("mlflow").kill()
    assert [lives(orphan) for orphan in orphans] == [True]
    status, said = infra("status", *where)
    assert status == 1
    words = dict(line.split()[:2] for line in said.splitlines())
    assert [name for name, word in words.items() if word == "dead"] == [
        "database",
        "store-object",
        "mlflow",
    ]
    stack.mend()
    assert infra("status", *where)[0] == 0
    assert {name: stack.process(name).pid for name in before} == before
    assert not any(map(lives, orphans))
    everything_is_there(stack, tmp_path, data, project, "mended")


def test_backup_brings_the_databases_back(stack: Stack, as_client: None, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    where = ("--folder", str(stack.folder))
    file = tmp_path / "backup.tar"
    assert infra("backup", str(file), *where)[0] == 0
    assert file.stat().st_mode & 0o077 == 0
    client = MlflowClient()
    client.delete_registered_model("lcm-lora")
    call(tmp_path, "prefect", "--no-prompt", "deployment", "delete", "hello/hello")
    assert infra("restore", str(file), *where)[0] == 0
    assert champion(tmp_path / "restored") == ADAPTER
    assert "hello/hello" in call(tmp_path, "prefect", "deployment", "ls")


def test_down_leaves_no_process_and_up_finds_everything(
    stack: Stack, as_client: None, tmp_path: Path, data: Path, project: Path
) -> None:
    where = ("--folder", str(stack.folder))
    family = family_of(stack)
    assert len(family) > 8
    assert infra("down", *where)[0] == 0
    assert [process for process in family if lives(process)] == []
    status, said = infra("status", *where)
    assert (status, "dead" in said, "well" in said) == (1, False, False)
    stack.mend()
    stack.worker("cpu", project)
    everything_is_there(stack, tmp_path, data, project, "again")


def family_of(stack: Stack) -> list[psutil.Process]:
    """Return every process of the stack."""
    started = [stack.process(name) for name in parts.names(stack.folder)]
    return started + [child for one in started for child in one.children(recursive=True)]


def lives(process: psutil.Process) -> bool:
    """Tell whether a process can still do something."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_cannot_start_is_one_line(tmp_path: Path) -> None:
    where = ("--folder", str(tmp_path / "none"))
    for command in (("status",), ("down",), ("backup", str(tmp_path / "file"))):
        status, said = infra(*command, *where)
        assert (status, said.count("\n")) == (1, 1), said
        assert "python -m infra.local up" in said
    assert not (tmp_path / "none").exists()


def test_a_taken_port_and_damaged_settings_are_one_line(stack: Stack, tmp_path: Path) -> None:
    own = settings.known(stack.folder)
    folder = tmp_path / "second"
    folder.mkdir()
    # Another stack's ports, all of which it has: as if programs had taken them while it was down.
    records.write_record(folder / "settings.json", own)
    status, said = infra("up", "--folder", str(folder))
    assert status == 1
    assert said.count("\n") == 1
    assert f"database: its port {own.ports['database']} is taken" in said
    (folder / "settings.json").write_text("{")
    status, said = infra("up", "--folder", str(folder))
    assert (status, said.count("\n")) == (1, 1), said
    assert f"{folder}/settings.json: damaged" in said


def test_no_backup_changes_nothing(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    file.write_text("no tar")
    before = stack.process("mlflow").pid
    status, said = infra("restore", str(file), "--folder", str(stack.folder))
    assert (status, said.count("\n")) == (1, 1), said
    assert "no backup" in said
    assert stack.process("mlflow").pid == before
