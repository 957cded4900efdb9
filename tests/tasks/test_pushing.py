"""What a version was made of is at the DVC remote, or the push says in one line why not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lcm_lora.errors import UserError
from tasks.registry.pushing import NO_REMOTE, push

pytestmark = pytest.mark.usefixtures("warm_starts")

CMD = "mkdir -p folder && cp given folder/one && cp given folder/two && echo 2 > file"
STAGE = {"cmd": CMD, "deps": ["given"], "outs": ["folder", "file"]}


def dvc(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "-q"], cwd=root, check=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project that has run, with a remote."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "dvc.yaml").write_text(json.dumps({"stages": {"make": STAGE}}))
    (project / "given").write_text("one")
    dvc(project, "init", "--no-scm")
    dvc(project, "remote", "add", "-d", "store", str(tmp_path / "remote"))
    dvc(project, "repro")
    return project


def test_all_is_there_for_whoever_has_the_lock_alone(root: Path, tmp_path: Path) -> None:
    assert push(root) == "store"
    shutil.rmtree(root / ".dvc" / "cache")
    for path in ("folder", "file"):
        dvc(root, "unprotect", path)
    shutil.rmtree(root / "folder")
    assert push(root) == "store"  # nothing is here any more, all is there
    dvc(root, "pull")
    assert (root / "folder" / "two").read_text() == "one"
    assert len(list((tmp_path / "remote" / "runs").glob("*/*/*"))) == 1


def test_a_project_without_a_remote_keeps_all_to_itself(root: Path) -> None:
    dvc(root, "remote", "remove", "store")
    assert push(root) == NO_REMOTE


@pytest.mark.parametrize("lost", ["*.dir", "[!r]*/[!.]??*[!r]"])
def test_what_is_neither_here_nor_there_is_refused(root: Path, lost: str) -> None:
    """DVC's own push ends well over it."""
    files = root / ".dvc" / "cache" / "files" / "md5"
    gone = [path for path in files.glob("*/*") if path.match(lost)]
    assert gone
    for path in gone:
        path.unlink()
    with pytest.raises(UserError, match=r"DVC remote store: .*folder.*: neither here nor there"):
        push(root)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("{}/given/within", "Not a directory"),
        ("s3://bucket/place", "credentials"),
        ("ssh://nobody@127.0.0.1/place", "ssh is supported, but requires"),
    ],
)
def test_an_unusable_remote_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    dvc(root, "remote", "modify", "store", "url", url.format(root))
    with pytest.raises(UserError, match=said) as caught:
        push(root)
    assert str(caught.value).startswith("DVC remote store: ")
    assert "\n" not in str(caught.value)
