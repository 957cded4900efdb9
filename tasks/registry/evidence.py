"""What a version is made of, as one folder among the artifacts of its run, that can be checked.

`SHA256SUMS` in it names every file, in the form that `sha256sum --check` reads; and the version's
tag `evidence` names that file in the same form. So whoever trusts the registry can trust each file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion

from lcm_lora import layout
from lcm_lora.adapter_files import RECIPE
from lcm_lora.errors import UserError, reason, without_passwords
from lcm_lora.files import link, sha256, write_bytes
from lcm_lora.gate.decision import Decision
from lcm_lora.params.file import Params
from lcm_lora.records import Record, parse_record, write_record
from tasks.history.entry import decision_sha256
from tasks.running.cost import Spent, spent
from tasks.running.graph import behind, entries, locked
from tasks.tracking.prefect_run import PrefectRun
from tasks.tracking.tracker import Tracker
from tasks.tracking.training import Training

PLACE = "evidence"
"""Among the artifacts of the run; that of later evaluations lies in `evaluations` within."""
TAG, TAG_OF = "evidence", "evidence_of"
"""Of a version: hash and place of the sums of its evidence; and of which evaluation that is."""
SUMS = "SHA256SUMS"
LINEAGE = "lineage.json"
LOCK = "dvc.lock"
PACKAGES = "requirements.lock"

_MEND = "the registry's own copy is all there is: restore MLflow's artifacts from a backup"


class Lineage(Record):
    """What a version is made of, and by whom."""

    git_commit: str
    git_dirty: bool
    """The tree differed from the commit in more than params.yaml and dvc.lock."""
    git_remote: str | None
    """Where the repository is, as its `origin` says, without any password."""
    code_sha256: str
    params_sha256: str
    outputs: dict[str, str]
    """DVC's hash of each output of dvc.lock, by its path."""
    dvc_remote: str
    """Where they were pushed; `no remote` where there is none."""
    base_model: str
    base_revision: str | None
    base_sha256: str
    adapter_sha256: str
    scores_sha256: str
    decision_sha256: str
    mlflow_run: str
    prefect: PrefectRun | None
    """The flow run that registered it."""
    cost: Spent
    """Of the stages that the adapter comes from."""
    cost_of_all: Spent
    """And of all others too: painting, measuring and judging."""


def trace(
    tracker: Tracker,
    run_id: str,
    params: Params,
    training: Training,
    decision: Decision,
    pushed: str,
) -> Lineage:
    """Return what the adapter that the stages left is made of.

    Args:
        tracker: Of the project.
        run_id: Of the adapter.
        params: Of the project.
        training: As the stages left it.
        decision: About the adapter.
        pushed: Where its data were pushed.
    """
    root, base = tracker.root, training.recipe.base
    made = entries(root / LOCK)
    own = {name: made[name] for name in behind(made, layout.ADAPTER)}
    return Lineage(
        git_commit=training.origin.git_commit,
        git_dirty=training.origin.git_dirty,
        git_remote=_git_remote(root),
        code_sha256=training.origin.code_sha256,
        params_sha256=_identity(params),
        outputs={path.as_posix(): md5 for path, md5 in sorted(locked(root).items())},
        dvc_remote=pushed,
        base_model=base.model,
        base_revision=base.revision,
        base_sha256=base.sha256,
        adapter_sha256=training.recipe.weights_sha256,
        scores_sha256=sha256(root / layout.SCORES),
        decision_sha256=decision_sha256(decision),
        mlflow_run=run_id,
        prefect=PrefectRun.current(),
        cost=spent(root, own, params.costs),
        cost_of_all=spent(root, made, params.costs),
    )


def write(tracker: Tracker, lineage: Lineage, place: str) -> str:
    """Put the evidence of what the stages left among the artifacts of the adapter's run.

    Args:
        tracker: Of the project.
        lineage: As `trace` returns it.
        place: The folder there; files of other names that are in it stay.

    Returns:
        What the version's tag `evidence` has to say.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, source in _files(tracker.root):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            link(source, folder / name)
        if not (folder / PACKAGES).exists():
            write_bytes(folder / PACKAGES, _installed().encode())
        write_record(folder / LINEAGE, lineage)
        sums = _sums(folder)
        write_bytes(folder / SUMS, sums)
        tracker.client.log_artifacts(lineage.mlflow_run, made, place)
    return f"{hashlib.sha256(sums).hexdigest()}  {place}/{SUMS}"


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield what is kept of a project's folder, as far as it is there, by its name in evidence."""
    single = {
        layout.PARAMS.name: layout.PARAMS,
        LOCK: Path(LOCK),
        "decision.json": layout.DECISION,
        "scores.json": layout.SCORES,
        RECIPE: layout.ADAPTER / RECIPE,
        "base.json": layout.INVENTORY / "base.json",
        PACKAGES: Path(PACKAGES),
    }
    for name, path in single.items():
        if (root / path).is_file():
            yield name, root / path
    for name, place in (("report", layout.REPORT), ("smoke", layout.SMOKE)):
        for file in sorted((root / place).rglob("*")):
            if file.is_file():
                yield f"{name}/{file.relative_to(root / place).as_posix()}", file


def _sums(folder: Path) -> bytes:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = (f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    return "".join(lines).encode()


def _installed() -> str:
    """Return the packages that are installed here, where the project names none."""
    found = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions()}
    return "".join(f"{one}\n" for one in sorted(found, key=str.lower))


def _identity(params: Params) -> str:
    """Return a hash of the parameters, whatever their file's layout and comments."""
    return hashlib.sha256(params.model_dump_json().encode()).hexdigest()


def _git_remote(root: Path) -> str | None:
    command = ["git", "config", "--get", "remote.origin.url"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return shown_origin(done.stdout.strip()) or None


def shown_origin(url: str) -> str:
    """Return the address of a repository without what may be secret in it."""
    # By ssh one comes as somebody, such as git; elsewhere a name may be the secret itself.
    return re.sub(r":[^/]*@", "@", url) if url.startswith("ssh://") else without_passwords(url)


class Evidence:
    """The evidence of a version, from the registry alone; each file is checked when it is read."""

    def __init__(self, version: ModelVersion, folder: Path) -> None:
        """Open it.

        Args:
            version: Of the registered model.
            folder: Exists; files are brought there.

        Raises:
            UserError: The version has none, or it is damaged.
        """
        self.title = f"{version.name} version {version.version}"
        digest, _, sums = version.tags.get(TAG, "").partition("  ")
        if not sums or version.run_id is None:
            raise UserError(
                f"{self.title}: has no evidence, since it was registered before there was any or "
                "by hand; a run of its project that judges the same adapter adds it"
            )
        self.uri = f"runs:/{version.run_id}/{sums.rpartition('/')[0]}"
        self._folder = folder
        self._sums = _read_sums(self._fetched(SUMS, digest).read_bytes())

    @property
    def names(self) -> list[str]:
        """Return the names of its files."""
        return list(self._sums)

    def file(self, name: str) -> Path:
        """Return where a file of it is now, as it was registered.

        Raises:
            UserError: It cannot be had, or is damaged.
        """
        if name not in self._sums:
            raise UserError(f"{self.title}: its evidence has no {name}; {_MEND}")
        return self._fetched(name, self._sums[name])

    def lineage(self) -> Lineage:
        """Return what the version is made of.

        Raises:
            UserError: As `file` does.
        """
        where = f"{self.title}: {LINEAGE}"
        return parse_record(self.file(LINEAGE).read_bytes(), Lineage, where, _MEND)

    def _fetched(self, name: str, digest: str) -> Path:
        place = self._folder / Path(name).parent
        place.mkdir(parents=True, exist_ok=True)
        uri = f"{self.uri}/{name}"
        try:
            fetched = mlflow.artifacts.download_artifacts(uri, dst_path=str(place))
        except Exception as error:  # whatever the store of artifacts raises
            raise UserError(
                f"{self.title}: {name} of its evidence cannot be had ({reason(error)}); {_MEND}"
            ) from None
        path = Path(fetched)
        if path.parent.resolve() != place.resolve():
            path = Path(shutil.copy(path, place))
        if sha256(path) != digest:
            raise UserError(
                f"{self.title}: {name} of its evidence is damaged, not as it was registered; "
                f"{_MEND}"
            )
        return path


def _read_sums(sums: bytes) -> Mapping[str, str]:
    lines = (line.partition("  ") for line in sums.decode().splitlines())
    return {name: digest for digest, _, name in lines}
