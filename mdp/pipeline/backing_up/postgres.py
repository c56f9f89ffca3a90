"""Dagster's storage in Postgres, by Postgres' own programs; the password goes to them in their environment alone.

Not here: its storage on SQLite (``sqlite_files``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from mdp.config.masking import masked
from mdp.config.settings import Settings
from mdp.errors import ConfigError, StorageError

VARIABLE = "MDP_DAGSTER__POSTGRES_URL"
_DEBIAN = Path("/usr/lib/postgresql")
_PATIENCE_S = 6 * 3600
_OF_QUERY = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "connect_timeout": "PGCONNECT_TIMEOUT"}


class PostgresStorage:
    """A database that Dagster keeps its runs in.

    Args:
        url: Its address, with the password.

    Raises:
        ConfigError: no address that can be followed.
    """

    def __init__(self, url: str) -> None:
        try:
            found = urlsplit(url)
            port = found.port or 5432
        except ValueError as error:
            raise ConfigError(VARIABLE, got=masked(url), expected="the address of a server") from error
        self.shown = masked(url)
        self._environment = {
            "PGHOST": found.hostname or "localhost",
            "PGPORT": str(port),
            "PGUSER": unquote(found.username or ""),
            "PGPASSWORD": unquote(found.password or ""),
            "PGDATABASE": unquote(found.path.removeprefix("/")),
            "PGCONNECT_TIMEOUT": "15",
            "PGAPPNAME": "mdp backup",
            **{_OF_QUERY[name]: value for name, value in parse_qsl(found.query) if name in _OF_QUERY},
        }

    def dump(self, target: Path) -> None:
        """Write all of it, as it is at one moment, into one file.

        Raises:
            StorageError: the server does not answer, or the file cannot be written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        self._run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")

    def restore(self, source: Path) -> None:
        """Put back what :meth:`dump` wrote, in the place of what is there: all of it, or nothing.

        Raises:
            StorageError: the server refuses it; the database is as it was.
        """
        how = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
        self._run("pg_restore", *how, f"--dbname={self._environment['PGDATABASE']}", str(source))

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
        return int(self._run("psql", "--no-psqlrc", "--tuples-only", "--no-align", f"--command={statement}").strip())

    def _run(self, name: str, *arguments: str) -> str:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "MDP_"))}
        try:
            done = subprocess.run(
                [program(name), "--no-password", *arguments],
                env={**inherited, **self._environment},
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

    def _without_password(self, text: str) -> str:
        password = self._environment["PGPASSWORD"]
        return text.replace(password, "***") if password else text


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
