"""A checkout is its commit's, shares what is dear, and is gone afterwards, whatever happens."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import Project

from lcm_lora.errors import UserError
from tasks.isolated import checkout as checkouts
from tasks.isolated.checkout import CHECKOUTS, check_installed, checkout, resolve
from tasks.running.run_cache import RunCache

INSTALLED = Path(__file__).parents[2]


def test_a_revision_is_looked_for_at_origin_too(project: Project, tmp_path: Path) -> None:
    clone = project.clone(tmp_path / "clone")
    (project.root / "source.txt").write_text("two\n")
    commit = project.commit("Another")
    project.call("git", "tag", "v2")
    for revision in (commit, "main", "v2", commit[:10]):
        assert resolve(clone.root, revision) == commit, revision
    assert resolve(clone.root, None) == clone.call("git", "rev-parse", "HEAD") != commit
    for revision in ("nothing", "0" * 40, "-q", "main:source.txt"):
        with pytest.raises(UserError, match=f"^revision {revision}: .*push it, or mend its name"):
            resolve(clone.root, revision)
    clone.call("git", "remote", "set-url", "origin", str(tmp_path / "gone"))
    assert resolve(clone.root, commit) == commit  # it is here
    with pytest.raises(UserError, match="origin does not answer"):
        resolve(clone.root, "main")  # which may have moved there


def test_an_origin_that_takes_a_call_and_says_nothing_is_given_up(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkouts, "_PATIENCE", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        project.call("git", "remote", "add", "origin", f"git://127.0.0.1:{port}/project")
        for _ in range(2):
            with pytest.raises(
                UserError, match=r"origin does not answer \(still running after 2 s"
            ):
                resolve(project.root, "main")


def test_a_checkout_is_the_commits_and_shares_what_is_dear(project: Project) -> None:
    commit = resolve(project.root, None)
    (project.root / "source.txt").write_text("not committed\n")
    with checkout(project.root, commit, "other: params\n") as root:
        there = Project(root)
        assert (root / "source.txt").read_text() == "one\n"
        assert (root / "params.yaml").read_text() == "other: params\n"
        assert there.call("git", "status", "--porcelain") == "M params.yaml"
        assert there.call("git", "rev-parse", "HEAD") == commit
        (root / ".checkpoints" / "kept").write_text("a checkpoint")
        remote = project.root.parent / "remote"
        assert there.call("dvc", "remote", "list").split()[:2] == ["store", str(remote)]
        assert there.call("dvc", "config", "remote.store.verify") == "True"
        cache = Path(there.call("dvc", "cache", "dir"))
        assert cache == project.root / ".dvc" / "cache"
    assert not root.exists()
    assert (project.root / ".checkpoints" / "kept").read_text() == "a checkpoint"


@pytest.mark.parametrize("named", ["--global", "--local"])
def test_data_is_verified_though_all_projects_of_a_machine_have_their_remote(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "home"))
    remote = project.root.parent / "remote"
    project.call("dvc", "remote", "remove", "store")
    project.commit("No remote")
    project.call("dvc", "remote", "add", "--global", "shared", str(remote))
    project.call("dvc", "remote", "default", named, "shared")
    with checkout(project.root, resolve(project.root, None)) as root:
        there = Project(root)
        assert there.call("dvc", "config", "core.remote") == "shared"
        assert there.call("dvc", "config", "remote.shared.url") == str(remote)
        assert there.call("dvc", "config", "remote.shared.verify") == "True"


def test_a_default_remote_that_nobody_has_is_one_line(project: Project) -> None:
    project.call("dvc", "config", "--local", "core.remote", "nowhere")
    with checkout(project.root, resolve(project.root, None)) as root, RunCache(root) as cache:
        with pytest.raises(UserError, match="DVC remote nowhere") as caught:
            cache.find("prepare", "0" * 64)
        assert "\n" not in str(caught.value)


def test_its_origin_is_that_of_the_project(project: Project) -> None:
    commit = resolve(project.root, None)
    with checkout(project.root, commit) as root:
        assert Project(root).call("git", "remote", "get-url", "origin") == str(project.root)
    project.call("git", "remote", "add", "origin", "https://git.example.com/team/project.git")
    with checkout(project.root, commit) as root:
        said = Project(root).call("git", "remote", "get-url", "origin")
    assert said == "https://git.example.com/team/project.git"


def test_what_a_dead_process_left_is_removed_and_what_lives_stays(project: Project) -> None:
    commit = resolve(project.root, None)
    program = (
        "import os, sys; from pathlib import Path; from tasks.isolated.checkout import checkout\n"
        "with checkout(Path(sys.argv[1]), sys.argv[2]) as root:\n"
        "    print(root, flush=True); os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", program, str(project.root), commit]
    died = subprocess.run(command, cwd=INSTALLED, capture_output=True, text=True, check=False)
    left = Path(died.stdout.strip())
    assert left.is_dir()
    with checkout(project.root, commit) as first, checkout(project.root, commit) as second:
        assert not left.exists()
        assert first.is_dir()
        assert second.is_dir()
    assert [entry.name for entry in (project.root / CHECKOUTS).iterdir()] == ["lock"]


def test_a_worker_with_other_code_or_packages_says_how_to_mend_it(project: Project) -> None:
    check_installed(project.root, resolve(project.root, None))  # it has no code of its own
    for room in ("flows", "tasks", "lcm_lora"):
        code = shutil.ignore_patterns("__pycache__", "weights")
        shutil.copytree(INSTALLED / room, project.root / room, ignore=code)
    lock = (
        "pydantic==9.9 \\\n    --hash=sha256:0\nnever-heard-of==1.0\nrich==1 ; python_version<'3'\n"
    )
    check_installed(project.root, project.commit("The same code"))
    (project.root / "tasks" / "running" / "slots.py").write_text("other = 1\n")
    with pytest.raises(
        UserError, match=r"installed tasks/running/slots.py not as in commit .*restart"
    ):
        check_installed(project.root, other := project.commit("Other code"))
    project.call("git", "checkout", "--quiet", f"{other}^", "--", "tasks")
    for stages_own in ("training/loop.py", "painting/paint.py", "cli.py"):
        (project.root / "lcm_lora" / stages_own).write_text("other = 1\n")
    (project.root / "lcm_lora" / "training" / "more.py").write_text("more = 1\n")
    check_installed(project.root, project.commit("Other training and painting"))
    with (project.root / "lcm_lora" / "params" / "distill.py").open("a") as params:
        params.write("more = 1\n")
    with pytest.raises(UserError, match=r"installed lcm_lora/params/distill.py not as in commit"):
        check_installed(project.root, other := project.commit("One parameter more"))
    project.call("git", "checkout", "--quiet", f"{other}^", "--", "lcm_lora")
    (project.root / "requirements.lock").write_text(lock)
    with pytest.raises(UserError, match=r"pydantic is [\d.]+, not ==9.9 in commit .*restart"):
        check_installed(project.root, project.commit("Other packages"))


def test_a_place_without_space_or_permission_is_one_line(project: Project) -> None:
    commit = resolve(project.root, None)
    (project.root / ".checkpoints").write_text("in the way")
    with (
        pytest.raises(UserError, match="move what is there out of the way"),
        checkout(project.root, commit),
    ):
        pass
