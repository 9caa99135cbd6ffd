"""Probes: each back-end is asked for its readiness, models and queue, again and again."""

from __future__ import annotations

import asyncio
import random

import msgspec

from nearfield.cluster.router.backends.backend import BackendServer, BackendStatus
from nearfield.cluster.router.backends.connection import BackendFailure
from nearfield.server.logs import LOG

#: Seconds between two probes of a back-end, each varied by a fifth, and seconds within which it answers.
PROBE_SECONDS, PROBE_TIMEOUT = 0.5, 2.0
#: Maximum bytes of an answer: a server with thousands of names has less.
_MAX_ANSWER_BYTES = 2**20
_DECODER = msgspec.json.Decoder(BackendStatus)


async def probe(backend: BackendServer) -> None:
    """Ask a back-end once, and record its answer or that there was none."""
    try:
        status = await asyncio.wait_for(_read_status(backend), PROBE_TIMEOUT)
    except BackendFailure as error:
        _record_miss(backend, str(error), refused=not error.sent)
    except (asyncio.TimeoutError, TimeoutError):
        _record_miss(backend, f"It did not answer /ready within {PROBE_TIMEOUT:g} s.", refused=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _record_miss(backend, "It answers /ready, but not as a Nearfield server of this version.", refused=False)
    else:
        if status.role == "router":
            problem = "It is a router (of this or another machine): requests sent to it could go round for ever."
            _record_miss(backend, problem, refused=True)
        elif backend.record_status(status):
            LOG.info("back-end %s is up", backend.name, extra={"models": ",".join(status.models)[:500]})


def _record_miss(backend: BackendServer, problem: str, *, refused: bool) -> None:
    if backend.record_miss(problem, refused=refused):
        LOG.warning("back-end %s is down: %s", backend.name, problem)


async def _read_status(backend: BackendServer) -> BackendStatus:
    connection = await backend.pool.acquire()
    try:
        connection.send(b"GET /ready HTTP/1.1\r\nhost: %s\r\n\r\n" % backend.address.authority.encode("ascii"))
        await connection.read_head()
        data = b""
        while part := await connection.read_part():
            data += part
            if len(data) > _MAX_ANSWER_BYTES:
                raise BackendFailure(f"Its answer to /ready has more than {_MAX_ANSWER_BYTES} bytes.")
    finally:
        backend.pool.release(connection)
    return _DECODER.decode(data)


async def probe_until_removed(backend: BackendServer) -> None:
    """Ask a back-end until it is removed, or the task is cancelled."""
    while not backend.removed:
        try:
            await probe(backend)
        except Exception as error:  # noqa: BLE001 - a back-end that is never asked again would be lost
            LOG.error("a probe of %s failed: %s", backend.name, type(error).__name__, exc_info=error)
        await asyncio.sleep(PROBE_SECONDS * random.uniform(0.8, 1.2))
