"""The owner whose share a request uses: its key, else its address."""

from __future__ import annotations

import pytest

from nearfield.server.auth.api_key import ANONYMOUS, ApiKey, key_digest
from nearfield.server.auth.owner import LOCAL, owner_of


def test_a_key_is_its_own_owner_wherever_it_is_used() -> None:
    key = ApiKey("one", key_digest("secret"))
    assert owner_of(key, "10.0.0.1") == owner_of(key, "10.0.0.2") == f"key {key.owner}"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::1", True),
        ("testclient", "testclient", True),
    ],
)
def test_without_a_key_the_address_or_network_is_the_owner(first: str, second: str, same: bool) -> None:
    assert (owner_of(ANONYMOUS, first) == owner_of(ANONYMOUS, second)) is same


def test_a_client_without_address_is_local() -> None:
    assert owner_of(ANONYMOUS, None) == LOCAL
