"""The champion is brought whole or not at all, and its alias moves only from who was compared."""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from recipes import recipe_of

from lcm_lora import layout
from lcm_lora.champion_record import Champion, read_champion
from lcm_lora.errors import UserError
from lcm_lora.files import sha256, write_json
from lcm_lora.gate.decision import Decision
from lcm_lora.params.file import load_params
from tasks.champions.champion import bring, current, is_overtaken
from tasks.champions.promotion import Move, crowned, promote
from tasks.registry import claim
from tasks.registry.claim import claimed
from tasks.registry.versions import Registered
from tasks.tracking.connecting import connect
from tasks.tracking.tracker import Tracker

PRESET = Path(__file__).parents[2] / "lcm_lora" / "presets" / "shapes.yaml"
REGISTRY = load_params(PRESET).registry.model_copy(update={"smoke": 0})
FILES = ("pytorch_lora_weights.safetensors", "adapter_kohya.safetensors")


@pytest.fixture
def tracker(mlflow_folder: Path, tmp_path: Path) -> Tracker:
    """A project folder of its own, at an MLflow that all share."""
    return Tracker(connect(mlflow_folder, "champions").client, "0", tmp_path)


@pytest.fixture
def name(tracker: Tracker, request: pytest.FixtureRequest) -> str:
    """A registered model of its own, without versions."""
    made = re.sub(r"\W", " ", request.node.name)
    tracker.client.create_registered_model(made)
    return made


def write_adapter(folder: Path, weights: str) -> str:
    """Write an adapter's three files; return the hash of its weights."""
    folder.mkdir(parents=True)
    for file in FILES:
        (folder / file).write_text(weights)
    digest = sha256(folder / FILES[0])
    write_json(folder / "recipe.json", recipe_of(digest))
    return digest


def add(tracker: Tracker, name: str, weights: str) -> Registered:
    """Register a version that carries an adapter, as runs do."""
    model = tracker.root / "store" / f"{name} {weights}"
    digest = write_adapter(model / "artifacts" / "adapter", weights)
    version = tracker.client.create_model_version(
        name, model.as_uri(), tags={"adapter_sha256": digest}
    )
    return Registered(name, str(version.version), is_new=True)


def crown(tracker: Tracker, version: Registered) -> Champion:
    tracker.client.set_registered_model_alias(version.name, "champion", version.version)
    found = current(tracker, version.name)
    assert found
    return found


def brought(tracker: Tracker) -> Path:
    return tracker.root / layout.BROUGHT


# --- bringing ---


def test_no_champion_is_a_note_that_there_is_none(tracker: Tracker, name: str) -> None:
    for model in (name, "no such model"):
        bring.fn(tracker, model)
        assert read_champion(brought(tracker)) is None
        assert [path.name for path in brought(tracker).iterdir()] == ["champion.json"]


def test_the_champion_is_brought_once(tracker: Tracker, name: str) -> None:
    add(tracker, name, "other")
    champion = crown(tracker, add(tracker, name, "weights"))
    bring.fn(tracker, name)
    assert read_champion(brought(tracker)) == champion
    assert champion.version == f"{name} version 2"
    adapter = brought(tracker) / "adapter"
    assert {path.name for path in adapter.iterdir()} == {*FILES, "recipe.json"}
    assert sha256(adapter / FILES[0]) == champion.weights_sha256

    shutil.rmtree(tracker.root / "store")  # it needs no more of the registry
    bring.fn(tracker, name)
    assert read_champion(brought(tracker)) == champion


def test_what_was_brought_and_is_damaged_is_brought_again(tracker: Tracker, name: str) -> None:
    champion = crown(tracker, add(tracker, name, "weights"))
    bring.fn(tracker, name)
    for file in ("champion.json", f"adapter/{FILES[0]}", "adapter/recipe.json"):
        (brought(tracker) / file).unlink()
        (brought(tracker) / file).write_text("{")
        bring.fn(tracker, name)
        assert read_champion(brought(tracker)) == champion
        assert (brought(tracker) / "adapter" / FILES[0]).read_text() == "weights"


def test_nobody_is_compared_with_himself(tracker: Tracker, name: str) -> None:
    """What the first look took over before stays what the adapter was compared with."""
    crown(tracker, add(tracker, name, "before"))
    bring.fn(tracker, name)
    crown(tracker, add(tracker, name, "own"))
    write_adapter(tracker.root / layout.ADAPTER, "own")
    assert not bring.fn(tracker, name)
    assert not brought(tracker).exists()
    assert bring.fn(tracker, name, for_new=True)  # another one is about to lie there
    assert read_champion(brought(tracker)) == current(tracker, name)


def test_an_adapter_that_was_not_pulled_is_known_by_the_lock(tracker: Tracker, name: str) -> None:
    version = add(tracker, name, "own")
    crown(tracker, version)
    tracker.client.set_model_version_tag(name, version.version, "adapter_md5", "abc.dir")
    lock = {"stages": {"select": {"outs": [{"path": "artifacts/adapter", "md5": "abc.dir"}]}}}
    (tracker.root / "dvc.lock").write_text(json.dumps(lock))
    assert not bring.fn(tracker, name)
    write_adapter(tracker.root / layout.ADAPTER, "another")  # what lies here counts more
    assert bring.fn(tracker, name)


@pytest.mark.parametrize("harm", ["gone", "other weights", "other tag", "no tag", "no recipe"])
def test_a_champion_that_is_not_as_registered_is_one_line(
    tracker: Tracker, name: str, harm: str
) -> None:
    version = add(tracker, name, "weights")
    adapter = tracker.root / "store" / f"{name} weights" / "artifacts" / "adapter"
    match harm:
        case "gone":
            shutil.rmtree(adapter)
        case "other weights":
            (adapter / FILES[0]).write_text("altered")
        case "other tag":
            tracker.client.set_model_version_tag(name, version.version, "adapter_sha256", "0")
        case "no tag":
            tracker.client.delete_model_version_tag(name, version.version, "adapter_sha256")
        case "no recipe":
            (adapter / "recipe.json").write_text(json.dumps({"form": "of before"}))
    tracker.client.set_registered_model_alias(name, "champion", version.version)
    wanted = rf"{name} version 1.*give the alias `champion` to another version"
    with pytest.raises(UserError, match=wanted) as caught:
        bring.fn(tracker, name)
    assert "\n" not in str(caught.value)
    assert not brought(tracker).exists()


# --- promoting ---


def decide(version: str, champion: Champion | None, promotes: bool = True) -> Decision:
    return Decision(
        promote=promotes,
        reason="so it is",
        champion=champion,
        adapter_sha256=version,
        protocol_sha256="protocol",
        rules=(),
    )


def promoted(tracker: Tracker, version: Registered, decision: Decision) -> Move:
    return promote.fn(tracker, version, decision, REGISTRY)


def aliases(tracker: Tracker, name: str) -> dict[str, str]:
    found = tracker.client.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def test_the_alias_follows_decisions_about_who_is_champion(tracker: Tracker, name: str) -> None:
    first, second, third = (add(tracker, name, weights) for weights in ("a", "b", "c"))
    moves = [promoted(tracker, first, decide("a", None))]
    champion = current(tracker, name)
    moves.append(promoted(tracker, first, decide("a", None)))
    moves.append(promoted(tracker, second, decide("b", champion, promotes=False)))
    assert aliases(tracker, name) == {"champion": "1", "challenger": "2"}
    moves.append(promoted(tracker, third, decide("c", champion)))
    assert aliases(tracker, name) == {"champion": "3"}
    moves.append(promoted(tracker, second, decide("b", champion)))
    assert moves == ["promoted", "champion already", "challenger", "promoted", "overtaken"]
    assert aliases(tracker, name) == {"champion": "3"}
    tags = tracker.client.get_model_version(name, "3").tags
    assert (tags["judged_against"], tags["gate"]) == (f"{name} version 1", "so it is")


def test_a_decision_is_overtaken_by_any_other_champion_but_its_own_adapter(
    tracker: Tracker, name: str
) -> None:
    rival = crown(tracker, add(tracker, name, "rival"))
    own = crown(tracker, add(tracker, name, "own"))
    decision = decide(own.weights_sha256, rival)
    assert not is_overtaken(tracker, name, decision)
    tracker.client.set_registered_model_alias(name, "champion", "1")
    assert not is_overtaken(tracker, name, decision)
    crown(tracker, add(tracker, name, "third"))
    assert is_overtaken(tracker, name, decision)
    tracker.client.delete_registered_model_alias(name, "champion")
    assert is_overtaken(tracker, name, decision)
    assert not is_overtaken(tracker, name, decide(own.weights_sha256, None))


def test_of_several_at_once_one_wins(tracker: Tracker, name: str) -> None:
    versions = [add(tracker, name, weights) for weights in ("a", "b", "c")]
    start = Barrier(len(versions))

    def go(version: Registered) -> Move:
        start.wait()
        return promoted(tracker, version, decide(version.version, None))

    with ThreadPoolExecutor() as pool:
        moves = list(pool.map(go, versions))
    assert sorted(moves) == ["overtaken", "overtaken", "promoted"]
    winner = versions[moves.index("promoted")]
    assert aliases(tracker, name) == {"champion": winner.version}
    assert tracker.client.get_registered_model(name).tags.keys() <= {"journal.head"}


def test_a_decision_is_carried_out_once(tracker: Tracker, name: str) -> None:
    """Whoever moves the alias back has the last word: after another decision a person is asked."""
    first, second = (add(tracker, name, weights) for weights in ("a", "b"))
    champion = crown(tracker, first)
    decision = decide("b", champion)
    assert promoted(tracker, second, decision) == "promoted"
    crown(tracker, first)
    assert promoted(tracker, second, decision) == "carried out before"
    assert aliases(tracker, name) == {"champion": "1"}
    anew = decision.model_copy(update={"protocol_sha256": "another"})
    assert promoted(tracker, second, anew) == "rolled back before"
    assert aliases(tracker, name) == {"champion": "1", "challenger": "2"}


def test_a_challenger_that_somebody_removes_stays_away(tracker: Tracker, name: str) -> None:
    champion = crown(tracker, add(tracker, name, "a"))
    second, decision = add(tracker, name, "b"), decide("b", champion, promotes=False)
    assert promoted(tracker, second, decision) == "challenger"
    tracker.client.delete_registered_model_alias(name, "challenger")
    assert promoted(tracker, second, decision) == "challenger"
    assert aliases(tracker, name) == {"champion": "1"}


def test_who_died_between_two_aliases_leaves_no_champion_that_is_challenger(
    tracker: Tracker, name: str
) -> None:
    version = add(tracker, name, "a")
    crown(tracker, version)
    tracker.client.set_registered_model_alias(name, "challenger", version.version)
    assert promoted(tracker, version, decide("a", None)) == "champion already"
    assert aliases(tracker, name) == {"champion": "1"}


class Meddling(MlflowClient):
    """A client during whose promotion somebody else moves the alias, who claims nothing."""

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:  # type: ignore[override]
        super().set_model_version_tag(name, version, key, value)
        self.set_registered_model_alias(name, "champion", "2")


def test_an_alias_that_moves_during_the_promotion_is_left_there(
    tracker: Tracker, name: str
) -> None:
    first, _, third = (add(tracker, name, weights) for weights in ("a", "b", "c"))
    champion = crown(tracker, first)
    meddled = Tracker(Meddling(), "0", tracker.root)
    assert promoted(meddled, third, decide("c", champion)) == "overtaken"
    assert aliases(tracker, name) == {"champion": "2"}


def test_a_champion_is_told_of_again_only_against_the_same_rival(
    tracker: Tracker, name: str
) -> None:
    rival = crown(tracker, add(tracker, name, "rival"))
    version = add(tracker, name, "own")
    own = sha256(tracker.root / "store" / f"{name} own" / "artifacts" / "adapter" / FILES[0])
    assert crowned(tracker, name, decide(own, rival)) is None
    promoted(tracker, version, decide(own, rival))
    assert crowned(tracker, name, decide(own, rival)) is None
    for other in (None, current(tracker, name)):
        found = crowned(tracker, name, decide(own, other))
        assert found == Registered(name, version.version, is_new=False)
    assert crowned(tracker, "no such model", decide(own, rival)) is None


# --- claiming ---


def count_together(tracker: Tracker, name: str, claimants: int, patience: float) -> int:
    """Have several claim at once; return how many were inside at the same time, at most."""
    start, lock, inside = Barrier(claimants), Lock(), [0, 0]

    def go(_: int) -> None:
        start.wait()
        with claimed(tracker.client, name, patience):
            with lock:
                inside[0] += 1
                inside[1] = max(inside)
            tracker.client.get_registered_model(name)
            with lock:
                inside[0] -= 1

    with ThreadPoolExecutor() as pool:
        list(pool.map(go, range(claimants)))
    assert tracker.client.get_registered_model(name).tags.keys() <= {"journal.head"}
    return inside[1]


def test_of_two_who_find_a_dead_claim_one_is_inside(tracker: Tracker, name: str) -> None:
    tracker.client.set_registered_model_tag(name, "claim.7", "held for moments")
    assert count_together(tracker, name, 2, patience=1.5) == 1


def test_a_claim_that_is_held_for_long_is_not_taken_for_dead(tracker: Tracker, name: str) -> None:
    patience, order = 4.0, list[str]()

    def wait_for_it() -> None:
        with claimed(tracker.client, name, patience):
            order.append("waiter")

    with ThreadPoolExecutor() as pool:
        with claimed(tracker.client, name, patience):
            waiter = pool.submit(wait_for_it)
            with pytest.raises(TimeoutError):
                waiter.result(timeout=1.25 * patience)
            order.append("holder")
        waiter.result()
    assert order == ["holder", "waiter"]


def test_a_claim_that_nobody_could_renew_is_not_taken_for_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the server is away for longer than the patience, its holder says nothing either."""
    now = [0.0]
    monkeypatch.setattr(claim, "time", SimpleNamespace(monotonic=lambda: now[0]))
    signs, held = claim._Signs(60.0), {"claim.7": "alive"}
    for at, dead in ((0, []), (75, []), (100, []), (130, []), (136, ["claim.7"])):
        now[0] = at
        assert signs.silent(held) == dead


def test_two_flows_at_the_same_adapter_are_two(tracker: Tracker, name: str) -> None:
    version, start = add(tracker, name, "a"), Barrier(2)

    def go(_: int) -> Move:
        start.wait()
        return promoted(tracker, version, decide("a", None))

    with ThreadPoolExecutor() as pool:
        moves = sorted(pool.map(go, range(2)))
    assert moves == ["champion already", "promoted"]
    assert count_together(tracker, name, 3, patience=60) == 1
