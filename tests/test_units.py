"""Amounts with a unit: what is parsed, what is printed, and that both mean the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.errors import InputError
from nearfield.units import format_bytes, format_count, format_size, parse_count, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("8G", 8 * 10**9),
        ("8GiB", 8 * 2**30),
        ("8Gi", 8 * 2**30),
        ("1.5 MiB", 3 * 2**19),
        ("24 gb", 24 * 10**9),
        ("0", 0),
    ],
)
def test_gb_and_gib_are_two_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1,5GB", "nan", "inf", "1e400", "8 elephants", "8GBs"])
def test_what_is_no_size_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InputError, match="is not a size such as 512MB, 8GiB or 0"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "count"), [("1,000,000", 10**6), ("250k", 250_000), ("1.5M", 1_500_000), ("2B", 2 * 10**9), ("1_0", 10)]
)
def test_a_count_may_have_groups_and_a_unit(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["1,5M", "1,00", ",5", "nan", "1e400", "-3", "many", "5MB"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a count such as"):
        parse_count(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (96_000_000, "96 MB"),
        (4_608_000_000, "4.61 GB"),
        (999_999, "1 MB"),
        (92.16e9, "92.2 GB"),
        (1.536e12, "1.54 TB"),
    ],
)
def test_bytes_are_printed_in_powers_of_1000(size: float, text: str) -> None:
    assert format_bytes(size) == text


def test_an_amount_beside_a_limit_has_the_units_of_that_limit() -> None:
    assert format_bytes(4 * 2**30, parse_size("8GiB")) == "4 GiB"
    assert format_bytes(4 * 10**9, parse_size("8GB")) == "4 GB"
    assert format_bytes(2000, 0) == format_bytes(2000, None) == "2 kB"


@given(st.integers(0, 10**17))
def test_a_printed_size_is_near_the_size_and_can_be_parsed(size: int) -> None:
    for limit in (None, 2**30):
        assert parse_size(format_bytes(size, limit).replace(",", "")) == pytest.approx(size, rel=0.006)


@given(st.integers(0, 2**53))
def test_an_exact_size_is_parsed_as_itself(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["8GB", "8GiB", "256MiB", "1TB", "512MB"])
def test_an_exact_size_has_the_unit_it_was_written_in(text: str) -> None:
    assert format_size(parse_size(text)) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999_999, "999,999"),
        (250_000, "250,000"),
        (1_500_000, "1.5 million"),
        (100_000_000_000, "100 billion"),
        (5e9, "5 billion"),
        (2e15, "2,000 trillion"),
    ],
)
def test_large_counts_are_printed_in_words(count: float, text: str) -> None:
    assert format_count(count) == text
