"""The verdict in the reports: on top, complete, folded where it says "no", and with hostile texts escaped."""

from __future__ import annotations

import datetime
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from nearfield.evaluation.comparison import html_report, ranking, terminal_report
from nearfield.evaluation.comparison.measures import figures
from nearfield.evaluation.comparison.result_store import ResultStore
from nearfield.evaluation.comparison.verdict.conclusion import conclude
from nearfield.evaluation.comparison.verdict.paired_tests import PairTester
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.performance import environment
from nearfield.evaluation.tasks import open_task

COUNT = 40
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'text' {{ 7 * 7 }} $\\frac{$ \x1b[2J"


def _dataset() -> Dataset:
    documents = {f"d{at}": f"document {at} {HOSTILE}" for at in range(COUNT)}
    queries = {f"q{at}": f"question {at} {HOSTILE}" for at in range(COUNT)}
    relevant = {f"q{at}": {f"d{at}": 1} for at in range(COUNT)}
    return Dataset("questions", "retrieval", Retrieval(documents, queries, relevant))


def _variant(name: str, dataset: Dataset, scores: np.ndarray) -> JsonDict:
    column = {f"q{at}": float(score) for at, score in enumerate(scores)}
    first = {key: [f"d{key[1:]}" if score >= 60 else "d0"] for key, score in column.items()}
    score = float(scores.mean())
    result = {"dataset": dataset.to_dict(), "main": "nDCG@10", "score": score, "interval": [score - 1, score + 1]}
    result |= {"per_item": {"nDCG@10": column}, "first": first}
    row: JsonDict = {"name": name, "label": name, "identity": name, "options": {}, "errors": [], "speed": None}
    return {**row, "results": {dataset.name: result}, "quality": score, "storage": {"bytes_per_document": 4.0}}


@pytest.fixture(scope="module")
def comparison() -> JsonDict:
    data, base = _dataset(), np.linspace(30, 80, COUNT)
    wave = np.where(np.arange(COUNT) % 2, 9.0, -8.0)
    scores = {f"best {HOSTILE}": base + wave, "level": base, "bad": base - 20}
    rows = [_variant(name, data, values) for name, values in scores.items()]
    settings = {"k": 10, "samples": 100, "seed": 0}
    tester = PairTester(ResultStore(None), settings, lambda _: None)
    made = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {
        "variants": rows,
        "datasets": [data.to_dict()],
        "front": [],
        "weights": dict(ranking.WEIGHTS),
        "normalisation": dict(ranking.NORMALISATION),
        "machine": environment.describe_environment(),
        "settings": {**settings, "version": "1"},
        "made": made,
        "cautions": [],
        **conclude(rows, [data], tester, ranking.WEIGHTS, {}),
    }


class _Outline(HTMLParser):
    """Headings, tags that load or run something, and what is inside of ``details``."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.folded: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "br", "path", "use"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append(f"{self._open[-1]} {data.split(' <')[0]}")
        if "details" in self._open:
            self.folded.append(data)


@pytest.fixture(scope="module")
def outline(comparison: JsonDict) -> _Outline:
    result = _Outline()
    result.feed(html_report.render_html(comparison, HOSTILE))
    return result


def test_the_verdict_is_the_first_section_of_the_page(outline: _Outline, comparison: JsonDict) -> None:
    assert outline.headings[1:3] == ["h2 Verdict", "h2 Ranking"]
    levels = [int(heading[1]) for heading in outline.headings]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels)), "no level is skipped"
    assert comparison["verdict"]["headline"] in _text(comparison)


def _text(comparison: JsonDict) -> str:
    import html

    return html.unescape(html_report.render_html(comparison, "title"))


def test_hostile_names_and_texts_are_text(outline: _Outline, comparison: JsonDict) -> None:
    assert [tag for tag, _ in outline.tags].count("script") == 1, "the page's script alone"
    assert not [tag for tag, attrs in outline.tags if tag == "img" or any(name.startswith("on") for name in attrs)]
    page = html_report.render_html(comparison, HOSTILE)
    assert "<script>alert" not in page and "{{ 7 * 7 }}" in page and "&lt;script&gt;alert(1)" in page
    script = page[page.rindex("<script>") :]
    assert script.count("</script>") == 1


def test_pairs_that_do_not_differ_are_folded_and_the_others_are_not(outline: _Outline, comparison: JsonDict) -> None:
    different = [pair for pair in comparison["significance"] if pair["significant"]]
    similar = [pair for pair in comparison["significance"] if not pair["significant"]]
    assert len(different) == 2 and len(similar) == 1
    folded = "".join(outline.folded)
    assert "1 of 3 pairs do not differ significantly" in folded
    assert f"{similar[0]['difference']:+.2f}" in folded
    assert all(f"{pair['difference']:+.2f}" not in folded for pair in different)


def test_all_headers_of_tables_have_a_scope(outline: _Outline) -> None:
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in outline.tags if tag == "th")
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_terminal_begins_with_the_verdict_and_counts_the_pairs_that_do_not_differ(
    comparison: JsonDict, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    terminal_report.print_comparison(comparison, pictures=False)
    shown = capsys.readouterr().out
    assert shown.startswith("Take ") and "\x1b" not in shown
    assert shown.index("Take ") < shown.index("Ranking") < shown.index("Differences that are significant")
    assert "1 pair of 3 without a significant difference." in shown
    assert shown.count("corrected for 3 tests") == 1
    assert "scores higher on 20 items, level on 20, and 0 are equal" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 100


def test_the_deciding_queries_have_their_texts_both_ways(comparison: JsonDict) -> None:
    deciding = comparison["verdict"]["deciding"]
    assert deciding["counts"] == {"a": 20, "b": 20, "equal": 0}
    for side, sign in (("a", 1), ("b", -1)):
        items = deciding[f"{side}_better"]
        differences = [sign * (item["scores"]["a"] - item["scores"]["b"]) for item in items]
        assert len(items) == 10 and all(difference > 0 for difference in differences)
        assert differences == sorted(differences, reverse=True)
    item = deciding["a_better"][0]
    number = item["id"][1:]
    assert item["text"].startswith(f"question {number} ") and item["expected"][0]["id"] == f"d{number}"
    assert item["first"]["a"][0]["relevance"] in (1, None)


def test_results_that_were_stored_without_their_first_documents_are_reported(comparison: JsonDict) -> None:
    data = _dataset()
    rows = [_variant(name, data, np.linspace(30, 80, COUNT) + shift) for name, shift in (("a", 0.0), ("b", 1.0))]
    for row in rows:
        del row["results"]["questions"]["first"]
    tester = PairTester(ResultStore(None), {"k": 10, "samples": 100, "seed": 0}, lambda _: None)
    parts = conclude(rows, [data], tester, ranking.WEIGHTS, {})
    assert parts["verdict"]["deciding"]["a_better"][0]["first"] == {"a": [], "b": []}
    assert "question" in html_report.render_html({**comparison, "variants": rows, **parts})


@pytest.mark.parametrize("task", ["sts", "pairs", "bitext"])
def test_items_of_tasks_without_a_mean_have_scores_that_rise_with_agreement(task: str) -> None:
    random = np.random.default_rng(0)
    gold = random.integers(0, 2, 50).astype(float)
    columns: dict[str, Any] = {
        "sts": {"similarity": gold + 0.1 * random.random(50), "gold": gold},
        "pairs": {"similarity": gold + 0.1 * random.random(50), "label": gold},
        "bitext": {"expected": np.arange(50.0), "found": np.arange(50.0)},
    }[task]
    right = open_task(task).item_scores("main", columns)
    name = "found" if task == "bitext" else "similarity"
    wrong = open_task(task).item_scores("main", {**columns, name: columns[name][::-1]})
    assert right is not None and wrong is not None and right.shape == (50,)
    assert wrong.min() >= 0 and right.max() <= 100 and right.mean() > wrong.mean()


def test_measures_of_a_variant_that_was_not_timed_are_unknown() -> None:
    measures = figures(_variant("a", _dataset(), np.full(COUNT, 50.0)))
    assert measures["speed"] is None and measures["p95"] is None and measures["memory"] is None
