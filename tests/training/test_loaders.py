"""All forms of training data, from files and folders as people have them; what cannot be read is named."""

import json
from pathlib import Path

import pytest

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.training.data.loaders import load_training_data, write_training_data
from nearfield.training.training_data import TrainingData


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), errors="surrogateescape"
    )
    return path


def judged(data: TrainingData) -> dict[str, dict[str, int]]:
    """Return the grades by the texts of queries and documents."""
    rows = data.rows
    assert isinstance(rows, Retrieval)
    return {
        rows.queries[query]: {rows.documents[document]: grade for document, grade in grades.items()}
        for query, grades in rows.relevant.items()
    }


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"anchor": "q", "positive": "p"}, {"p": 1}),
        ({"anchor": "q", "positive": "p", "negative": "n"}, {"p": 1, "n": 0}),
        ({"query": "q", "pos": ["p1", "p2"], "neg": ["n1", "n2"]}, {"p1": 1, "p2": 1, "n1": 0, "n2": 0}),
        ({"question": "q", "answer": "p"}, {"p": 1}),
        ({"query": "q", "document": "p", "score": 2}, {"p": 2}),
        ({"anchor": "q", "positive": "p", "negative_1": "n1", "negative_2": ""}, {"p": 1, "n1": 0}),
        ({"query": "q", "positive": "p", "negative": None}, {"p": 1}),
    ],
)
def test_pairs_triplets_and_longer_rows(tmp_path: Path, row: dict[str, object], expected: dict[str, int]) -> None:
    assert judged(load_training_data(write(tmp_path / "rows.jsonl", row))) == {"q": expected}


def test_teacher_scores_follow_their_texts(tmp_path: Path) -> None:
    row = {"query": "q", "pos": ["p"], "neg": ["n1", "n2"], "pos_scores": [0.9], "neg_scores": [0.2, 0.1]}
    data = load_training_data(write(tmp_path / "rows.jsonl", row))
    assert isinstance(data.rows, Retrieval)
    (scores,) = data.teacher_scores.values()
    assert {data.rows.documents[key]: score for key, score in scores.items()} == {"p": 0.9, "n1": 0.2, "n2": 0.1}


def test_the_wrong_number_of_teacher_scores_is_named_with_its_line(tmp_path: Path) -> None:
    row = {"query": "q", "pos": ["p"], "neg": ["n"], "neg_scores": [1, 2]}
    with pytest.raises(InputError, match=r"rows\.jsonl, line 1: negative_scores should be 1 finite number"):
        load_training_data(write(tmp_path / "rows.jsonl", row))


@pytest.mark.parametrize("clicked", [["b"], [1], [False, True, False], "b"])
def test_in_a_click_log_what_was_skipped_above_a_click_is_a_negative(tmp_path: Path, clicked: object) -> None:
    rows = write(tmp_path / "log.jsonl", {"query": "q", "shown": ["a", "b", "c"], "clicked": clicked})
    assert judged(load_training_data(rows)) == {"q": {"b": 1, "a": 0}}


def test_a_result_that_someone_else_clicked_is_no_negative(tmp_path: Path) -> None:
    rows = [{"query": "q", "shown": ["a", "b"], "clicked": [1]}, {"query": "q", "shown": ["a", "b"], "clicked": ["a"]}]
    assert judged(load_training_data(write(tmp_path / "log.jsonl", *rows))) == {"q": {"b": 1, "a": 1}}


def test_a_log_without_clicks_and_a_click_on_nothing_are_refused(tmp_path: Path) -> None:
    quiet = write(tmp_path / "quiet.jsonl", {"query": "q", "shown": ["a"], "clicked": []})
    with pytest.raises(InputError, match="nothing was clicked in 1 rows"):
        load_training_data(quiet)
    wrong = write(tmp_path / "wrong.jsonl", {"query": "q", "shown": ["a", "b"], "clicked": [2]})
    with pytest.raises(InputError, match="no position from 0 to 1"):
        load_training_data(wrong)


def test_scores_and_labels_of_pairs(tmp_path: Path) -> None:
    scored = load_training_data(write(tmp_path / "a.tsv", "score\tsentence1\tsentence2", "0.5\ta\tb", "1\tc\td"))
    assert scored.rows == PairRows(["a", "c"], ["b", "d"], [0.5, 1.0])
    similar = load_training_data(write(tmp_path / "b.csv", "text1,text2,is_duplicate", "a,b,yes", "c,d,0"))
    assert similar.rows == PairRows(["a", "c"], ["b", "d"], [1.0, 0.0])


def test_labels_with_sources(tmp_path: Path) -> None:
    data = load_training_data(write(tmp_path / "a.jsonl", *({"text": t, "label": t, "url": "u"} for t in "ab")))
    assert (data.rows, data.sources) == (Labelled(["a", "b"], ["a", "b"]), {"0": "u", "1": "u"})


def test_pairs_of_the_same_meaning(tmp_path: Path) -> None:
    data = load_training_data(write(tmp_path / "a.tsv", "sentence1\tsentence2", "guten Tag\thello"))
    assert judged(data) == {"guten Tag": {"hello": 1}}


def test_parquet_is_read_as_the_other_tables(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"anchor": ["q"], "positive": ["p"], "negative": [["n", "m"]]}), tmp_path / "a.parquet")
    assert judged(load_training_data(tmp_path / "a.parquet")) == {"q": {"p": 1, "n": 0, "m": 0}}


def test_columns_without_names_need_a_shape(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "hallo\thello", "ja\tyes")
    with pytest.raises(InputError, match=r"does not name the columns \(hallo \| hello\).*--shape"):
        load_training_data(path)
    assert judged(load_training_data(path, shape="ranking")) == {"hallo": {"hello": 1}, "ja": {"yes": 1}}
    assert load_training_data(path, shape="labels").rows == Labelled(["hello", "yes"], ["hallo", "ja"])


def test_a_folder_of_train_and_test_has_labels_without_names_as_for_the_evaluation(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", "x\ta", "y\tb")
    write(tmp_path / "test.tsv", "x\tc", "y\td")
    assert load_training_data(tmp_path).rows == Labelled(["a", "b"], ["x", "y"])


def test_folders_of_texts_are_labels(tmp_path: Path) -> None:
    for label, text in (("news", "today"), ("mail", "dear")):
        write(tmp_path / label / "1.txt", text)
    assert load_training_data(tmp_path).rows == Labelled(["dear", "today"], ["mail", "news"])


def beir(folder: Path, qrels: str) -> Path:
    documents = [("d1", "Page", "one"), ("d2", "Page", "two"), ("d3", "", "three")]
    write(folder / "corpus.jsonl", *({"_id": key, "title": title, "text": text} for key, title, text in documents))
    write(folder / "queries.jsonl", {"_id": "q1", "text": "ask"}, {"_id": "q2", "text": "unjudged"})
    write(folder / qrels, "query-id\tcorpus-id\tscore", "q1\td1\t1", "q1\td3\t0")
    return folder


@pytest.mark.parametrize("qrels", ["qrels.tsv", "qrels/train.tsv"])
def test_beir_with_parts_of_one_document_by_its_title(tmp_path: Path, qrels: str) -> None:
    data = load_training_data(beir(tmp_path, qrels))
    assert judged(data) == {"ask": {"Page one": 1, "three": 0}}
    assert data.sources == {"d1": "Page", "d2": "Page"}


def test_judgments_of_the_test_alone_are_not_learnt_from(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"qrels/train\.tsv or qrels\.tsv is needed, and there is test\.tsv"):
        load_training_data(beir(tmp_path, "qrels/test.tsv"))


def test_columns_without_a_role_are_listed_and_nearly_right_names_refused(tmp_path: Path) -> None:
    row = {"anchor": "q", "positive": "p", "author": "x", "negative_2": "n"}
    assert load_training_data(write(tmp_path / "a.jsonl", row)).notes == [
        "Columns without a role are not used: author."
    ]
    with pytest.raises(InputError, match=r"line 2: unknown column 'negativ'. Did you mean 'negative'"):
        load_training_data(write(tmp_path / "b.jsonl", {"anchor": "q", "positive": "p"}, {**row, "negativ": "n"}))


def test_written_data_is_read_again(tmp_path: Path) -> None:
    rows = Retrieval({"d": "text", "e": "other"}, {"q": "ask"}, {"q": {"d": 1, "e": 0}})
    data = TrainingData("mined", rows, {"d": "page"}, {"q": {"d": 2.5, "e": -1.0}}, "Synthetic: headings.")
    write_training_data(data, tmp_path / "mined")
    again = load_training_data(tmp_path / "mined")
    assert (again.digest, again.synthetic) == (data.digest, data.synthetic)
    with pytest.raises(InputError, match="is there already"):
        write_training_data(data, tmp_path / "mined")


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a.jsonl", ['{"query": "q", "positive": ""}'], r"line 1: positive should be a text"),
        ("a.jsonl", ['{"query": "q", "positive": "p"}', '{"query": "r"}'], r"line 2: there is no positive"),
        ("a.jsonl", ['{"query": "q", "pos": "p", "neg": "p"}'], "there twice, with grades 1 and 0"),
        ("a.jsonl", ['{"text": "t", "query": "q"', ""], "line 1"),
        ("a.jsonl", ['{"text": "a", "label": "x"}', '{"text": "b", "label": "x"}'], "2 texts with 1 label"),
        ("a.jsonl", ['{"sentence1": "a", "negative": "b"}'], "are no rows to learn from"),
        ("a.jsonl", [r'{"text": "a\ud800", "label": "x"}'], r"line 1: text is not Unicode: character 1 is a lone"),
        ("a.jsonl", [r'{"query": "q", "positive": ["\udc00"]}'], r"line 1: positive is not Unicode"),
        ("a.jsonl", [""], "no rows"),
        ("a.csv", ["text,label"], "no rows"),
        ("a.pdf", ["x"], "unknown format"),
        ("a.txt", ["query,positive", "q,p"], "no rows with columns: give JSON lines"),
        ("a.csv", ["query;positive", "q;p"], "one column .*separated by commas"),
        ("a.csv", ["query,\udcff", "q,p"], "line 1: not UTF-8"),
        ("a.csv", ["query,query,positive", "q,r,p"], "several columns are called 'query'"),
        ("a.jsonl", ['{"sentence1": "a", "sentence2": "b", "score": 1' + "0" * 400 + "}"], "score should be a number"),
        ("a.jsonl", ['{"query": "q", "pos": ["p"], "pos_scores": [NaN]}'], "should be 1 finite number, one for each"),
    ],
)
def test_what_cannot_be_learnt_from_is_named(tmp_path: Path, name: str, rows: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_training_data(write(tmp_path / name, *rows))


def test_missing_data_an_empty_folder_and_an_unknown_shape(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no training data"):
        load_training_data(tmp_path / "none")
    with pytest.raises(InputError, match="holds no training data"):
        load_training_data(tmp_path)
    with pytest.raises(InputError, match=r"labels: text, label\. Rename the columns, for example text and label"):
        load_training_data(write(tmp_path / "a.csv", "query,positive", "q,p"), shape="labels")
    with pytest.raises(InputError, match=r"no shape 'pairs'.*Known: labels, ranking, scores"):
        load_training_data(tmp_path, shape="pairs")
