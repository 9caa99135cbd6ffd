"""Data sets: every layout is read, and errors name the file and the line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nearfield.errors import InputError
from nearfield.evaluation.datasets import beir as writing
from nearfield.evaluation.datasets import judgments
from nearfield.evaluation.datasets.dataset import Dataset, Labelled, PairRows, Retrieval
from nearfield.evaluation.datasets.loaders import load_dataset

CORPUS = [{"_id": "d1", "title": "Cats", "text": "A cat sat."}, {"_id": "d2", "title": "", "text": "A dog ran."}]
QUERIES = [{"_id": "q1", "text": "where is the cat?"}, {"_id": "q2", "text": "and the dog?"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td2\t2\n"


def jsonl(rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def beir(folder: Path, **changed: str) -> Path:
    """Write a set in BEIR's layout; ``changed`` files have other text, by their stems."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"corpus": jsonl(CORPUS), "queries": jsonl(QUERIES), "qrels": QRELS, **changed}
    for name, text in told.items():
        (folder / f"{name}.{'tsv' if name == 'qrels' else 'jsonl'}").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_in_beirs_layout(tmp_path: Path) -> None:
    found = load_dataset(beir(tmp_path / "pets"))
    assert (found.name, found.task, found.synthetic) == ("pets", "retrieval", None)
    assert found.rows == Retrieval(
        {"d1": "Cats A cat sat.", "d2": "A dog ran."},
        {"q1": "where is the cat?", "q2": "and the dog?"},
        {"q1": {"d1": 1, "d2": 0}, "q2": {"d2": 2}},
    )


def test_splits_of_a_folder(tmp_path: Path) -> None:
    folder = beir(tmp_path / "pets")
    (folder / "qrels").mkdir()
    (folder / "qrels.tsv").rename(folder / "qrels" / "test.tsv")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    assert list(load_dataset(folder).rows.relevant) == ["q1", "q2"]  # type: ignore[union-attr]
    dev = load_dataset(folder, split="dev")
    assert list(dev.rows.queries) == ["q1"]  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"train\.tsv is not there: there is dev, test"):
        load_dataset(folder, split="train")


FILES: Mapping[str, tuple[str, str, str | None, str, dict[str, int]]] = {
    "sts": ("sts.tsv", 'score\tsentence1\tsentence2\n2.5\ta\tb\n0\tc "d\te\n', None, "sts", {"pairs": 2}),
    "sts in CSV": ("sts.csv", 'sentence1,sentence2,score\n"a, b",c,1\nd,"e\nf",2\n', None, "sts", {"pairs": 2}),
    "pairs": (
        "pairs.jsonl",
        jsonl([{"text1": "a", "text2": "b", "label": 1}, {"text1": "c", "text2": "d", "label": 0}]),
        None,
        "pairs",
        {"pairs": 2},
    ),
    "questions": (
        "asked.jsonl",
        jsonl([{"query": "a", "document": "b"}, {"query": "a", "document": "c", "score": 2}]),
        None,
        "retrieval",
        {"documents": 2, "queries": 1, "judgements": 2},
    ),
    "questions without names": (
        "asked.tsv",
        "where is it?\tit is here\n",
        "retrieval",
        "retrieval",
        {"documents": 1, "queries": 1, "judgements": 1},
    ),
    "clustering": (
        "groups.tsv",
        "a\tone\na\ttwo\nb\tthree\n",
        "clustering",
        "clustering",
        {"sets": 1, "texts": 3, "labels": 2},
    ),
    "clusterings": (
        "groups.jsonl",
        jsonl([{"sentences": ["x", "y"], "labels": [0, 1]}] * 2),
        None,
        "clustering",
        {"sets": 2, "texts": 4, "labels": 2},
    ),
    "reranking": (
        "rank.jsonl",
        jsonl([{"query": "q", "positive": ["a"], "negative": ["b", "c"]}]),
        None,
        "reranking",
        {"queries": 1, "candidates": 3},
    ),
    "bitext": ("deu-eng.tsv", "eins\tone\nzwei\ttwo\n", "bitext", "bitext", {"pairs": 2}),
    "with a byte order mark": (
        "sts.tsv",
        "\ufeffscore\tsentence1\tsentence2\r\n1\ta\tb\r\n2\tc\td\r\n",
        None,
        "sts",
        {"pairs": 2},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file(tmp_path: Path, name: str) -> None:
    file, text, task, expected, counts = FILES[name]
    (tmp_path / file).write_bytes(text.encode())
    found = load_dataset(tmp_path / file, task)
    assert found.task == expected
    assert {key: value for key, value in found.to_dict().items() if isinstance(value, int)} == counts


def test_cells_are_read_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "sts.tsv").write_bytes(b"score\tsentence1\tsentence2\r\n1\t\"a\tb'\r\n2\tc\xe2\x80\xa8d\te\r\n")
    assert load_dataset(tmp_path / "sts.tsv").rows == PairRows(['"a', "c\u2028d"], ["b'", "e"], [1.0, 2.0])


def test_labels_may_be_words(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("label,sentence1,sentence2\nsimilar,a,b\nNo,c,d\n")
    assert load_dataset(tmp_path / "pairs.csv").rows == PairRows(["a", "c"], ["b", "d"], [1.0, 0.0])


@pytest.mark.parametrize("head", ["", "label\ttext\n"])
def test_classification_with_and_without_names(tmp_path: Path, head: str) -> None:
    (tmp_path / "train.tsv").write_text(head + "a\tone\nb\ttwo\n")
    (tmp_path / "test.tsv").write_text(head + "b\tthree\n")
    found = load_dataset(tmp_path)
    assert found.task == "classification"
    assert found.rows.train == Labelled(["one", "two"], ["a", "b"])  # type: ignore[union-attr]
    assert found.rows.test.labels == ["b"]  # type: ignore[union-attr]


#: What is wrong, the files of a folder that have other text, and what the error says.
BAD_FOLDERS: Mapping[str, tuple[dict[str, str], str]] = {
    "JSON": ({"corpus": jsonl(CORPUS) + "{oops\n"}, r"corpus\.jsonl, line 3: not JSON"),
    "no object": ({"queries": '["q1"]\n'}, r"queries\.jsonl, line 1: list, not an object"),
    "no id": ({"corpus": '{"id": "d1", "text": "a"}\n'}, r"corpus\.jsonl, line 1: there is no '_id'"),
    "id twice": ({"corpus": jsonl([*CORPUS, CORPUS[0]])}, r"corpus\.jsonl, line 3: the id 'd1' is there twice"),
    "text missing": ({"queries": '{"_id": "q1"}\n'}, r"queries\.jsonl, line 1: there is no 'text'"),
    "text is a list": ({"corpus": '{"_id": "d1", "text": ["a"]}\n'}, r"corpus\.jsonl, line 1: text is list"),
    "empty query": ({"queries": '{"_id": "q1", "text": " "}\n'}, r"queries\.jsonl, line 1: text is empty"),
    "unknown query": ({"qrels": QRELS + "q9\td1\t1\n"}, r"qrels\.tsv, line 5: there is no query 'q9'"),
    "unknown document": ({"qrels": QRELS + "q1\td9\t1\n"}, r"qrels\.tsv, line 5: there is no document 'd9'"),
    "judged twice": ({"qrels": QRELS + "q1\td1\t0\n"}, r"qrels\.tsv, line 5: .* judged twice"),
    "grade": (
        {"qrels": QRELS.replace("\t2", "\tgood")},
        r"qrels\.tsv, line 4: score should be a number, and is 'good'",
    ),
    "half a grade": ({"qrels": QRELS.replace("\t2", "\t0.5")}, r"qrels\.tsv, line 4: score should be a whole number"),
    "columns": ({"qrels": QRELS + "q1 d1 1\n"}, r"qrels\.tsv, line 5: 1 columns, where there should be 3"),
    "nothing relevant": ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\t0\n"}, r"pets: .* No query has a relevant"),
    "no rows": ({"qrels": "query-id\tcorpus-id\tscore\n"}, r"qrels\.tsv has no rows"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_bad_folder_is_told(tmp_path: Path, name: str) -> None:
    changed, message = BAD_FOLDERS[name]
    with pytest.raises(InputError, match=message):
        load_dataset(beir(tmp_path / "pets", **changed))


#: What is wrong, a file, its bytes, its task, and what the error says.
BAD_FILES: Mapping[str, tuple[str, bytes, str | None, str]] = {
    "score": (
        "a.tsv",
        b"score\tsentence1\tsentence2\n1\ta\tb\nx\tc\td\n",
        None,
        r"a\.tsv, line 3: score should be a num",
    ),
    "infinite": (
        "a.tsv",
        b"score\tsentence1\tsentence2\ninf\ta\tb\n",
        None,
        r"a\.tsv, line 2: score should be a number",
    ),
    "one score": ("a.tsv", b"score\tsentence1\tsentence2\n1\ta\tb\n1\tc\td\n", None, r"a\.tsv: .*all with one score"),
    "empty text": ("a.tsv", b"score\tsentence1\tsentence2\n1\t\tb\n", None, r"a\.tsv, line 2: first is empty"),
    "columns": ("a.csv", b"score,sentence1,sentence2\n1,a\n", None, r"a\.csv, line 2: 2 columns, .* 3 \(score,"),
    "quotes": ("a.csv", b'score,sentence1,sentence2\n1,a,"b\n', None, r"a\.csv, line 2: unexpected end"),
    "label": (
        "a.csv",
        b"label,sentence1,sentence2\n1,a,b\n2,c,d\n",
        "pairs",
        r"a\.csv, line 3: label should be 1 .* '2'",
    ),
    "query": ("a.jsonl", b'{"query": "", "document": "b"}\n', None, r"a\.jsonl, line 1: query is empty"),
    "two grades": (
        "a.jsonl",
        jsonl([{"query": "a", "document": "b", "score": n} for n in (1, 2)]).encode(),
        None,
        r"a\.jsonl, line 2: .* with another score",
    ),
    "candidates": (
        "a.jsonl",
        b'{"query": "a", "positive": ["b"], "negative": 3}\n',
        None,
        r"a\.jsonl, line 1: negative",
    ),
    "no negative": ("a.jsonl", b'{"query": "a", "positive": ["b"], "negative": []}\n', None, r"a\.jsonl: .*Query 1"),
    "labels": ("a.jsonl", b'{"text": ["a", "b"], "label": ["x"]}\n', None, r"a\.jsonl, line 1: 2 texts need as many"),
    "one label": ("a.tsv", b"x\ta\nx\tb\n", "clustering", r"a\.tsv: .*1 label"),
    "one pair": ("a.tsv", b"x\ta\n", "bitext", r"a\.tsv: .*One pair alone"),
    "bytes": ("a.tsv", b"score\tsentence1\tsentence2\n1\ta\tb\n1\t\xff\td\n", None, r"a\.tsv, line 3: not UTF-8"),
    "names": ("a.tsv", b"this\tthat\nx\ty\n", None, r"a\.tsv: its columns \(that, this\) do not say"),
    "column": (
        "a.tsv",
        b"score\tsentence1\tother\n1\ta\tb\n",
        "sts",
        r"a\.tsv, line 1: sts needs .* no column for second",
    ),
    "fields": ("a.jsonl", b'{"a": 1}\n', "sts", r"a\.jsonl, line 1: sts needs score, first, second"),
    "classification": ("a.tsv", b"x\ta\n", "classification", r"a\.tsv: classification needs texts to learn from"),
    "kind": ("a.pdf", b"", "sts", r"a\.pdf: files of \.pdf are not read"),
    "task": ("a.tsv", b"", "stss", r"No files of task 'stss' are read\. Did you mean 'sts'"),
    "nothing": ("a.tsv", b"\n", "sts", r"a\.tsv has no rows"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_told(tmp_path: Path, name: str) -> None:
    file, data, task, message = BAD_FILES[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(InputError, match=message):
        load_dataset(tmp_path / file, task)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no data set"):
        load_dataset(tmp_path / "none")
    with pytest.raises(InputError, match=r"is no data set: a folder has corpus\.jsonl"):
        load_dataset(tmp_path)
    (tmp_path / "train.tsv").write_text("a\tone\nb\ttwo\n")
    (tmp_path / "test.tsv").write_text("c\tthree\n")
    with pytest.raises(InputError, match="the label 'c', of which there is no text to learn from"):
        load_dataset(tmp_path)


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    one = load_dataset(beir(tmp_path / "one"))
    assert load_dataset(beir(tmp_path / "two")).digest == one.digest
    other = load_dataset(beir(tmp_path / "three", qrels=QRELS.replace("d2\t2", "d2\t1")))
    assert other.digest != one.digest
    sts = PairRows(["a", "b"], ["c", "d"], [0.0, 1.0])
    assert Dataset("x", "sts", sts).digest != Dataset("x", "pairs", sts).digest


def test_a_set_is_written_as_it_was_read(tmp_path: Path) -> None:
    found = load_dataset(beir(tmp_path / "pets"))
    writing.write_beir(Dataset("made", "retrieval", found.rows, synthetic="Made up."), tmp_path / "made")
    again = load_dataset(tmp_path / "made")
    assert (again.rows, again.digest, again.synthetic) == (found.rows, found.digest, "Made up.")
    assert again.to_dict()["synthetic"] == "Made up."
    with pytest.raises(InputError, match="is there already"):
        writing.write_beir(found, tmp_path / "made")
    with pytest.raises(InputError, match="BEIR's layout is for retrieval"):
        writing.write_beir(Dataset("x", "sts", PairRows(["a", "b"], ["c", "d"], [0.0, 1.0])), tmp_path / "sts")


# -- judging -------------------------------------------------------------------------------------------------------

FOUND = [judgments.JudgmentCandidate(f"d{number}", f"text {number}") for number in range(4)]


def answers(*told: str) -> Any:
    """Return what answers one question after another, and notes what was asked."""
    waiting = iter(told)

    def ask(query: str, candidate: judgments.JudgmentCandidate, place: str) -> str:
        ask.asked.append((query, candidate.id))  # type: ignore[attr-defined]
        return next(waiting, "q")

    ask.asked = []  # type: ignore[attr-defined]
    return ask


def test_judgements_are_kept_at_once_and_gone_on_with(tmp_path: Path) -> None:
    kept = judgments.Judgments(tmp_path / "judged")
    kept.add_documents([("d9", "never judged")])
    first = answers("3", "x", "s", "0", "q")
    assert judgments.annotate(kept, ["which?", "what?"], lambda _: FOUND, first) == 2
    assert [document for _, document in first.asked] == ["d0", "d1", "d1", "d2", "d3"]
    # A second annotator opens the same file: answered questions are not asked again, skipped ones are.
    again = judgments.Judgments(tmp_path / "judged")
    second = answers("1", "n", "2", "b", "0")
    assert judgments.annotate(again, ["which?", "what?"], lambda _: FOUND, second) == 3
    assert second.asked[:4] == [("which?", "d1"), ("which?", "d3"), ("what?", "d0"), ("what?", "d1")]
    assert second.asked[4] == ("what?", "d0"), "b goes back to the document before"
    found = load_dataset(tmp_path / "judged")
    assert list(found.rows.documents) == ["d9", "d0", "d2", "d1"]  # type: ignore[union-attr]
    grades = found.rows.relevant  # type: ignore[union-attr]
    assert grades[judgments.query_id("which?")] == {"d0": 3, "d2": 0, "d1": 1}
    assert grades[judgments.query_id("what?")] == {"d0": 0}


def test_candidates_are_pooled_by_rank() -> None:
    one, two = FOUND[:3], [FOUND[2], FOUND[3], FOUND[0]]
    assert [each.id for each in judgments.pool_candidates([one, two], 2)] == ["d0", "d2", "d1", "d3"]


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no judgments"):
        judgments.Judgments(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        judgments.Judgments(tmp_path / "note.txt")
