"""Capacity: a plan by hand calculation, properties, and the command with its refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield import catalog
from nearfield.errors import InputError
from nearfield.evaluation.planning.speed.capacity import (
    EFFICIENCY,
    MAX_MACHINES,
    PlannedModel,
    Workload,
    find_planned_model,
    parse_shape,
    plan_capacity,
)
from nearfield.evaluation.planning.speed.machines import DatedAmount, Machine, MachineTable, read_machines
from nearfield.evaluation.planning.speed.model_shapes import ModelShape, shape_of
from nearfield.evaluation.planning.speed.number_sources import NumberSource
from nearfield.evaluation.planning.speed.roofline import MachineSpeed
from nearfield.evaluation.planning.vector_count import TokenSelection
from nearfield.evaluation.planning.vector_model import CountOptions, count_vectors, read_vector_model
from tests.support.cli_runner import Ran, run

Run = Callable[..., Ran]
TABLE = read_machines()
BASE = PlannedModel("base", ModelShape("base", 768, 12, 3072, 30_522), 109_000_000, 512, 768)
SOURCE = NumberSource("a page", "2026-01-02", "vendor", "https://example.org")
RENTED = Machine(
    "rented", "gpu", 2**34, 1e12, 4, {"float32": 1e13, "float16": 4e13}, SOURCE, rent=DatedAmount(2.0, SOURCE)
)
BOUGHT = replace(RENTED, name="bought", rent=None, price=DatedAmount(1000.0, SOURCE), watts=DatedAmount(500.0, SOURCE))


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: run(capsys, monkeypatch, *words)


def _plan(load: Workload, *machines: Machine, model: PlannedModel = BASE, **options: Any) -> list[dict[str, Any]]:
    plans: list[dict[str, Any]] = plan_capacity(load, model, MachineTable("USD", machines), **options)["plans"]
    return plans


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_rented_machine_by_hand() -> None:
    (row,) = _plan(Workload(10_000_000, 200, hours=24, queries=1000), RENTED)
    speed = MachineSpeed(RENTED)
    hours = 10_000_000 * 200 / speed.tokens_per_second(BASE.shape, 200) / 3600
    assert row["hours"] == pytest.approx(hours) and row["job"]["machines"] == 1
    assert row["job"]["price"] == pytest.approx(hours * 2.0)
    queries = speed.requests_per_second(BASE.shape, 16) * 0.5
    assert row["serving"]["machines"] == math.ceil(1000 / queries)
    assert row["serving"]["price"] == pytest.approx(row["serving"]["machines"] * 730 * 2.0)
    assert row["price"] == pytest.approx(row["job"]["price"] + row["serving"]["price"])
    assert row["machines"] == row["serving"]["machines"] and row["purchase"] == 0


def test_a_bought_machine_costs_its_price_and_energy() -> None:
    (row,) = _plan(Workload(10_000_000, 200, hours=1), BOUGHT, kwh=0.40)
    machines = math.ceil(row["hours"] / EFFICIENCY)
    assert row["machines"] == machines > 1
    assert row["job"]["machine_hours"] == pytest.approx(row["hours"] / EFFICIENCY)
    assert row["job"]["price"] == pytest.approx(row["job"]["machine_hours"] * 0.5 * 0.40)
    assert row["purchase"] == machines * 1000
    assert row["price"] == pytest.approx(row["purchase"] + row["job"]["price"])


def test_memory_of_model_batch_and_vectors() -> None:
    laptop = replace(RENTED, kind="apple")
    load = Workload(1_000_000, 200, vectors="float16")
    (row,) = _plan(load, laptop)
    speed = MachineSpeed(laptop)
    memory = row["memory"]
    assert memory["vectors"] == 1_000_000 * 768 * 2
    assert memory["model"] == speed.model_bytes(109_000_000)
    assert memory["batch"] == speed.activation_bytes(BASE.shape, 8192)
    assert memory["total"] == memory["model"] + memory["vectors"] + memory["batch"] <= memory["capacity"]
    # Vectors of a GPU's machine lie in the memory of its host.
    assert _plan(load, RENTED)[0]["memory"]["vectors"] == 0


def test_the_batch_shrinks_before_a_machine_is_refused() -> None:
    size = MachineSpeed(RENTED).model_bytes(BASE.parameters)
    tight = replace(RENTED, memory=round((size + 4_000 * 24_576) / 0.9))
    (row,) = _plan(Workload(1000, 500), tight)
    assert row["fits"] and 500 <= row["memory"]["batch_tokens"] < 16_384
    (row,) = _plan(Workload(1000, 500), replace(RENTED, memory=round((size + 400 * 24_576) / 0.9)))
    assert not row["fits"] and "do not fit" in row["obstacle"]


def test_a_model_that_forbids_a_precision_runs_in_another() -> None:
    model = replace(BASE, forbidden=("float16",))
    assert _plan(Workload(1000), RENTED, model=model)[0]["precision"] == "float32"
    assert _plan(Workload(1000), RENTED)[0]["precision"] == "float16"
    refused = _plan(Workload(1000), RENTED, precision="bfloat16")[0]
    assert not refused["fits"] and "no peak in bfloat16" in refused["obstacle"]


def test_a_multivector_model_has_a_vector_for_each_token() -> None:
    model = replace(BASE, kind="multivector", dimensions=128)
    machine = replace(RENTED, kind="cpu")
    assert _plan(Workload(1000, 100, vectors="int8"), machine, model=model)[0]["memory"]["vectors"] == 1000 * 100 * 128
    with pytest.raises(InputError, match="no fixed number of dimensions"):
        _plan(Workload(1000, 100, vectors="int8"), machine, model=replace(model, kind="sparse"))


def test_a_multivector_model_stores_what_size_counts() -> None:
    """The model reads 180 tokens of a document: vectors of longer texts are no more."""
    model = find_planned_model("colbertv2")
    counted = count_vectors(read_vector_model("colbertv2"), CountOptions(tokens=180)).per_text
    row = _plan(Workload(1000, 180, vectors="int8"), replace(RENTED, kind="cpu"), model=model)[0]
    assert row["memory"]["vectors"] == math.ceil(1000 * counted) * 128
    pooled = replace(model, selection=TokenSelection(180, pool_factor=2))
    row = _plan(Workload(1000, 180, vectors="int8"), replace(RENTED, kind="cpu"), model=pooled)[0]
    assert row["memory"]["vectors"] == 1000 * 90 * 128


def test_vectors_beside_a_gpu_are_named_with_the_memory_of_its_host() -> None:
    (row,) = _plan(Workload(30_000_000, 20, vectors="int8"), RENTED)
    assert (row["memory"]["vectors"], row["memory"]["host_vectors"]) == (0, 30_000_000 * 768)
    assert any(line.startswith("memory of the host: vectors 23 GB") for line in row["lines"])
    assert not any("memory of the host" in line for line in _plan(Workload(1000), RENTED)[0]["lines"])


def test_a_gpu_without_bfloat16_says_that_float16_is_to_be_requested() -> None:
    newer = replace(RENTED, peak={**RENTED.peak, "bfloat16": 4e13})
    older, other = _plan(Workload(1000), RENTED)[0]["lines"], _plan(Workload(1000), newer)[0]["lines"]
    assert any("float16 is to be requested" in line for line in older)
    assert not any("requested" in line for line in other)


def test_the_cheapest_is_first_and_what_cannot_run_last() -> None:
    tiny = replace(RENTED, name="tiny", memory=2**20)
    slow = replace(RENTED, name="slow", peak={"float32": 1e9, "float16": 1e9}, rent=DatedAmount(1e-6, SOURCE))
    free = replace(RENTED, name="unpriced", rent=None)
    dear = replace(RENTED, name="costly", rent=DatedAmount(3.0, SOURCE))
    order = [row["machine"] for row in _plan(Workload(10_000_000, 100), tiny, slow, free, dear, RENTED)]
    assert order == ["rented", "costly", "unpriced", "slow", "tiny"]


def test_queries_alone_need_no_text() -> None:
    (row,) = _plan(Workload(0, queries=10), RENTED)
    assert row["job"] is None and row["hours"] is None and row["machines"] == 1


def test_shapes_are_parsed() -> None:
    model = parse_shape("hidden=768, layers=12,inner=3072,vocabulary=30522")
    assert model.shape.layer_weights == BASE.shape.layer_weights and model.dimensions == 768
    assert parse_shape("hidden=8,layers=1,inner=8,vocabulary=9,gated=1").shape.gated


# -- properties --------------------------------------------------------------------------------------------------------

loads = st.builds(
    Workload,
    texts=st.integers(1, 10**9),
    tokens=st.floats(1, 512),
    hours=st.one_of(st.none(), st.floats(0.01, 1000)),
    queries=st.floats(0, 10_000),
    query_tokens=st.floats(1, 512),
)


def _rows(load: Workload) -> dict[str, dict[str, Any]]:
    return {row["machine"]: row for row in plan_capacity(load, BASE, TABLE)["plans"]}


@settings(max_examples=25, deadline=None)
@given(loads)
def test_the_job_is_done_in_time_and_the_queries_are_answered(load: Workload) -> None:
    for row in _rows(load).values():
        if not row["fits"]:
            continue
        assert load.hours is None or row["job"]["hours"] <= load.hours * (1 + 1e-9)
        if load.queries:
            assert row["serving"]["machines"] * row["serving"]["queries_per_second"] >= load.queries * (1 - 1e-9)
        assert row["memory"]["total"] <= row["memory"]["capacity"]


@settings(max_examples=25, deadline=None)
@given(loads, st.integers(2, 5))
def test_more_texts_never_cost_less_and_less_time_never_needs_fewer_machines(load: Workload, factor: int) -> None:
    rows, more = _rows(load), _rows(replace(load, texts=load.texts * factor))
    sooner = rows if load.hours is None else _rows(replace(load, hours=load.hours / factor))
    for name, row in rows.items():
        if not row["fits"]:
            continue
        assert more[name]["hours"] >= row["hours"] and more[name]["machines"] >= row["machines"]
        assert row["price"] is None or more[name]["price"] >= row["price"]
        assert sooner[name]["machines"] >= row["machines"]
        # More machines are never slower.
        assert sooner[name]["job"]["hours"] <= row["job"]["hours"] * (1 + 1e-9)


@settings(max_examples=25, deadline=None)
@given(loads)
def test_the_order_is_that_of_the_prices(load: Workload) -> None:
    rows = [row for row in plan_capacity(load, BASE, TABLE)["plans"] if row["fits"]]
    cheap = [row["price"] for row in rows if row["price"] is not None and row["machines"] <= MAX_MACHINES]
    assert cheap == sorted(cheap) == [row["price"] for row in rows[: len(cheap)]]


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_answers_the_question_of_a_reader(nearfield: Run) -> None:
    shown = nearfield("capacity", "10M", "--model", "bge-m3", "--tokens", 200, "--within", "24h", "--queries", 50)
    assert shown.code == 0 and shown.out.startswith(
        "BAAI/bge-m3: 10 million texts of 200 tokens within 24 h, 50 queries/s"
    )
    for part in ("24 layers x 12,582,912", "price of the job:", "a month of queries:", "factor of 2", "RTX 4090"):
        assert part in shown.out
    lines = shown.out.splitlines()
    assert all(len(line) <= 130 for line in lines)


def test_the_command_on_one_machine_as_json(nearfield: Run) -> None:
    words = ("capacity", "100k", "-m", "bge-small", "--tokens", 128, "--on", "rtx4090", "--within", "none", "--json")
    reply = json.loads(nearfield(*words).out)
    (row,) = reply["plans"]
    assert row["machine"] == "RTX 4090" and reply["error"] == 2.0 and row["job"]["machines"] == 1
    assert row["sources"]["rent"]["status"] == "third party"


def test_the_command_with_sources_and_a_table_of_the_users_own(nearfield: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'currency = "EUR"\n[sources]\n"invoice" = ["2026-02-03", "vendor", "invoice 17"]\n[[machine]]\nname = "box"\n'
        'kind = "cpu"\nmemory_gib = 64\nbandwidth = 80\ncores = 16\npeak = { float32 = 1.5 }\nsource = "invoice"\n'
        'rent = { amount = 0.1, source = "invoice" }\n',
        encoding="utf-8",
    )
    shape = "hidden=384,layers=6,inner=1536,vocabulary=30522"
    shown = nearfield("capacity", "1M", "--shape", shape, "--machines", path, "--sources")
    assert shown.code == 0 and "job EUR" in shown.out and "invoice 17 (2026-02-03, vendor)" in shown.out


def test_the_command_fails_if_no_machine_can_run_the_model(nearfield: Run) -> None:
    shown = nearfield("capacity", "50M", "--model", "bge-m3", "--vectors", "float32", "--on", "M2")
    assert shown.code == 1 and "M2 cannot run it: 208 GB (205 GB of them vectors)" in shown.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("10M",), "--model, or describe it with --shape"),
        (("10M", "--model", "bge-m3", "--shape", "hidden=1"), "--model, or describe it with --shape"),
        (("10M", "--model", "bge-m4"), "no model 'bge-m4'"),
        (("10M", "--model", "ms-marco-MiniLM-L6-v2"), "is a reranker"),
        (("0", "--model", "bge-m3"), "nothing to plan"),
        (("ten", "--model", "bge-m3"), "'ten' is not a count"),
        (("10M", "--model", "bge-m3", "--tokens", "0"), "tokens must be above 0, not 0"),
        (("10M", "--model", "bge-m3", "--tokens", "nan"), "tokens must be above 0, not nan"),
        (("10M", "--model", "bge-m3", "--query-tokens", "inf"), "query_tokens must be above 0, not inf"),
        (("10M", "--model", "bge-m3", "--queries", "nan"), "queries must be 0 or more, not nan"),
        (("10M", "--model", "bge-m3", "--queries", "-1"), "queries must be 0 or more, not -1"),
        (("10M", "--model", "bge-m3", "--within", "24"), "'24' is not a time"),
        (("10M", "--model", "bge-m3", "--within", "0h"), "within must be above 0, not 0"),
        (("10M", "--model", "bge-m3", "--kwh", "-1"), "kilowatt-hour cannot be -1"),
        (("10M", "--model", "bge-m3", "--on", "RTX 4099"), "Did you mean 'RTX 4090'"),
        (("10M", "--model", "bge-m3", "--precision", "int4"), "Did you mean 'int8'"),
        (("10M", "--model", "bge-m3", "--vectors", "int9"), "Did you mean 'int8'"),
        (("10M", "--model", "bge-m3", "--machines", "none.toml"), "none.toml cannot be read"),
        (("10M", "--model", "bge-small", "--tokens", "600"), "split into 2 (2 times as many, of 300 tokens)"),
        (("10M", "--shape", "hidden=768"), "--shape lacks layers, inner, vocabulary"),
        (("10M", "--shape", "hiden=768"), "Did you mean 'hidden'"),
        (("10M", "--shape", "hidden=wide"), "hidden cannot be 'wide'"),
        (("10M", "--shape", "gated=2"), "gated cannot be '2'"),
    ],
)
def test_the_command_says_what_is_wrong(nearfield: Run, words: tuple[str, ...], message: str) -> None:
    shown = nearfield("capacity", *words)
    assert shown.code == 2 and message in shown.err and "Traceback" not in shown.err


def test_each_model_of_the_catalogue_can_be_planned_or_is_refused_with_a_reason() -> None:
    for entry in catalog.entries():
        if entry.kind == "scores" or shape_of(entry) is None:
            with pytest.raises(InputError, match=r"is a reranker|--shape"):
                find_planned_model(entry.id)
            continue
        load = Workload(1000, min(256, entry.max_length), query_tokens=min(16, entry.max_length))
        assert plan_capacity(load, find_planned_model(entry.id), TABLE)["plans"][0]["fits"], entry.id
