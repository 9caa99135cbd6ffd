"""Rows of users' files: no name is ignored in silence, and messages say which file and line, and what to write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.evaluation.datasets.judgments import JudgmentCandidate, Judgments, annotate
from nearfield.evaluation.datasets.loaders import load_dataset

Row = Mapping[str, Any]
CORPUS: list[Row] = [{"_id": "a", "title": "Apples", "text": "are red"}, {"_id": "b", "text": "Pears are green"}]
QUERIES: list[Row] = [{"_id": "q1", "text": "red?"}]


def lines(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def folder(
    path: Path, corpus: Iterable[Row] = CORPUS, queries: Iterable[Row] = QUERIES, qrels: str = "q1\ta\t1\n"
) -> Path:
    path.mkdir()
    lines(path / "corpus.jsonl", corpus)
    lines(path / "queries.jsonl", queries)
    (path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels, encoding="utf-8")
    return path


# -- data sets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scor", "scores", "Score ", "relevence", "similarty"])
def test_a_misspelt_score_is_no_relevant_pair(tmp_path: Path, name: str) -> None:
    rows: list[Row] = [{"query": "q", "document": "d", "score": 1}, {"query": "q", "document": "e", name: 0}]
    path = lines(tmp_path / "pairs.jsonl", rows)
    with pytest.raises(InputError, match=rf"pairs.jsonl, line 2: unknown column '{name}'. Did you mean"):
        load_dataset(path)


def test_a_score_that_the_first_object_lacks_counts(tmp_path: Path) -> None:
    rows: list[Row] = [{"query": "q", "document": "d"}, {"query": "q", "document": "e", "score": 0}]
    loaded = load_dataset(lines(tmp_path / "pairs.jsonl", rows)).rows
    assert isinstance(loaded, Retrieval)
    assert sorted(next(iter(loaded.relevant.values())).values()) == [0, 1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("query\tdocument\tscores\na\tb\t0\n", "line 2: unknown column 'scores'. Did you mean 'score'"),
        ("sentence1\tsentence2\tscore\tsplit\na\tb\t1\tx\nc\td\t2\tx\n", ""),
    ],
)
def test_columns_of_tables(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text(text, encoding="utf-8")
    if problem:
        with pytest.raises(InputError, match=problem):
            load_dataset(path)
    else:
        assert load_dataset(path).to_dict()["unused_columns"] == ["split"]


def test_a_row_without_a_required_name_says_which_it_has(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "lable": "y"}]
    with pytest.raises(InputError, match=r"line 2: there is no 'label'. Did you mean 'lable'\?"):
        load_dataset(lines(tmp_path / "rows.jsonl", rows))


def test_a_misspelt_title_of_a_document_is_named(tmp_path: Path) -> None:
    corpus = [CORPUS[0], {"_id": "b", "titel": "Pears", "text": "are green"}]
    with pytest.raises(InputError, match=r"corpus.jsonl, line 2: unknown column 'titel'. Did you mean 'title'\?"):
        load_dataset(folder(tmp_path / "set", corpus))


def test_columns_without_a_role_are_listed(tmp_path: Path) -> None:
    corpus = [{**row, "url": "https://example.org", "metadata": {}} for row in CORPUS]
    data = load_dataset(folder(tmp_path / "set", corpus, [{**QUERIES[0], "author": "me"}]))
    assert data.unused_columns == ("url", "author")
    assert "unused_columns" not in load_dataset(folder(tmp_path / "plain")).to_dict()


# -- judgments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ({"corpus": [{**CORPUS[0], "url": "x"}]}, r"corpus.jsonl, line 1: unknown name 'url'"),
        ({"corpus": [{**CORPUS[1], "titel": "x"}]}, r"corpus.jsonl, line 1: .*Did you mean 'title'"),
        ({"queries": [{**QUERIES[0], "txt": "x"}]}, r"queries.jsonl, line 1: unknown name 'txt'.*Did you mean 'text'"),
        ({"queries": [{"id": "q1", "text": "red?"}]}, r"queries.jsonl, line 1: unknown name 'id'.*Did you mean '_id'"),
        ({"qrels": "q1\ta\t1\nq1\ta\t2\n"}, r"qrels.tsv, line 3: the document 'a' is judged twice"),
    ],
)
def test_what_judging_would_lose_is_refused(tmp_path: Path, rows: dict[str, Any], problem: str) -> None:
    path = folder(tmp_path / "set", **rows)
    with pytest.raises(InputError, match=problem):
        Judgments(path)


def answers(*typed: str) -> Callable[[str, JudgmentCandidate, str], str]:
    waiting = iter(typed)
    return lambda query, candidate, progress: next(waiting, "q")


def test_a_set_of_others_is_continued_with_its_ids_and_titles(tmp_path: Path) -> None:
    path = folder(tmp_path / "set")
    before = load_dataset(path).rows
    candidates = [JudgmentCandidate("a", "Apples are red"), JudgmentCandidate("b", "Pears are green")]
    assert annotate(Judgments(path), ["red?"], lambda _: candidates, answers("0")) == 1
    after = load_dataset(path).rows
    assert isinstance(before, Retrieval)
    assert isinstance(after, Retrieval)
    assert (after.queries, after.documents) == (before.queries, before.documents)
    assert after.relevant == {"q1": {"a": 1, "b": 0}}


def test_an_unknown_answer_is_named(tmp_path: Path) -> None:
    shown: list[str] = []
    typed = iter(["5", "yes", "3", "q"])

    def ask(query: str, candidate: JudgmentCandidate, progress: str) -> str:
        shown.append(progress)
        return next(typed)

    candidates = [JudgmentCandidate("a", "A"), JudgmentCandidate("b", "B")]
    assert annotate(Judgments(tmp_path / "set"), ["q?"], lambda _: candidates, ask) == 1
    assert ["is no answer" in progress for progress in shown] == [False, True, True, False]
    assert "'5' is no answer: 0 not relevant" in shown[1]


def test_a_folder_without_judgments_yet_is_continued(tmp_path: Path) -> None:
    path = folder(tmp_path / "set", qrels="")
    judgments = Judgments(path)
    assert (judgments.queries, judgments.grades) == ({"q1": "red?"}, {})
