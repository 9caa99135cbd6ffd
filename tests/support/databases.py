"""Databases: for each row of the contract suite, what opens a fresh real one and gives its address."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.support import postgres, qdrant_server
from tests.support.requirements import missing

_SECONDS_TO_START = 30.0


@contextmanager
def memory(folder: Path) -> Iterator[str]:
    """In this process."""
    yield f"memory:{folder}"


@contextmanager
def lancedb(folder: Path) -> Iterator[str]:
    """Embedded, in a folder."""
    installed("lancedb")
    yield f"lancedb://{folder / 'lancedb'}"


@contextmanager
def chroma(folder: Path) -> Iterator[str]:
    """Embedded, in a folder."""
    installed("chromadb")
    yield f"chroma://{folder / 'chroma'}"


@contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """A server process on loopback."""
    installed("chromadb")
    port = free_port()
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--path", str(folder / "chroma-server")]
    environment = {**os.environ, "ANONYMIZED_TELEMETRY": "False"}
    with (folder / "chroma.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/v2/heartbeat"), process, folder / "chroma.log")
        yield f"chroma://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def qdrant(folder: Path) -> Iterator[str]:
    """Its client's local mode, in a folder."""
    installed("qdrant_client")
    yield f"qdrant://{folder / 'qdrant'}"


@contextmanager
def qdrant_engine(folder: Path) -> Iterator[str]:
    """Qdrant's engine, behind the interface of its server."""
    with qdrant_server.serving() as served:
        yield served.address


@contextmanager
def pgvector(folder: Path) -> Iterator[str]:
    """A server with pgvector 0.8, which has all types and indices."""
    with postgres.serving(postgres.NEW) as server, postgres.password():
        yield server.address


@contextmanager
def old_pgvector(folder: Path) -> Iterator[str]:
    """A server with pgvector 0.6, which lacks some."""
    with postgres.serving(postgres.OLD) as server, postgres.password():
        yield server.address


#: Row of the suite -> a context manager over an empty folder that gives the address of a fresh database.
DATABASES: Mapping[str, Callable[[Path], AbstractContextManager[str]]] = {
    "memory": memory,
    "lancedb": lancedb,
    "chroma": chroma,
    "chroma-server": chroma_server,
    "qdrant": qdrant,
    "qdrant-server": qdrant_engine,
    "pgvector": pgvector,
    "pgvector-0.6": old_pgvector,
}


def installed(module: str) -> None:
    """Skip on a laptop, fail in CI, where a package is not there."""
    if find_spec(module) is None:
        missing(f"{module} is not installed")


def free_port() -> int:
    """Return a loopback port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Return whether a URL is answered with success."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return int(reply.status) < 300
    except OSError:
        return False


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a server to start; fail with its log where it does not."""
    until = time.monotonic() + _SECONDS_TO_START
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"The database did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
