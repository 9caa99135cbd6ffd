"""Names that occur twice: the second is refused with the reason, and does not replace the first silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfield import settings
from nearfield.bulk.text_source import TextSource
from nearfield.checkpoint import output_kinds
from nearfield.corpus.collection import Collection
from nearfield.corpus.config import load_config, merge_config, parse_config
from nearfield.corpus.extractors.front_matter import front_matter
from nearfield.corpus.sources.inline import documents_list
from nearfield.encoder import Encoder
from nearfield.errors import InputError, SettingsError
from nearfield.evaluation.datasets.judgments import Judgments
from nearfield.evaluation.planning.cost import read_prices
from nearfield.repeated_values import find_repeated
from nearfield.server.auth.api_key import ApiKey, key_digest
from nearfield.server.auth.key_file import append_key, create_key, read_key_file
from nearfield.strict_json import parse_json
from tests.support.cli_runner import run


def test_one_id_twice_in_a_put(tmp_path: Path, tiny: Encoder) -> None:
    pytest.importorskip("lancedb")
    with Collection.create("notes", home=tmp_path, encoder_of=lambda _: tiny) as collection:
        collection.put([{"id": "a", "text": "the cat"}])
        twice = [{"id": "b", "text": "x"}, {"id": "a", "text": "a dog"}, {"id": "a", "text": "hello"}]
        with pytest.raises(
            InputError, match="Document 2: it has the id 'a' of document 1: give each document its own id"
        ):
            collection.put(twice)
        assert [info.id for info in collection.documents()] == ["put:#a"]
        assert collection.text("a") == "the cat"
        collection.put([{"id": "a", "text": "a dog"}])  # a second call replaces it
        assert collection.text("a") == "a dog"
        assert collection.remove(["a", "a"]) == 1


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ({"id": "a", "text": "x"}, r"documents is of type dict with the keys id, text.*give \[document\]"),
        ("text", r"documents must be a list of mappings with id and text, and is of type str \('text'\)"),
        (["text"], r"Document 0 is of type str \('text'\), not a mapping with id and text"),
        ([None], r"Document 0 is None, not a mapping"),
        (None, r"and is None"),
    ],
)
def test_what_is_no_list_of_documents(documents: object, message: str, tmp_path: Path, tiny: Encoder) -> None:
    pytest.importorskip("lancedb")
    with Collection.create("notes", home=tmp_path, encoder_of=lambda _: tiny) as collection:
        with pytest.raises(InputError, match=message):
            collection.put(documents)  # type: ignore[arg-type]
        frame = pytest.importorskip("pandas").DataFrame({"id": ["a"], "text": ["x"]})
        with pytest.raises(
            InputError, match=r"of type DataFrame with the columns id, text.*data\.to_dict\('records'\)"
        ):
            collection.put(frame)
        assert collection.put(frame.to_dict("records")).new == 1


def test_advice_for_tables_is_that_of_their_library() -> None:
    columns = {"id": ["a"], "text": ["x"]}
    tables = [pytest.importorskip("polars").DataFrame(columns), pytest.importorskip("pyarrow").table(columns)]
    for table, advice in zip(tables, ("to_dicts", "to_pylist"), strict=True):
        with pytest.raises(InputError, match=rf"columns id, text.* give data\.{advice}\(\)"):
            documents_list(table)
        assert documents_list(getattr(table, advice)()) == [{"id": "a", "text": "x"}]


def test_the_first_value_that_was_there_before() -> None:
    assert find_repeated(iter(["a", "b", "c", "b", "a"])) == "b"
    assert find_repeated(["a", "A", 1, "1"]) is None
    assert find_repeated([]) is None


def test_a_name_twice_in_json() -> None:
    assert parse_json('{"a": {"b": 1}, "c": [{"b": 2}, {"b": 2}]}') == {"a": {"b": 1}, "c": [{"b": 2}, {"b": 2}]}
    with pytest.raises(ValueError, match="the name 'b' is there twice in one object"):
        parse_json('{"a": [{"b": 1, "b": 1}]}')


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"chunks": {"tokens": 100, "tokens": 200}}'),
        ("c.yaml", "chunks:\n  tokens: 100\n  tokens: 200\n"),
        ("c.yml", "chunks: {tokens: 100}\nclean: {}\nchunks: {tokens: 200}\n"),
        ("c.toml", "[chunks]\ntokens = 100\ntokens = 200\n"),
    ],
)
def test_a_name_twice_in_a_definition(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"(twice|overwrite|already)"):
        load_config(path)


def test_anchors_and_merges_of_yaml_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("chunks: &common {tokens: 100}\nclean: {}\n", encoding="utf-8")
    assert load_config(path)["chunks"] == {"tokens": 100}


def test_a_name_that_a_mapping_merges_may_be_there_again(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    text = "sources:\n- &docs {kind: files, location: a}\n- {<<: *docs, location: b}\n- {<<: *docs, location: c}\n"
    path.write_text(text, encoding="utf-8")
    assert [source["location"] for source in load_config(path)["sources"]] == ["a", "b", "c"]


_MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
_LISTS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "chunks: &a {b: *a}\n", "an alias is inside of what it names"),
        ("c.yaml", "chunks: &a\n- *a\n", "an alias is inside of what it names"),
        ("c.yaml", "chunks: &a {<<: *a}\n", "an alias is inside of what it names"),
        ("c.yaml", _MERGES, "aliases stand for more than 100,000 values"),
        ("c.yaml", _LISTS, "aliases stand for more than 100,000 values"),
        ("c.yaml", "a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("c.json", "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("c.toml", "a = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("c.toml", "a = 1" + "0" * 5000, "digits"),
        ("c.yaml", "a: 1" + "0" * 5000, "digits"),
    ],
)
def test_a_definition_that_would_never_be_read(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_config(path)


def test_a_definition_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes("language: de # f\u00fcr alle\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"c\.yaml: .*utf-8"):
        load_config(path)
    path.write_text("language: de\n", encoding="utf-8-sig")
    assert load_config(path) == {"language": "de"}


@pytest.mark.parametrize("text", [_MERGES, _LISTS, "a: &a [*a]", "a: [b, c]\na: d"])
def test_front_matter_is_read_or_is_text(text: str) -> None:
    pytest.importorskip("yaml")
    assert (front_matter(f"---\n{text}\n---\n").meta == {"a": "d"}) == text.endswith("a: d")


@pytest.mark.parametrize("text", ["a=b,a=c", '{"a": "b", "a": "c"}'])
def test_an_alias_twice(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_ALIASES", text)
    with pytest.raises(SettingsError, match=r"'a' is there twice"):
        settings.load()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("keys.toml", '[[keys]]\nname = "a"\nkey = "x"\n[[keys]]\nname = "a"\nkey = "y"\n', "one name twice: keys 1"),
        ("keys.toml", '[[keys]]\nname = "a"\nkey = "x"\n[[keys]]\nname = "b"\nkey = "x"\n', "one key twice: keys 1"),
        ("keys.txt", "x\ny\nx\n", "one key twice: keys 1 .* and 3"),
    ],
)
def test_a_key_twice(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        read_key_file(path)


def test_a_key_is_not_added_under_a_name_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    (_, first), (_, second) = create_key(), create_key()
    append_key(path, ApiKey("me", b""), first)
    with pytest.raises(SettingsError, match="has a key with the name 'me' already"):
        append_key(path, ApiKey("me", b""), second)
    append_key(path, ApiKey("you", b""), second)
    assert [key.name for key in read_key_file(path)] == ["me", "you"]


@pytest.mark.parametrize("text", ["", "# keys of the team", '[[keys]]\nname = "you"\nkey = "x"'])
def test_a_key_is_added_to_a_file_that_is_there(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text, encoding="utf-8")
    key, key_hash = create_key()
    append_key(path, ApiKey("me", b""), key_hash)
    last = read_key_file(path)[-1]
    assert (last.name, last.digest) == ("me", key_digest(key))
    assert path.read_text(encoding="utf-8").startswith(text)


def test_a_key_is_added_to_no_file_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must be named \*\.toml"):
        append_key(tmp_path / "keys.txt", ApiKey("me", b""), create_key()[1])
    with pytest.raises(SettingsError, match=r"cannot be written: No such file"):
        append_key(tmp_path / "none/keys.toml", ApiKey("me", b""), create_key()[1])


def _rows(path: Path, id_field: str | None = None) -> list[tuple[object, str]]:
    return list(TextSource((path,), None, "text", id_field).rows())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.jsonl", '{"text": "one", "id": 1, "text": "two"}\n', "field 'text' is there twice, with different values"),
        ("t.jsonl", '{"text": "one", "id": 1, "id": 2}\n', "field 'id' is there twice, with different values"),
        ("t.csv", "id,text,text\n1,one,two\n", "several columns are called 'text': rename all but one"),
        ("t.tsv", "id\tid\ttext\n1\t2\tone\n", "several columns are called 'id'"),
    ],
)
def test_a_field_twice_in_a_table(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        _rows(path, "id")


def test_fields_that_are_not_read_may_be_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "one", "x": 1, "x": 2}\n{"text": "two", "text": "two"}\n', encoding="utf-8")
    assert [text for _, text in _rows(path)] == ["one", "two"]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("corpus.jsonl", '{"_id": "d", "text": "two"}'),
        ("queries.jsonl", '{"_id": "q", "text": "another"}'),
        ("qrels.tsv", "q\td\t0"),
    ],
)
def test_a_judgment_twice(file: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "one"}\n', encoding="utf-8")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "which?"}\n', encoding="utf-8")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t2\n", encoding="utf-8")
    assert Judgments(tmp_path).grades == {"q": {"d": 2}}
    with (tmp_path / file).open("a", encoding="utf-8") as out:
        out.write(line + "\n")
    with pytest.raises(InputError, match=rf"{file}.* is (there|judged) twice"):
        Judgments(tmp_path)


def test_a_price_twice(tmp_path: Path) -> None:
    price = '[[price]]\nname = "a"\nper_million = 0.1\ndate = "2026-01-01"\nsource = "x"\nstatus = "provider"\n'
    path = tmp_path / "prices.toml"
    path.write_text(price * 2, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"two prices of the name .a."):
        read_prices(path)


def test_labels_of_one_name_stay_apart() -> None:
    labels: Callable[[dict[str, object]], tuple[str, ...]] = output_kinds._labels
    assert labels({"id2label": {"0": "yes", "1": "no"}}) == ("yes", "no")
    assert labels({"id2label": json.loads('{"0": "yes", "1": "no", "2": "yes"}')}) == ("yes (0)", "no", "yes (2)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("index", "notes", ".", "--feature", "a=minilm", "--feature", "a=bge-small"), "feature has 'a' twice"),
        (("index", "notes", ".", "--meta", "year:int", "--meta", "year"), "field has 'year' twice"),
        (("compare", "bm25", "--data", ".", "--weights", "speed=1, speed =2"), "weights has 'speed' twice"),
        (
            ("mteb", "minilm", "--tasks", "STSBenchmark", "--prompt", "query=a", "--prompt", "query=b"),
            "prompt has 'query' twice",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_name_twice_on_the_command_line(
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEARFIELD_HOME", str(tmp_path))
    ran = run(capsys, monkeypatch, *words)
    assert (ran.code, message in ran.err) == (2, True), ran


def test_a_source_twice_in_a_definition() -> None:
    source = {"kind": "folder", "location": "docs"}
    with pytest.raises(InputError, match=r"sources has 'folder:docs' twice"):
        parse_config({"sources": [source, source]})
    config = parse_config({"sources": [source, {**source, "location": "notes"}]})
    assert len(merge_config(config, {"sources": [source]}).sources) == 2  # the same source again replaces it
