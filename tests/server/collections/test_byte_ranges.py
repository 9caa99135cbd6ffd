"""Ranges of bytes, as RFC 9110 (14.1.2) describes them."""

from __future__ import annotations

import pytest

from nearfield.server.dialects.collections.byte_ranges import RangeNotSatisfiable, requested_range

TAG = '"a"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", slice(0, 100)),
        ("bytes=0-499", slice(0, 100)),
        ("bytes=10-19", slice(10, 20)),
        ("bytes=99-", slice(99, 100)),
        ("bytes=-30", slice(70, 100)),
        ("bytes=-300", slice(0, 100)),
        ("bytes=9-3", None),
        ("bytes=0-1, 5-9", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=-", None),
        ("", None),
    ],
)
def test_a_range_is_cut_to_the_reply(header: str, expected: slice | None) -> None:
    assert requested_range({"range": header}, 100, TAG) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_after_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        requested_range({"range": header}, 100, TAG)


def test_a_range_of_another_version_is_ignored() -> None:
    headers = {"range": "bytes=0-9", "if-range": '"b"'}
    assert requested_range(headers, 100, TAG) is None
    assert requested_range({**headers, "if-range": TAG}, 100, TAG) == slice(0, 10)
