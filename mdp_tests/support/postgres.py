"""A Postgres server of one's own for a test: Debian's, in a folder, on a free port of 127.0.0.1.

Not here: what is stored in it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mdp.cli.processes import free_port

_DEBIAN = Path("/usr/lib/postgresql")
_SETTINGS = ("fsync=off", "synchronous_commit=off", "max_connections=200", "timezone=UTC")
"""A test's server need not survive the machine; what is committed still survives the server's own death."""

USER, PASSWORD, DATABASE = "mdp", "a-password", "dagster"


@dataclass
class Postgres:
    """A server.

    Attributes:
        folder: Its data, log and sockets; see :func:`create`.
        host: Address it listens on.
        port: Of it.
        process: The server, or who stands before it in a network namespace.
        prefix: What every command of it is started with, such as ``ip netns exec name``.
    """

    folder: Path
    host: str
    port: int
    process: subprocess.Popen[bytes] | None = None
    prefix: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """As ``MDP_DAGSTER__POSTGRES_URL`` takes it."""
        return f"postgresql+psycopg2://{USER}:{PASSWORD}@{self.host}:{self.port}/{DATABASE}"

    @property
    def command(self) -> list[str]:
        """What starts the server, in a folder that :func:`create` made."""
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        place = ["-D", str(self.folder / "data"), "-h", self.host, "-p", str(self.port), "-k", str(self.folder)]
        return [*self.prefix, *_as_postgres(), str(program("postgres")), *place, *settings]

    def start(self, patience_s: float = 60) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + patience_s
        ask = [*self.prefix, str(program("pg_isready")), "-q", "-h", self.host, "-p", str(self.port)]
        while subprocess.run(ask, check=False).returncode != 0:
            said = (self.folder / "log").read_text(errors="replace")[-2_000:]
            assert self.process.poll() is None, f"Postgres ended: {said}"
            assert time.monotonic() < deadline, f"Postgres did not answer: {said}"
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server and all its children at once, as a power cut would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        """End it quickly and in order."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def remove(self) -> None:
        """End it for good: its data goes too."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def program(name: str) -> Path:
    """Return the path of one of Postgres' programs, of the newest version that is installed."""
    found = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which(name)
    assert found or on_path, f"{name}: Postgres is not installed (Debian: apt-get install postgresql)"
    return found[-1] if found else Path(str(on_path))


def create(folder: Path, *, host: str = "127.0.0.1", port: int | None = None, prefix: tuple[str, ...] = ()) -> Postgres:
    """Make an empty server with our user and database; it is not started.

    Postgres refuses root, and its own user must reach the data for as long as it runs. Folders of pytest are closed to
    others, again by each session that begins: where we are root, the data is in a temporary folder of its own instead.
    """
    if os.geteuid() == 0:
        folder = Path(tempfile.mkdtemp(prefix="mdp-postgres-"))
    folder.mkdir(parents=True, exist_ok=True)
    password = folder / "password"
    password.write_text(PASSWORD)
    if os.geteuid() == 0:
        for path in (folder, password):
            shutil.chown(path, "postgres", "postgres")
    subprocess.run(
        [*_as_postgres(), str(program("initdb")), "-D", str(folder / "data"), "-U", USER, "-A", "scram-sha-256",
         f"--pwfile={password}", "-E", "UTF8", "--locale=C", "--no-sync"],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    single = [*_as_postgres(), str(program("postgres")), "--single", "-D", str(folder / "data"), "postgres"]
    subprocess.run(
        single, input=f"CREATE DATABASE {DATABASE}\n", text=True, check=True, capture_output=True, cwd=folder
    )
    with (folder / "data" / "pg_hba.conf").open("a", encoding="utf-8") as rules:
        rules.write("host all all 0.0.0.0/0 scram-sha-256\n")
    return Postgres(folder, host, free_port(0) if port is None else port, prefix=prefix)


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """Run a server until the block ends."""
    server = create(folder)
    server.start()
    try:
        yield server
    finally:
        server.remove()


def _as_postgres() -> list[str]:
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
