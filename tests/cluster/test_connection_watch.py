"""When a run ends because its cluster is gone: tested with a clock and addresses of the test."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import pytest

from nearfield.cluster.connection_watch import Address, ConnectionWatch, WatchedAddress, accepts_connections
from nearfield.errors import ClusterFailed

HEAD, LOCAL = ("head", 6379), ("here", 7000)


@dataclass
class _Network:
    """A clock, and addresses that do not answer."""

    now: float = 0.0
    silent: set[Address] = field(default_factory=set)
    looks: int = 0

    def accepts(self, address: Address) -> bool:
        self.looks += 1
        return address not in self.silent

    def wait(self, watch: ConnectionWatch, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now += 1.0
            watch.check()


@pytest.fixture
def network() -> _Network:
    return _Network()


@pytest.fixture
def watch(network: _Network) -> ConnectionWatch:
    watched = [WatchedAddress("the head node", HEAD, 30.0), WatchedAddress("Ray on this machine", LOCAL, 5.0)]
    return ConnectionWatch(watched, clock=lambda: network.now, accepts=network.accepts)


def test_a_cluster_that_answers_is_looked_at_every_two_seconds(network: _Network, watch: ConnectionWatch) -> None:
    network.wait(watch, 100)
    assert (network.looks, watch.is_lost) == (100, False)


@pytest.mark.parametrize(
    ("address", "seconds", "name"), [(HEAD, 34, "the head node"), (LOCAL, 10, "Ray on this machine")]
)
def test_a_silent_address_ends_the_run_with_its_name(
    network: _Network, watch: ConnectionWatch, address: Address, seconds: float, name: str
) -> None:
    network.silent = {address}
    with pytest.raises(
        ClusterFailed, match=rf"cluster ended: {name} at {address[0]}:{address[1]} .* repeat the command"
    ):
        network.wait(watch, seconds)
    assert watch.is_lost


def test_a_head_that_restarts_in_time_does_not_end_the_run(network: _Network, watch: ConnectionWatch) -> None:
    for _ in range(3):
        network.silent = {HEAD}
        network.wait(watch, 28)
        network.silent = set()
        network.wait(watch, 4)
    assert not watch.is_lost


def test_a_port_accepts_connections_until_it_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = ("127.0.0.1", server.getsockname()[1])
        assert accepts_connections(address)
    assert not accepts_connections(address)
