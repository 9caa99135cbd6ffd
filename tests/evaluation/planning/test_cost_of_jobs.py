"""Costs of one job, the published examples of break-even, and plans of several workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.errors import InputError
from nearfield.evaluation.planning.bulk_job import BILLING, BulkJob, WorkerPrice
from nearfield.evaluation.planning.cost import Price, VectorStorage, compare_job
from nearfield.evaluation.planning.encoding_rate import EncodingRate
from tests.support.cli_runner import Ran, run

Run = Callable[..., Ran]
API = Price("api", 0.02, "2026-01-01", "https://example.org", "unverified")


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: run(capsys, monkeypatch, *words)


# -- break-even -----------------------------------------------------------------------------------------------------


def test_the_known_break_even(nearfield: Run) -> None:
    words = ("cost", "10M", "--tokens", 100, "--rent-month", 300, "--texts-per-second", 4_800)
    result = json.loads(nearfield(*words, "--json").out)
    rows = {row["name"]: row for row in result["apis"]}
    small, large = rows["OpenAI text-embedding-3-small"], rows["OpenAI text-embedding-3-large"]
    assert result["own"]["month"] == pytest.approx(300)
    assert (small["month"], large["month"]) == pytest.approx((20, 130))
    assert small["break_even_texts"] == pytest.approx(150e6)
    shown = nearfield(*words).out
    assert "150 million texts" in shown and "1 billion tokens (10 million texts of 100) per month" in shown


def test_large_numbers_are_readable(nearfield: Run) -> None:
    shown = nearfield("cost", "100B", "--rent", 0.4, "--tokens-per-second", 20_000).out
    assert shown.startswith("100 billion tokens per month") and "000.0M" not in shown


def test_the_energy_of_a_month_is_shown(nearfield: Run) -> None:
    words = ("cost", "1B", "--rent", 0, "--watts", 100, "--kwh", 0.30, "--tokens-per-second", 50_000)
    # 730 h x 0.1 kW = 73 kWh; x 0.30 = 21.90.
    assert "73 kWh per month, 21.90 USD" in nearfield(*words).out


# -- one job --------------------------------------------------------------------------------------------------------


def test_one_job_pays_for_its_hours(nearfield: Run) -> None:
    words = ("cost", "2B", "--once", "--rent", 0.40, "--tokens-per-second", 960_000)
    # 2,083 s are 35 minutes, 0.5833 hours.
    assert "0.583 hours, rounded up to whole minutes" in nearfield(*words).out
    assert "= 0.23 USD" in nearfield(*words).out
    assert json.loads(nearfield(*words, "--billing", "hour", "--json").out)["own"]["price"] == pytest.approx(0.40)


@pytest.mark.parametrize(
    ("tokens", "rate", "workers", "rent", "hours", "price"),
    [
        (30, 33_000, 100, 0.05, 2.8, 14),
        (128, 33_000, 100, 0.05, 12, 60),
        (128, 5_800, 200, 0.05, 34, 340),
        (128, 1_000_000, 8, 3.5, 4.9, 138),
    ],
)
def test_plans_of_a_billion_texts(
    nearfield: Run, tokens: int, rate: int, workers: int, rent: float, hours: float, price: float
) -> None:
    speed = ("--tokens", tokens, "--tokens-per-second", rate, "--workers", workers)
    result = json.loads(nearfield("cost", "1B", "--once", *speed, "--rent", rent, "--json").out)
    assert result["job"]["efficiency"] == 0.9
    assert result["job"]["seconds"] / 3600 == pytest.approx(hours, rel=0.02)
    assert result["own"]["price"] == pytest.approx(price, rel=0.02)


def test_a_plan_has_spot_storage_and_apis(nearfield: Run) -> None:
    words = ("cost", "1M", "--tokens", 100, "--plan", "--rent", 1, "--spot", 0.5, "--texts-per-second", 1000)
    storage = ("--dims", 384, "--dtype", "float16", "--gb-month", 0.02)
    plan = json.loads(nearfield(*words, *storage, "--json").out)["plan"]
    assert [row["job"]["texts"] for row in plan] == [10**6, 10**7, 10**8, 10**9]
    # 10^9 texts x 384 x 2 bytes = 768 GB; x 0.02.
    assert plan[3]["storage"]["bytes"] == 768e9 and plan[3]["storage"]["month"] == pytest.approx(15.36)
    for row in plan:
        assert row["own"]["spot"] == pytest.approx(row["own"]["price"] / 2)
    shown = nearfield(*words, *storage).out
    assert "768 GB" in shown and "100 billion" in shown


def test_rent_and_watts_of_a_named_machine(nearfield: Run, tmp_path: Path) -> None:
    path = tmp_path / "machines.toml"
    path.write_text(
        'currency = "USD"\n[sources]\n"a letter" = ["2026-01-02", "unverified", "https://example.org"]\n'
        '[[machine]]\nname = "Box"\nkind = "gpu"\nmemory_gib = 24\nbandwidth = 1000\ncores = 8\n'
        'peak = { float32 = 80 }\nsource = "a letter"\nrent = { amount = 0.5, source = "a letter" }\n'
        'watts = { amount = 400, source = "a letter" }\n',
        encoding="utf-8",
    )
    words = ("cost", "36M", "--once", "--on", "box", "--machines", path, "--tokens-per-second", 10_000, "--kwh", 0.25)
    own = json.loads(nearfield(*words, "--json").out)["own"]
    assert own["price"] == pytest.approx(0.5) and own["energy_price"] == pytest.approx(0.1)
    assert "rent 0.5: 2026-01-02, unverified, https://example.org" in nearfield(*words).out
    stated = json.loads(nearfield(*words, "--rent", 2, "--watts", 100, "--json").out)["own"]
    assert stated["total"] == pytest.approx(2.025)


JOBS = st.builds(
    BulkJob,
    texts=st.integers(1, 10**10),
    rate=st.builds(EncodingRate, st.floats(1, 1e6), st.just("texts"), st.floats(1, 8192)),
    workers=st.integers(1, 1000),
    efficiency=st.floats(0.1, 1),
    duplicates=st.floats(0, 0.9),
    failures=st.floats(0, 1),
    repeats=st.floats(0, 1),
)


@given(job=JOBS, rent=st.floats(0, 100))
def test_coarser_billing_never_costs_less(job: BulkJob, rent: float) -> None:
    prices = [WorkerPrice(rent, billing=billing).cost(job)["price"] for billing in BILLING]
    assert job.worker_hours * rent <= prices[0] * (1 + 1e-6) + 1e-9
    assert prices[0] <= prices[1] * (1 + 1e-9) and prices[1] <= prices[2] * (1 + 1e-9)


@given(job=JOBS)
def test_more_texts_take_longer_and_failures_never_help(job: BulkJob) -> None:
    assert job.with_texts(job.texts * 2).seconds == pytest.approx(job.seconds * 2)
    calm = BulkJob(job.texts, job.rate, job.workers, job.efficiency, job.duplicates)
    assert calm.seconds <= job.seconds
    assert calm.seconds == pytest.approx(
        job.rate.seconds(job.texts * (1 - job.duplicates)) / (job.workers * job.reached)
    )


@given(job=JOBS, texts=st.integers(1, 10**6))
def test_the_cheaper_side_is_named(job: BulkJob, texts: int) -> None:
    result = compare_job(job.with_texts(texts), WorkerPrice(1.0), [API], VectorStorage(8, "binary"))
    (row,) = result["apis"]
    assert (row["cheaper"] == "own") == (result["own"]["total"] < row["cost"])
    assert result["storage"]["bytes"] == pytest.approx(texts * (1 - job.duplicates))


def test_failures_lose_half_a_shard_and_a_restart() -> None:
    job = BulkJob(1000, EncodingRate(1, "texts"), failures=0.05, repeats=0.01)
    # 0.05 an hour x (60 + 20) s.
    assert job.lost == pytest.approx(0.05 * 80 / 3600 + 0.01)


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rent", "1"), "speed of the machine is needed"),
        (("--rent", "1", "--texts-per-second", "5"), "--tokens"),
        (("--rent", "1", "--texts-per-second", "5", "--tokens-per-second", "5"), "not both"),
        (("--rent", "1", "--tokens-per-second", "nan"), "above 0, not nan"),
        (("--rent", "1", "--tokens-per-second", "1e400"), "above 0, not inf"),
        (("--rent", "1", "--tokens-per-second", "5", "--tokens", "0"), "tokens must be"),
        (("--rent", "nan", "--tokens-per-second", "5"), "rent must be"),
        (("--rent", "1", "--rent-month", "1", "--tokens-per-second", "5"), "not both"),
        (("--rent", "1", "--tokens-per-second", "5", "--workers", "2"), "add --once"),
        (("--rent", "1", "--tokens-per-second", "5", "--spot", "2"), "add --once"),
        (("--rent", "1", "--tokens-per-second", "5", "--once", "--spot", "-2"), "spot must be"),
        (("--price", "1", "--tokens-per-second", "5", "--once", "--spot", "2"), "spot price is a rent"),
        (("--rent", "1", "--tokens-per-second", "5", "--once", "--billing", "minut"), "Did you mean 'minute'"),
        (("--rent", "1", "--tokens-per-second", "5", "--once", "--utilisation", "0.9"), "--utilisation is for months"),
        (("--rent", "1", "--tokens-per-second", "5", "--plan"), "--tokens"),
        (("--rent", "1", "--tokens-per-second", "5", "--once", "--gb-month", "1"), "--dims"),
        (("--rent", "1", "--tokens-per-second", "5", "--once", "--duplicates", "1"), "a share from 0"),
        (("--on", "RTX 4091", "--tokens-per-second", "5"), "RTX 4090"),
        (("--rent", "1", "--machines", "x.toml", "--tokens-per-second", "5"), "--on"),
    ],
)
def test_bad_input_of_the_command_is_named(nearfield: Run, words: tuple[str, ...], message: str) -> None:
    said = nearfield("cost", "1B", *words)
    assert said.code == 2 and message in said.err


@pytest.mark.parametrize("volume", ["0", "nan", "-1", "1e400"])
def test_a_volume_is_above_zero(nearfield: Run, volume: str) -> None:
    assert nearfield("cost", "--rent", "1", "--tokens-per-second", "5", "--", volume).code == 2


def test_a_job_without_tokens_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="--tokens"):
        compare_job(BulkJob(1, EncodingRate(1, "texts")), WorkerPrice(1.0), [API])
