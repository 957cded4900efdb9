"""The databases as they are first made, dumped and brought back, in a real PostgreSQL."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from declared import INFRA, SERVICES, drawn

from infra.local import backup, database, parts
from infra.local.settings import known, settle, take_over
from infra.local.waiting import wait_for
from lcm_lora.errors import UserError

BACKUP, RESTORE = (INFRA / "backup" / f"{name}.sh" for name in ("backup", "restore"))
NAMES = ("prefect", "mlflow", "mlflow_auth")


class Server:
    """A server with the databases of the team's stack."""

    def __init__(self, folder: Path) -> None:
        settings = settle(folder)
        self.folder, self.settings = folder, settings
        database.make(folder, settings)
        part = database.part(folder, settings)
        parts.start(folder, part)
        wait_for(folder, [part], print)
        programs = Path(part.command[part.command.index("-D") - 1]).parent
        self.secrets = drawn()
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(settings.ports[database.DATABASE]),
            "PGUSER": "stack",
            "PGPASSWORD": settings.secrets.database,
        }
        self.run("psql", "--dbname=postgres", f"--file={INFRA / 'postgres' / 'databases.sql'}")

    def run(self, *command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program as the administrator, or as whoever the variables say."""
        return subprocess.run(
            command,
            env={**self.secrets, **self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, name: str, query: str, **more: str) -> str:
        """Return the answer of a database, or what it complains of."""
        done = self.run(
            "psql", "--tuples-only", "--no-align", "-c", query, f"--dbname={name}", **more
        )
        return (done.stdout + done.stderr).strip()

    @contextlib.contextmanager
    def session(self, name: str) -> Iterator[None]:
        """Be connected to a database."""
        idle = subprocess.Popen(
            ["psql", "--quiet", "--no-align", "--tuples-only", f"--dbname={name}"],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert idle.stdin is not None
            assert idle.stdout is not None
            idle.stdin.write("SELECT 1;\n")
            idle.stdin.flush()
            assert idle.stdout.readline() == "1\n"
            yield
        finally:
            idle.communicate()

    def told(self, names: Iterable[str] = NAMES) -> list[str]:
        """Return what each database was last told."""
        return [self.ask(name, "SELECT what FROM said") for name in names]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server; each database was told `one`."""
    folder = tmp_path_factory.mktemp("stack")
    try:
        made = Server(folder)
        for name in NAMES:
            owner = name.removesuffix("_auth")
            made.ask(name, "CREATE TABLE said AS SELECT 'one' AS what", **user(made, owner))
        yield made
    finally:
        parts.end(folder, [database.DATABASE])


def user(server: Server, name: str) -> dict[str, str]:
    """Return what makes a client one of the servers."""
    return {"PGUSER": name, "PGPASSWORD": server.secrets[f"{name.upper()}_DATABASE_PASSWORD"]}


@pytest.fixture(scope="module")
def dump(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of that."""
    done = server.run(BACKUP, tmp_path_factory.mktemp("backups"))
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_each_server_reaches_its_own_databases_alone(server: Server) -> None:
    for name, theirs in {"prefect": {"prefect"}, "mlflow": {"mlflow", "mlflow_auth"}}.items():
        for other in NAMES:
            answer = server.ask(other, "SELECT 1", **user(server, name))
            assert (answer == "1") == (other in theirs), answer
    assert "password authentication failed" in server.ask(
        "mlflow", "SELECT 1", **(user(server, "mlflow") | {"PGPASSWORD": "guessed"})
    )


def test_mlflow_takes_the_password_from_libpqs_own_variable(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (server.environment | user(server, "mlflow")).items():
        monkeypatch.setenv(name, value)
    auth = (INFRA / "docker" / "basic_auth.ini").read_text().split("database_uri = ")[1]
    for address in (SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"], auth.split()[0]):
        with contextlib.closing(
            sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool).connect()
        ) as connection:
            assert connection.scalar(sqlalchemy.text("SELECT what FROM said")) == "one"


def test_prefect_takes_the_password_from_the_same_variable(server: Server) -> None:
    address = SERVICES["prefect"]["environment"]["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    here = address.replace("postgres:5432", f"127.0.0.1:{server.environment['PGPORT']}")
    assert here != address
    program = (
        "import asyncio, sqlalchemy as s, sqlalchemy.ext.asyncio as a\n"
        "async def ask():\n"
        f"    async with a.create_async_engine({here!r}).connect() as c:\n"
        "        print((await c.execute(s.text('SELECT what FROM said'))).scalar())\n"
        "asyncio.run(ask())\n"
    )
    own = {"PGPASSWORD": server.secrets["PREFECT_DATABASE_PASSWORD"]}
    done = subprocess.run(
        [sys.executable, "-c", program], env=own, capture_output=True, text=True, check=False
    )
    assert done.stdout == "one\n", done.stderr


def test_a_dump_is_whole_or_not_there(server: Server, dump: Path, tmp_path: Path) -> None:
    assert {path.name for path in dump.iterdir()} == {
        "SHA256SUMS",
        *(f"{name}.dump" for name in NAMES),
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in dump.iterdir())
    assert server.run(BACKUP, tmp_path, PGPASSWORD="guessed").returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_a_restore_brings_back_what_was_and_keeps_what_is(server: Server, dump: Path) -> None:
    for name in NAMES:
        server.ask(name, "UPDATE said SET what = 'two'")
    done = server.run(RESTORE, dump)
    assert done.returncode == 0, done.stderr
    assert server.told() == ["one"] * 3
    kept = server.ask(
        "postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%before%' ORDER BY 1"
    ).splitlines()
    assert len(kept) == 3
    assert {server.ask(name, "SELECT what FROM said") for name in kept} == {"two"}
    # Owners and the walls between them are back too.
    assert server.ask("mlflow", "UPDATE said SET what = 'one'", **user(server, "mlflow")) == (
        "UPDATE 1"
    )
    assert "permission denied" in server.ask("mlflow", "SELECT 1", **user(server, "prefect"))


def test_a_damaged_dump_changes_nothing(server: Server, dump: Path, tmp_path: Path) -> None:
    for path in dump.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((tmp_path / "mlflow.dump").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "mlflow.dump").write_bytes(content)
    before = server.ask("postgres", "SELECT oid, datname FROM pg_database ORDER BY 1")
    done = server.run(RESTORE, tmp_path)
    assert done.returncode != 0
    assert "mlflow.dump" in done.stdout + done.stderr
    assert server.ask("postgres", "SELECT oid, datname FROM pg_database ORDER BY 1") == before


def test_a_restore_under_a_running_server_changes_nothing(server: Server, dump: Path) -> None:
    before = server.ask("postgres", "SELECT oid, datname FROM pg_database ORDER BY 1")
    with server.session("mlflow"):
        done = server.run(RESTORE, dump)
    assert done.returncode != 0
    assert done.stderr == ("restore.sh: somebody is connected to mlflow; stop the servers first\n")
    assert server.ask("postgres", "SELECT oid, datname FROM pg_database ORDER BY 1") == before


def test_a_restore_that_fails_halfway_changes_nothing(
    server: Server, dump: Path, tmp_path: Path
) -> None:
    psql = shutil.which("psql", path=server.environment["PATH"])
    # The second owner is not to be had, as if the server were gone for that moment.
    failing = "case $* in *\"datname = 'mlflow'\"*) exit 2 ;; esac"
    (tmp_path / "psql").write_text(f'#!/bin/sh\n{failing}\nexec {psql} "$@"\n')
    (tmp_path / "psql").chmod(0o755)
    named = "SELECT oid, datname FROM pg_database WHERE datname NOT LIKE '%restoring' ORDER BY 1"
    before = server.ask("postgres", named)
    done = server.run(RESTORE, dump, PATH=f"{tmp_path}:{server.environment['PATH']}")
    assert done.returncode != 0
    assert server.ask("postgres", named) == before
    assert server.run(RESTORE, dump).returncode == 0


@pytest.fixture
def pair(server: Server, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Two databases of the local stack that were told `one`, dumped, then told `two`."""
    dumps = {name: tmp_path / name for name in ("first", "second")}
    for name, file in dumps.items():
        server.ask("postgres", f"CREATE DATABASE {name}")
        server.ask(name, "CREATE TABLE said AS SELECT 'one' AS what")
        database.dump(file, name, server.folder, server.settings)
        server.ask(name, "UPDATE said SET what = 'two'")
    yield dumps
    for name in dumps:
        for suffix in ("", "_new", "_old"):
            server.ask("postgres", f"DROP DATABASE IF EXISTS {name}{suffix}")


def test_a_local_restore_changes_all_of_the_databases_or_none(
    server: Server, pair: dict[str, Path]
) -> None:
    database.fill_beside(pair, server.folder, server.settings)
    server.ask("postgres", "ALTER DATABASE second_new RENAME TO away")
    with pytest.raises(UserError, match='"second_new" does not exist'):
        database.swap(pair, server.settings)
    server.ask("postgres", "ALTER DATABASE away RENAME TO second_new")
    assert server.told(pair) == ["two", "two"]
    with server.session("second"):  # which is cut off
        database.swap(pair, server.settings)
    assert server.told(pair) == ["one", "one"]


def test_a_local_restore_that_was_cut_short_can_be_run_again(
    server: Server, pair: dict[str, Path]
) -> None:
    database.fill_beside(pair, server.folder, server.settings)
    server.ask("postgres", "CREATE DATABASE first_old")
    with server.session("first_new"):  # of a restore whose starter was killed
        database.fill_beside(pair, server.folder, server.settings)
    database.swap(pair, server.settings)
    assert server.told(pair) == ["one", "one"]
    left = server.ask("postgres", "SELECT datname FROM pg_database WHERE datname ~ '_(old|new)$'")
    assert left == ""


def test_a_new_stack_reads_what_the_one_of_the_backup_has_kept(
    server: Server, tmp_path: Path
) -> None:
    file, folder, old = tmp_path / "backup.tar", tmp_path / "new", server.settings.secrets
    backup.save(file, server.folder, server.settings)
    assert file.stat().st_mode & 0o077 == 0
    own = settle(folder)
    with backup.unpacked(file) as (dumps, kept):
        assert dumps.keys() == set(NAMES)
        take_over(folder, kept)
    theirs = {"paths": old.paths, "webhooks": old.webhooks}
    assert known(folder) == own.model_copy(
        update={"secrets": own.secrets.model_copy(update=theirs)}
    )
