"""Advice: nothing that breaks a constraint is ever proposed, estimates follow from what was measured, and what is not
known is said."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from nearfield import catalog, hub
from nearfield.catalog import CatalogEntry
from nearfield.cli import app
from nearfield.errors import InputError, SourceUnavailable
from nearfield.evaluation.planning.advice.advisor import BENCHMARKS, _benchmark_of, advise
from nearfield.evaluation.planning.advice.requirements import KINDS, MULTIMODAL_TEXTS, Requirements
from nearfield.evaluation.planning.speed.calibration import Calibration, WidthTiming
from nearfield.evaluation.planning.speed.model_shapes import shape_of
from tests.support.cli_runner import Ran, run
from tests.support.paths import SHARED_FOLDER
from tests.support.requirements import missing
from tests.test_readme import _parse

Run = Callable[..., Ran]
REFERENCE = SHARED_FOLDER / "reference" / "catalogue.tsv"
MEASURED = Calibration(
    (WidthTiming(384, 1e-5, 1.2e-11, 6e-11), WidthTiming(1024, 2e-5, 1e-11, 5e-11)),
    4e-6,
    8.0,
    100 * 2**20,
    "float32",
    20.0,
    0.9,
)
LANGUAGES = ("en", "de", "zh", "fr", "sw")


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; the machine counts as measured."""
    monkeypatch.setattr("nearfield.evaluation.planning.speed.calibration.calibrate", lambda **_: MEASURED)
    return lambda *words: run(capsys, monkeypatch, *words)


def _needs() -> st.SearchStrategy[Requirements]:
    return st.builds(
        Requirements,
        languages=st.lists(st.sampled_from(LANGUAGES), min_size=1, max_size=3, unique=True).map(tuple),
        tokens=st.one_of(st.integers(1, 40_000), st.sampled_from([128, 129, 256, 257, 512, 513, 8192])),
        texts=st.integers(1, 10**8),
        queries_per_second=st.floats(0, 1000),
        query_tokens=st.integers(1, 200),
        memory=st.one_of(st.none(), st.integers(1, 2**40)),
        commercial=st.booleans(),
        licences=st.one_of(
            st.just(()), st.lists(st.sampled_from(["mit", "apache-2.0", "gemma"]), min_size=1).map(tuple)
        ),
        kind=st.sampled_from(KINDS),
        index_hours=st.one_of(st.none(), st.floats(0.01, 10_000)),
    )


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(need=_needs(), measured=st.booleans(), count=st.integers(1, 200))
def test_no_constraint_is_ever_broken(need: Requirements, measured: bool, count: int) -> None:
    told = advise(need, MEASURED if measured else None, count=count)
    assert len(told["candidates"]) == min(count, told["fitting"])
    assert told["fitting"] + sum(told["ruled_out"].values()) == len(catalog.entries())
    for each in told["candidates"]:
        entry = catalog.find(each["id"])
        assert entry is not None and entry.kind == need.kind
        assert entry.commercial or not need.commercial
        assert not need.licences or entry.licence in need.licences
        assert all(language in entry.languages or "multilingual" in entry.languages for language in need.languages)
        assert need.tokens <= entry.max_length
        memory = (each["memory"]["model"] or 0) + (each["memory"]["vectors"] or 0)
        assert need.memory is None or memory <= need.memory
        if measured:
            speed = each["speed"]
            assert speed["queries_per_second"] >= need.queries_per_second * 0.999 - 0.005
            assert need.index_hours is None or (speed["seconds_to_index"] or 0) <= need.index_hours * 3600 * 1.001


@settings(max_examples=50, deadline=None)
@given(need=_needs())
def test_what_is_proposed_bears_its_publishers_facts(need: Requirements) -> None:
    if not REFERENCE.exists():
        missing(f"the reference table is not here ({REFERENCE})")
    published = _published()
    for each in advise(need, count=200)["candidates"]:
        row = published.get(each["id"])
        if row is None:
            continue
        if row["max_tokens"] not in ("", "np.inf"):
            assert need.tokens <= float(row["max_tokens"])
        if need.commercial and row["license"]:
            assert "nc" not in row["license"].lower().split("-")


def _published() -> dict[str, dict[str, str]]:
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}


def test_every_model_that_fits_a_plain_need_can_be_proposed() -> None:
    told = advise(Requirements(tokens=1, texts=1, index_hours=None, queries_per_second=0, commercial=False), count=200)
    proposed = {each["id"] for each in told["candidates"]}
    english = [entry for entry in catalog.entries() if {"en", "multilingual"} & set(entry.languages)]
    texts = [entry for entry in english if entry.modalities == ("text",) and entry.family not in MULTIMODAL_TEXTS]
    assert proposed == {entry.id for entry in texts if entry.kind == "dense"}


# -- ranking --------------------------------------------------------------------------------------------------------


def test_the_rank_is_the_weighted_mean_of_what_is_shown() -> None:
    weights = {"quality": 3.0, "speed": 2.0, "memory": 1.0}
    told = advise(Requirements(weights=weights), MEASURED, count=200)
    for each in told["candidates"]:
        rank = each["rank"]
        mean = (3 * rank["quality"] + 2 * rank["speed"] + rank["memory"]) / 6
        assert rank["rank"] == pytest.approx(mean, abs=1e-3)
    ranks = [each["rank"]["rank"] for each in told["candidates"]]
    assert ranks == sorted(ranks, reverse=True)


@pytest.mark.parametrize("name", ["quality", "speed", "memory"])
def test_a_weight_alone_puts_its_best_first(name: str) -> None:
    told = advise(Requirements(weights={name: 1.0}), MEASURED, count=200)
    first = told["candidates"][0]
    assert first["rank"][name] == 1.0
    best: Callable[[dict[str, Any]], float] = {
        "quality": lambda each: _value(each["id"], told["benchmark"]),
        "speed": lambda each: float(each["speed"]["tokens_per_second"]),
        "memory": lambda each: float(-each["memory"]["model"] - each["memory"]["vectors"]),
    }[name]
    assert best(first) == max(best(each) for each in told["candidates"])


def _value(model: str, benchmark: str) -> float:
    entry = catalog.find(model)
    assert entry is not None
    return entry.score.value if entry.score and _benchmark_of(entry) == benchmark else 0.0


def test_scores_of_different_benchmarks_are_never_compared() -> None:
    told = advise(Requirements(), MEASURED, count=200)
    assert told["benchmark"] == "MTEB English v1 average"
    for each in told["candidates"]:
        entry = catalog.find(each["id"])
        assert entry is not None
        compared = entry.score is not None and entry.score.benchmark == told["benchmark"]
        assert (each["rank"]["quality"] >= 0.5) == compared
        assert any(told["benchmark"] in reason for reason in each["reasons"]) == compared


def test_an_english_benchmark_says_nothing_of_other_languages() -> None:
    told = advise(Requirements(languages=("de",), tokens=100, texts=10), MEASURED, count=200)
    assert told["benchmark"] == "MTEB multilingual v2 average"
    (e5,) = (each for each in told["candidates"] if each["id"] == "intfloat/multilingual-e5-base")
    assert e5["rank"]["quality"] == 0.0
    assert any("English texts" in line for line in e5["unknown"])


def test_every_benchmark_of_the_catalogue_has_its_languages() -> None:
    of_texts = (entry for entry in catalog.entries() if entry.modalities == ("text",))
    assert {_benchmark_of(entry) for entry in of_texts} - {None} <= set(BENCHMARKS)


# -- the report ----------------------------------------------------------------------------------------------------


def test_storage_and_time_are_those_of_hand_calculation() -> None:
    need = Requirements(tokens=100, texts=1_000_000, index_hours=None, queries_per_second=0)
    told = advise(need, MEASURED, entries=[_entry()])
    (each,) = told["candidates"]
    assert each["memory"]["vectors"] == 1_000_000 * 384 * 4
    assert each["storage"]["lancedb"] == 1_000_000 * (2 * 384 * 4 + 8)
    # 22,713,216 parameters of 8 bytes, and what any model takes.
    assert each["memory"]["model"] == 22_713_216 * 8 + 100 * 2**20
    # 6 layers of 12 x 384 x 384 weights, and attention over 100 tokens.
    token = 1e-5 + 6 * (12 * 384**2 * 1.2e-11 + 100 * 384 * 6e-11)
    assert each["speed"]["tokens_per_second"] == pytest.approx(1 / token, rel=1e-3)
    assert each["speed"]["seconds_to_index"] == pytest.approx(1e8 * token, rel=1e-3)


def _entry(**changed: Any) -> CatalogEntry:
    entry = catalog.find("all-MiniLM-L6-v2")
    assert entry is not None
    return replace(entry, **changed)


def test_vectors_are_quantised_where_the_memory_is_short() -> None:
    base = 22_713_216 * 8 + 100 * 2**20
    for room, dtype in ((1536, "float32"), (1535, "int8"), (384, "int8"), (383, "binary"), (48, "binary")):
        need = Requirements(texts=1_000_000, memory=base + room * 1_000_000, index_hours=None)
        (each,) = advise(need, MEASURED, entries=[_entry()])["candidates"]
        assert each["memory"]["dtype"] == dtype
    none = advise(
        Requirements(texts=1_000_000, memory=base + 47_000_000, index_hours=None), MEASURED, entries=[_entry()]
    )
    assert none["candidates"] == [] and none["ruled_out"]["by memory"] == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"score": None}, "no published score"),
        ({"revision": None, "package": None}, "no revision"),
        ({"languages": ("multilingual",)}, "how well this multilingual model"),
        ({"gated": True}, "HF_TOKEN"),
        ({"id": "someone/else"}, "its shape"),
        ({}, "not on this machine"),
    ],
)
def test_what_is_not_known_is_said(changed: dict[str, Any], told: str) -> None:
    (each,) = advise(Requirements(), MEASURED, entries=[_entry(**changed)])["candidates"]
    assert any(told in line for line in each["unknown"])
    (plain,) = advise(Requirements(), MEASURED, entries=[_entry()], here={_entry().id})["candidates"]
    assert not any(told in line for line in plain["unknown"])


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "dens"},
        {"languages": ()},
        {"languages": ("English",)},
        {"languages": ("en", "xx")},
        {"tokens": 0},
        {"memory": 0},
        {"queries_per_second": -1},
        {"weights": {"price": 1.0}},
        {"weights": {"quality": 0.0}},
        {"weights": {"quality": -1.0}},
    ],
)
def test_a_need_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Requirements(**options)


# -- shapes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [entry for entry in catalog.entries() if entry.modalities == ("text",) and entry.family not in MULTIMODAL_TEXTS],
    ids=lambda entry: entry.id,
)
def test_a_shape_has_the_parameters_that_are_published(entry: CatalogEntry) -> None:
    shape = shape_of(entry)
    assert shape is not None and entry.parameters is not None
    # Positions, norms, biases and pooled heads are left out; some counts are rounded.
    assert shape.parameters == pytest.approx(entry.parameters, rel=0.08)


def test_the_shape_of_a_model_that_is_here_is_that_of_its_files() -> None:
    entry = _entry()
    try:
        folder = hub.locate(entry.id, pin=entry.pin).folder
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    config, shape = json.loads((folder / "config.json").read_text()), shape_of(entry)
    assert shape is not None
    assert (shape.hidden, shape.layers) == (config["hidden_size"], config["num_hidden_layers"])
    assert (shape.inner, shape.vocabulary) == (config["intermediate_size"], config["vocab_size"])


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_command_by_flags(nearfield: Run) -> None:
    words = ("advise", "--languages", "en", "--tokens", 256, "--texts", "100k", "--memory", "8GB")
    said = nearfield(*words, "--json")
    told = json.loads(said.out)
    assert said.code == 0 and 2 <= len(told["candidates"]) <= 3
    assert told["need"]["memory"] == 8 * 10**9
    shown = nearfield(*words, "--yes").out
    assert "Unknown:" in shown and "Try: nearfield index trial FOLDER --model" in shown and "--weights" in shown


def test_the_command_asks_on_a_terminal(nearfield: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = {"Languages": "de", "Tokens": "100", "Number of texts": "1k", "Is the": "no", "Hardware": "elsewhere"}

    def prompt(question: str, default: str, **_: Any) -> str:
        asked.append(question)
        return next((answer for start, answer in answers.items() if question.startswith(start)), default)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", prompt)
    said = nearfield("advise", "--kind", "dense")
    assert said.code == 0 and len(asked) == 7
    assert "multilingual" in said.out and "its speed on this machine" in said.out


def test_the_command_says_what_ruled_all_out(nearfield: Run) -> None:
    said = nearfield("advise", "--memory", "50M", "--yes")
    assert said.code == 1 and "by memory" in said.out and "Relax" in said.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "dens"), "dense"),
        (("--hardware", "abacus"), "elsewhere"),
        (("--texts", "many"), "many"),
        (("--memory", "much"), "much"),
        (("--commercial", "maybe"), "yes or no"),
        (("--weights", "price=1"), "price"),
        (("--weights", "quality=x"), "x"),
    ],
)
def test_the_command_says_what_is_wrong(nearfield: Run, words: tuple[str, ...], message: str) -> None:
    said = nearfield("advise", "--yes", *words)
    assert said.code == 2 and message in said.err


def test_what_it_says_to_type_can_be_typed() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for kind in KINDS:
        need = Requirements(kind=kind, tokens=64, texts=10, index_hours=None, queries_per_second=0, commercial=False)
        for each in advise(need, count=200)["candidates"]:
            for line in each["commands"]:
                first, name, *words = shlex.split(line)
                assert first == "nearfield"
                _parse(commands[name], words)
