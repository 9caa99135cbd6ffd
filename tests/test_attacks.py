"""The benchmark of attacks: bodies are what they claim, replies are counted, and a bad outcome shows."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace

import pytest

from benchmarks import attackers
from benchmarks.attackers import ATTACKS, Target
from benchmarks.attacks import TOGETHER, Bystander, Outcome, requirements, table

KEYS = {"attacker": "a", "greedy": "g", "small": "s"}


def _outcome() -> Outcome:
    return Outcome(
        attack="together",
        tree="now",
        health={"p50": 1.0, "p99": 100.0, "max": 200.0, "failed": 0},
        polite_idle={"p99": 20.0},
        polite={"p99": 110.0, "failed": 0, "refused": 3},
        memory={"before": 300, "peak": 800, "after": 310},
        batch=50.0,
        replies={"url": {"414": 7}},
    )


def test_a_good_outcome_meets_all() -> None:
    assert all(row.met for row in requirements(_outcome()))
    page = table([_outcome()])
    assert "300 / 800 / 310" in page
    assert "20 / 110 (120)" in page
    assert "7 x 414" in page


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("/health", {"health": {"p99": 251.0, "failed": 0}}),
        ("memory", {"memory": {"before": 300, "peak": 900, "after": 900}}),
        ("key", {"polite": {"p99": 121.0, "failed": 0}}),
        ("failed", {"polite": {"p99": 1.0, "failed": 1}}),
        ("runs", {"exit_code": -9}),
    ],
)
def test_each_bad_outcome_is_a_requirement_not_met(name: str, change: dict[str, object]) -> None:
    failed = [row.name for row in requirements(replace(_outcome(), **change)) if not row.met]  # type: ignore[arg-type]
    assert len(failed) == 1
    assert name in failed[0]


def test_the_attacks_together_are_ten_clients_of_each_of_the_first_five_faults() -> None:
    faults = [{ATTACKS[name].fault for name in group} for group in TOGETHER]
    assert faults == [{1}, {2}, {3}, {4}, {5}]
    assert [sum(group.values()) for group in TOGETHER] == [10] * 5
    assert "together" in json.dumps(asdict(_outcome()))


def test_a_request_in_progress_when_an_attack_begins_counts_for_the_attack() -> None:
    bystander = Bystander.__new__(Bystander)
    bystander._samples = [(1.0, 0.1, "200", 0), (4.9, 3.0, "200", 2), (9.0, 0.2, "503", 0)]
    assert bystander.figures(0.0, 5.0, within=True)["max"] == 100
    during = bystander.figures(5.0, 9.1)
    assert (during["count"], during["max"], during["failed"], during["refused"]) == (2, 3000, 1, 2)


@asynccontextmanager
async def _server(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve one reply to whatever arrives first; yield the port, and what arrived."""
    received: list[bytes] = []
    handlers: set[asyncio.Task[None]] = set()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        if handler is not None:
            handlers.add(handler)
        with suppress(OSError):
            received.append(await reader.read(65536))
            writer.write(answer)
            if not answer:
                await reader.read()
        writer.transport.abort() if not answer else writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], received
    finally:
        server.close()
        await asyncio.gather(*handlers)


async def test_replies_and_connections_without_a_reply_are_counted() -> None:
    async with _server(b"HTTP/1.1 414 URI Too Long\r\n\r\n") as (port, _):
        target = Target(port, KEYS, until=time.monotonic() + 20)
        await attackers.send_request(target, [b"GET /x HTTP/1.1\r\n\r\n"])
        assert target.counts == {"414": 1}
        assert target.sent_bytes == 19
    async with _server(b"") as (port, _):
        target = Target(port, KEYS, until=time.monotonic() + 0.3)
        await attackers.send_request(target, [b"GET /x HTTP/1.1\r\n"], hold=True)
        assert target.counts == {"still open": 1}
    target = Target(port, KEYS, until=time.monotonic() + 5)
    await attackers.send_request(target, [b"x"])
    assert target.counts == {"no connection": 1}


@pytest.mark.parametrize(("prepare", "size"), [(attackers.gzip_json, 60_000), (attackers.gzip_msgpack, 60_000)])
async def test_a_small_body_expands_to_just_below_the_limit(
    prepare: Callable[[Target], attackers.Client], size: int
) -> None:
    async with _server(b"HTTP/1.1 401 Unauthorized\r\n\r\n") as (port, received):
        target = Target(port, KEYS, until=time.monotonic() + 1.0)
        await prepare(target)(0)
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert b"Authorization" not in head
    assert len(body) < size
    assert 0.99 * attackers.BODY_BYTES < len(gzip.decompress(body)) <= attackers.BODY_BYTES
    assert set(target.counts) == {"401"}
