"""By hashes alone is known what a stage would make, and found who has made it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_project import Project, entries

from lcm_lora.errors import UserError
from tasks.isolated.checkout import checkout, resolve
from tasks.isolated.desk import desk
from tasks.running.run_cache import RunCache, key_of, take


@pytest.fixture(scope="session")
def _made(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = fresh.copy(tmp_path_factory.mktemp("made"))
    project.call("dvc", "repro", "--quiet")
    with RunCache(project.root) as cache:
        for name, entry in entries(project.root).items():
            (cache.push if name == "inventory" else cache.publish)(entry)
    project.call("rm", "-r", "data", "artifacts", ".dvc/cache")
    return project


@pytest.fixture
def made(_made: Project, tmp_path: Path) -> Project:
    """The project after all its stages have run, and all that they made at the remote alone."""
    return _made.copy(tmp_path)


def test_who_has_no_data_knows_every_key_and_finds_every_entry(made: Project) -> None:
    lock = entries(made.root)
    with checkout(made.root, resolve(made.root, None)) as root:
        take(root / "dvc.lock", {"inventory": lock["inventory"]})
        with RunCache(root) as cache:
            assert cache.key("inventory") is None
            for name in [name for name in lock if name != "inventory"]:
                key = cache.key(name)
                assert key == key_of(lock[name]), name
                assert cache.find(name, key) == lock[name], name
                take(root / "dvc.lock", {name: lock[name]})
            assert list(cache.inputs("score")) == ["prepare", "paint@teacher", "paint@student"]
            cache.fetch(["artifacts/sc*", "data/*/b"])
        assert entries(root) == lock
        files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
        assert {f for f in files if f.startswith(("data", "artifacts"))} == {
            "artifacts/scores.txt",
            "data/shards/b",
        }


def test_what_dvc_lock_says_of_inputs_of_before_is_in_no_key(made: Project) -> None:
    lock = entries(made.root)
    (made.root / "source.txt").write_text("two\n")
    with (made.root / "note.sh").open("a") as code:
        code.write("# other code\n")
    made.commit("Other code and data")
    with checkout(made.root, resolve(made.root, None)) as root, RunCache(root) as cache:
        take(root / "dvc.lock", lock)
        there = Project(root)
        there.call("dvc", "repro", "--quiet", "--single-item", "inventory")
        for name in [name for name in lock if name != "inventory"]:
            key = cache.key(name)
            there.call("dvc", "repro", "--quiet", "--single-item", name)
            assert key == key_of(entries(root)[name]) != key_of(lock[name]), name


def test_an_input_that_nobody_made_has_no_key(made: Project) -> None:
    lock = entries(made.root)
    (made.root / "dvc.lock").unlink()
    take(made.root / "dvc.lock", {name: lock[name] for name in ("prepare", "paint@teacher")})
    with RunCache(made.root) as cache, pytest.raises(UserError, match="artifacts/images/student"):
        cache.key("score")


def test_an_entry_counts_only_with_all_that_it_names(made: Project) -> None:
    lock, remote = entries(made.root), made.root.parent / "remote"
    with RunCache(made.root) as cache:
        key = key_of(lock["prepare"])
        (kept,) = (remote / "runs" / key[:2] / key).iterdir()
        text = kept.read_text()
        kept.chmod(0o644)
        kept.write_text(text.replace("min_side", "max_side"))
        assert cache.find("prepare", key) is None
        kept.write_text(text)
        assert cache.find("prepare", key) == lock["prepare"]
        for file in sorted((remote / "files").rglob("*")):
            if file.is_file() and file.read_text() == "b\n":
                file.unlink()
        assert cache.find("prepare", key) is None


def test_a_folder_that_the_remote_lost_is_one_line_and_its_stage_is_known_no_more(
    made: Project,
) -> None:
    lock, remote = entries(made.root), made.root.parent / "remote"
    value = lock["prepare"]["outs"][0]["md5"]
    (remote / "files" / "md5" / value[:2] / value[2:]).unlink()
    with RunCache(made.root) as cache:
        for lost in (lambda: cache.pull([Path("data/shards")]), lambda: cache.fetch(["data/*/b"])):
            with pytest.raises(UserError, match=f"^data/shards {value}: neither in DVC's cache"):
                lost()
        assert cache.find("prepare", key_of(lock["prepare"])) is None


def test_a_desk_starts_anew_where_the_remote_lost_what_it_looks_at_again(made: Project) -> None:
    graph, command = made.root / "dvc.yaml", "cmd: mkdir -p data && "
    out = "      - data/look.txt: {persist: true}\n"
    text = graph.read_text().replace(out, out + "      - data/looks: {persist: true}\n")
    more = "mkdir -p data/looks && cp source.txt data/looks && "
    graph.write_text(text.replace(command, command + more))
    made.call("dvc", "repro", "--quiet", "--single-item", "inventory")
    made.call("rm", "-r", "data", ".dvc/cache")
    commit = made.commit("A folder that is looked at again, and never was pushed")
    with checkout(made.root, commit) as root, desk(root, commit, None):
        assert not (root / "dvc.lock").exists()


def test_a_password_in_the_address_of_a_remote_is_in_no_line(made: Project) -> None:
    address = "http://worker:secret@127.0.0.1:9/remote"
    made.call("dvc", "remote", "modify", "store", "url", address)
    with RunCache(made.root) as cache, pytest.raises(UserError) as caught:
        cache.pull([Path("data/look.txt")])
    assert str(caught.value).startswith("DVC remote store (http://127.0.0.1:9/remote): ")


def test_a_remote_that_cannot_be_used_or_is_damaged_is_one_line(made: Project) -> None:
    key, remote = key_of(entries(made.root)["prepare"]), made.root.parent / "remote"
    for file in (remote / "files").rglob("*"):
        if file.is_file() and file.read_text() == "b\n":
            file.chmod(0o644)
            file.write_text("B\n")
    with checkout(made.root, resolve(made.root, None)) as root:
        take(root / "dvc.lock", entries(made.root))
        with RunCache(root) as cache:
            with pytest.raises(UserError, match=r"DVC remote store \(.*remote\)"):
                cache.pull([Path("data/shards")])
            assert not (root / "data" / "shards" / "b").exists()
    made.call("mv", str(remote), str(remote.with_name("moved")))
    remote.write_text("no folder")
    with RunCache(made.root) as cache, pytest.raises(UserError) as caught:
        cache.publish(entries(made.root)["prepare"])
    assert str(caught.value).startswith(f"DVC remote store ({remote}): ")
    assert "\n" not in str(caught.value)
    made.call("dvc", "remote", "default", "--unset")
    with RunCache(made.root) as cache, pytest.raises(UserError, match="no default remote"):
        cache.find("prepare", key)
