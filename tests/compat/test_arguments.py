"""The tables of arguments name every argument of the original, and our signatures are those of the original."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from nearfield.compat.arguments import Effect
from tools.reference.compat import argument_modules

#: The libraries take more than two seconds to import.
pytestmark = pytest.mark.slow

#: Package of each of our packages, and its modules in which a name of ours may be.
ORIGINALS: Mapping[str, tuple[str, ...]] = {
    "sentence_transformers": (
        "sentence_transformers",
        "sentence_transformers.util",
        "sentence_transformers.util.quantization",
    ),
    "fastembed": ("fastembed", "fastembed.rerank.cross_encoder", "fastembed.late_interaction"),
    "flag_embedding": ("FlagEmbedding",),
    "instructor": ("InstructorEmbedding",),
    "model2vec": ("model2vec",),
}
TABLES = [
    (module, name, table) for module, tables in argument_modules().items() for name, table in sorted(tables.items())
]
IDS = [f"{module.removeprefix('nearfield.compat.')}: {name}" for module, name, _ in TABLES]


def _named(name: str, modules: Iterator[ModuleType]) -> Any:
    """Return a class, function or method by its dotted name, from the first module that has it."""
    first, *rest = name.split(".")
    item = next((getattr(module, first) for module in modules if hasattr(module, first)), None)
    for part in rest:
        item = inspect.getattr_static(item, part)
        item = item.__func__ if isinstance(item, (classmethod, staticmethod)) else item
    return item


def _original(module: str, name: str) -> Any:
    library = module.split(".")[2]
    known = [path for path in ORIGINALS.get(library, ()) if find_spec(path.split(".")[0])]
    if not known:
        pytest.skip(f"{library} is not installed")
    item = _named(name, map(importlib.import_module, known))
    if item is None:
        pytest.skip(f"{library} has no {name}")
    return item


def _parameters(item: Any) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(item).parameters)
    for name in ("self", "cls"):
        parameters.pop(name, None)
    return parameters


@pytest.mark.parametrize(("module", "name", "table"), TABLES, ids=IDS)
def test_a_table_is_that_of_our_signature(module: str, name: str, table: Mapping[str, Effect]) -> None:
    ours = _parameters(_named(name, iter([importlib.import_module(module), importlib.import_module(_package(module))])))
    assert set(table) == set(ours)


@pytest.mark.parametrize(("module", "name", "table"), TABLES, ids=IDS)
def test_no_argument_of_the_original_is_missing(module: str, name: str, table: Mapping[str, Effect]) -> None:
    original = _parameters(_original(module, name))
    assert not set(original) - set(table)
    ours = _parameters(_named(name, iter([importlib.import_module(module), importlib.import_module(_package(module))])))
    shared = [key for key in ours if key in original]
    assert shared == list(original), "the order of the arguments is another"
    for key in shared:
        assert ours[key].kind == original[key].kind, key
        if isinstance(original[key].default, (str, int, float, bool, type(None))):
            assert ours[key].default == original[key].default, key


def _package(module: str) -> str:
    return ".".join(module.split(".")[:3])


def test_every_refused_argument_says_what_to_do() -> None:
    silent = [
        (name, argument)
        for _, name, table in TABLES
        for argument, effect in table.items()
        if effect.kind == "refused" and not effect.note
    ]
    assert not silent
