"""Advice makes sense for each purpose and kind: no words of texts for pictures, no empty parts, sums that add up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from nearfield import catalog
from nearfield.cli.terminal.advice_report import render_advice
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.advice.advisor import advise
from nearfield.evaluation.planning.advice.purposes import PURPOSES
from nearfield.evaluation.planning.advice.requirements import Requirements
from nearfield.evaluation.planning.speed.machines import read_machines
from nearfield.evaluation.planning.speed.roofline import MachineSpeed

_USES = [(purpose.name, kind) for purpose in PURPOSES.values() for kind in purpose.kinds]
_LANGUAGES = (("en",), ("pt-BR", "zh-Hant", "yo", "ceb"))
_NONSENSE = re.compile(
    r"\b(None|nan|inf)\b|\(\)|\b1 (models|texts|more within 2 points are|dimensions)|\b0% of the size"
)
_PICTURES = [purpose.name for purpose in PURPOSES.values() if purpose.reads != "text"]


def _advice(machine: str, **need: Any) -> JsonDict:
    return advise(Requirements(**need), MachineSpeed(read_machines().find(machine)))


def _sentences(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for part in value.values() for text in _sentences(part))
    elif isinstance(value, list | tuple):
        yield from (text for part in value for text in _sentences(part))


@pytest.mark.parametrize(("purpose", "kind"), _USES)
def test_every_use_gives_whole_sentences_and_valid_json(purpose: str, kind: str) -> None:
    for languages, memory in product(_LANGUAGES, (None, 400 * 2**20, 16 * 2**30)):
        speed = MachineSpeed(read_machines().find("8 vCPU AVX2"))
        advice = advise(Requirements(purpose=purpose, kind=kind, languages=languages, memory=memory), speed)
        json.dumps(advice, allow_nan=False)
        report = render_advice(advice, "8 vCPU AVX2", speed, explain=False)
        assert not [text for text in (*_sentences(advice), *report.splitlines()) if _NONSENSE.search(text)]


@pytest.mark.parametrize("purpose", _PICTURES)
def test_advice_about_pictures_and_sounds_does_not_speak_of_texts_to_embed(purpose: str) -> None:
    advice = _advice("L4", purpose=purpose, languages=("en",), texts=100_000)
    sentences = [*advice["unknown"], *_sentences([one["against"] for one in advice["candidates"]])]
    assert not [text for text in sentences if re.search(r"\btexts?\b", text)]
    assert not [
        step for step in advice["approach"] if "arctic" in step["because"] or step["question"].endswith("tokens?")
    ]


@pytest.mark.parametrize("purpose", [name for name, purpose in PURPOSES.items() if not purpose.has_queries])
def test_purposes_without_queries_have_no_speed_of_queries(purpose: str) -> None:
    many = _advice("8 vCPU AVX2", purpose=purpose, queries_per_second=10_000, texts=1000)
    few = _advice("8 vCPU AVX2", purpose=purpose, texts=1000)
    assert many["candidates"] == few["candidates"] and many["candidates"]
    assert {one["speed"]["queries_per_second"] for one in many["candidates"] if one["speed"]} == {None}
    assert not [one for one in many["candidates"] if any("index" in command for command in one["commands"])]
    assert any("no effect" in text for text in many["unknown"]) and len(few["unknown"]) < len(many["unknown"])


def test_without_a_search_there_is_no_second_stage_for_bits() -> None:
    forms = [
        {one["memory"]["dtype"] for one in _advice("L4", purpose=purpose, texts=10**7, memory=2 * 10**9)["candidates"]}
        for purpose in ("clustering", "retrieval")
    ]
    assert "binary" not in forms[0] and "binary" in forms[1]


def test_queries_that_are_looked_up_in_a_table_need_no_speed() -> None:
    need = {"kind": "sparse", "texts": 1000, "queries_per_second": 10_000.0}
    candidates = _advice("8 vCPU AVX2", **need)["candidates"]
    assert candidates and all(catalog.find(one["id"]).static_queries for one in candidates)  # type: ignore[union-attr]
    assert all(any("looked up" in reason for reason in one["reasons"]) for one in candidates)
    assert all("doc" in entry.id for entry in catalog.entries() if entry.static_queries)


def test_pages_have_the_vectors_of_their_patches() -> None:
    advice = _advice("H100", purpose="pages", texts=1000, tokens=7, commercial=False)
    by_id = {one["id"]: one["memory"]["vectors"] for one in advice["candidates"]}
    assert by_id["vidore/colqwen2.5-v0.2"] == 1000 * 768 * 128 * 4
    assert any("one vector a patch: 768 times" in text for text in advice["candidates"][0]["against"])


def test_memory_is_blamed_only_where_it_is_the_limit() -> None:
    slow = _advice("8 vCPU AVX2", texts=10**9, memory=10**15)
    full = _advice("L4", texts=1000, memory=1)
    assert not slow["candidates"] and "nothing fits" not in {step["answer"] for step in slow["approach"]}
    assert not full["candidates"] and "nothing fits" in {step["answer"] for step in full["approach"]}


def test_languages_compared_by_one_figure_share_a_sentence() -> None:
    summary = advise(Requirements(purpose="sts", languages=("de", "fr", "ar")))["summary"]
    assert [text for text in summary if "No figures" in text] == [
        "No figures for sts in de, fr, ar are published: ranked by general:multilingual instead."
    ]


@pytest.mark.parametrize(
    ("need", "message"),
    [
        ({"languages": "en"}, "languages must be a sequence"),
        ({"licences": "mit"}, "licences must be a sequence"),
        ({"languages": (1,)}, "languages must be a sequence"),
        ({"texts": 1.5}, "texts must be a whole number"),
        ({"tokens": True}, "tokens must be a whole number"),
        ({"texts": 10**5000}, "texts must be at least 1 and below"),
        ({"memory": float("nan")}, "memory must be a whole number"),
        ({"index_hours": float("nan")}, "index_hours must be at least 0, not nan"),
        ({"queries_per_second": None}, "queries_per_second must be a number"),
    ],
)
def test_values_of_a_wrong_type_are_refused_with_their_name(need: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Requirements(**need)


def test_unknown_licences_and_counts_are_refused() -> None:
    with pytest.raises(InputError, match=r"No model has the licence 'mti'. Did you mean 'mit'"):
        advise(Requirements(licences=("apache-2.0", "mti")))
    with pytest.raises(InputError, match="count must be"):
        advise(Requirements(), count=-1)
