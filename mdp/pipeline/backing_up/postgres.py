"""Dagster's storage in Postgres, by Postgres' own programs; the password goes to them in their environment alone.

Not here: its storage on SQLite (``sqlite_files``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mdp.config.masking import masked
from mdp.config.settings import Settings
from mdp.errors import ConfigError, StorageError

VARIABLE = "MDP_DAGSTER__POSTGRES_URL"
_DEBIAN = Path("/usr/lib/postgresql")
_PATIENCE_S = 6 * 3600
_SERVICE = "mdp"
_DATABASE = f"--dbname=service={_SERVICE}"


class PostgresStorage:
    """A database that Dagster keeps its runs in.

    Args:
        url: Its address, with the password.

    Raises:
        ConfigError: no address that can be followed.
    """

    def __init__(self, url: str) -> None:
        self.shown = masked(url)
        given = _connection_of(url)
        self._password = given.pop("password", "")
        self._connection = {"connect_timeout": "15", "application_name": "mdp backup", **given}

    def dump(self, target: Path) -> None:
        """Write all of it, as it is at one moment, into one file.

        Raises:
            StorageError: the server does not answer, or the file cannot be written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        self._run("pg_dump", _DATABASE, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")

    def restore(self, source: Path) -> None:
        """Put back what :meth:`dump` wrote, in the place of what is there: all of it, or nothing.

        Raises:
            StorageError: the server refuses it; the database is as it was.
        """
        how = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
        self._run("pg_restore", _DATABASE, *how, str(source))

    def runs(self) -> int:
        """Return how many runs it holds.

        Raises:
            StorageError: the server does not answer.
        """
        exists = self._ask("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'runs'")
        return self._ask("SELECT count(*) FROM runs") if exists else 0

    def others_connected(self) -> int:
        """Return how many other connections to the database there are.

        Raises:
            StorageError: the server does not answer.
        """
        asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return self._ask(asked)

    def _ask(self, statement: str) -> int:
        asked = ("--no-psqlrc", "--tuples-only", "--no-align", f"--command={statement}")
        return int(self._run("psql", _DATABASE, *asked).strip())

    def _run(self, name: str, *arguments: str) -> str:
        try:
            with self._reachable() as environment:
                done = subprocess.run(
                    [program(name), "--no-password", *arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=_PATIENCE_S,
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StorageError(f"{name} of {self.shown}: {type(error).__name__}") from error
        if done.returncode != 0:
            raise StorageError(f"{name} of {self.shown}: {self._without_password(_last_lines(done.stderr))}")
        return done.stdout

    @contextmanager
    def _reachable(self) -> Iterator[dict[str, str]]:
        """Write what leads to the database into a file that its programs read, and give them their environment.

        A file, since it takes all that an address may say; variables, which Dagster heeds too, fill in the rest.
        """
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MDP_")}
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="mdp-postgres-") as file:
            file.write(f"[{_SERVICE}]\n" + "".join(f"{name}={value}\n" for name, value in self._connection.items()))
            file.flush()
            secret = {"PGPASSWORD": self._password} if self._password else {}
            yield {**inherited, "PGSERVICEFILE": file.name, **secret}

    def _without_password(self, text: str) -> str:
        return text.replace(self._password, "***") if self._password else text


def _connection_of(url: str) -> dict[str, str]:
    """Return what Dagster's driver tells Postgres of an address: the same server, database and schema."""
    try:
        found = make_url(url)
        _, given = found.get_dialect()().create_connect_args(found)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(VARIABLE, got=masked(url), expected="the address of a server") from error
    told = {name: str(value) for name, value in given.items()}
    if "service" in told or any("\n" in value for value in told.values()):
        raise ConfigError(VARIABLE, got=masked(url), expected="an address that says itself where the server is")
    return told


def storage_of(settings: Settings) -> PostgresStorage:
    """Return the database of the settings.

    Raises:
        ConfigError: none is given.
    """
    if settings.dagster.postgres_url is None:
        expected = f"the address of the server that holds Dagster's storage ({settings.dagster.instance})"
        raise ConfigError(VARIABLE, got=None, expected=expected)
    return PostgresStorage(settings.dagster.postgres_url)


def program(name: str) -> str:
    """Return the path of one of Postgres' programs, of the newest version that is installed.

    Raises:
        StorageError: it is not installed.
    """
    versions = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=_version, reverse=True)
    found = str(versions[0]) if versions else shutil.which(name)
    if found is None:
        raise StorageError(
            f"{name}: expected to be installed, for Dagster's storage is in Postgres (Debian: postgresql-client)"
        )
    return found


def _version(path: Path) -> int:
    text = path.parts[-3]
    return int(text) if text.isdecimal() else 0


def _last_lines(text: str) -> str:
    lines: Sequence[str] = [line.strip() for line in text.strip().splitlines()][-3:]
    return "; ".join(lines) or "without a word"
