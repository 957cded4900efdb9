"""The desk of an isolated run: what is known is taken from the run-cache, the rest is ordered.

The desk is a checkout that needs no data. It knows of each stage what goes in, by hashes, and so
the key of what has to come out. A worker is asked only for what nobody has made of the same before;
and when it has ended, the desk looks for that very key, so there is nothing else to hand over.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.files import write_bytes
from lcm_lora.params.plain import read_yaml
from lcm_lora.store import shared_store
from tasks.isolated.dispatch import at_once, have_made
from tasks.isolated.request import Order
from tasks.isolated.station import named
from tasks.registry.evidence import LOCK, Evidence
from tasks.running.graph import Stage, entries, locked
from tasks.running.run_cache import RunCache, take
from tasks.running.stage import Outcome, StageError, Watch, Workshop, reproduce
from tasks.tracking.tracker import Tracker

_RETRIES = 2
"""So often a stage is sent again whose worker died, where dvc.yaml does not say."""


class Desk(Workshop):
    """A checkout whose stages run on the workers of their pools."""

    def __init__(self, root: Path, commit: str, cache: RunCache) -> None:
        """Work on a commit, in its checkout `root`; see `desk`."""
        super().__init__(root, workers=1)
        self._commit = commit
        self._cache = cache
        # DVC is not for several threads, nor is dvc.lock for several writers.
        self._turn = threading.Lock()

    def update(
        self,
        stage: Stage,
        upstream: list[Outcome],
        on_line: Callable[[str], None],
        watch: Watch | None,
    ) -> Outcome:
        """Take a stage from the run-cache, or have it made; one that is never kept runs here."""
        with self._turn:
            key = self._cache.key(stage.name)
            if key is None:
                return self._make_here(stage, on_line, watch)
            if known := self._taken(stage, key):
                return known
            order = self._order(stage, key)
        started = time.monotonic()
        pool, retries = str(stage.meta.get("pool", "cpu")), int(stage.meta.get("retries", _RETRIES))
        if stage.meta.get("shares") and shared_store() is not None:
            self._have_shares_made(order, pool, retries, on_line)

        def is_made() -> bool:
            with self._turn:
                return self._cache.find(stage.name, key) is not None

        have_made(order, pool, retries, on_line, self.stop, is_made)
        with self._turn:
            made = self._taken(stage, key)
        if made is None:
            raise StageError("its worker has ended well, but the remote lacks what it made")
        return Outcome(stage.name, "Ran", time.monotonic() - started, made.is_new)

    def _have_shares_made(
        self, order: Order, pool: str, retries: int, on_line: Callable[[str], None]
    ) -> None:
        """Have as many workers as there are make a share each, so that little is left to one."""
        count = at_once(pool, self.stop)
        if count < 2:
            return
        shares = [f"{number}/{count}" for number in range(1, count + 1)]
        orders = [order.model_copy(update={"share": share}) for share in shares]
        with ThreadPoolExecutor(count) as threads:
            made = [
                # Prefect knows by the context which server it asks.
                threads.submit(
                    copy_context().run, have_made, one, pool, retries, on_line, self.stop
                )
                for one in orders
            ]
        for one in made:
            one.result()

    def bring_back(self, patterns: Sequence[str]) -> None:
        """Bring files of outputs into the folder, by shell patterns of their paths."""
        with self._turn:
            self._cache.fetch(patterns)

    def _make_here(
        self, stage: Stage, on_line: Callable[[str], None], watch: Watch | None
    ) -> Outcome:
        outcome = reproduce(stage, self, on_line, watch)
        self._cache.push(entries(self.root / LOCK)[stage.name])
        return outcome

    def _taken(self, stage: Stage, key: str) -> Outcome | None:
        """Take an entry that is known into dvc.lock; None if none is."""
        entry = self._cache.find(stage.name, key)
        if entry is None:
            return None
        before = entries(self.root / LOCK).get(stage.name)
        if entry == before:
            return Outcome(stage.name, "Unchanged")
        take(self.root / LOCK, {stage.name: entry})
        hashes = locked(self.root)
        is_new = any(hashes.get(path) != last for path, last in stage.outputs.items())
        return Outcome(stage.name, "Restored", is_new=is_new)

    def _order(self, stage: Stage, key: str) -> Order:
        return Order(
            stage=stage.name,
            key=key,
            commit=self._commit,
            params=(self.root / layout.PARAMS).read_text(),
            inputs=self._cache.inputs(stage.name),
        )


@contextlib.contextmanager
def desk(root: Path, commit: str, last: bytes | None) -> Iterator[Desk]:
    """Yield the desk of a run.

    Args:
        root: The checkout.
        commit: Its full hash.
        last: A dvc.lock of before, by which is known what changes; for a commit that has none.

    Raises:
        UserError: What the repository tracks and parameters name cannot be had.
    """
    if last is not None and not (root / LOCK).exists():
        write_bytes(root / LOCK, last)
    with RunCache(root) as cache:
        cache.pull(named(cache.tracked(), read_yaml(root / layout.PARAMS)))
        try:
            cache.pull(cache.persistent())
        except UserError:  # so nothing is known of before
            (root / LOCK).unlink()
        yield Desk(root, commit, cache)


def last_lock(tracker: Tracker, name: str) -> bytes | None:
    """Return the dvc.lock of the newest version of a registered model that has one.

    It decides nothing: what it says is believed of nothing whose inputs are not the same now.
    """
    query = f"name = '{name}'"
    versions = tracker.client.search_model_versions(query, order_by=["version_number DESC"])
    for version in versions:
        with contextlib.suppress(UserError), tempfile.TemporaryDirectory() as folder:
            return Evidence(version, Path(folder)).file(LOCK).read_bytes()
    return None
