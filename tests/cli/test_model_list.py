"""``models list`` by purpose and language, and ``models figures``, which traces a figure to its tasks and files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nearfield import catalog
from nearfield.catalog.languages import language_support
from nearfield.catalog.quality import BM25, quality_figures
from nearfield.catalog.quality.purposes import PURPOSES
from nearfield.cli.terminal.model_table import language_notes, sort_rows
from tests.support.cli_runner import Ran, run

Run = Callable[..., Ran]


@pytest.fixture
def nearfield(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return lambda *words: run(capsys, monkeypatch, *words)


def rows_of(ran: Ran) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(ran.out)
    return rows


@pytest.mark.parametrize("purpose", PURPOSES)
def test_each_purpose_has_figures_the_best_first(nearfield: Run, purpose: str) -> None:
    figures = [row["figure"] for row in rows_of(nearfield("models", "list", "--for", purpose, "--json"))]
    known = [figure for figure in figures if figure is not None]
    assert known and figures == [*known, *[None] * (len(figures) - len(known))]
    assert {figure["purpose"] for figure in known} <= {purpose, f"{purpose}:en"}
    ranks = [figure["value"] - figure["error"] / 2 for figure in known]
    assert all(first >= second for first, second in pairwise(ranks))


def test_a_language_chooses_the_purpose_and_the_models(nearfield: Run) -> None:
    ran = nearfield("models", "list", "--for", "retrieval", "--language", "de", "--json")
    rows = rows_of(ran)
    for row in rows:
        entry = catalog.find(row["id"])
        assert entry is not None
        assert row["language"]["grade"] == language_support(entry, "de").grade in ("good", "weak", "listed")
        figure = quality_figures(row["id"]).get("retrieval:de")
        assert (row["figure"] or {}).get("value") == (None if figure is None else figure.value)
    chosen = {row["id"] for row in rows}
    assert {"BAAI/bge-m3", "mixedbread-ai/deepset-mxbai-embed-de-large-v1"} <= chosen
    assert not {"BAAI/bge-small-zh-v1.5", "facebook/dinov2-base"} & chosen
    assert "Not known in German, neither measured nor listed: " in ran.err


def test_the_table_has_a_column_for_the_figure_and_one_for_the_grade(nearfield: Run) -> None:
    out = nearfield("models", "list", "--for", "retrieval", "--language", "de", "--kind", "dense").out
    head, *lines = out.splitlines()
    assert re.search(r"tokens +retrieval:de de +languages", head)
    m3, unsupervised = (
        next(line for line in lines if line.startswith(f"{name} "))
        for name in ("BAAI/bge-m3", "BAAI/bge-m3-unsupervised")
    )
    figure = quality_figures("BAAI/bge-m3")["retrieval:de"]
    assert f" {figure.value:.1f} ±{figure.error:.1f} " in m3 and " good " in m3
    assert re.search(r" - +listed ", unsupervised)
    assert "measured poor in German" in out and "Not known in German" in out


def test_the_table_names_the_figure_of_bm25_and_where_figures_come_from(nearfield: Run) -> None:
    out = nearfield("models", "list", "--for", "retrieval").out
    bm25 = quality_figures(BM25)["retrieval:en"].value
    assert f"BM25, which searches by words and needs no model: {bm25:.1f}." in out
    best = out.splitlines()[1].split()[0]
    assert out.rstrip().endswith(f"nearfield models figures {best} retrieval:en")


def test_models_of_many_languages_are_a_filter_too(nearfield: Run) -> None:
    chosen = {row["id"] for row in rows_of(nearfield("models", "list", "--language", "multilingual", "--json"))}
    assert {"BAAI/bge-m3", "ibm-granite/granite-embedding-107m-multilingual"} <= chosen
    assert "BAAI/bge-small-en-v1.5" not in chosen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--language", "xx"), "No language has the code 'xx'"),
        (("--language", "german"), "Did you mean 'de' (German)?"),
        (("--for", "retreival"), "Did you mean 'retrieval'?"),
        (("--for", "sts", "--language", "de"), "No figures are published for sts in German. There are: sts:en."),
        (("--for", "retrieval:uk"), "No figures are published for retrieval in Ukrainian"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(nearfield: Run, words: tuple[str, ...], message: str) -> None:
    ran = nearfield("models", "list", *words)
    assert ran.code == 2 and message in ran.err and not ran.out


def test_rows_without_a_figure_are_last_and_in_order() -> None:
    rows: list[dict[str, Any]] = [
        {"id": "d"},
        {"id": "b", "figure": {"value": 50.0, "error": 0.0}},
        {"id": "C", "figure": None},
        {"id": "a", "figure": {"value": 51.0, "error": 3.0}},
    ]
    assert [row["id"] for row in sort_rows(rows)] == ["b", "a", "C", "d"]


def test_notes_say_what_a_language_leaves_out() -> None:
    poor, unknown = (language_support(entry, "bo") for entry in map(catalog.find, ("bge-m3", "gte-base-en")) if entry)
    assert list(language_notes([poor, unknown, unknown], "Tibetan")) == [
        "Left out: 1 model measured poor in Tibetan.",
        "Not known in Tibetan, neither measured nor listed: 2 more.",
    ]
    assert list(language_notes([], "Tibetan")) == []


def test_show_counts_languages_and_names_those_asked_for(nearfield: Run) -> None:
    out = nearfield("models", "show", "bge-m3", "--languages", "de,bod").out
    assert re.search(
        r"Languages: +multilingual; measured \d+ good, \d+ weak, \d+ poor; listed without a measure: \d", out
    )
    assert re.search(r"German \(de\): +good \(retrieval on Belebele", out)
    assert re.search(r"Tibetan \(bo\): +poor ", out)
    facts = json.loads(nearfield("models", "show", "bge-m3", "--language", "de", "--json").out)
    assert [language["code"] for language in facts["languages"]] == ["de"]
    assert {figure["purpose"] for figure in facts["quality"]} == set(quality_figures("BAAI/bge-m3"))


# -- figures ---------------------------------------------------------------------------------------------------------


def test_a_figure_is_traced_to_the_files_of_its_tasks(nearfield: Run) -> None:
    out = nearfield("models", "figures", "bge-small", "retrieval:en").out
    figure = quality_figures("BAAI/bge-small-en-v1.5")["retrieval:en"]
    assert out.startswith(f"BAAI/bge-small-en-v1.5, retrieval:en: {figure.value:.1f}\nMean of 10 published tasks.\n")
    lines = re.findall(r"^ +([0-9.]+)  (\S+)  (https://\S+)$", out, re.MULTILINE)
    assert len(lines) == 10
    assert sum(float(value) for value, _, _ in lines) / 10 == pytest.approx(figure.value, abs=0.06)
    for _, task, url in lines:
        assert re.fullmatch(
            rf"https://github.com/\S+/blob/[0-9a-f]{{12}}/results/\S+/([0-9a-f]{{40}}|external)/{task}\.json", url
        )


def test_an_estimate_says_what_is_published_and_what_is_not(nearfield: Run) -> None:
    trace = json.loads(nearfield("models", "figures", "bge-m3", "retrieval:de", "--json").out)
    values = [task["value"] for task in trace["task_values"]]
    known = [value for value in values if value is not None]
    assert (len(known), len(values)) == (trace["published"], trace["tasks"])
    mean = sum(known) / len(known)
    assert f"The mean of {len(known)} published tasks is {mean:.1f}" in trace["method"]
    assert trace["method"].startswith("Estimated.") and f"is {trace['error']:.1f}." in trace["method"]
    assert "Tasks marked - have no published figure" in nearfield("models", "figures", "bge-m3", "retrieval:de").out


@pytest.mark.parametrize(
    ("model", "purpose", "text"),
    [
        ("siglip2", "images", "A figure as its publisher gives it"),
        ("clap", "audio", "Mean of 30 published tasks, over the means of their types."),
        ("bge-m3", "retrieval:multilingual", "       ?  BelebeleRetrieval"),
        ("qwen3-reranker", "rerank", "Qwen3-Reranker card"),
    ],
)
def test_figures_of_other_kinds(nearfield: Run, model: str, purpose: str, text: str) -> None:
    assert text in nearfield("models", "figures", model, purpose).out


def test_all_figures_of_a_model(nearfield: Run) -> None:
    out = nearfield("models", "figures", "bge-m3").out
    assert all(purpose in out for purpose in quality_figures("BAAI/bge-m3"))
    rows = rows_of(nearfield("models", "figures", "bge-m3", "--json"))
    assert [row["purpose"] for row in rows] == list(quality_figures("BAAI/bge-m3"))
    assert (
        "No figures of BAAI/bge-reranker-large are published"
        in nearfield("models", "figures", "bge-reranker-large").out
    )


def test_a_figure_that_is_not_there_is_refused_with_those_that_are(nearfield: Run) -> None:
    ran = nearfield("models", "figures", "bge-m3", "images")
    assert ran.code == 2 and "BAAI/bge-m3 has no figure for images. It has: retrieval:en" in ran.err
    ran = nearfield("models", "figures", "bge-m4")
    assert ran.code == 2 and "Did you mean 'bge-m3'" in ran.err
