"""Bodies that cost much: decompression bombs, floods of small objects, and bodies that never end."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import gzip
import json
import struct
import threading
import time
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest

from nearfield.encoder import Encoder
from nearfield.engine.fair_turns import FairTurns
from nearfield.errors import InputError, Overloaded, SlowBody, TooLarge
from nearfield.server.frontends.metrics_merge import MergedMetrics
from nearfield.server.http import deadline as deadlines
from nearfield.server.http import request_body
from nearfield.server.http.content_bounds import ContentBounds, check_json, check_msgpack, is_light_msgpack
from nearfield.server.http.deadline import PendingBodies, RequestDeadline
from nearfield.server.http.decode_thread import DecodeThread, suspended_collection
from nearfield.server.http.limits import RequestLimits
from nearfield.server.http.request_body import BodyBudget, RequestBody, decode
from nearfield.server.observability import loop_lag
from nearfield.server.observability.loop_lag import LoopLag
from nearfield.server.observability.prometheus import Prometheus
from tests.support.serving import serving

PATH = "/v1/embeddings"
JSON = {"content-type": "application/json"}
MSGPACK = {"content-type": "application/msgpack"}
BOUNDS = ContentBounds(containers=100, values=1000, fields=100, strings=950, fractions=100, digits=5000)
LIMITS = RequestLimits(32 * 2**20, 16_384, 1_000_000, 30.0, 256)


# -- counting before decoding ----------------------------------------------------------------------------------------


def _nested(value: bytes, count: int, before: bytes = b'{"x":[') -> bytes:
    return before + b",".join([value] * count) + b"]}"


JSON_FLOODS = {
    "lists": _nested(b"[]", 200),
    "objects": _nested(b"{}", 200),
    "numbers": _nested(b"1", 2000),
    "strings": _nested(b'""', 960),
    "fields": b"{" + b",".join(b'"a%d":1' % number for number in range(200)) + b"}",
    "fractions": _nested(b"2.2250738585072011e-308", 200),
    "exponents": _nested(b"1e5", 200),
    "digits": _nested(b"1" * 100, 100),
    "lists after an escaped quote": _nested(b"[]", 200, b'{"a":"\\"","x":['),
    "lists after a backslash": _nested(b"[]", 200, b'{"a":"\\\\","x":['),
    "lists after many chunks": _nested(b"[]", 200, b'{"a":"' + b"x\\\\\\n," * 200_000 + b'","x":['),
    "invalid": b"[" * 1000,
}
JSON_TEXTS = {
    "brackets in a text": json.dumps({"x": "[],{}:1.5e3," * 10_000}).encode(),
    "quotes in a text": json.dumps({"x": '[{"a": "b"}],' * 10_000}).encode(),
    "backslashes": json.dumps({"x": ["\\" * 300_001, "[],{}" * 1000]}).encode(),
    "an open string": b'{"x": "' + b"[]," * 10_000,
    "true and false": _nested(b"true", 400),
    "texts": json.dumps({"x": ['the "cat", [sat]:'] * 900}).encode(),
}


@pytest.mark.parametrize("case", JSON_FLOODS)
def test_json_with_too_much_inside_is_refused_without_decoding_it(case: str) -> None:
    with pytest.raises(TooLarge, match="The body has more than"):
        check_json(JSON_FLOODS[case], BOUNDS)


@pytest.mark.parametrize("case", JSON_TEXTS)
def test_what_is_inside_json_strings_is_not_counted(case: str) -> None:
    check_json(JSON_TEXTS[case], BOUNDS)
    check_json(bytearray(JSON_TEXTS[case]), BOUNDS)


def test_json_is_counted_the_same_wherever_a_chunk_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.server.http.content_bounds._CHUNK", 7)
    text = json.dumps({"x": ['\\"[', "\\\\", "[]\\", '"', "\n,"], "y": [1, "\\\\\\"]}).encode()
    exact = ContentBounds(containers=3, values=9, fields=2, strings=8, fractions=0, digits=1)
    for shift in range(7):
        check_json(b" " * shift + text, exact)
        for name in ("containers", "values", "fields", "strings", "digits"):
            with pytest.raises(TooLarge):
                check_json(b" " * shift + text, dataclasses.replace(exact, **{name: getattr(exact, name) - 1}))


MSGPACK_FLOODS = {
    "lists": b"\x81\xa1x\xdc\x00\xc8" + b"\x90" * 200,
    "objects": b"\x81\xa1x\xdc\x00\xc8" + b"\x80" * 200,
    "strings": b"\x81\xa1x\xdc\x03\xc0" + b"\xa1x" * 960,
    "a claimed length": b"\x81\xa1x\xdd\xff\xff\xff\xff\x01",
    "fields": b"\xde\x00\xc8" + b"".join(b"\xa2%02d\x01" % (number % 100) for number in range(200)),
    "lists after a text": b"\x82\xa1a\xdb" + struct.pack(">I", 100_000) + b"\x90" * 100_000 + b"\xa1x" + b"\x91" * 200,
    "lists after numbers": b"\x82\xa1a\xdc\x03\x84" + b"\xcd\x90\x90" * 900 + b"\xa1x" + b"\x91" * 200,
}


@pytest.mark.parametrize("case", MSGPACK_FLOODS)
def test_msgpack_with_too_much_inside_is_refused_without_decoding_it(case: str) -> None:
    with pytest.raises(TooLarge, match="The body has more than"):
        check_msgpack(MSGPACK_FLOODS[case], BOUNDS)


def test_what_is_inside_msgpack_strings_and_bytes_is_not_counted() -> None:
    value = {
        "texts": ["é" * 50_000, "x" * 40, "y", ""],
        "bytes": [b"\x90" * 10, b"\x90" * 300, b"\x90" * 70_000],
        "numbers": [1, -1, 200, -200, 70_000, -70_000, 2**40, -(2**40), 1.5, None, True] * 40,
        "extensions": [msgspec.msgpack.Ext(1, b"\x90" * size) for size in (1, 2, 4, 8, 16, 3, 300, 70_000)],
    }
    data = msgspec.msgpack.encode(value)
    check_msgpack(data, BOUNDS)
    exact = ContentBounds(containers=5, values=4 + 4 + 3 + 440 + 8 + 5, fields=4, strings=11, fractions=0, digits=0)
    check_msgpack(data, exact)
    for name in ("containers", "values", "fields", "strings"):
        with pytest.raises(TooLarge):
            check_msgpack(data, dataclasses.replace(exact, **{name: getattr(exact, name) - 1}))
    for end in range(0, len(data), 997):
        check_msgpack(data[:end], BOUNDS)  # a truncated body is for the decoder to report


HONEST = {
    "a million token ids": {"input": [123_456] * 1_000_000},
    "lists of token ids": {"input": [[12_345] * 61] * 16_384},
    "texts": {"input": ['the cat, [sat]: "on"'] * 16_384},
    "late chunking": {"documents": [["one", "two", "three"]] * 5_461},
    "Qdrant": {"inputs": [{"data": "x", "model": "m", "data_type": "text", "options": {"mrl": 8}}] * 16_384},
    "Cohere": {"inputs": [{"content": [{"type": "text", "text": "x"}]}] * 16_384},
    "SIE": {"items": [{"id": "1", "text": "x"}] * 16_384},
    "pairs": {"inputs": [["a", "b"]] * 16_384},
    "documents of eight fields": {"documents": [{f"field {number}": 0.5 for number in range(8)}] * 8_192},
}


@pytest.mark.parametrize("case", HONEST)
def test_honest_bodies_of_the_largest_size_are_within_the_bounds(case: str) -> None:
    bounds = ContentBounds.from_limits(LIMITS)
    check_json(msgspec.json.encode(HONEST[case]), bounds)
    check_msgpack(msgspec.msgpack.encode(HONEST[case]), bounds)


def _msgpack_list(items: bytes, count: int) -> bytes:
    return b"\x81\xa5input\xdd" + struct.pack(">I", count) + items * count


@pytest.mark.parametrize(
    ("data", "light"),
    [
        (msgspec.msgpack.encode({"items": [{"text": "some words " * 20, "id": str(at)} for at in range(64)]}), True),
        (msgspec.msgpack.encode({"input": "\u00e9" * 30_000}), True),
        (_msgpack_list(b"\x90", 5_000), False),
        (_msgpack_list(b"\x80", 5_000), False),
        (_msgpack_list(b"\xa0", 5_000), False),
        (_msgpack_list(b"\x07", 60_000), False),
        (b"\x81\xa1x" + b"\x91" * 5_000, False),
        (b"\x81\xa1x" + b"\x90\x07", True),
    ],
)
def test_msgpack_of_few_values_is_light(data: bytes, light: bool) -> None:
    """Light bodies are decoded on the event loop: passing them to a thread would take longer than that."""
    assert is_light_msgpack(data) is light


def test_numbers_with_many_digits_are_read_exactly() -> None:
    for text in (
        "2.2250738585072011e-308",
        "9007199254740993.0000001",
        "0.1",
        "-1e-400",
        "1E5",
        "1.7976931348623157e308",
    ):
        assert decode(b'{"x":%s}' % text.encode()) == {"x": float(text)}
    assert decode(b'{"x":123456789012345678901234567890}') == {"x": 123456789012345678901234567890}


def test_a_body_of_very_many_fields_is_refused() -> None:
    with pytest.raises(TooLarge, match="2000 fields"):
        decode(json.dumps(dict.fromkeys(map(str, range(2000)))).encode())


# -- the decode thread -----------------------------------------------------------------------------------------------


async def test_owners_take_turns_at_the_decode_thread() -> None:
    thread = DecodeThread()
    order: list[tuple[str, int]] = []
    release = threading.Event()
    first = asyncio.create_task(thread.run("greedy", lambda: release.wait(20)))
    await asyncio.sleep(0)
    work = [("greedy", 1), ("greedy", 2), ("greedy", 3), ("polite", 1), ("other", 1)]
    tasks = [asyncio.create_task(thread.run(owner, partial(order.append, (owner, number)))) for owner, number in work]
    await asyncio.sleep(0)
    tasks[1].cancel()
    release.set()
    await asyncio.gather(first, *tasks, return_exceptions=True)
    assert order == [("greedy", 1), ("polite", 1), ("other", 1), ("greedy", 3)]
    assert await thread.run("greedy", lambda: 5) == 5
    thread.close()


async def test_a_cancelled_turn_is_passed_on() -> None:
    turns = FairTurns()
    await turns.acquire("a")
    waiting = [asyncio.create_task(turns.acquire("b")) for _ in range(2)]
    await asyncio.sleep(0)
    turns.release()
    waiting[0].cancel()  # it was given the lock, and does not know yet
    await asyncio.wait_for(waiting[1], 10)
    turns.release()
    await asyncio.wait_for(turns.acquire("c"), 10)


def test_the_garbage_collector_is_suspended_until_the_last_decode_ends() -> None:
    assert gc.isenabled()
    with suspended_collection():
        with suspended_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with suspended_collection():
            pass
        assert not gc.isenabled(), "somebody else has disabled it"
    finally:
        gc.enable()


# -- before the key is known -----------------------------------------------------------------------------------------


@pytest.mark.network
def test_nothing_is_decompressed_or_decoded_without_a_key(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    unzipped: list[int] = []
    real_decode, real_unzip = decode, request_body.unzip

    def record_decode(data: bytes, *arguments: Any) -> Any:
        decoded.append(len(data))
        return real_decode(data, *arguments)

    def record_unzip(data: bytes, max_bytes: int) -> Any:
        unzipped.append(max_bytes)
        return real_unzip(data, max_bytes)

    monkeypatch.setattr("nearfield.server.http.request_body.decode", record_decode)
    monkeypatch.setattr(request_body, "unzip", record_unzip)
    bomb = b'{"model":"tiny","input":[' + b"[]," * 300_000 + b"[]]}"
    zipped = {"content-encoding": "gzip"}
    with serving([tiny], api_keys=["secret"]) as url:
        for path in (PATH, "/encode", "/qdrant/infer", "/embed"):
            response = httpx.post(url + path, content=gzip.compress(bomb), headers=JSON | zipped)
            assert response.status_code == (413 if "qdrant" in path else 401), response.text
            assert httpx.post(url + path, content=bomb, headers=JSON).status_code == 401
        pack = b"\x81\xa5input\xdd" + struct.pack(">I", 10**6) + b"\x90" * 10**6
        assert httpx.post(url + "/encode", content=gzip.compress(pack), headers=MSGPACK | zipped).status_code == 401
        assert not decoded
        assert all(size <= 65_536 for size in unzipped)
        # A small body is read where it decides which API writes the error.
        response = httpx.post(url + PATH, json={"model": "tiny", "input": [{"text": "cat"}]})
        assert response.status_code == 401
        assert "errors" in response.json() or "detail" in response.json()
        assert (
            httpx.post(url + PATH, json={"input": "cat"}, headers={"authorization": "Bearer secret"}).status_code == 400
        )


@pytest.mark.network
def test_the_key_in_a_body_is_found_at_its_ends_only(tiny: Encoder) -> None:
    texts = [{"data": "cat " * 100, "model": "tiny"} for _ in range(300)]
    with serving([tiny], api_keys=["secret"], max_items=1000) as url:
        for body, status in (
            ({"token": "secret", "inputs": texts}, 200),
            ({"inputs": texts, "token": "secret"}, 200),
            ({"inputs": [*texts[:150], {**texts[0], "token": "secret"}, *texts[:150]]}, 401),
            ({"inputs": texts, "token": "wrong"}, 401),
            ({"inputs": [*texts, {"data": '{"token":"secret"}', "model": "tiny"}]}, 401),
            ({"inputs": texts * 10, "token": "secret"}, 413),
        ):
            response = httpx.post(url + "/qdrant/infer", json=body, timeout=60)
            assert response.status_code == status, response.text[:200]


# -- floods ----------------------------------------------------------------------------------------------------------


@pytest.mark.network
def test_floods_of_small_objects_get_413(tiny: Encoder) -> None:
    million = 1_000_000
    floods = (
        b'{"model":"tiny","input":[' + b"[]," * million + b"[]]}",
        b'{"model":"tiny","input":[' + b"{}," * million + b"{}]}",
        b'{"model":"tiny","input":"cat"' + b"".join(b',"a%d":1' % number for number in range(300_000)) + b"}",
    )
    with serving([tiny]) as url:
        for flood in floods:
            for headers, content in ((JSON, flood), (JSON | {"content-encoding": "gzip"}, gzip.compress(flood, 1))):
                response = httpx.post(url + PATH, content=content, headers=headers, timeout=60)
                assert response.status_code == 413, response.text[:200]
                assert "max_items" in response.json()["error"]["message"]
        pack = b"\x81\xa5input\xdd" + struct.pack(">I", million) + b"\x90" * million
        assert httpx.post(url + "/encode", content=pack, headers=MSGPACK, timeout=60).status_code == 413
        assert httpx.post(url + PATH, json={"model": "tiny", "input": "cat"}).status_code == 200


# -- shares ----------------------------------------------------------------------------------------------------------


def _fill(budget: BodyBudget, owner: str, step: int) -> tuple[list[RequestBody], int]:
    """Reserve bytes for an owner until that is refused; return the bodies and their bytes."""
    bodies: list[RequestBody] = []
    while True:
        body = budget.open_body(owner)
        try:
            body.reserve(step)
        except Overloaded:
            body.__exit__(None, None, None)
            return bodies, len(bodies) * step
        bodies.append(body)


def test_each_owner_may_have_half_of_what_the_others_do_not_use() -> None:
    budget = BodyBudget(RequestLimits(2**20, 10, 10, 30.0, 2))
    bodies: list[RequestBody] = []
    # 15/16 of four bodies; an eighth of that is reserved.
    for owner, kilobytes in (("a", 1680), ("b", 840), ("c", 420), ("d", 210), *((f"e{n}", 60) for n in range(5))):
        more, size = _fill(budget, owner, 30 * 1024)
        assert size >= kilobytes * 1024 * 0.9, owner
        assert owner > "e" or size <= kilobytes * 1024
        bodies += more
    # However much greedy owners have, a small share is left for another one.
    polite = budget.open_body("polite")
    polite.reserve(50 * 1024)
    assert budget.used_bytes <= 4 * 2**20
    for body in bodies:
        body.__exit__(None, None, None)
    assert budget.used_bytes == 50 * 1024
    assert set(budget.pool.shares) == {"polite"}
    _, size = _fill(budget, "a", 30 * 1024)
    assert size > 1600 * 1024


def test_clients_without_a_key_have_a_small_pool() -> None:
    budget = BodyBudget(LIMITS)
    bodies = []
    for address in range(200):
        for _ in range(64):
            body = budget.open_body()
            body.belong_to_stranger(f"address {address}", 65_536)
            bodies.append(body)
            try:
                body.reserve(65_536)
            except Overloaded:
                break
    assert budget.strangers.used_bytes <= 8 * 2**20
    assert budget.pool.used_bytes == 0
    budget.open_body("key").reserve(32 * 2**20)
    with pytest.raises(TooLarge):
        bodies[0].reserve(1)


@pytest.mark.network
def test_unfinished_bodies_of_one_client_do_not_lock_out_another(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four unfinished bodies of the largest size, then two thousand small ones, beside a client with another key."""
    monkeypatch.setattr(request_body, "_UNCOUNTED_SECONDS", 0.0)
    size = 200_000

    async def post(url: str) -> int:
        async with httpx.AsyncClient(base_url=url) as client:
            content = json.dumps({"model": "tiny", "input": "cat"}) + " " * (size // 2)
            response = await client.post(PATH, content=content, headers=JSON | {"authorization": "Bearer polite"})
            return response.status_code

    async def scenario(url: str, path: str, key: str, count: int, sent: int, claimed: int) -> int:
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{key}"
        head += f"content-length: {claimed}\r\n\r\n"
        writers = []
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(head.encode() + b" " * sent)
            writers.append(writer)
        await asyncio.sleep(0.3)
        status = await post(url)
        for writer in writers:
            writer.transport.abort()
        return status

    with serving([tiny], api_keys=["greedy", "polite"], max_body_bytes=size) as url:
        for path, key in ((PATH, "authorization: Bearer greedy\r\n"), ("/qdrant/infer", ""), (PATH, "")):
            assert asyncio.run(scenario(url, path, key, 4, size - 100, size)) == 200
            assert asyncio.run(scenario(url, path, key, 400, 4_000, 5_000)) == 200


def test_unfinished_bodies_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "_UNCOUNTED_SECONDS", 0.05)
    budget = BodyBudget(LIMITS)
    for pool, most in ((budget.pool, 256), (budget.strangers, 32)):
        bodies = [budget.open_body() for _ in range(most + 2)]
        for body in bodies:
            body.belong_to("one") if pool is budget.pool else body.belong_to_stranger("one", 1000)
        pending = [body.pending() for body in bodies]
        for unfinished in pending[:most]:
            unfinished.__enter__()
        pending[most].__enter__()  # all at once are no attack
        time.sleep(0.1)
        with pytest.raises(Overloaded, match=f"{most} requests"):
            pending[most + 1].__enter__()
        for unfinished in pending[: most + 1]:
            unfinished.__exit__(None, None, None)


# -- slow bodies -----------------------------------------------------------------------------------------------------


class _Sender:
    """A request whose body arrives in parts of ``size`` bytes, one every ``seconds``."""

    def __init__(self, size: int, seconds: float, count: int) -> None:
        self.size, self.seconds, self.left = size, seconds, count

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(self.seconds)
        self.left -= 1
        return {"type": "http.request", "body": b" " * self.size, "more_body": self.left > 0}


async def _receive_all(sender: _Sender, within: float | None = None) -> None:
    with RequestDeadline(sender, 60.0, PendingBodies()) as deadline:  # type: ignore[arg-type]
        if within is not None:
            deadline.require_body_within(within)
        while (await deadline.receive())["more_body"]:
            pass


@pytest.fixture
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of all times, so that the rate is 20 times as high."""
    for name in ("_GRACE_SECONDS", "_MAX_PAUSE", "_SECOND_LOOK"):
        monkeypatch.setattr(deadlines, name, getattr(deadlines, name) / 20)
    monkeypatch.setattr(deadlines, "_MIN_BYTES_PER_SECOND", deadlines._MIN_BYTES_PER_SECOND * 20)


@pytest.mark.usefixtures("fast_clock")
async def test_a_body_that_arrives_too_slowly_is_given_up() -> None:
    started = time.monotonic()
    with pytest.raises(SlowBody, match="bytes a second"):
        await _receive_all(_Sender(1, 0.01, 10_000))
    with pytest.raises(SlowBody, match="bytes a second"):
        await _receive_all(_Sender(10**7, 30, 2))  # nothing at all
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("fast_clock")
async def test_a_client_of_50_kilobytes_a_second_may_send_a_long_body() -> None:
    await _receive_all(_Sender(50_000, 0.05, 20))


@pytest.mark.usefixtures("fast_clock")
async def test_time_in_which_the_server_does_not_read_does_not_count() -> None:
    with RequestDeadline(_Sender(1000, 0.0, 9), 60.0, PendingBodies()) as deadline:  # type: ignore[arg-type]
        while (await deadline.receive())["more_body"]:
            await asyncio.sleep(0.3)  # as the disk may take


@pytest.mark.usefixtures("fast_clock")
async def test_the_body_of_a_client_without_a_key_has_a_short_time() -> None:
    with pytest.raises(SlowBody):
        await _receive_all(_Sender(10**6, 0.01, 10_000), within=0.2)


# -- memory and pauses -----------------------------------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.parametrize("size", [10, 100_000], ids=["small", "large"])
def test_a_request_that_runs_out_of_memory_may_be_tried_again(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    body = {"model": "tiny", "input": "cat", "user": "x" * size}
    with serving([tiny]) as url:
        with monkeypatch.context() as patch:
            patch.setattr("nearfield.server.http.request_body.decode", fail)
            response = httpx.post(url + PATH, json=body)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"]["code"] == "out_of_memory"
        assert httpx.post(url + PATH, json=body).status_code == 200


async def test_the_longest_pause_of_the_event_loop_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "_PERIOD", 0.0)
    lag = LoopLag()
    assert lag.max_seconds == 0
    lag.start()
    await asyncio.sleep(0.1)
    time.sleep(0.3)
    await asyncio.sleep(0)
    await asyncio.sleep(0.06)
    assert 0.2 < lag.max_seconds < 5
    await asyncio.sleep(0.6)  # six periods later it is forgotten
    assert lag.max_seconds < 0.2
    lag.stop()


def test_the_longest_pause_of_several_processes_is_that_of_the_slowest() -> None:
    name = "nearfield_event_loop_lag_seconds_max"
    pages = {}
    for number, seconds in enumerate((0.25, 0.5, 0.125)):
        metrics, lag = Prometheus([]), LoopLag()
        metrics.watch_loop(lag)
        lag._max_delays.append(seconds)
        pages[str(number)] = metrics.metrics()
    assert f"\n{name} 0.5\n" in MergedMetrics().page([], pages).decode()


BAD_NAMES = {
    "a number": b"\x01",
    "a fraction": b"\xcb" + b"\x00" * 8,
    "null": b"\xc0",
    "bytes": b"\xc4\x01a",
    "a list": b"\x92\x01\x02",
    "an empty list": b"\x90",
    "an object": b"\x80",
    "an extension": b"\xd4\x01\x01",
}


@pytest.mark.parametrize("around", [b"\x81", b"\x91\x81", b"\x81\xa1a\x81", b"\x82\xa1a\x93\x91\x01\x80\x02"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_msgpack_objects_have_strings_as_names_at_any_depth(around: bytes, name: str) -> None:
    with pytest.raises(InputError, match="must be strings"):
        decode(around + BAD_NAMES[name] + b"\x01", "application/msgpack")


def test_msgpack_with_values_of_all_kinds_is_decoded() -> None:
    value = {"a": [1, [], {}, {"b": {"c": [None, 2.5, {"d": True}]}}, b"x" * 300], "e" * 40: "f" * 300, "g": -5}
    assert decode(msgspec.msgpack.encode(value), "application/msgpack") == value
