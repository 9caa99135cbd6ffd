"""Filters that match nothing: which values exist instead, and silence where the filter is not the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.search.filter_values import describe_values
from nearfield.corpus.sources.spec import parse_source
from nearfield.testing import write_tiny_model


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    place = tmp_path_factory.mktemp("values")
    model, files = write_tiny_model(place / "tiny"), place / "files"
    (files / "sub").mkdir(parents=True)
    (files / "sub" / "plan.md").write_text("# Plan\n\nThe cat sat on the mat.")
    (files / "notes.txt").write_text("Hello world. The dog said hello.")
    config: dict[str, Any] = {
        "features": {"dense": {"model": str(model)}},
        "store": f"memory:{place}",
        "fields": {"year": "int", "lang": "str", "rating": "float", "open": "bool"},
    }
    with Collection.create("docs", config, home=place / "home") as created:
        created.index([parse_source(str(files))])
        texts = ("The blue mat.", "A red dog.")
        created.put([{"id": str(n), "text": text, "year": 2020 + n, "lang": "en"} for n, text in enumerate(texts)])
        yield created


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"type": "md"}, "Did you mean 'markdown'? Values: markdown, row, text."),
        ({"type": ".TXT"}, "Did you mean 'text'?"),
        ({"type": {"in": ["pdfs"]}}, "No document has this 'type'. Values: "),
        ({"path": "/home/me/files/sub/plan.md"}, "'path' (relative to its source). Did you mean 'sub/plan.md'?"),
        ({"path": "sub/plam.md"}, "Did you mean 'sub/plan.md'?"),
        ({"lang": "EN"}, "Did you mean 'en'? Values: en."),
        ({"year": {"gt": 2021}}, "'year' is from 2020 to 2021."),
        ({"year": 1999}, "'year' is from 2020 to 2021."),
        ({"year": {"lt": 2020}}, "'year' is from 2020 to 2021."),
        ({"rating": {"gte": 3}}, "No document has the field 'rating'."),
        ({"or": [{"type": "pdf"}, {"lang": "de"}]}, "No document has this 'lang'."),
    ],
)
def test_a_filter_that_matches_nothing_is_explained(
    collection: Collection, where: dict[str, Any], message: str
) -> None:
    assert collection.search("cat", where=where) == []
    assert message in describe_values(collection.manifest, where, collection.config.all_fields)


@pytest.mark.parametrize(
    "where",
    [
        None,
        {},
        {"type": "text"},
        {"path": {"in": ["nothing", "notes.txt"]}},
        {"path": {"gt": "zzz"}},
        {"year": {"gte": 2021}},
        {"year": {"lte": 2020}},
        {"year": {"in": [1999, 2020]}},
        {"year": {"exists": True}},
        {"not": {"type": "md"}},
        {"page": 7},
        {"open": True},
        {"document": "put:#9"},
    ],
)
def test_nothing_is_said_where_values_exist_or_are_not_known(collection: Collection, where: Any) -> None:
    assert describe_values(collection.manifest, where, collection.config.all_fields) == ""


def test_many_values_are_not_all_named(collection: Collection, tmp_path: Path) -> None:
    config = {"features": {"dense": collection.config.first}, "store": f"memory:{tmp_path}", "fields": {"tag": "str"}}
    with Collection.create("many", config, home=tmp_path) as many:
        many.put([{"id": str(n), "text": f"The cat number {n}.", "tag": f"t{n:02}"} for n in range(12)])
        text = describe_values(many.manifest, {"tag": "zzz"}, many.config.all_fields)
    assert text == "No document has this 'tag'. Values: t00, t01, t02, t03, t04, t05, t06, t07, t08, t09, ..."
