"""A checkout of one commit, below the project: in it a run or a stage works, and then it is gone.

What is dear stays with the project and is shared: git's objects, DVC's cache, and the pieces,
hashes and checkpoints of `.checkpoints`. The rest is the commit's, so no other run is in the way.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from lcm_lora import layout
from lcm_lora.code import PACKAGE, ROOT, closure
from lcm_lora.errors import UserError, explained, some, without_passwords
from lcm_lora.files import clear_others, write_bytes
from lcm_lora.locks import hold, locked
from tasks.running import process

CHECKOUTS = layout.CHECKPOINTS / "checkouts"

_LOCK = Path("requirements.lock")
_INSTALLED = ("flows", "tasks")
"""What Prefect imports before there is a checkout, with what that imports of the library."""
_COMMAND = "flows/cli.py"
"""What stages are started by: a checkout's own."""
_PATIENCE = 600.0
"""Seconds that origin may take to answer."""
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def resolve(project: Path, revision: str | None) -> str:
    """Return the commit that a revision is in the project's repository, or at its origin.

    A name is first looked for at origin, whose branches may have moved; a commit, there only if it
    is not here.

    Args:
        project: The folder of a clone.
        revision: As git names it; None: what is checked out.

    Raises:
        UserError: Neither knows it, or origin does not answer.
    """
    if revision is None:
        return _known(project, "HEAD") or _unknown(project, "HEAD")
    if _COMMIT.fullmatch(revision) and (commit := _known(project, revision)):
        return commit
    if _git(project, "remote").split():
        _fetch(project)
        if commit := _known(project, f"refs/remotes/origin/{revision}"):
            return commit
    return _known(project, revision) or _unknown(project, revision)


def _known(project: Path, revision: str) -> str | None:
    if revision.startswith("-"):
        return None
    with contextlib.suppress(UserError):
        wanted = f"{revision}^{{commit}}"
        return _git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", wanted)
    return None


def _unknown(project: Path, revision: str) -> str:
    raise UserError(
        f"revision {revision}: neither {project} nor its origin knows it; push it, or mend its name"
    )


def _fetch(project: Path) -> None:
    with locked(project / layout.CHECKPOINTS / "fetch.lock", "another fetch from origin"):
        command = ["git", "fetch", "--quiet", "--tags", "--force", "origin"]
        try:
            ended = process.heard(command, project, deadline=_PATIENCE, environment=_quiet())
            why = ended.why("fatal: ") if ended.status else ""
        except process.OverdueError as error:
            why = str(error)
    if why:
        raise UserError(f"{project}: origin does not answer ({without_passwords(why)}); mend that")


def text_of(project: Path, commit: str, path: Path) -> str:
    """Return what a file holds in a commit.

    Raises:
        UserError: It is not there.
    """
    return _git(project, "show", f"{commit}:{path.as_posix()}") + "\n"


@contextlib.contextmanager
def checkout(project: Path, commit: str, params: str | None = None) -> Iterator[Path]:
    """Yield a folder with a commit's files, which is removed afterwards.

    Args:
        project: The folder of a clone that has the commit.
        commit: Its full hash.
        params: What is in params.yaml instead of the commit's own.

    Raises:
        UserError: The commit cannot be had there, for whatever reason.
    """
    place = project / CHECKOUTS
    try:
        with locked(place / "lock", "another checkout"):
            clear_others(place, ())  # the dead hold theirs no more
            folder = Path(tempfile.mkdtemp(prefix=f".{commit[:8]}-", dir=place))
            held = hold(folder)
    except OSError as error:
        raise UserError(explained(error)) from None
    try:
        try:
            _fill(project, commit, folder)
            if params is not None:
                write_bytes(folder / layout.PARAMS, params.encode())
        except OSError as error:
            raise UserError(explained(error)) from None
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def is_checkout(root: Path) -> bool:
    """Tell whether a folder is a checkout, whose files will be gone."""
    return (root / layout.CHECKPOINTS).is_symlink()


def _fill(project: Path, commit: str, folder: Path) -> None:
    _git(project, "clone", "--quiet", "--shared", "--no-checkout", "--", str(project), str(folder))
    # Whoever makes a version again has the project's origin, not this machine's clone of it.
    with contextlib.suppress(UserError):
        _git(folder, "remote", "set-url", "origin", _git(project, "remote", "get-url", "origin"))
    _git(folder, "checkout", "--quiet", "--detach", commit)
    (folder / layout.CHECKPOINTS).symlink_to((project / layout.CHECKPOINTS).resolve())
    # A link is no folder, as .gitignore says; nobody's change either.
    with (folder / ".git" / "info" / "exclude").open("a") as file:
        file.write(f"/{layout.CHECKPOINTS}\n")
    _configure(project, folder)


def _configure(project: Path, folder: Path) -> None:
    """Share the project's cache and way to the remote; what comes from there is verified."""
    from dvc.config import Config, merge  # heavy

    home, here = Config(str(project / ".dvc")), Config(str(folder / ".dvc"))
    wanted = home.load_config_to_level("repo")  # what this machine has for all projects
    # The commit's own remotes; paths among them are meant as in the project.
    merge(wanted, Config._load_paths(here._load_config("repo"), home.files["repo"]))
    merge(wanted, home.load_one("local"))
    cache = home.get("cache", {}).get("dir") or str(project / ".dvc" / "cache")
    with here.edit("local", validate=False) as local:
        merge(local, {"remote": wanted.get("remote", {}), "core": wanted.get("core", {})})
        merge(local, {"cache": {**wanted.get("cache", {}), "dir": cache}})
        # Else each checkout would leave an index of its own behind.
        local["core"]["site_cache_dir"] = str(folder / ".dvc" / "tmp" / "site")
        remote = local["remote"].get(local["core"].get("remote"))
        if remote is not None:
            remote["verify"] = True


def check_installed(project: Path, commit: str) -> None:
    """Check that what works here is what the commit says: its flows, tasks and packages.

    Flows and tasks count with all that they import of the library; the rest of it stages take from
    their checkout. A project that has neither is worked on by whatever is installed.

    Raises:
        UserError: Something differs.
    """
    where = f"{socket.gethostname()}:{project}"
    if names := [*_other_code(project, commit)]:
        raise UserError(
            f"{where}: installed {some(names)} not as in commit {commit[:8]}; "
            f"check out and install that commit there, and restart the worker"
        )
    if names := [*_other_packages(project, commit)]:
        raise UserError(
            f"{where}: {some(names)} in commit {commit[:8]}; install its {_LOCK} there, and "
            "restart the worker"
        )


def _other_code(project: Path, commit: str) -> Iterator[str]:
    """Yield the modules at work here that are not what the commit has in their places."""
    tree = _git(project, "ls-tree", "-r", commit, "--", *_INSTALLED, PACKAGE)
    wanted = {
        path: entry.split()[2]
        for entry, path in (line.split("\t") for line in tree.splitlines())
        if path.endswith(".py")
    }
    if not any(_is_in(path, _INSTALLED) for path in wanted):
        return
    found = _found(project)
    other = [path for path in sorted({*wanted, *found}) if wanted.get(path) != found.get(path)]
    yield from (path for path in other if _is_in(path, _INSTALLED))
    if library := [path for path in other if _is_in(path, [PACKAGE])]:
        imported = _imported(found)
        yield from (path for path in library if path in imported)


def _is_in(path: str, rooms: Iterable[str]) -> bool:
    return path.split("/")[0] in rooms


def _found(project: Path) -> dict[str, str]:
    """Return what git calls each of the modules that are installed, by its path."""
    rooms = (ROOT / room for room in (*_INSTALLED, PACKAGE))
    paths = [path for room in rooms for path in room.rglob("*.py")]
    names = "\n".join(map(str, paths))
    said = _git(project, "hash-object", "--no-filters", "--stdin-paths", given=names).split()
    return {str(path.relative_to(ROOT)): name for path, name in zip(paths, said, strict=True)}


def _imported(found: Iterable[str]) -> set[str]:
    """Return what of the library flows and tasks import."""
    ours = [path for path in found if _is_in(path, _INSTALLED) and path != _COMMAND]
    modules = [path.removesuffix(".py").replace("/", ".") for path in ours]
    return {str(path.relative_to(ROOT)) for module in modules for path in closure(module)}


def _other_packages(project: Path, commit: str) -> Iterator[str]:
    """Yield the packages that are here in another version than the commit's lock names.

    Those that are not here may be of a group that a worker has no use for.
    """
    try:
        lines = _git(project, "show", f"{commit}:{_LOCK}").splitlines()
    except UserError:  # a project without one
        return
    for line in lines:
        if line[:1].isspace() or "==" not in line:
            continue
        with contextlib.suppress(InvalidRequirement, importlib.metadata.PackageNotFoundError):
            wanted = Requirement(line.rstrip("\\ "))
            if wanted.marker is None or wanted.marker.evaluate():
                here = Version(importlib.metadata.version(wanted.name))
                if not wanted.specifier.contains(here.public, prereleases=True):
                    yield f"{wanted.name} is {here}, not {wanted.specifier}"


def _git(folder: Path, *arguments: str, given: str | None = None) -> str:
    """Run git in a folder; return what it says.

    Raises:
        UserError: It ended badly; the message is its last word.
    """
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=_quiet(), input=given, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise UserError(f"git {arguments[0]}: {last}")
    return done.stdout.strip()


def _quiet() -> dict[str, str]:
    # Whoever asks for a password here would wait for ever.
    return {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
