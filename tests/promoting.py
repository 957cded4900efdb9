"""Registered models whose versions carry an adapter each, and clients that come to harm."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from recipes import recipe_of

from lcm_lora.errors import UserError
from lcm_lora.files import sha256, write_json
from tasks.champions.activation import activate, opened
from tasks.history import journal
from tasks.history.entry import Note

WEIGHTS, KOHYA = "pytorch_lora_weights.safetensors", "adapter_kohya.safetensors"


@contextlib.contextmanager
def mlflow_in(folder: Path) -> Iterator[MlflowClient]:
    """Yield a client of an MLflow on SQLite, which all of MLflow uses during the block."""
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        yield MlflowClient()


class Model:
    """A registered model, and what somebody sees of it who looks at MLflow."""

    def __init__(self, client: MlflowClient, name: str, store: Path) -> None:
        self.client, self.name, self.store = client, name, store
        client.create_registered_model(name)

    def add(self, weights: str) -> str:
        """Register a version, whose number is returned."""
        made = self.adapter(weights)
        made.mkdir(parents=True, exist_ok=True)
        for file in (WEIGHTS, KOHYA):
            (made / file).write_text(weights)
        digest = sha256(made / WEIGHTS)
        write_json(made / "recipe.json", recipe_of(digest))
        source = made.parents[1].as_uri()
        version = self.client.create_model_version(
            self.name, source, tags={"adapter_sha256": digest}
        )
        return str(version.version)

    def adapter(self, weights: str) -> Path:
        """Where the adapter of a version lies."""
        return self.store / self.name / weights / "artifacts" / "adapter"

    @property
    def aliases(self) -> dict[str, str]:
        found = self.client.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in found.items()}

    def point(self, alias: str, version: str) -> None:
        """Give an alias to a version, by hand."""
        self.client.set_registered_model_alias(self.name, alias, version)

    def forget_claims(self) -> None:
        """Let the minute pass after which the claims of the dead are removed."""
        for tag in self.client.get_registered_model(self.name).tags:
            if tag.startswith("claim."):
                self.client.delete_registered_model_tag(self.name, tag)


Harm = Literal["killed", "refused", "answer lost"]


class KilledError(BaseException):
    """The process is gone; nothing it would do afterwards happens."""


class Dying:
    """A client to which something happens at one of its calls."""

    def __init__(self, client: MlflowClient, harm: Harm | None = None, at: int = 0) -> None:
        self._client, self._harm, self._at = client, harm, at
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return self._counted(found) if callable(found) else found

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self._harm == "killed" and self.calls >= self._at:
                raise KilledError
            if self._harm == "refused" and self.calls == self._at:
                raise MlflowException("no answer")
            answer = call(*args, **kwargs)
            if self._harm == "answer lost" and self.calls == self._at:
                raise MlflowException("no answer")
            return answer

        return counted


BEFORE, AFTER = {"champion": "1", "challenger": "2"}, {"champion": "2"}
NOTE = Note(version="2", before="1", by="Anna", why="better rings", approval="person")


def entered(model: Model) -> list[str]:
    return [f"{e.kind} {e.version}" for e in journal.read(model.client, model.name)]


def cut_short(client: MlflowClient, folder: Path, harm: Harm, at: int) -> bool:
    """Promote in a model of its own with harm at a call; return whether there was such a call."""
    model = Model(client, f"{harm} {at}", folder)
    for weights in ("a", "b"):
        model.add(weights)
    model.point("champion", "1")
    model.point("challenger", "2")
    dying = Dying(client, harm, at)
    with contextlib.suppress(KilledError, UserError, MlflowException):
        activate(dying, model.name, NOTE, pictures=0)  # type: ignore[arg-type]
    model.forget_claims()
    with opened(client, model.name):  # somebody comes next, whatever for
        pass
    ends = [["by hand 1"], *(["by hand 1", "intent 2", end] for end in ("failed 2", "champion 2"))]
    happened = entered(model)
    assert happened in [*ends, ["by hand 1", "failed 2"]], at
    assert model.aliases == (AFTER if happened == ends[-1] else BEFORE), at
    assert journal.verify(client, model.name) == [], at
    return dying.calls >= at
