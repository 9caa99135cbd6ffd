"""Messages about data that does not fit a type: no word of the validation library, and the names that exist."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nearfield.corpus.config import CollectionConfig, parse_config
from nearfield.errors import InputError
from nearfield.server.dialects.collections.schemas import AskRequest, CollectionRequest, DeleteRequest, SearchRequest
from nearfield.server.dialects.native.schemas import NativeEncodeRequest
from nearfield.server.http.request_body import convert
from nearfield.validation_message import describe_validation

DEFINITIONS: list[tuple[dict[str, Any], str]] = [
    ({"ocr": "yes"}, "'ocr' cannot be 'yes'. Known: damaged, false, true."),
    ({"ocr": 3}, "'ocr' must be true, false or damaged, not a whole number."),
    ({"features": {"Dense": {}}}, "each name in 'features' must be a lower-case letter, then up to 31 lower-case"),
    ({"features": {"dense": {"modle": 1}}}, "there is no 'modle' in 'features.*'. Did you mean 'model'? Known: bri"),
    ({"features": {"a": {"kind": "spars"}}}, "'features.*.kind' cannot be 'spars'. Did you mean 'sparse'? Known: "),
    ({"features": {"a": {"dimensions": "3"}}}, "'features.*.dimensions' must be a whole number, not text."),
    ({"features": "dense"}, "'features' must be an object of names and values, not text."),
    ({"chunks": {"tokens": 2}}, "'chunks.tokens' must be at least 8."),
    ({"chunks": {"tokens": 9.5}}, "'chunks.tokens' must be a whole number, not a fraction."),
    ({"fields": {"y ear": "int"}}, "each name in 'fields' must be a letter or _, then up to 47 letters"),
    ({"fields": {"year": "date"}}, "'fields.*' cannot be 'date'. Known: bool, float, int, str."),
    ({"sources": [{"kind": "files"}]}, "'location' is missing in 'sources[0]'."),
    ({"colour": 1}, "there is no 'colour'. Known: accept_license, chunks,"),
    ({"clean": {"boilerplate": "no"}}, "'clean.boilerplate' must be true or false, not text."),
]
_NO_TOKEN_ID = (
    "must be a whole number, not text. A list within 'input' is the token ids of one text. Several parts of one input "
    'are an object, such as {"text": '
)
REQUESTS: list[tuple[type[Any], dict[str, Any], str, str]] = [
    (SearchRequest, {"query": ""}, "query", "'query' must not be empty."),
    (SearchRequest, {"query": "x", "k": 0}, "k", "'k' must be at least 1."),
    (SearchRequest, {"query": "x", "min_score": 5}, "min_score", "'min_score' must be at most 1."),
    (AskRequest, {"question": "x", "min_score": -1}, "min_score", "'min_score' must be at least 0."),
    (SearchRequest, {"query": "x", "mode": "a" * 99}, "mode", "'mode' must have at most 64 characters."),
    (SearchRequest, {"query": "x", "weights": {"a": "b"}}, "weights", "'weights.*' must be a number, not text."),
    (SearchRequest, {"query": "x", "highlight": 3}, "highlight", "'highlight' must be true or false or text, not a w"),
    (CollectionRequest, {"name": "A B"}, "name", "'name' must be a lower-case letter or a digit, then up to 62"),
    (CollectionRequest, {"name": "a", "feilds": {}}, "feilds", "there is no 'feilds'. Did you mean 'fields'?"),
    (DeleteRequest, {"documents": [3]}, "documents", "'documents[0]' must be text, not a whole number."),
    (DeleteRequest, {"documents": None}, "documents", "'documents' must be a list, not null."),
    (NativeEncodeRequest, {"input": [[7], ["a", {"text": "b"}]]}, "input", f"'input[1][0]' {_NO_TOKEN_ID}"),
]


@pytest.mark.parametrize(("definition", "message"), DEFINITIONS, ids=[message[:24] for _, message in DEFINITIONS])
def test_a_wrong_definition_is_named_in_plain_words(definition: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as wrong:
        parse_config(definition)
    assert f"The collection's definition: {message}" in str(wrong.value)
    assert "`" not in str(wrong.value) and "$" not in str(wrong.value)


@pytest.mark.parametrize(("kind", "body", "param", "message"), REQUESTS, ids=[message[:24] for *_, message in REQUESTS])
def test_a_wrong_request_is_named_in_plain_words(
    kind: type[Any], body: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InputError) as wrong:
        convert(body, kind)
    assert f"Invalid request: {message}" in str(wrong.value)
    assert "`" not in str(wrong.value) and "$" not in str(wrong.value)
    if "feilds" not in body:  # the library names no place for it
        assert wrong.value.param == param


def test_without_the_type_the_place_is_still_named() -> None:
    with pytest.raises(msgspec.ValidationError) as wrong:
        msgspec.convert({"features": {"a": {"kind": "x"}}}, CollectionConfig)
    assert describe_validation(wrong.value).startswith("'features.*.kind' cannot be 'x'.")


def test_an_unknown_form_of_message_stays() -> None:
    assert describe_validation(msgspec.ValidationError("Strange - at `$.a`"), CollectionConfig) == "Strange - at `$.a`."
