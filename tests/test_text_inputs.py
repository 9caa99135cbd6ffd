"""What callers pass where texts belong: tables, mappings, sets, files, missing values, and texts of unusual types."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import io
from collections import UserDict, UserList, deque, namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from nearfield import text_inputs
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Classifier, Reranker

ROWS: dict[str, Any] = {"id": [1, 2], "text": ["the cat", "a dog"], "title": ["one", "two"]}


@dataclasses.dataclass
class Passage:
    text: str
    source: str = ""


@dataclasses.dataclass
class Page:
    number: int
    page_content: str


class Struct:
    """As a class of pydantic shows its fields."""

    model_fields: dict[str, object] = {"content": None, "score": None}  # noqa: RUF012

    def __init__(self) -> None:
        self.content, self.score = "the cat", 1.0

    def __iter__(self) -> Iterator[tuple[str, object]]:
        return iter(vars(self).items())


class Word(str):
    """A text of another class."""


class Colour(str, enum.Enum):
    RED = "red"


Row = namedtuple("Row", "id text")


def _pandas() -> Any:
    return pytest.importorskip("pandas").DataFrame(ROWS)


def _polars() -> Any:
    return pytest.importorskip("polars").DataFrame(ROWS)


def _lazy() -> Any:
    return _polars().lazy()


def _arrow() -> Any:
    return pytest.importorskip("pyarrow").table(ROWS)


def _batch() -> Any:
    return pytest.importorskip("pyarrow").record_batch(ROWS)


def _dataset() -> Any:
    return pytest.importorskip("datasets").Dataset.from_dict(ROWS)


def _splits() -> Any:
    return pytest.importorskip("datasets").DatasetDict({"train": _dataset()})


def _headers() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame([["a", 1]], columns=pandas.MultiIndex.from_tuples([("x", "y"), ("x", "z")]))


def _structured() -> Any:
    return np.array([(1, "the cat")], [("id", "i4"), ("text", "U9")])


#: Things that are no texts, and what their error has to say.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "pandas": (_pandas, r"of type DataFrame with the columns id, text, title.*give data\['text'\] or data\['title'\]"),
    "two rows of headers": (_headers, r"of type DataFrame with the columns.*give data\[\('x', 'y'\)\]\.$"),
    "groups": (lambda: _pandas().groupby("id"), r"of type DataFrameGroupBy, the groups of a table.*give a column"),
    "groups of a column": (lambda: _pandas().groupby("id")["text"], r"of type SeriesGroupBy, the groups of a table"),
    "groups of polars": (lambda: _polars().group_by("id"), r"of type GroupBy, the groups of a table"),
    "masked texts": (
        lambda: np.ma.masked_array(["a", "b"], [False, True]),
        r"an array with masked items.*filled\(''\)",
    ),
    "masked objects": (lambda: np.ma.masked_array(["a", "b"], [False, True], object), r"an array with masked items"),
    "masked floats": (lambda: np.ma.masked_array([1.0, 2.0], [False, True]), r"an array with masked items"),
    "masked number": (lambda: np.ma.masked, r"an array with masked items"),
    "polars": (_polars, r"of type DataFrame with the columns id, text, title.*give data\['text'\] or data\['title'\]"),
    "lazy frame": (_lazy, r"of type LazyFrame with the columns id, text, title.*give"),
    "arrow table": (_arrow, r"of type Table with the columns id, text, title.*give data\['text'\] or data\['title'\]"),
    "record batch": (_batch, r"of type RecordBatch with the columns id, text, title.*data\['text'\]"),
    "data set": (_dataset, r"of type Dataset with the columns id, text, title.*data\['text'\] or data\['title'\]"),
    "splits": (_splits, r"of type DatasetDict with the keys train.*data\['train'\]\['text'\]"),
    "structured array": (_structured, r"of type ndarray with the columns id, text.*data\['text'\]"),
    "dict": (lambda: ROWS, r"of type dict with the keys id, text, title.*data\['text'\] or data\['title'\]"),
    "dict of numbers": (lambda: {"input_ids": [1]}, r"of type dict with the keys input_ids.*such as data\['text'\]"),
    "UserDict": (lambda: UserDict(ROWS), r"of type UserDict with the keys id, text"),
    "proxy": (lambda: MappingProxyType(ROWS), r"of type mappingproxy with the keys id, text"),
    "empty dict": (dict, r"of type dict with the keys \(none\)"),
    "named tuple": (lambda: Row(1, "the cat"), r"of type Row with the fields id, text.*item\.text"),
    "dataclass": (lambda: Passage("the cat"), r"of type Passage with the fields text, source.*item\.text"),
    "model": (Struct, r"of type Struct with the fields content, score.*item\.content"),
    "set": (lambda: {"a", "b"}, r"of type set, which has no order.*give a list"),
    "frozenset": (lambda: frozenset("ab"), r"of type frozenset, which has no order"),
    "bytes": (lambda: b"the cat", r"of type bytes, not text: decode it"),
    "bytearray": (lambda: bytearray(b"x"), r"of type bytearray, not text: decode it"),
    "path": (lambda: Path("notes.txt"), r"of type PosixPath, not text: read the file"),
    "file": (lambda: io.StringIO("the cat\na dog\n"), r"of type StringIO, an open file: give file\.read\(\)"),
    "None": (lambda: None, r"must be a text or a list of texts, and is None"),
    "number": (lambda: 5, r"must be a text or a list of texts, and is the number 5"),
    "nan": (lambda: float("nan"), r"and is the number nan"),
    "truth": (lambda: True, r"and is the truth value True"),
    "object": (object, r"and is of type object \("),
    "array of floats": (lambda: np.ones(3), r"is an array of float64"),
    "array of bytes": (lambda: np.array([b"a"]), r"an array of \|S1, and must be texts"),
    "two columns": (lambda: np.array([["a", "b"]]), r"of shape \(1, 2\).*texts\[:, 0\]"),
    "array of one number": (lambda: np.array(5), r"and is the number 5"),
}
#: Items that are no texts, and what their error has to say.
BAD_ITEMS: dict[str, tuple[Any, str]] = {
    "None": (None, r"is None, not text.* Leave it out"),
    "nan": (float("nan"), r"is the number nan, not text.* Leave it out"),
    "number": (5, r"is the number 5, not text"),
    "float": (np.float32(1.5), r"is the number 1\.5, not text"),
    "truth": (True, r"is the truth value True, not text"),
    "bytes": (b"ab", r"is of type bytes \(b'ab'\), not text.* Decode it"),
    "dict": ({"id": 1, "text": "x"}, r"is of type dict with the keys id, text.*\[item\['text'\] for item in items\]"),
    "path": (Path("x"), r"is of type PosixPath.*path\.read_text\(\)"),
    "dataclass": (
        Page(1, "x"),
        r"is of type Page with the fields number, page_content.*item\.page_content for item in items",
    ),
    "named tuple": (Row(1, "x"), r"is of type Row with the fields id, text"),
    "texts": (["a", "b"], r"is of type list \(\['a', 'b'\]\).*Give one flat list of texts"),
    "object": (object(), r"is of type object \("),
    "set": ({"a"}, r"is of type set \("),
    "lines": (b"a\nb", r"is of type bytes \(b'a\\nb'\)"),
}
#: Several texts, in all the types that hold them.
TAKEN: dict[str, Callable[[], Any]] = {
    "list": lambda: ["the cat", "a dog"],
    "tuple": lambda: ("the cat", "a dog"),
    "deque": lambda: deque(["the cat", "a dog"]),
    "UserList": lambda: UserList(["the cat", "a dog"]),
    "generator": lambda: (text for text in ROWS["text"]),
    "map": lambda: map(str, ROWS["text"]),
    "values": lambda: {1: "the cat", 2: "a dog"}.values(),
    "keys": lambda: {"the cat": 1, "a dog": 2}.keys(),
    "array": lambda: np.array(["the cat", "a dog"]),
    "array of objects": lambda: np.array(["the cat", "a dog"], object),
    "masked array without masks": lambda: np.ma.masked_array(["the cat", "a dog"]),
    "pandas": lambda: _pandas()["text"],
    "polars": lambda: _polars()["text"],
    "arrow": lambda: _arrow()["text"],
    "arrow array": lambda: _batch()["text"],
    "data set": lambda: _dataset()["text"],
    "classes of texts": lambda: [Word("the cat"), np.str_("a dog")],
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_list_of_texts_is_refused(case: str, tiny: Encoder) -> None:
    create, message = REFUSED[case]
    with pytest.raises(InputError, match=f"^(The )?input .*{message}") as caught:
        tiny.encode(create())
    assert caught.value.param == "input"


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_a_bad_item_is_named_by_its_number_and_value(case: str, tiny: Encoder) -> None:
    item, message = BAD_ITEMS[case]
    for items in (["a", "b", item], iter(["a", "b", item])):
        with pytest.raises(InputError, match=f"^Input 2 {message}"):
            tiny.encode(items)


@pytest.mark.parametrize("case", TAKEN)
def test_texts_in_any_list_are_encoded(case: str, tiny: Encoder) -> None:
    expected = np.asarray(tiny.encode(["the cat", "a dog"]))
    np.testing.assert_allclose(np.asarray(tiny.encode(TAKEN[case]())), expected, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([*tiny.stream(TAKEN[case]())]), expected, atol=1e-6)


@pytest.mark.parametrize(
    "text", ["red", Word("red"), np.str_("red"), np.array("red"), np.array("red", object), Colour.RED]
)
def test_one_text_gives_one_vector(text: Any, tiny: Encoder) -> None:
    expected = np.asarray(tiny.encode("red"))
    assert expected.shape == (32,)
    np.testing.assert_allclose(np.asarray(tiny.encode(text)), expected, atol=1e-6)


def test_token_ids_are_taken_in_any_list(tiny: Encoder) -> None:
    ids = [2, 5, 6, 3]
    expected = np.asarray(tiny.encode(ids))
    assert expected.shape == (32,)
    for single in (tuple(ids), np.array(ids), np.array(ids, np.int32)):
        np.testing.assert_allclose(np.asarray(tiny.encode(single)), expected, atol=1e-6)
    rows: Any
    for rows in ([ids, ids], np.array([ids, ids]), [np.array(ids), tuple(ids)]):
        np.testing.assert_allclose(np.asarray(tiny.encode(rows)), [expected, expected], atol=1e-6)


def test_a_bad_token_id_is_named_with_its_input(tiny: Encoder) -> None:
    with pytest.raises(InputError, match=r"^Input 1: token id 99999 is out of range"):
        tiny.encode([[5], [99999]])
    with pytest.raises(InputError, match=r"^Input 1: token ids must be whole numbers, and 'a' is none"):
        tiny.encode([[5], [6, "a"]])


def test_the_number_of_a_bad_item_deep_in_a_stream_is_absolute(tiny: Encoder) -> None:
    texts = ["a"] * 700
    texts[650] = None  # type: ignore[call-overload]
    for items in (texts, iter(texts)):
        with pytest.raises(InputError, match=r"^Input 650 is None"):
            list(tiny.stream(items, window=100))
    texts[650] = "\ud800"
    with pytest.raises(InputError, match=r"^input 650 is not Unicode"):
        list(tiny.stream(texts, window=100))
    texts[650] = "the cat " * 100
    with pytest.raises(InputError, match=r"^[Ii]nput 650 "):
        list(tiny.stream(texts, window=100, truncate="error"))


#: Every place that takes texts, by the name in its errors.
PLACES: dict[str, Callable[[dict[str, LoadedModel], Any], object]] = {
    "encode": lambda models, value: _encoder(models).encode(value),
    "encode_query": lambda models, value: _encoder(models).encode_query(value),
    "encode_document": lambda models, value: _encoder(models).encode_document(value),
    "aencode": lambda models, value: asyncio.run(_encoder(models).aencode(value)),
    "stream": lambda models, value: list(_encoder(models).stream(value)),
    "submit": lambda models, value: _encoder(models).submit(value).result(),
    "tokenize": lambda models, value: _encoder(models).tokenize(value),
    "similarity": lambda models, value: _encoder(models).similarity(value, ["a"]),
    "encode_late": lambda models, value: _encoder(models).encode_late(value),
    "chunks": lambda models, value: _encoder(models).encode_late([["a"], value]),
    "aencode_late": lambda models, value: asyncio.run(_encoder(models).aencode_late(value)),
    "score": lambda models, value: _reranker(models).score("a", value),
    "queries": lambda models, value: _reranker(models).score(value, ["a"]),
    "rank": lambda models, value: _reranker(models).rank("a", value),
    "arank": lambda models, value: asyncio.run(_reranker(models).arank("a", value)),
    "ascore": lambda models, value: asyncio.run(_reranker(models).ascore(value)),
    "predict": lambda models, value: _classifier(models).predict(value),
    "apredict": lambda models, value: asyncio.run(_classifier(models).apredict(value)),
}


def _encoder(models: dict[str, LoadedModel]) -> Encoder:
    model = models["tiny"]
    assert isinstance(model, Encoder)
    return model


def _reranker(models: dict[str, LoadedModel]) -> Reranker:
    model = models["reranker"]
    assert isinstance(model, Reranker)
    return model


def _classifier(models: dict[str, LoadedModel]) -> Classifier:
    model = models["classifier"]
    assert isinstance(model, Classifier)
    return model


@pytest.mark.parametrize("place", PLACES)
def test_every_place_that_takes_texts_refuses_the_same(place: str, fleet: dict[str, LoadedModel]) -> None:
    for case in (
        "pandas",
        "polars",
        "arrow table",
        "dict",
        "UserDict",
        "set",
        "bytes",
        "path",
        "file",
        "None",
        "number",
    ):
        create, message = REFUSED[case]
        with pytest.raises(InputError, match=message.split(".*")[0].replace("must be a text or a list of texts, ", "")):
            PLACES[place](fleet, create())
    for item in (None, object(), b"x", {"text": "x"}):
        with pytest.raises(InputError, match=r"(?i)(input|text|document|chunk|query|pair) 0"):
            PLACES[place](fleet, [item])


def test_pairs_are_checked_one_by_one(fleet: dict[str, LoadedModel]) -> None:
    with pytest.raises(InputError, match="Pair 1: the second text must be a string, and is None"):
        _classifier(fleet).predict([("a", "b"), ("a", None)])  # type: ignore[arg-type]


def test_names_in_a_message_are_few_and_on_one_line() -> None:
    table = {f"column {number}\n": number for number in range(1000)}
    description = text_inputs.describe(table)
    assert len(description) < 250
    assert description.endswith("…")
    assert "\n" not in description
    assert len(text_inputs.describe("x" * 10_000)) < 100
