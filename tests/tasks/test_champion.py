"""The champion is brought whole or not at all, and its alias moves only from who was compared."""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from recipes import recipe_of

from lcm_lora import layout
from lcm_lora.champion import read_champion
from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import Champion
from lcm_lora.files import sha256, write_json
from lcm_lora.gate.decision import Decision
from tasks import claim
from tasks.champion import bring, current, is_overtaken
from tasks.registry import Move, Registered, promote
from tasks.tracking import Tracker, connect

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
    bring.fn(tracker, name)
    assert not brought(tracker).exists()


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


def aliases(tracker: Tracker, name: str) -> dict[str, str]:
    found = tracker.client.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def test_the_alias_follows_decisions_about_who_is_champion(tracker: Tracker, name: str) -> None:
    first, second, third = (add(tracker, name, weights) for weights in ("a", "b", "c"))
    moves = [promote.fn(tracker, first, decide("a", None))]
    champion = current(tracker, name)
    moves.append(promote.fn(tracker, first, decide("a", None)))
    moves.append(promote.fn(tracker, second, decide("b", champion, promotes=False)))
    assert aliases(tracker, name) == {"champion": "1", "challenger": "2"}
    moves.append(promote.fn(tracker, third, decide("c", champion)))
    assert aliases(tracker, name) == {"champion": "3"}
    moves.append(promote.fn(tracker, second, decide("b", champion)))
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
        return promote.fn(tracker, version, decide(version.version, None))

    with ThreadPoolExecutor() as pool:
        moves = list(pool.map(go, versions))
    assert sorted(moves) == ["overtaken", "overtaken", "promoted"]
    winner = versions[moves.index("promoted")]
    assert aliases(tracker, name) == {"champion": winner.version}
    assert tracker.client.get_registered_model(name).tags == {}


def test_the_claim_of_one_who_died_holds_nobody_for_long(
    tracker: Tracker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_SECONDS", 0.2)
    tracker.client.set_registered_model_tag(name, "claim.7", "held for moments")
    assert promote.fn(tracker, add(tracker, name, "a"), decide("a", None)) == "promoted"
    assert tracker.client.get_registered_model(name).tags == {}
