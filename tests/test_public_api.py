"""What version 0.1 offered is still there: Python names, commands, settings, HTTP paths, metrics, registries, errors.

``tests/data/public_api.json`` was recorded with ``python -m tools.record_public_api``. More may be offered than is
recorded; nothing that is recorded may change.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import nearfield
from nearfield import Encoder
from tools import record_public_api

RECORDED: dict[str, Any] = json.loads(record_public_api.RECORDED.read_text(encoding="utf-8"))
#: Methods of ``Encoder`` that take the keywords of ``encode``, with what they encode.
ENCODING = {
    "encode": ["cat"],
    "encode_query": ["cat"],
    "encode_document": ["cat"],
    "encode_late": [["a cat", " sat"]],
    "stream": ["cat"],
    "submit": ["cat"],
    "tokenize": ["cat"],
    "aencode": ["cat"],
    "aencode_late": [["a cat", " sat"]],
}


def _signatures(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return signatures by dotted names, those of methods included."""
    found: dict[str, Any] = {}
    for name, value in described.items():
        methods = value.get("methods")
        found |= {name: value} if methods is None else {f"{name}.{each}": methods[each] for each in methods}
    return found


SIGNATURES = _signatures(RECORDED["python"])
#: New names of positional arguments; keywords of the old names are accepted with a DeprecationWarning.
RENAMED = {("Collection.configure", "told"): "config", ("Collection.plan", "told"): "config"}


@pytest.fixture(scope="module")
def python() -> dict[str, Any]:
    return record_public_api.python()


@pytest.fixture(scope="module")
def commands() -> dict[str, Any]:
    return record_public_api.commands()


@pytest.fixture(scope="module")
def http() -> dict[str, Any]:
    return record_public_api.http()


# -- Python ----------------------------------------------------------------------------------------------------------


def test_the_package_exports_the_recorded_names_and_no_others() -> None:
    assert sorted(nearfield.__all__) == RECORDED["all"]
    assert all(getattr(nearfield, name) is not None for name in RECORDED["all"])


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_call_that_was_valid_is_valid_still(name: str, python: dict[str, Any]) -> None:
    recorded, current = SIGNATURES[name], _signatures(python)[name]
    positional = [[RENAMED.get((name, argument), argument), default] for argument, default in recorded["positional"]]
    count = len(positional)
    assert current["positional"][:count] == positional
    assert all(default is not None for _, default in current["positional"][count:])
    for keyword, default in recorded["keywords"].items():
        assert keyword in current["keywords"], f"{name} no longer takes {keyword}"
        assert current["keywords"][keyword] in (default, record_public_api.UNKNOWN), f"{name}: default of {keyword}"
    added = current["keywords"].keys() - recorded["keywords"].keys()
    assert all(current["keywords"][keyword] is not None for keyword in added)


@pytest.mark.parametrize("name", [name for name, value in RECORDED["python"].items() if "attributes" in value])
def test_a_class_has_its_recorded_attributes(name: str, python: dict[str, Any]) -> None:
    assert set(RECORDED["python"][name]["attributes"]) <= set(python[name]["attributes"])


@pytest.mark.parametrize("call", RECORDED["results"])
def test_results_have_their_recorded_fields(call: str) -> None:
    recorded = RECORDED["results"][call]
    assert [name for name in record_public_api.results()[call] if name in recorded] == recorded


@pytest.mark.parametrize("method", ENCODING)
async def test_each_keyword_of_encoding_is_accepted_with_its_default(method: str, tiny: Encoder) -> None:
    plain = await _values(tiny, method)
    for keyword, default in SIGNATURES[f"Encoder.{method}"]["keywords"].items():
        value = ast.literal_eval(str(default))
        assert np.array_equal(await _values(tiny, method, **{keyword: value}), plain), keyword


@pytest.mark.parametrize("method", ENCODING)
async def test_an_unknown_keyword_of_encoding_is_refused(method: str, tiny: Encoder) -> None:
    with pytest.raises(TypeError):
        await _values(tiny, method, colour="red")


async def _values(encoder: Encoder, method: str, **options: Any) -> Any:
    """Call a method, and return what it gives as one array."""
    result = getattr(encoder, method)(ENCODING[method], **options)
    if hasattr(result, "__await__"):
        result = await result
    if method == "submit":
        result = result.result()
    if method == "tokenize":
        result = [tokens.ids for tokens in result]
    return np.concatenate([np.atleast_2d(np.asarray(part)) for part in result])


def test_the_prompt_of_a_call_takes_the_keywords_of_encode(tiny: Encoder) -> None:
    for keyword, default in SIGNATURES["Encoder.prompt_of"]["keywords"].items():
        assert tiny.prompt_of(**{keyword: ast.literal_eval(str(default))}) == ""
    assert tiny.prompt_of(role="query") == "search: "


@pytest.mark.parametrize("name", RECORDED["errors"])
def test_an_error_keeps_its_bases_status_and_code(name: str) -> None:
    recorded, current = RECORDED["errors"][name], record_public_api.errors()[name]
    assert set(recorded["bases"]) <= set(current["bases"])
    assert [current[key] for key in ("status", "code", "signature")] == [
        recorded[key] for key in ("status", "code", "signature")
    ]


# -- command line, settings, registries ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("words", RECORDED["commands"])
def test_a_command_takes_its_recorded_arguments_and_options(words: str, commands: dict[str, Any]) -> None:
    recorded, current = RECORDED["commands"][words], commands[words]
    assert current["arguments"] == recorded["arguments"]
    assert {name: current["options"].get(name) for name in recorded["options"]} == recorded["options"]
    added = current["options"].keys() - recorded["options"].keys()
    assert not any(current["options"][name]["required"] for name in added)


def test_settings_keep_their_names_and_defaults() -> None:
    current = record_public_api.defaults()
    assert {name: current.get(name, "missing") for name in RECORDED["settings"]} == RECORDED["settings"]


@pytest.mark.parametrize("kind", RECORDED["registries"])
def test_a_registry_keeps_its_names_and_its_entry_point_group(kind: str) -> None:
    recorded, current = RECORDED["registries"][kind], record_public_api.registries()[kind]
    assert current["group"] == recorded["group"]
    assert set(recorded["names"]) <= set(current["names"])


# -- HTTP ------------------------------------------------------------------------------------------------------------


def test_the_server_answers_on_every_recorded_route(http: dict[str, Any]) -> None:
    assert set(RECORDED["http"]["routes"]) - set(http["routes"]) == set()


@pytest.mark.parametrize("call", RECORDED["http"]["bodies"])
def test_the_bodies_of_a_call_keep_their_fields(call: str, http: dict[str, Any]) -> None:
    recorded, current = RECORDED["http"]["bodies"][call], http["bodies"][call]
    lost = {part: set(names) - set(current.get(part, ())) for part, names in recorded.items()}
    assert lost == {part: set() for part in recorded}


def test_metrics_keep_their_names(http: dict[str, Any]) -> None:
    assert set(RECORDED["http"]["metrics"]) - set(http["metrics"]) == set()
