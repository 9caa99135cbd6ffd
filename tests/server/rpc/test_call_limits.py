"""Limits of gRPC connections, and of calls that need no key."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from nearfield.encoder import Encoder
from nearfield.server.rpc import public_calls
from nearfield.server.rpc.call_limits import ActiveConnections, CallLimit, address_of
from nearfield.testing import tiny_encoder
from tests.server.rpc.test_grpc import Served, calling

Code = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING


def test_addresses_of_peers() -> None:
    assert address_of("ipv4:127.0.0.1:5000") == "127.0.0.1"
    assert address_of("ipv6:%5B::1%5D:5000") == "::1"


def test_calls_are_bounded_in_all_and_by_address() -> None:
    limit = CallLimit(3, 2)
    assert [limit.enter(f"ipv4:1.1.1.1:{port}") for port in range(3)] == [True, True, False]
    assert limit.enter("ipv4:2.2.2.2:1")
    assert not limit.enter("ipv4:3.3.3.3:1")
    limit.leave("ipv4:1.1.1.1:0")
    assert limit.enter("ipv4:3.3.3.3:1")


def test_an_address_has_half_of_the_connections_that_others_do_not_use() -> None:
    connections = ActiveConnections(64)
    assert sum(connections.enter(f"ipv4:1.1.1.1:{port}") for port in range(60)) == 32
    assert connections.enter("ipv4:1.1.1.1:0")
    assert sum(connections.enter(f"ipv4:2.2.2.2:{port}") for port in range(60)) == 16
    for _ in range(2):
        assert not connections.enter("ipv4:1.1.1.1:40")
        connections.leave("ipv4:1.1.1.1:0")
    connections.leave("ipv4:1.1.1.1:1")
    assert connections._total == 46


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return tiny_encoder()


def _watch(channel: Any, service: str = "") -> Any:
    return channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service=service), timeout=60)


def _code(call: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value.code()


@pytest.mark.network
def test_calls_without_a_key_are_bounded(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_calls, "_READ_SECONDS", 0.5)
    with calling([tiny], api_keys=("secret",)) as served, grpc.insecure_channel(served.address) as channel:
        watches = [_watch(channel) for _ in range(16)]
        assert {next(watch).status for watch in watches} == {SERVING}
        assert _code(_watch(channel)) == Code.RESOURCE_EXHAUSTED
        watches.pop().cancel()
        watches.append(_eventually(channel))
        watches.pop().cancel()
        _is_refused(channel, served)
        for watch in watches:
            watch.cancel()


def _eventually(channel: Any) -> Any:
    """Watch as soon as the server knows that another call has ended."""
    until = time.monotonic() + 30
    while True:
        watch = _watch(channel)
        try:
            assert next(watch).status == SERVING
            return watch
        except grpc.RpcError:
            assert time.monotonic() < until
            time.sleep(0.02)


def _is_refused(channel: Any, served: Served) -> None:
    """Send messages that are too long, or none."""
    _eventually(channel).cancel()
    until = time.monotonic() + 30
    while (code := _code(_watch(channel, "x" * 5000))) == Code.RESOURCE_EXHAUSTED:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert code == Code.INVALID_ARGUMENT
    silent = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    answered = threading.Event()
    assert _code(silent(_no_messages(answered), timeout=60)) == Code.DEADLINE_EXCEEDED
    answered.set()


def _no_messages(end: threading.Event) -> Iterator[bytes]:
    """Yield nothing, and not even the end until ``end`` is set."""
    end.wait(60)
    yield from ()
