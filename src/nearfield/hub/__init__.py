"""Where a model's files come from: a folder, a GGUF file, the Hub's cache, the Hub, a package index, Ollama's store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nearfield.errors import InputError, ModelNotFound, SourceUnavailable, nearest
from nearfield.hub.cached_models import CachedModel, cached_models, remove
from nearfield.hub.gguf_repositories import split_variant
from nearfield.hub.huggingface import fetch_from_hub, find_in_cache
from nearfield.hub.local import existing_path, find_in_folder, has_model, is_adapter
from nearfield.hub.ollama_registry import find_in_ollama
from nearfield.hub.ollama_store import PREFIX
from nearfield.hub.package_index import fetch_from_index, find_unpacked
from nearfield.hub.sources import (
    LocatedModel,
    ModelPackage,
    ModelPin,
    SourceSearch,
    StatedModel,
    is_path,
    offline,
)

__all__ = [
    "SOURCES",
    "CachedModel",
    "LocatedModel",
    "ModelPackage",
    "ModelPin",
    "StatedModel",
    "cached_models",
    "existing_path",
    "has_model",
    "is_adapter",
    "is_path",
    "locate",
    "offline",
    "remove",
]

_FINDERS: Mapping[str, Callable[[SourceSearch], LocatedModel | None]] = {
    "folder": find_in_folder,
    "cache": find_in_cache,
    "hub": fetch_from_hub,
    "index": fetch_from_index,
    "ollama": find_in_ollama,
}
SOURCES = tuple(_FINDERS)
#: Those that are searched for a name without a source, in this order.
_USUAL_SOURCES = ("folder", "cache", "hub", "index")


def locate(
    model: str,
    *,
    pin: ModelPin | None = None,
    source: str | None = None,
    revision: str | None = None,
    progress: bool = False,
    fetch: bool = True,
    files: tuple[str, ...] = (),
) -> LocatedModel:
    """Find a model's files, fetching them where needed.

    Args:
        model: a folder, a GGUF file, an id such as ``BAAI/bge-small-en-v1.5``, one of a repository of GGUF files with
            a type (``org/name:Q8_0``), or ``ollama:NAME``.
        pin: what the catalogue knows about its files.
        source: look there and nowhere else; otherwise folder, cache, hub and index are tried in this order.
        revision: a commit, tag or branch; the pinned one when left out.
        progress: show a bar while downloading.
        fetch: False looks only at what is on this machine.
        files: names of files that are needed beside the usual ones, such as ``onnx/model.onnx``.

    Raises:
        ModelNotFound: no source has it. SourceUnavailable: a source that should have it could not be read.
        InputError: ``source`` is unknown.
    """
    if source is not None and source not in SOURCES:
        raise InputError(f"Unknown source {source!r}. {nearest(source, SOURCES)}", param="source")
    repo, variant = (pin.repo, "") if pin else split_variant(model)
    known = pin or ModelPin(repo)
    exact = ModelPin(known.repo, revision or known.revision, None if revision else known.package)
    search = SourceSearch(model, exact, progress, fetch, files, variant)
    if source is None and model.startswith(PREFIX):
        source = "ollama"
    for name in (source,) if source else _USUAL_SOURCES:
        # A package that is unpacked on this machine spares the request to the Hub.
        located = (find_unpacked(search) if name == "hub" and not source else None) or _FINDERS[name](search)
        if located is not None:
            return located
    raise _not_found(search)


def _not_found(search: SourceSearch) -> Exception:
    tried = "".join(f"\n  - {line}" for line in search.tried)
    if is_path(search.model):
        return ModelNotFound(f"There is no model at {search.model!r}. Tried:{tried}")
    advice = (
        "nearfield models list shows the known names. Without access to the Hub, copy a model folder to this machine "
        "and pass its path, or set HF_ENDPOINT to a mirror."
    )
    message = f"Model {search.model!r} could not be found. Tried:{tried}\n{advice}"
    signs = ("refused", "unreachable", "offline", "not asked", "pip could not")
    blocked = any(sign in line for line in search.tried for sign in signs)
    return SourceUnavailable(message) if blocked else ModelNotFound(message)
