"""Tables as sources: what spreadsheets write is read, and no row is lost without its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.document import Document
from nearfield.corpus.sources import open_source
from nearfield.errors import InputError
from nearfield.fileio import tabular
from nearfield.testing import write_tiny_model


def rows(path: Path, data: bytes | str, **options: Any) -> dict[str, str]:
    """Write a table and return the texts of its rows by key; of those that cannot be read, what is wrong."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    result = {}
    for item in open_source("table", str(path), id="id", **options).items():
        try:
            document = item.read()
        except InputError as error:
            result[item.key] = f"! {error}"
        else:
            assert isinstance(document, Document)
            result[item.key] = document.text
    return result


# -- quotes --------------------------------------------------------------------------------------------------------


def test_a_quote_that_is_never_closed_costs_its_row_only(tmp_path: Path) -> None:
    data = 'id,text\n1,"never closed quote here\n2,second row of the table\n3,third row of the table\n'
    result = rows(tmp_path / "a.csv", data)
    assert result["2"] == "second row of the table" and result["3"] == "third row of the table"
    error = result["(line 2)"]
    assert "a.csv, after line 1: a quote is opened in this row, and never closed" in error and len(result) == 3


def test_an_open_quote_that_meets_a_later_quote(tmp_path: Path) -> None:
    data = 'id,text\n1,"open\n2,plain\n3,"proper, ""quoted"""\n4,"two\nlines"\n5,last\n'
    result = rows(tmp_path / "a.csv", data)
    assert {key: text for key, text in result.items() if not text.startswith("!")} == {
        "2": "plain", "3": 'proper, "quoted"', "4": "two\nlines", "5": "last",
    }  # fmt: skip
    assert "not closed before the next one" in result["(line 2)"]


def test_open_quotes_in_every_row_take_no_more_than_their_rows(tmp_path: Path) -> None:
    count = 3000
    data = "id,text\n" + "".join(f'{number},"say ""yes""\n' for number in range(count)) + "last,good\n"
    result = rows(tmp_path / "a.csv", data)
    assert result["last"] == "good" and len(result) == count + 1


@pytest.mark.parametrize("text", ['5" pipe', 'a "quoted" word', "it's", '"'])
def test_quotes_of_tsv_are_characters_where_they_enclose_nothing(tmp_path: Path, text: str) -> None:
    result = rows(tmp_path / "a.tsv", f"id\ttext\n1\t{text}\n2\tsecond\n")
    assert result == {"1": text, "2": "second"}
    assert rows(tmp_path / "b.tsv", 'id\ttext\n1\t"two\nlines"\n2\tb\n') == {"1": "two\nlines", "2": "b"}


# -- encodings and delimiters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "cp1252", "mac_roman"])
def test_encodings_of_spreadsheets(tmp_path: Path, encoding: str) -> None:
    text = "Die Größe der Straße und die Länge der Brücke über den Fluß"
    data = "id,text\n" + "".join(f"{number},{text}\n" for number in range(3))
    assert rows(tmp_path / "a.csv", data.encode(encoding)) == {str(number): text for number in range(3)}
    lines = "".join(json.dumps({"id": number, "text": text}, ensure_ascii=False) + "\n" for number in range(3))
    assert rows(tmp_path / "a.jsonl", lines.encode(encoding)) == {str(number): text for number in range(3)}


def test_a_guessed_encoding_is_declared_and_a_stated_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,text\n1,Café\n2,plain\n".encode("cp1252"))
    first, second = (item.read() for item in open_source("table", str(path), id="id").items())
    assert isinstance(first, Document) and isinstance(second, Document)
    assert first.text == "Café" and "guessed" in first.losses[0].reason and not second.losses
    stated = open_source("table", str(path), id="id", encoding="cp1252")
    assert [item.read() for item in stated.items()] == [Document("Café"), Document("plain")]
    assert stated.options["encoding"] == "cp1252"
    assert rows(path, "id,text\n1,Привет\n".encode("cp866"), encoding="cp866") == {"1": "Привет"}
    with pytest.raises(InputError, match="no encoding 'cp0'"):
        open_source("table", str(path), encoding="cp0")


def test_a_damaged_row_of_utf8_changes_no_other_row(tmp_path: Path) -> None:
    data = "id,text\n1,Größe\n".encode() + b"2,damaged \xfc\xfc\n" + "3,Straße\n".encode()
    result = rows(tmp_path / "a.csv", data)
    assert result["1"] == "Größe" and result["3"] == "Straße" and "not UTF-8" in result["(line 3)"]


@pytest.mark.parametrize(
    "data",
    [
        'id;text\n1;a, b\n2;"c;d"\n',
        'sep=;\nid;text\n1;a, b\n2;"c;d"\n',
        "\n\nid\ttext\n1\ta, b\n2\tc;d\n",
        "id|text\n1|a, b\n2|c;d\n",
        'id,text\n1,"a, b"\n2,c;d\n',
    ],
)
def test_delimiters_of_spreadsheets(tmp_path: Path, data: str) -> None:
    assert rows(tmp_path / "a.csv", data) == {"1": "a, b", "2": "c;d"}


# -- cells ---------------------------------------------------------------------------------------------------------


def test_columns_of_the_same_name_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text,note,note,\n1,a,first,second,third\n")
    (row,) = tabular.read_table(path, "csv")
    assert row.get() == {"id": "1", "text": "a", "note": "first", "note 2": "second", "column 5": "third"}


def test_controls_without_escapes_in_json(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.jsonl", '{"id": 1, "text": "tab\there"}\n{"id": 2, "text": "\\u00fc"}\n') == {
        "1": "tab\there", "2": "ü",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ['{\n  "text": "a"\n}\n', '[\n{"text": "a"},\n{"text": "b"}\n]', '\n[{\n"text": "a"}]']
)
def test_json_over_several_lines_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"JSON over several lines.*jq -c"):
        list(open_source("table", str(tmp_path / "a.jsonl")).items())


def test_a_name_that_a_line_of_json_repeats_is_a_loss(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"text": "one", "note": 1, "text": "two", "note": 2}\n{"text": "one", "text": "one", "at": {"x": 1, "x": 2}}\n'
        '{"text": "three", "note": 1, "note": 2}\n'
    )
    documents = [item.read() for item in open_source("table", str(tmp_path / "a.jsonl")).items()]
    losses = [[loss.reason for loss in document.losses] for document in documents if isinstance(document, Document)]
    assert losses == [["other values of 'text', which its line has several times"], [], []]
    source = open_source("table", str(tmp_path / "a.jsonl"), meta=["note"])
    documents = [item.read() for item in source.items()]
    assert [len(document.losses) for document in documents if isinstance(document, Document)] == [2, 0, 1]


@pytest.mark.slow
def test_rows_with_empty_cells_and_ids_with_signs(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    path = tmp_path / "a.csv"
    path.write_text(
        "id,text,year,open\nC#,a language of many programs,2001,yes\nF#-2,another language of the family,, \n"
        "a#b#c,a third one with signs,1999,no\n"
    )
    config = {"features": {"dense": {"model": str(tmp_path / "tiny")}}, "fields": {"year": "int", "open": "bool"}}
    with Collection.create("case", config, home=tmp_path / "home") as collection:
        report = collection.index([open_source("table", str(path), id="id", meta=["year", "open"])])
        assert (report.new, report.failed) == (3, 0)
        keys = {info.id.partition("a.csv#")[2] for info in collection.documents()}
        assert keys == {"C#", "F#-2", "a#b#c"}
        hits = collection.search("language", k=5, where={"year": {"gte": 2000}}, mode="bm25")
        assert {hit.document.partition("a.csv#")[2] for hit in hits} == {"C#"}
        collection.put([{"id": "x#1", "text": "a document of its id with a sign"}])
        assert collection.text("x#1").startswith("a document")
        assert collection.remove(["x#1"]) == 1
