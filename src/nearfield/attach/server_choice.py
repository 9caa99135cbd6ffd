"""The choice of the server that computes a model, and the line on stderr that says which it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from nearfield.attach import AUTO
from nearfield.attach.server_files import ServerRecord, live_servers
from nearfield.errors import ModelNotFound, NearfieldError, UnknownKeyword
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.uncompiled_model import ReadModelKeywords, UncompiledModel, model_name, read_model
from nearfield.message_text import escape_controls

ModelT = TypeVar("ModelT", bound=LoadedModel)
ModelT_co = TypeVar("ModelT_co", bound=LoadedModel, covariant=True)
#: Lines that this process has written: many objects may open the same model.
_written: set[str] = set()


class AttachFunction(Protocol[ModelT_co]):
    """Connects a model with a server; raises NearfieldError if the two do not fit."""

    def __call__(
        self, url: str, model: str | UncompiledModel, options: Mapping[str, Any], *, discovered: bool = False
    ) -> ModelT_co: ...


def open_attached(
    url: str,
    attach: AttachFunction[ModelT],
    model_class: Callable[..., ModelT],
    model: str | UncompiledModel,
    options: Mapping[str, Any],
) -> ModelT:
    """Return a model that is attached to a server; with ``auto``, one that is loaded here if no server can be used.

    Args:
        url: the server's, or ``auto``.
        attach: connects a model with a server.
        model_class: loads it in this process.
        model: its name or folder, or its files.
        options: keywords of ``model_class``.

    Raises:
        NearfieldError: what ``attach`` raises for a URL, or ``model_class``.
    """
    if url != AUTO:
        attached = attach(url, model, options)
        _write_line(f"{attached.name} is attached to {url}.")
        return attached
    uncompiled = read_files(model, options)
    try:
        return _attach_to_any(attach, uncompiled, options)
    except UnknownKeyword:
        raise
    except NearfieldError as error:
        _write_line(f"{uncompiled.recipe.name} is loaded here: {error}")
    return model_class(uncompiled, **options)


def read_files(model: str | UncompiledModel, options: Mapping[str, Any]) -> UncompiledModel:
    """Return a model whose files are here. Raises as ``read_model``."""
    if isinstance(model, UncompiledModel):
        return model
    selected = {name: value for name, value in options.items() if name in ReadModelKeywords.__annotations__}
    return read_model(model_name(model), **cast(ReadModelKeywords, selected))


def _attach_to_any(attach: AttachFunction[ModelT], model: UncompiledModel, options: Mapping[str, Any]) -> ModelT:
    """Return a model that is attached to the first server that fits, those that have loaded it before others.

    Raises:
        NearfieldError: none fits; it says for each server why not.
    """
    servers, reasons = sorted(live_servers(), key=lambda server: model.recipe.name not in server.models), []
    for server in servers:
        try:
            attached = attach(server.address, model, options, discovered=True)
        except NearfieldError as error:
            reasons.append(str(error))
        else:
            _write_line(f"{attached.name} is attached to {_named(server)}.")
            return attached
    raise ModelNotFound(" ".join(dict.fromkeys(reasons)) or "no server of this user runs on this machine.")


def _named(server: ServerRecord) -> str:
    return f"{server.address} (process {server.pid})"


def _write_line(line: str) -> None:
    """Write a line to stderr, once for each process. A process without stderr has no user to read it."""
    if sys.stderr is not None and line not in _written:
        _written.add(line)
        sys.stderr.write(f"nearfield: {escape_controls(line)}\n")
        sys.stderr.flush()
