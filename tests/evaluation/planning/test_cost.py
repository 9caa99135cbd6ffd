"""Costs by hand calculation, and the price table."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.errors import InputError, SettingsError
from nearfield.evaluation.planning.cost import STATES, Hardware, Price, compare_costs, read_prices
from tests.support.cli_runner import Ran, run

Run = Callable[..., Ran]
API = Price("api", 0.10, "2026-01-01", "https://example.org", "unverified")


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: run(capsys, monkeypatch, *words)


def test_a_rented_machine() -> None:
    machine = Hardware(10_000, rent=0.20, utilisation=0.5)
    # 730 h x 0.20; 10,000 x 3,600 x 730 x 0.5 tokens.
    assert machine.month == pytest.approx(146.0)
    assert machine.capacity == pytest.approx(13_140_000_000)
    found = compare_costs(2_000_000_000, machine, [API])
    assert found["own"]["machines"] == 1
    # 146 / 2,000 million; 2,000 x 0.10; 146 / 0.10 million.
    assert found["own"]["per_million"] == pytest.approx(0.073)
    (row,) = found["apis"]
    assert row["month"] == pytest.approx(200.0)
    assert row["break_even"] == pytest.approx(1_460_000_000)
    assert row["cheaper"] == "own"


def test_a_bought_machine_and_its_power() -> None:
    machine = Hardware(5_000, price=1_752.0, years=4.0, watts=100.0, kwh=0.30, utilisation=1.0)
    # 1,752 / 48 months = 36.50; 730 h x 0.1 kW x 0.30 = 21.90.
    assert machine.month == pytest.approx(58.40)
    assert machine.capacity == pytest.approx(13_140_000_000)


def test_more_than_a_machine_can_do_needs_another() -> None:
    machine = Hardware(1_000, rent=0.10, utilisation=0.5)
    # 1,000 x 3,600 x 730 x 0.5 = 1,314 million a month.
    assert compare_costs(1_314_000_000, machine, [])["own"]["machines"] == 1
    found = compare_costs(1_315_000_000, machine, [API])
    assert found["own"]["machines"] == 2
    assert found["own"]["month"] == pytest.approx(146.0)
    # 73 / 0.10 million is within what one does; at 0.05 it is not.
    assert found["apis"][0]["break_even"] == pytest.approx(730_000_000)
    cheap = Price("cheap", 0.05, "2026-01-01", "", "unverified")
    assert compare_costs(1_000_000, machine, [cheap])["apis"][0]["break_even"] is None


@given(speed=st.floats(1, 1e6), rent=st.floats(0.001, 100), share=st.floats(0.01, 1), price=st.floats(0.001, 10))
def test_at_the_break_even_volume_both_cost_the_same(speed: float, rent: float, share: float, price: float) -> None:
    machine = Hardware(speed, rent=rent, utilisation=share)
    (row,) = compare_costs(1.0, machine, [Price("api", price, "", "", "unverified")])["apis"]
    if row["break_even"] is None:
        assert machine.capacity / 1e6 * price < machine.month
    else:
        found = compare_costs(row["break_even"] * 0.999999, machine, [Price("api", price, "", "", "unverified")])
        assert found["apis"][0]["month"] == pytest.approx(found["own"]["month"], rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"price": 1.0, "rent": 1.0}, {"rent": -1.0}, {"rent": 1.0, "utilisation": 0.0}, {"rent": 1.0, "years": 0.0}],
)
def test_hardware_that_cannot_be_counted_with_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Hardware(1_000, **options)


def test_a_volume_is_needed() -> None:
    with pytest.raises(InputError, match="volume"):
        compare_costs(0, Hardware(1, rent=1), [])


def test_each_price_of_ours_says_when_and_where_from() -> None:
    currency, prices = read_prices()
    assert currency == "USD" and len({price.name for price in prices}) == len(prices) > 5
    for price in prices:
        assert datetime.date.fromisoformat(price.date) <= datetime.date(2100, 1, 1)
        assert price.source.startswith("https://") and price.status in STATES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[price]]\nname='x'", "per_million, date, source, status"),
        ("[[price]]\nname='x'\nper_milion=1", "per_million"),
        ("[[price]]\nname='x'\nper_million='1'", "per_million cannot be '1'"),
        ("[[price]]\nname='x'\nper_million=1.0\ndate=''\nsource=''\nstatus='sure'", "status is one of"),
        ("[[price]]\nname='x'\nper_million=0\ndate=''\nsource=''\nstatus='unverified'", "above 0"),
        ("[[prices]]\nname='x'", "Did you mean 'price'"),
        ("currency = 'EUR'", "no \\[\\[price\\]\\]"),
        ("price = [", "cannot be read"),
    ],
)
def test_a_wrong_table_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as told:
        read_prices(path)
    assert "mine.toml" in str(told.value)


def test_the_command_with_a_table_of_the_users_own(nearfield: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "currency = 'EUR'\n[[price]]\nname='mine'\nper_million=0.1\ndate='2026-02-03'\n"
        "source='a letter'\nstatus='provider'\n",
        encoding="utf-8",
    )
    words = ("cost", "2B", "--rent", 0.2, "--tokens-per-second", 10_000, "--prices", path)
    told = json.loads(nearfield(*words, "--json").out)
    assert told["own"]["month"] == pytest.approx(146.0)
    assert [row["name"] for row in told["apis"]] == ["mine"]
    shown = nearfield(*words, "--sources").out
    assert "1.46 billion tokens" in shown and "146.00 EUR" in shown
    assert "a letter" in shown and "break-even volume =" in shown


def test_the_command_marks_what_is_not_sure(nearfield: Run) -> None:
    shown = nearfield("cost", "1B", "--rent", 1, "--tokens-per-second", 1).out
    assert "(unverified)" in shown and "never" in shown


@pytest.mark.parametrize("words", [("1B", "--rent", "1"), ("1B", "--tokens-per-second", "5"), ("x", "--rent", "1")])
def test_the_command_says_what_is_missing(nearfield: Run, words: tuple[str, ...]) -> None:
    said = nearfield("cost", *words)
    assert said.code == 2 and said.err.startswith("nearfield: ")
