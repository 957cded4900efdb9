"""Keep what the databases hold in one file, and bring it back, also in another stack.

Runs, registry, users, deployments and schedules are in there; artifacts and data lie in the store,
whose folder is copied like any other.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local import database
from infra.local.settings import MLFLOW, USER, Settings
from lcm_lora.errors import UserError, reason


def save(file: Path, folder: Path, settings: Settings) -> None:
    """Write the databases of a stack to `file`, which only its owner can read.

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
        whole.replace(file)


@contextmanager
def unpacked(file: Path) -> Iterator[dict[str, Path]]:
    """Yield the dump of each database in a file that `save` wrote.

    Raises:
        UserError: It is none.
    """
    with tempfile.TemporaryDirectory(prefix="lcm-lora-backup-") as place:
        dumps = {name: Path(place) / name for name in database.DATABASES}
        try:
            with tarfile.open(file) as archive:
                for name in dumps:
                    archive.extract(name, place, filter="data")
        except (tarfile.TarError, KeyError, OSError) as error:
            why = reason(error)
            raise UserError(f"{file}: no backup ({why}); give a file of `backup`") from None
        yield dumps


def admit(settings: Settings) -> None:
    """Give this stack's password to MLflow's first user, whose own came with the backup."""
    from werkzeug.security import generate_password_hash

    secret = generate_password_hash(settings.secrets.mlflow)
    ask = "UPDATE users SET password_hash = %s WHERE username = %s"
    database.execute(settings, f"{MLFLOW}_auth", ask, (secret, USER))
