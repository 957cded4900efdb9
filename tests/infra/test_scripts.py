"""The scripts that containers start with, run for real on this machine."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from declared import INFRA, PATH, ROOT, drawn

CLONE = INFRA / "docker" / "clone.sh"
SCRIPTS = sorted(INFRA.rglob("*.sh"))


def git(folder: Path, *arguments: str) -> str:
    """Run git, as somebody."""
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(project: Path, text: str) -> str:
    """Commit a text; return the commit."""
    (project / "text").write_text(text)
    git(project, "add", "text")
    git(project, "commit", "--quiet", "--message", text)
    return git(project, "rev-parse", "HEAD")


def start(worker: Path, repository: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Start a worker whose work is to print the text that it has."""
    places = {"LCM_LORA_PROJECT": str(worker), "LCM_LORA_REPOSITORY": str(repository)}
    own = {"PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(
        [CLONE, "cat", "text"],
        env={**own, **places, **more},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one commit, which says `one`."""
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "--quiet", "--initial-branch", "main")
    commit(place, "one")
    return place


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    """The volume of a new worker, which need not be empty."""
    place = tmp_path / "worker"
    (place / "lost+found").mkdir(parents=True)
    return place


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_read_and_started(path: Path) -> None:
    assert os.access(path, os.X_OK)
    shell = path.read_text().splitlines()[0].rpartition("/")[2].split()[-1]
    subprocess.run([shell, "-n", path], check=True)


def test_a_worker_has_the_newest_commit_whenever_it_starts(repository: Path, worker: Path) -> None:
    assert start(worker, repository).stdout == "one"
    commit(repository, "two")
    assert start(worker, repository).stdout == "two"
    assert (worker / "lost+found").exists()


@pytest.mark.parametrize("pool", ["cpu", "gpu"])
def test_a_worker_starts_where_the_folders_are_another_users(
    repository: Path, worker: Path, tmp_path: Path, pool: str
) -> None:
    """As on a cluster, where the root of a volume stays root's."""
    image = (INFRA / "docker" / f"{pool}.Dockerfile").read_text()
    trusted = re.findall(r"git config --system --add safe.directory (\S+)", image)
    system = tmp_path / "gitconfig"
    for place in trusted:
        here = place.replace("/project", str(worker)).replace("/repository", str(repository))
        git(tmp_path, "config", "--file", str(system), "--add", "safe.directory", here)
    others = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_SYSTEM": str(system)}
    assert start(worker, repository, **others).stdout == "one"


def test_a_worker_has_the_commit_that_it_is_told(repository: Path, worker: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    commit(repository, "two")
    assert start(worker, repository, LCM_LORA_REVISION=first).stdout == "one"


def test_a_worker_goes_on_while_the_repository_is_away(repository: Path, worker: Path) -> None:
    start(worker, repository)
    repository.rename(repository.with_name("away"))
    done = start(worker, repository)
    assert done.stdout == "one"
    assert f"{repository} does not answer" in done.stderr


def test_a_new_worker_without_a_repository_does_not_start(tmp_path: Path, worker: Path) -> None:
    done = start(worker, tmp_path / "nowhere")
    assert done.returncode != 0
    assert "nowhere does not answer" in done.stderr
    assert start(worker, Path()).returncode != 0


def test_a_worker_has_the_remote_and_the_cache_of_its_place(repository: Path, worker: Path) -> None:
    (repository / ".dvc").mkdir()
    (repository / ".dvc" / "config").touch()
    (repository / ".dvc" / ".gitignore").write_text("/config.local\n/cache\n/tmp\n")
    git(repository, "add", ".dvc")
    commit(repository, "with DVC")
    start(worker, repository, LCM_LORA_REMOTE="s3://elsewhere/dvc")
    start(worker, repository, LCM_LORA_REMOTE="s3://bucket/dvc", LCM_LORA_CACHE="/cache")
    own = (worker / ".dvc" / "config.local").read_text()
    assert re.findall(r"url = (.*)", own) == ["s3://bucket/dvc"]
    assert "remote = team" in own
    assert "dir = /cache" in own
    assert git(worker, "status", "--porcelain") == ""


def test_the_store_lets_each_use_its_own_bucket_alone(tmp_path: Path) -> None:
    keys, secrets = tmp_path / "keys.json", drawn()
    text = (INFRA / "store" / "start.sh").read_text()
    assert "exec /entrypoint.sh" in text
    text = text.replace("/tmp/keys.json", str(keys)).replace("exec /entrypoint.sh", "echo")
    done = subprocess.run(
        ["sh", "-c", text], env=PATH | secrets, capture_output=True, text=True, check=True
    )
    assert not any(secret in done.stdout for secret in secrets.values() if secret)
    assert keys.stat().st_mode & 0o077 == 0
    rights = {
        one["name"]: {action.partition(":")[2] for action in one["actions"]}
        for one in json.loads(keys.read_text())["identities"]
    }
    assert rights == {"admin": {""}, "mlflow": {"mlflow"}, "worker": {"lcm-lora"}}
    # What stands behind S3 asks for no keys, so the network must not reach it.
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0"} <= {*done.stdout.split()}


def test_a_store_without_a_secret_does_not_start() -> None:
    secrets = drawn()
    del secrets["STORE_WORKER_SECRET"]
    text = (INFRA / "store" / "start.sh").read_text().replace("/tmp/keys.json", "/dev/null")
    done = subprocess.run(["sh", "-c", text], env=PATH | secrets, capture_output=True, check=False)
    assert done.returncode != 0
