"""DVC's run-cache: what a stage made of the same inputs before, found by a key of them.

A key needs no data: inputs are known by their hashes, so whoever has the code, the parameters and
what the stages before left in dvc.lock can tell whether a stage has to run at all.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dvc.config import NoRemoteError
from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils import dict_sha256
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree
from ruamel.yaml import YAML, YAMLError

from lcm_lora.errors import UserError, reason, without_passwords
from lcm_lora.files import link, write_bytes
from tasks.running.graph import entries, locked, touch

Entry = Mapping[str, Any]
"""Of a stage in dvc.lock: its command, and the paths and hashes of its inputs and outputs."""

_NO_CONTENT = ["size", "nfiles"]
"""What an entry says of a file beside its hash; DVC leaves it out of keys."""
_FOLDER = ".dir"
"""What the hash of a folder ends in."""
_MEND = "mend its address, your access to it or its space"
_NO_REMOTE = (
    "DVC: no default remote, where machines hand over what they make; name one by "
    "`dvc remote add --default NAME URL`"
)
_RUNS = "runs"
"""Where both, DVC's cache and a remote, keep entries."""


def key_of(entry: Entry) -> str:
    """Return the key of a stage's entry in dvc.lock: over its command, inputs and outputs' names.

    Equal keys mean equal inputs, so whoever knows the key knows of what an output was made.
    """
    inputs = {**entry, "outs": [out["path"] for out in entry.get("outs", [])]}
    return str(dict_sha256(inputs, exclude=_NO_CONTENT))


def take(lock: Path, made: Mapping[str, Entry]) -> None:
    """Replace stages' entries in a dvc.lock in one step; nobody else may write it meanwhile."""
    write_bytes(lock, _text({"schema": "2.0", "stages": {**entries(lock), **made}}))


class RunCache:
    """The run-cache of a project, with that of its default remote; for one thread at a time."""

    def __init__(self, root: Path) -> None:
        """Open the project in the folder `root`, whose dvc.yaml stays as it is meanwhile."""
        self._root = root.resolve()
        self._repo = Repo(str(self._root))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._repo.close()

    def key(self, name: str) -> str | None:
        """Return the key of what a stage would make now; None for a stage that is never kept.

        Raises:
            UserError: An input is neither here nor made by a stage that dvc.lock has.
        """
        stage = self._stages()[name]
        if stage.always_changed or not stage.deps or any(out.persist for out in stage.outs):
            return None
        try:
            made = self._made()
            for dep in stage.deps:
                dep.hash_info = self._hash_of(dep, made)
                dep.meta = Meta()  # that of dvc.lock repeats the hash of before, and would win
        except DvcException as error:
            raise UserError(f"{name}: {' '.join(str(error).split())}") from None
        return key_of(to_single_stage_lockfile(stage))

    def inputs(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """Return what other stages made that a stage reads, as dvc.lock names it, by stage."""
        deps = [path for dep in self._stages()[name].deps if (path := self._path(dep))]
        read = {path for path in self._made() if any(touch(path, dep) for dep in deps)}
        wanted: dict[str, list[dict[str, Any]]] = {}
        lock = entries(self._root / "dvc.lock")
        for stage in self._stages():
            outs = lock.get(stage, {}).get("outs", [])
            if ours := [out for out in outs if Path(out["path"]) in read]:
                wanted[stage] = ours
        return wanted

    def find(self, name: str, key: str) -> Entry | None:
        """Return an entry with a key whose outputs the remote has; None without one.

        That of dvc.lock comes first, if it is kept; then whichever does by its content, so that
        all who look find the same. What is here alone is brought to the remote, for the workers.

        Raises:
            UserError: The remote cannot be used.
        """
        last = entries(self._root / "dvc.lock").get(name)
        with self._remote():
            kept = self._kept_here(key) | self._kept_there(key)
            for entry in sorted(kept.values(), key=lambda entry: (entry != last, _value_of(entry))):
                if self._can_be_had(entry):
                    self.publish(entry)
                    return entry
        return None

    def publish(self, entry: Entry) -> None:
        """Bring an entry to the remote, its outputs first, as far as they are not there.

        Raises:
            UserError: The remote does not take them.
        """
        self.push(entry)
        with self._remote():
            odb = self._repo.cloud.get_remote_odb(hash_name="md5-dos2unix")
            key, value = key_of(entry), _value_of(entry)
            place = odb.fs.join(odb.path, _RUNS, key[:2], key, value)
            if not odb.fs.exists(place):
                write_bytes(here := self._kept(key) / value, _text(entry))
                odb.fs.makedirs(odb.fs.parent(place), exist_ok=True)
                odb.fs.put_file(str(here), place)

    def push(self, entry: Entry) -> None:
        """Bring the outputs of an entry to the remote, as far as they are not there.

        Raises:
            UserError: The remote does not take them.
        """
        with self._remote():
            self._repo.cloud.push(self._objects(entry))

    def pull(self, paths: Sequence[Path]) -> None:
        """Bring whole outputs into the folder that dvc.lock or a .dvc file names.

        Raises:
            UserError: The remote does not have them, or other content than their hashes say.
        """
        if not paths:
            return
        self._repo._reset()  # it remembers the dvc.lock of before
        outs = {path: out for out in self._repo.index.outs if (path := self._path(out))}
        files = [
            file for path in paths for file in self._files_of(path, outs[path].hash_info.value)
        ]
        self._bring(dict(files))
        with self._remote():
            self._repo.checkout([str(self._root / path) for path in paths], force=True)

    def fetch(self, patterns: Sequence[str]) -> None:
        """Bring files of outputs into the folder, which dvc.lock names and patterns match.

        Args:
            patterns: Of paths in the project; `*` is any text, slashes included.

        Raises:
            UserError: The remote does not have one, or other content than its hash says.
        """
        wanted = {
            path: info
            for path, info in self._files()
            if any(fnmatch.fnmatch(str(path), pattern) for pattern in patterns)
        }
        self.lay_out(wanted, self._root)

    def held(self, path: Path, value: str) -> dict[Path, HashInfo]:
        """Return the files of a folder as it was when its hash was `value`, by their paths in it.

        Raises:
            UserError: Neither the cache nor the remote knows that any more.
        """
        return {file.relative_to(path): info for file, info in self._files_of(path, value)}

    def lay_out(self, files: Mapping[Path, HashInfo], folder: Path) -> None:
        """Put files into a folder, at their paths in it.

        Raises:
            UserError: One is neither in the cache nor in the remote, or is not what its hash says.
        """
        self._bring(files)
        for path, info in files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            link(Path(self._repo.cache.local.oid_to_path(info.value)), place)

    def persistent(self) -> list[Path]:
        """Return the outputs in dvc.lock that their stages look at when they run again."""
        made = self._made()
        outs = [out for stage in self._stages().values() for out in stage.outs if out.persist]
        return [path for out in outs if (path := self._path(out)) and made[path]]

    def tracked(self) -> list[Path]:
        """Return what .dvc files track, by path in the project."""
        outs = [
            out for stage in self._repo.index.stages if stage.is_data_source for out in stage.outs
        ]
        return [path for out in outs if (path := self._path(out))]

    def _bring(self, files: Mapping[Path, HashInfo]) -> None:
        """Bring files into the cache, as far as they are not there."""
        cache = self._repo.cache.local
        absent = {path: info for path, info in files.items() if not cache.exists(info.value)}
        if not absent:
            return
        with self._remote():
            wanted = [info.value for info in absent.values()]
            there = set(self._repo.cloud.get_remote_odb().oids_exist(wanted))
            self._repo.cloud.pull({info for info in absent.values() if info.value in there})
        for path, info in absent.items():
            if not cache.exists(info.value):
                raise UserError(f"{self._where()}: does not have {path} ({info}); push it again")

    def _stages(self) -> dict[str, PipelineStage]:
        stages = self._repo.index.stages
        return {stage.name: stage for stage in stages if isinstance(stage, PipelineStage)}

    def _path(self, of: Output) -> Path | None:
        """Return the path in the project of an input or output; None where it is elsewhere."""
        path = Path(of.fs_path)
        is_file = not isinstance(of, ParamsDependency) and of.protocol == "local"
        return path.relative_to(self._root) if is_file and of.is_in_repo else None

    def _made(self) -> dict[Path, str | None]:
        """Return the hashes of all that stages make, by path, as far as dvc.lock has them.

        A stage that dvc.yaml does not have any more makes nothing.
        """
        known = locked(self._root)
        outs = [out for stage in self._stages().values() for out in stage.outs]
        paths = [path for out in outs if (path := self._path(out))]
        return {path: known.get(path) for path in paths}

    def _hash_of(self, dep: Output, made: Mapping[Path, str | None]) -> HashInfo:
        """Return the hash of an input: of a file here, or of what other stages made."""
        path = self._path(dep)
        if path is None:
            return dep.get_hash()
        touched = {out: value for out, value in made.items() if touch(out, path)}
        if not touched:
            return dep.get_hash()
        if path in touched:
            return HashInfo("md5", self._given(path, touched[path]))
        parts = Tree()
        for out, value in touched.items():
            for place, info in self._files_of(out, self._given(out, value)):
                if place == path:
                    return info
                if place.is_relative_to(path):
                    parts.add(place.relative_to(path).parts, None, info)
        parts.digest()
        return parts.hash_info

    def _given(self, path: Path, value: str | None) -> str:
        if value is None:
            raise UserError(f"dvc.lock: does not name {path}; the stage that makes it comes first")
        return value

    def _files(self) -> Iterator[tuple[Path, HashInfo]]:
        """Yield every file that dvc.lock names, or that is in a folder that it names."""
        for path, value in self._made().items():
            if value is not None:
                yield from self._files_of(path, value)

    def _files_of(self, path: Path, value: str) -> Iterator[tuple[Path, HashInfo]]:
        """Yield the files of an output as it was when its hash was `value`.

        Raises:
            UserError: Neither the cache nor the remote knows that any more.
        """
        if not value.endswith(_FOLDER):
            yield path, HashInfo("md5", value)
            return
        try:
            tree = self._tree(value)
        except FileNotFoundError:
            raise UserError(
                f"{path} {value}: neither in DVC's cache nor in its default remote; it was never "
                "pushed, or garbage was collected"
            ) from None
        for parts, _, info in tree:
            yield path.joinpath(*parts), info

    def _tree(self, value: str) -> Tree:
        """Return what a folder holds, by its hash.

        Raises:
            FileNotFoundError: Neither the cache nor the remote knows.
        """
        info = HashInfo("md5", value)
        with contextlib.suppress(FileNotFoundError):
            return Tree.load(self._repo.cache.local, info)
        with self._remote():
            self._repo.cloud.pull([info])
        return Tree.load(self._repo.cache.local, info)

    def _objects(self, entry: Entry) -> set[HashInfo]:
        """Return the hashes of an entry's outputs, and of the files in them.

        Raises:
            FileNotFoundError: Neither the cache nor the remote knows what is in one.
        """
        values = [out["md5"] for out in entry["outs"]]
        trees = [self._tree(value) for value in values if value.endswith(_FOLDER)]
        inner = {info for tree in trees for _, _, info in tree}
        return {HashInfo("md5", value) for value in values} | inner

    def _can_be_had(self, entry: Entry) -> bool:
        """Tell whether every file of an entry's outputs is here or at the remote."""
        try:
            values = {info.value for info in self._objects(entry)}
        except FileNotFoundError:
            return False
        absent = values - set(self._repo.cloud.get_remote_odb().oids_exist(list(values)))
        return all(self._repo.cache.local.exists(value) for value in absent)

    def _kept(self, key: str) -> Path:
        return Path(self._repo.cache.legacy.path) / _RUNS / key[:2] / key

    def _kept_here(self, key: str) -> dict[str, Entry]:
        folder = self._kept(key)
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        return _valid(key, {file.name: file.read_bytes() for file in files})

    def _kept_there(self, key: str) -> dict[str, Entry]:
        odb = self._repo.cloud.get_remote_odb(hash_name="md5-dos2unix")
        place = odb.fs.join(odb.path, _RUNS, key[:2], key)
        files = odb.fs.find(place) if odb.fs.exists(place) else []
        return _valid(key, {odb.fs.name(file): _read(odb.fs, file) for file in files})

    @contextlib.contextmanager
    def _remote(self) -> Iterator[None]:
        """Say in one line what goes wrong with the remote in the block."""
        heard = _Heard()
        transfers = logging.getLogger("dvc_data.hashfile.transfer")
        transfers.addHandler(heard)
        try:
            yield
        except (UserError, FileNotFoundError):
            raise
        except NoRemoteError:
            raise UserError(_NO_REMOTE) from None
        except Exception as error:  # whatever the store raises
            raise UserError(f"{self._where()}: {reason(error)}; {_MEND}") from None
        finally:
            transfers.removeHandler(heard)
        if heard.error is not None:
            raise UserError(f"{self._where()}: {reason(heard.error)}; {_MEND}")

    def _where(self) -> str:
        name = self._repo.config["core"].get("remote")
        url = self._repo.config["remote"].get(name, {}).get("url")
        return f"DVC remote {name} ({without_passwords(str(url))})"


class _Heard(logging.Handler):
    """What DVC says only to its log: why a file could not be brought."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: Exception | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            self.error = record.exc_info[1]


def _value_of(entry: Entry) -> str:
    """Return what DVC calls an entry among those with the same key."""
    return str(dict_sha256(dict(entry), exclude=_NO_CONTENT))


def _valid(key: str, texts: Mapping[str, bytes]) -> dict[str, Entry]:
    """Return the entries that are what their names say; a damaged one is none."""
    found: dict[str, Entry] = {}
    for value, text in texts.items():
        with contextlib.suppress(YAMLError, LookupError, TypeError, ValueError, AttributeError):
            entry = YAML(typ="safe").load(text)
            if key_of(entry) == key and _value_of(entry) == value:
                found[value] = entry
    return found


def _read(fs: Any, place: str) -> bytes:
    with fs.open(place, "rb") as file:
        return bytes(file.read())


def _text(entry: Entry) -> bytes:
    text = io.BytesIO()
    # A writer of its own for each call: threads that share one spoil each other's files.
    YAML().dump(dict(entry), text)
    return text.getvalue()
