"""What compose.yaml says about who may reach, read and be whom; its schema sees none of that."""

import base64
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from declared import COMPOSE, INFRA, ROOT, SERVICES, drawn, resolved, settings, variables

from infra.local.settings import clients, settle

EXAMPLE = (INFRA / ".env.example").read_text()
EMPTY = {name for name, value in settings(EXAMPLE).items() if not value}
"""The secrets: what the example leaves out."""
OFFERED = set(re.findall(r"^#?([A-Z][A-Z_]+)=", EXAMPLE, flags=re.MULTILINE))
WORKERS = {"cpu-worker", "gpu-worker"}
AWAITED = "service_completed_successfully"
ONCE = {
    name
    for one in SERVICES.values()
    for name, how in one.get("depends_on", {}).items()
    if how["condition"] == AWAITED
} | {"backup"}


def neighbours(name: str) -> set[str]:
    """Return who has a network in common with a service."""
    mine = set(SERVICES[name]["networks"])
    return {other for other, one in SERVICES.items() if mine & set(one["networks"])} - {name}


def test_the_file_follows_the_specification() -> None:
    done = subprocess.run(
        [
            Path(sys.executable).parent / "check-jsonschema",
            *("--builtin-schema", "vendor.compose-spec", INFRA / "compose.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_with_drawn_secrets_all_is_said() -> None:
    assert "${" not in str(resolved(COMPOSE, drawn()))


@pytest.mark.parametrize("secret", sorted(EMPTY))
def test_without_a_secret_nothing_starts(secret: str) -> None:
    with pytest.raises(KeyError, match=secret):
        resolved(COMPOSE, drawn() | {secret: ""})


def test_secrets_are_drawn_anew_each_time_and_all_differ() -> None:
    one, other = drawn(), drawn()
    words = [made[name] for made in (one, other) for name in EMPTY]
    assert len(set(words)) == 2 * len(EMPTY)
    keys = [made[name] for made in (one, other) for name in EMPTY if name.endswith("_KEY")]
    assert all(re.fullmatch(r"[0-9a-f]{48}", word) for word in set(words) - set(keys))
    assert [len(base64.urlsafe_b64decode(key)) for key in keys] == [32, 32]
    assert {name: word for name, word in one.items() if name not in EMPTY} == {
        name: word for name, word in settings(EXAMPLE).items() if word
    }


def test_every_variable_is_in_the_example_and_each_there_is_used() -> None:
    assert {name for name, _ in variables(COMPOSE)} == OFFERED - {"COMPOSE_PROFILES"}


def test_a_secret_is_only_ever_a_reference_that_must_be_there() -> None:
    for name, how in variables(COMPOSE):
        assert (how == ":?") == (name in EMPTY), name
    for name, one in SERVICES.items():
        for key, value in one.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|AUTH_STRING", key):
                assert variables(value), f"{name}: {key}"
        said = str([one.get("command"), one.get("entrypoint"), one.get("healthcheck")])
        assert not variables(said), f"{name}: others see what a process was started with"


def test_each_secret_is_given_to_whom_it_concerns() -> None:
    holders = {
        secret: {n for n, one in SERVICES.items() if secret in dict(variables(one))}
        for secret in EMPTY
    }
    assert holders == {
        "POSTGRES_PASSWORD": {"postgres", "backup"},
        "PREFECT_DATABASE_PASSWORD": {"postgres", "prefect"},
        "MLFLOW_DATABASE_PASSWORD": {"postgres", "mlflow"},
        "MLFLOW_SESSION_SECRET": {"mlflow"},
        "MLFLOW_WEBHOOK_KEY": {"mlflow"},
        "MLFLOW_ADMIN_PASSWORD": {"mlflow", "users"},
        "MLFLOW_WORKER_PASSWORD": {"users", "deployments"} | WORKERS,
        "MLFLOW_SERVE_PASSWORD": {"users", "serve"},
        "PREFECT_PASSWORD": {"prefect", "deployments"} | WORKERS,
        "STORE_ADMIN_SECRET": {"store", "buckets"},
        "STORE_MLFLOW_SECRET": {"store", "mlflow"},
        "STORE_WORKER_SECRET": {"store", "deployments"} | WORKERS,
    }


def test_each_is_reached_by_whom_it_concerns() -> None:
    assert neighbours("postgres") == {"prefect", "mlflow", "backup"}
    assert neighbours("store") == {"mlflow", "buckets"} | WORKERS
    assert neighbours("backup") == {"postgres", "prefect", "mlflow"}
    inside = {"users", "deployments", "serve"} | WORKERS
    assert neighbours("prefect") == {"postgres", "mlflow", "backup"} | inside
    assert neighbours("mlflow") == {"postgres", "store", "buckets", "prefect", "backup"} | inside


def test_only_servers_have_ports_and_only_on_this_machine() -> None:
    opened = {name: port for name, one in SERVICES.items() for port in one.get("ports", [])}
    assert opened.keys() == {"prefect", "mlflow", "store", "serve"}
    assert all(port.startswith("127.0.0.1:") for port in opened.values())
    networks = COMPOSE["networks"]
    assert {name for name, how in networks.items() if how.get("internal")} == {
        "database",
        "storage",
        "services",
    }
    for name, how in networks.items():
        if not how.get("internal"):
            members = {n for n, one in SERVICES.items() if name in one["networks"]}
            assert members == {name.removeprefix("at-")} or name == "outside"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_must(name: str) -> None:
    one = SERVICES[name]
    assert one["read_only"]
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in one
    assert not any("docker.sock" in str(volume) for volume in one.get("volumes", []))
    # Images of our own say it themselves.
    assert "build" in one or int(one["user"].split(":")[0]) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_our_own_or_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    if "build" not in SERVICES[name]:
        assert re.search(r":\d+\.\d+.*@sha256:[0-9a-f]{64}$", image) or image.startswith(
            "prefecthq/prefect:"  # whose version the lock says
        )


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_it_needs_and_says_how_it_is(name: str) -> None:
    one = SERVICES[name]
    if name in ONCE:
        assert one["restart"] in {"on-failure:5", "no"}
    else:
        assert one["restart"] == "unless-stopped"
        assert one["healthcheck"]["test"][0] == "CMD"
    for other, how in one.get("depends_on", {}).items():
        assert how["condition"] == (AWAITED if other in ONCE else "service_healthy")


def test_all_that_is_kept_has_a_name_and_all_that_is_mounted_is_there() -> None:
    mounts = chain.from_iterable(one.get("volumes", []) for one in SERVICES.values())
    sources = {resolved(mount, {}).split(":")[0] for mount in mounts}
    paths = {source for source in sources if source.startswith(".")} - {"../.git"}
    assert sources - paths - {"../.git"} == set(COMPOSE["volumes"])
    assert all((INFRA / path).exists() for path in paths)
    # The clone's history goes to workers, and nothing else of its folder: .env lies there.
    assert not any(Path(path) in Path("./.env").parents for path in paths)


def test_a_worker_is_told_what_one_of_the_local_stack_is_told(tmp_path: Path) -> None:
    told = clients(settle(tmp_path / "stack")).keys()
    for name in WORKERS | {"deployments"}:
        own = SERVICES[name]["environment"]
        assert told <= own.keys()
        assert own.keys() - told == {
            "LCM_LORA_PROJECT",
            "LCM_LORA_REPOSITORY",
            "LCM_LORA_REMOTE",
        }


@pytest.mark.parametrize("pool", ["cpu", "gpu"])
def test_a_container_of_a_run_takes_the_secrets_that_the_guide_makes(pool: str) -> None:
    template = (INFRA / "pools" / f"docker-{pool}.json").read_text()
    made = re.findall(
        r"getpass\('(\w+): '\)\)\.save\('([\w-]+)'", (ROOT / "docs" / "scale-out.md").read_text()
    )
    assert {word for word, _ in made} <= EMPTY
    named = {block for _, block in made}
    assert set(re.findall(r"prefect\.blocks\.secret\.([\w-]+)", template)) == named


def test_a_gpu_is_reserved_by_whom_it_is_for() -> None:
    asked = {name for name, one in SERVICES.items() if "deploy" in one}
    own = {"gpu-worker": "LCM_LORA_GPUS", "serve": "LCM_LORA_SERVE_GPUS"}
    assert asked == own.keys()
    for name in asked:
        (device,) = SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
        assert variables(device["device_ids"]) == [(own[name], ":-")]
        assert device["driver"] == "nvidia"
        assert device["capabilities"] == ["gpu"]
        assert SERVICES[name]["profiles"], "a machine without one starts the rest"
