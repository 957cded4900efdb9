"""Keep what the databases hold in one file, and bring it back, also in another stack.

Runs, registry, users, deployments and schedules are in there, and the secrets without which a copy
of the store cannot be read. Artifacts and data lie in the store: its folder `store/disks` is copied
after `down`, by `cp --archive`, with the extended attributes that it needs. In a new stack the copy
is put there before the first `up`; then `restore`.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local import database
from infra.local.settings import MLFLOW, USER, Kept, Settings
from lcm_lora.errors import UserError, reason
from lcm_lora.records import read_record, write_record

_KEPT = "secrets.json"


def save(file: Path, folder: Path, settings: Settings) -> None:
    """Write the databases of a stack, and what they are read with, to `file`, for its owner alone.

    Raises:
        UserError: The database is down.
    """
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as place:
        whole = Path(place) / "whole"
        whole.touch(mode=0o600)  # it holds hashes of passwords, and blocks of flows
        with tarfile.open(whole, "w") as archive:
            for name in database.DATABASES:
                dump = Path(place) / name
                database.dump(dump, name, folder, settings)
                archive.add(dump, name)
            own = settings.secrets
            write_record(Path(place) / _KEPT, Kept(webhooks=own.webhooks, paths=own.paths))
            archive.add(Path(place) / _KEPT, _KEPT)
        whole.replace(file)


@contextmanager
def unpacked(file: Path) -> Iterator[tuple[dict[str, Path], Kept]]:
    """Yield the dump of each database in a file that `save` wrote, and the secrets with them.

    Raises:
        UserError: It is none.
    """
    with tempfile.TemporaryDirectory(prefix="lcm-lora-backup-") as place:
        dumps = {name: Path(place) / name for name in database.DATABASES}
        try:
            with tarfile.open(file) as archive:
                for name in (*dumps, _KEPT):
                    archive.extract(name, place, filter="data")
        except (tarfile.TarError, KeyError, OSError) as error:
            why = reason(error)
            raise UserError(f"{file}: no backup ({why}); give a file of `backup`") from None
        yield dumps, read_record(Path(place) / _KEPT, Kept, "give a file of `backup`")


def admit(settings: Settings) -> None:
    """Give this stack's password to MLflow's first user, whose own came with the backup."""
    from werkzeug.security import generate_password_hash

    secret = generate_password_hash(settings.secrets.mlflow)
    ask = "UPDATE users SET password_hash = %s WHERE username = %s"
    database.execute(settings, f"{MLFLOW}_auth", ask, (secret, USER))
