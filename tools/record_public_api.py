"""Describe Nearfield's public interface as data, and record it: ``python -m tools.record_public_api``.

``tests/data/public_api.json`` holds what version 0.1 offered. A recording only ever grows: whatever it names must stay.
"""

from __future__ import annotations

import inspect
import json
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nearfield

RECORDED = Path(__file__).parent.parent / "tests" / "data" / "public_api.json"
#: Special methods that are part of how results and models are used.
_SPECIAL = frozenset(["__init__", "__len__", "__getitem__", "__iter__", "__array__", "__enter__", "__exit__"])
#: Names of ``nearfield`` that are neither classes nor functions.
_PLAIN = frozenset({"__version__"})


# -- internals: the only imports below the public names; adapt them when modules or classes move ---------------------


def _internal_callables() -> dict[str, Callable[..., Any]]:
    """Return further callables whose signatures are promises, by the names they are recorded under."""
    from nearfield import testing
    from nearfield.evaluation.evaluate import evaluate

    return {
        "evaluate": evaluate,
        "testing.tiny_encoder": testing.tiny_encoder,
        "testing.write_tiny_model": testing.write_tiny_model,
    }


def _forwarded() -> dict[str, Callable[..., Any]]:
    """Return, for public callables that pass ``**options`` on, the function whose keywords these are.

    A callable that declares its keywords itself (``**options: Unpack[...]``) needs no entry.
    """
    from nearfield.corpus.search.searcher import Searcher
    from nearfield.encoder import Encoder

    search = "search search_many ask ask_stream"
    return {
        **{f"Collection.{name}": Searcher.search_many for name in search.split()},
        "testing.tiny_encoder": Encoder.__init__,
    }


def _result_classes() -> dict[str, Any]:
    """Return the classes of results, by the calls that return them: their fields are read by users."""
    from nearfield.corpus.answering.answer import Answer
    from nearfield.corpus.indexing.report import IndexReport
    from nearfield.corpus.manifest.document_info import DocumentInfo
    from nearfield.corpus.search.hit import Location, SearchHit
    from nearfield.inference.calls.prediction import Prediction
    from nearfield.reranker import Ranked, Scores

    return {
        "Collection.search": SearchHit,
        "Collection.search, also": Location,
        "Collection.documents": DocumentInfo,
        "Collection.index": IndexReport,
        "Collection.ask": Answer,
        "Reranker.score": Scores,
        "Reranker.rank": Ranked,
        "Classifier.predict": Prediction,
    }


def _registries() -> dict[str, Any]:
    from nearfield.backends import REGISTRY as BACKENDS
    from nearfield.corpus.chunkers import REGISTRY as CHUNKERS
    from nearfield.corpus.extractors import REGISTRY as EXTRACTORS
    from nearfield.corpus.sources import REGISTRY as SOURCES
    from nearfield.evaluation.tasks import REGISTRY as TASKS
    from nearfield.families import REGISTRY as FAMILIES
    from nearfield.server.dialects import REGISTRY as DIALECTS
    from nearfield.stores import REGISTRY as STORES

    registries = (BACKENDS, CHUNKERS, EXTRACTORS, SOURCES, TASKS, FAMILIES, DIALECTS, STORES)
    return {registry.kind: registry for registry in registries}


def _setting_defaults() -> dict[str, Any]:
    import msgspec

    from nearfield.settings import Settings

    return msgspec.structs.asdict(Settings())


def _app(folder: Path) -> tuple[Any, list[str]]:
    """Return the ASGI application with every optional part switched on, and the names of its metrics."""
    from nearfield import settings
    from nearfield.server.app import create_app
    from nearfield.testing import tiny_encoder

    options: dict[str, Any] = {"data_dir": folder / "data", "tei_metrics": True, "cache_disk": 2**20}
    with tiny_encoder(folder / "tiny") as encoder:
        app = create_app(settings.load(**options), [encoder])
        server = app.state.server
        metrics = sorted(family.name for family in server.prometheus.metrics())
        server.close()
    return app, metrics


def _command_line() -> Any:
    import typer

    from nearfield.cli import app

    return typer.main.get_command(app)


# -- Python ----------------------------------------------------------------------------------------------------------


def signature(function: Callable[..., Any], forwarded: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Return what a caller may pass: positional parameters in order, keywords by name, with the ``repr`` of defaults.

    A default of None means that there is none to omit the argument by.
    """
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name not in ("self", "cls")]
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [[each.name, _default(each)] for each in parameters if each.kind in by_place]
    keywords = {each.name: _default(each) for each in parameters if each.kind is each.KEYWORD_ONLY}
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        taken = {name for name, _ in positional}
        more = {**_unpacked(function), **(_keywords(forwarded) if forwarded else {})}
        keywords = {**{name: default for name, default in more.items() if name not in taken}, **keywords}
    return {"positional": positional, "keywords": keywords}


def _default(parameter: inspect.Parameter) -> str | None:
    return None if parameter.default is parameter.empty else repr(parameter.default)


def _keywords(function: Callable[..., Any]) -> dict[str, str | None]:
    """Return a function's keyword-only parameters, those of its ``**options`` included."""
    keywords: dict[str, str | None] = {}
    if function.__name__ == "__init__":
        keywords = _inherited_options(function)
    own = inspect.signature(function).parameters.values()
    keywords |= {each.name: _default(each) for each in own if each.kind is each.KEYWORD_ONLY}
    return {**_unpacked(function), **keywords}


def _unpacked(function: Callable[..., Any]) -> dict[str, str | None]:
    """Return the keys of the ``TypedDict`` in ``**options: Unpack[...]``; their defaults are not known."""
    parameters = inspect.signature(function).parameters.values()
    name = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), None)
    if name is None or "Unpack" not in str(function.__annotations__.get(name)):
        return {}
    hint = typing.get_type_hints(function)[name]
    return dict.fromkeys(typing.get_type_hints(typing.get_args(hint)[0]), UNKNOWN)


#: The default of a keyword whose declaration has none.
UNKNOWN = "?"


def _inherited_options(constructor: Callable[..., Any]) -> dict[str, str | None]:
    """Return the keywords that a constructor hands to those of its base classes."""
    owner = _class_of(constructor)
    found: dict[str, str | None] = {}
    for base in reversed(owner.__mro__[1:]) if owner else ():
        if "__init__" in vars(base) and base is not object:
            found |= _keywords(vars(base)["__init__"])
    return found


def _class_of(function: Callable[..., Any]) -> Any:
    module = inspect.getmodule(function)
    name = function.__qualname__.rpartition(".")[0]
    return getattr(module, name, None) if name else None


def _members(cls: Any, name: str, forwarded: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """Return a class's public methods with their signatures, and its properties and fields."""
    methods, attributes = {}, [each.name for each in fields(cls)] if is_dataclass(cls) else []
    for member in dir(cls):
        value = inspect.getattr_static(cls, member)
        if not _is_ours(cls, member) or (member.startswith("_") and member not in _SPECIAL):
            continue
        if callable(function := getattr(value, "__func__", value)) and not isinstance(value, type):
            methods[member] = _method(cls, name, member, function, forwarded)
        elif member not in attributes and not member.startswith("_"):
            attributes.append(member)
    if issubclass(cls, np.ndarray):  # an array is built by ``__new__``, and has NumPy's attributes
        methods["__init__"] = signature(cls.__new__)
        attributes += ["dtype", "shape"]
    return {"methods": methods, "attributes": sorted(attributes)}


def _method(cls: Any, name: str, member: str, function: Any, forwarded: Mapping[str, Callable[..., Any]]) -> Any:
    described = signature(function, forwarded.get(f"{name}.{member}"))
    if member == "__init__":
        owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
        variadic = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(function).parameters.values())
        inherited = _inherited_options(vars(owner)["__init__"]) if variadic else {}
        taken = {parameter for parameter, _ in described["positional"]}
        more = {key: default for key, default in inherited.items() if key not in taken}
        described["keywords"] = {**more, **described["keywords"]}
    if member in ("encode_query", "encode_document"):
        described["keywords"].pop("role", None)
    return described


def _is_ours(cls: Any, member: str) -> bool:
    """Return whether a member is defined in Nearfield, not by a base class of Python."""
    return any(member in vars(base) and base.__module__.startswith("nearfield") for base in cls.__mro__)


def python() -> dict[str, Any]:
    """Return the public names of ``nearfield``, with signatures and members."""
    forwarded, described = _forwarded(), {}
    for name in sorted(set(nearfield.__all__) - _PLAIN - {"evaluate"}):
        value = getattr(nearfield, name)
        described[name] = (
            _members(value, name, forwarded) if isinstance(value, type) else signature(value, forwarded.get(name))
        )
    for name, function in _internal_callables().items():
        described[name] = signature(function, forwarded.get(name))
    return described


def results() -> dict[str, list[str]]:
    """Return the fields of the classes of results."""
    return {call: _field_names(cls) for call, cls in _result_classes().items()}


def _field_names(cls: Any) -> list[str]:
    return [each.name for each in fields(cls)] if is_dataclass(cls) else list(inspect.signature(cls).parameters)


def errors() -> dict[str, Any]:
    """Return the error classes, with their bases and what an HTTP reply says of them."""
    from nearfield import errors as module

    kinds = {name: cls for name, cls in vars(module).items() if isinstance(cls, type) and issubclass(cls, Exception)}
    return {
        name: {
            "bases": [base.__name__ for base in cls.__mro__[1:] if base is not object],
            "status": getattr(cls, "status", None),
            "code": getattr(cls, "code", None),
            "signature": signature(cls.__init__) if "__init__" in vars(cls) else None,
        }
        for name, cls in kinds.items()
    }


# -- command line, settings, registries ------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Return all commands by their words, with arguments in order and options by each of their names."""
    return dict(_commands(_command_line(), ""))


def _commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    # A group takes what its default command takes.
    parameters = below.get(getattr(command, "default_command", ""), command).params
    arguments = [each for each in parameters if each.param_type_name == "argument"]
    options = [each for each in parameters if each.param_type_name == "option" and not _of_shell(each)]
    yield (
        words,
        {
            "arguments": [[each.name, each.required, each.nargs] for each in arguments],
            "options": {name: _option(each) for each in options for name in (*each.opts, *each.secondary_opts)},
        },
    )
    for name, inner in below.items():
        yield from _commands(inner, f"{words} {name}".strip())


def _of_shell(option: Any) -> bool:
    """Return whether an option is Typer's own, for the completion of commands."""
    return bool({"--install-completion", "--show-completion"} & {*option.opts})


def _option(option: Any) -> dict[str, Any]:
    flag = bool(option.is_flag)
    return {"default": repr(option.default), "required": option.required, "flag": flag, "multiple": option.multiple}


def defaults() -> dict[str, Any]:
    """Return all settings with their defaults, as JSON has them."""
    return {name: json.loads(json.dumps(value, default=str)) for name, value in _setting_defaults().items()}


def registries() -> dict[str, Any]:
    """Return the names in each registry, and its entry-point group."""
    return {kind: {"group": each.group, "names": each.names()} for kind, each in _registries().items()}


# -- HTTP ------------------------------------------------------------------------------------------------------------


def http() -> dict[str, Any]:
    """Return the routes of the server, the fields of their bodies, and the names of its metrics."""
    with tempfile.TemporaryDirectory() as place:
        app, metrics = _app(Path(place))
    routes = sorted(
        f"{method} {route.path}"
        for route in app.routes
        for method in getattr(route, "methods", None) or ()  # static files have none
        if method != "HEAD"
    )
    return {"routes": routes, "bodies": _bodies(_document(app)), "metrics": metrics}


def _document(app: Any) -> dict[str, Any]:
    """Return the OpenAPI document as a client gets it."""
    from starlette.testclient import TestClient

    document: dict[str, Any] = TestClient(app).get("/openapi.json").json()
    return document


def _bodies(document: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Return the names of all fields in each call's request and in its successful response."""
    schemas, bodies = document["components"]["schemas"], {}
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            parts = {"request": call.get("requestBody", {}), "response": call["responses"].get("200", {})}
            named = {
                part: sorted(set(_fields(body.get("content", {}), schemas, "", ()))) for part, body in parts.items()
            }
            bodies[f"{method.upper()} {path}"] = {part: names for part, names in named.items() if names}
    return bodies


def _fields(node: Any, schemas: Mapping[str, Any], path: str, seen: tuple[str, ...]) -> Iterator[str]:
    """Yield the path of each property below a node, such as ``data.embedding``."""
    if isinstance(node, list):
        for item in node:
            yield from _fields(item, schemas, path, seen)
        return
    if not isinstance(node, dict):
        return
    name = str(node.get("$ref", "")).rpartition("/")[2]
    if name and name not in seen:
        yield from _fields(schemas[name], schemas, path, (*seen, name))
    for key, value in node.items():
        if key == "properties":
            for field, below in value.items():
                yield f"{path}{field}"
                yield from _fields(below, schemas, f"{path}{field}.", seen)
        elif key not in ("example", "examples", "default", "enum", "const"):
            yield from _fields(value, schemas, path, seen)


def describe() -> dict[str, Any]:
    """Return all of it."""
    return {
        "all": sorted(nearfield.__all__),
        "python": python(),
        "results": results(),
        "errors": errors(),
        "commands": commands(),
        "settings": defaults(),
        "registries": registries(),
        "http": http(),
    }


if __name__ == "__main__":
    RECORDED.parent.mkdir(parents=True, exist_ok=True)
    RECORDED.write_text(json.dumps(describe(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(RECORDED)
