"""A worker makes what is ordered of what is ordered, and hands it over whole or not at all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import Project, entries

from lcm_lora.errors import UserError
from lcm_lora.store import ENVIRONMENT
from tasks.isolated.checkout import CHECKOUTS, checkout, resolve
from tasks.isolated.desk import desk
from tasks.isolated.request import Order
from tasks.isolated.station import carry_out
from tasks.running.cost import of_shares
from tasks.running.run_cache import RunCache, take
from tasks.running.stage import StageError

ROOT = Path(__file__).parents[2]


def order_of(project: Project, stage: str, **changed: object) -> Order:
    """Return the order of a stage, by the project's dvc.lock."""
    with RunCache(project.root) as cache:
        order = Order(
            stage=stage,
            key=str(cache.key(stage)),
            commit=resolve(project.root, None),
            params=(project.root / "params.yaml").read_text(),
            inputs=cache.inputs(stage),
        )
    return order.model_copy(update=changed)


def remote_of(project: Project) -> list[str]:
    """Return what is at the remote, but for the first look."""
    return sorted(str(p) for p in (project.root.parent / "remote").rglob("*") if p.is_file())


@pytest.fixture
def looked(project: Project) -> Project:
    """The project after its first look, which is at the remote."""
    project.call("dvc", "repro", "--quiet", "--single-item", "inventory")
    with RunCache(project.root) as cache:
        cache.push(entries(project.root)["inventory"])
    return project


def test_a_worker_makes_what_is_ordered_and_leaves_nothing_else(
    looked: Project, tmp_path: Path
) -> None:
    worker, order, lines = looked.clone(tmp_path / "worker"), order_of(looked, "prepare"), []
    worker.call("dvc", "remote", "modify", "--local", "store", "url", str(tmp_path / "remote"))
    assert carry_out(worker.root, order, lines.append).verdict == "Ran"
    assert worker.started() == ["prepare"]
    with RunCache(looked.root) as cache:
        entry = cache.find("prepare", order.key)
    assert entry is not None
    take(looked.root / "dvc.lock", {"prepare": entry})
    assert [path.name for path in (worker.root / CHECKOUTS).iterdir()] == ["lock"]
    assert not (worker.root / "data").exists()

    other = order_of(looked, "paint@teacher", key="0" * 64)
    before = remote_of(looked)
    with pytest.raises(StageError, match="made of something else than was ordered"):
        carry_out(worker.root, other, lines.append)
    assert remote_of(looked) == before
    # What it made is known here by what it is; so nothing is made twice for the right order.
    right = order_of(looked, "paint@teacher")
    assert carry_out(worker.root, right, lines.append).verdict == "Restored"
    assert worker.started() == ["teacher"]


def test_a_share_hands_nothing_over_and_its_cost_is_known_by_what_it_is_for(
    looked: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (looked.root / "dvc.yaml").open("a") as graph:
        graph.write(
            "  encode: {cmd: sh note.sh encode, deps: [data/look.txt], outs: [data/cache],"
            " meta: {pool: cpu, shares: true}}\n"
        )
    looked.commit("A stage in shares")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "store"))
    order, before = order_of(looked, "encode"), remote_of(looked)
    for share in ("1/2", "2/2"):
        part = order.model_copy(update={"share": share})
        assert carry_out(looked.root, part, print).verdict == "Ran"
    assert looked.started() == ["encode --share 1/2", "encode --share 2/2"]
    assert remote_of(looked) == before
    assert [cost.gpus for cost in of_shares(order.key)] == [0, 0]
    assert of_shares("0" * 64) == []


def test_what_a_worker_cannot_do_is_one_line_and_nothing_is_handed_over(looked: Project) -> None:
    order, before = order_of(looked, "prepare"), remote_of(looked)
    gone = [{"path": "data/look.txt", "hash": "md5", "md5": "0" * 32}]
    wrong = {
        "revision 000.* nor its origin knows it": {"commit": "0" * 40},
        "store .* does not have data/look.txt": {"inputs": {"inventory": gone}},
        "nothing: dvc.yaml has no such stage": {"stage": "nothing"},
    }
    for words, changed in wrong.items():
        with pytest.raises(UserError, match=words) as caught:
            carry_out(looked.root, order.model_copy(update=changed), print)
        assert "\n" not in str(caught.value)
    looked.call("sh", "-c", "echo 'echo error: no such thing; exit 1' > note.sh")
    looked.commit("A stage that fails")
    with pytest.raises(StageError, match=r"^no such thing$"):
        carry_out(looked.root, order_of(looked, "prepare"), print)
    assert remote_of(looked) == before
    assert [path.name for path in (looked.root / CHECKOUTS).iterdir()] == ["lock"]


FULL = """
import logging, resource, sys
from flows import run_stage
from tasks.isolated.request import Order
order = Order.model_validate_json(sys.stdin.read())
run_stage.get_run_logger = logging.getLogger
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))
state = run_stage.run_stage.fn(order)
print(state.type.value, state.message, sep="\\t")
"""


def test_a_full_disk_is_one_line_and_nothing_is_handed_over(looked: Project) -> None:
    (looked.root / "large.bin").write_bytes(os.urandom(20_000))
    looked.call("dvc", "add", "--quiet", "large.bin")
    looked.call("dvc", "push", "--quiet", "large.bin")
    text = (looked.root / "params.yaml").read_text()
    (looked.root / "params.yaml").write_text(text.replace("model: shapes", "model: ./large.bin"))
    looked.commit("A large base")
    order, before = order_of(looked, "prepare"), remote_of(looked)
    looked.call("rm", "-r", "large.bin", ".dvc/cache")
    done = subprocess.run(
        [sys.executable, "-c", FULL],
        cwd=ROOT,
        env={**os.environ, "LCM_LORA_PROJECT": str(looked.root)},
        input=order.model_dump_json(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kind, message = done.stdout.splitlines()[-1].split("\t")
    assert kind == "FAILED"
    assert "\n" not in message
    assert re.search("no space left|the disk is full", message), message
    assert remote_of(looked) == before
    assert [path.name for path in (looked.root / CHECKOUTS).iterdir()] == ["lock"]
    assert carry_out(looked.root, order, print).verdict == "Ran"


def test_what_the_repository_tracks_and_parameters_name_is_there(project: Project) -> None:
    (project.root / "photos").mkdir()
    (project.root / "photos" / "one.png").write_text("a picture")
    (project.root / "unnamed").mkdir()
    (project.root / "unnamed" / "two.png").write_text("another")
    project.call("dvc", "add", "--quiet", "photos", "unnamed")
    project.call("dvc", "push", "--quiet")
    project.commit("Photographs")
    text = (project.root / "params.yaml").read_text()
    (project.root / "params.yaml").write_text(text.replace("model: shapes", "model: ./photos"))
    commit = project.commit("Named")
    project.call("rm", "-r", "photos", "unnamed", ".dvc/cache")
    with checkout(project.root, commit) as root, desk(root, commit, None):
        assert (root / "photos" / "one.png").read_text() == "a picture"
        assert not (root / "unnamed").exists()
