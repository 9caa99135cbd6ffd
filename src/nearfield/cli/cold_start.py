"""Fast start of a search for one query: a smaller import of LanceDB, and small models without a runtime.

Measured for one search of a collection with all-MiniLM-L6-v2: LanceDB's clients of remote services and pandas take 1 s
and 50 MB to import, and Arrow's data sets and functions 20 MB; none of them is used. OpenVINO takes 140 MB for a model
of 90 MB, and plain numpy 20 MB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from nearfield.attach import server_url
from nearfield.attach.attached_encoder import attach_encoder
from nearfield.attach.server_choice import open_attached
from nearfield.corpus.collection import Collection
from nearfield.corpus.search.content.query import SearchQuery
from nearfield.corpus.search.hit import SearchHit
from nearfield.encoder import Encoder
from nearfield.errors import NearfieldError
from nearfield.families import resolve
from nearfield.inference.uncompiled_model import UncompiledModel, read_model

#: Packages and modules that LanceDB imports, and that a search of a table in a folder does not need.
_UNUSED = (
    "lance_namespace",
    "lance_namespace_urllib3_client",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.fs",
)
#: Maximum number of parameters of a model that runs in numpy: a larger one takes longer than OpenVINO's start.
_MAX_PARAMETERS = 40_000_000


def search(name: str, query: SearchQuery | None, k: int, **options: Any) -> list[SearchHit]:
    """Search a collection for one query, without reranking; options, results and errors as for ``Collection``."""
    try:
        with _without_unused_packages():
            return _search(name, query, k, options)
    except (ImportError, AttributeError, TypeError):  # another version of LanceDB needs them
        return _search(name, query, k, options)


def _search(name: str, query: SearchQuery | None, k: int, options: dict[str, Any]) -> list[SearchHit]:
    def open_model(model: str) -> Encoder:
        uncompiled, url = read_model(model, accept_license=opened.config.accept_license), server_url()
        return _load(uncompiled) if url is None else open_attached(url, attach_encoder, _load, uncompiled, {})

    with Collection.open(name, encoder_of=open_model) as opened:
        return opened.search(query, k, **options)


def _load(model: UncompiledModel) -> Encoder:
    return Encoder(model, backend="reference") if _is_small(model) else Encoder(model)


def _is_small(model: UncompiledModel) -> bool:
    """Return whether numpy runs a model in less time than another runtime takes to start."""
    config = model.recipe.config
    try:
        resolve(config)
        size = (
            config["num_hidden_layers"]
            * config["hidden_size"]
            * (4 * config["hidden_size"] + 2 * config["intermediate_size"])
        )
    except (NearfieldError, KeyError, TypeError):
        return False
    return not model.recipe.exported_graph and bool(size <= _MAX_PARAMETERS)


@contextmanager
def _without_unused_packages() -> Iterator[None]:
    """Replace packages by empty modules in a block; pandas is missing in it, unless it is imported already."""
    before, finder = set(sys.modules), _EmptyModules()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.names:
            _remove(name)
        _remove_lancedb(before)


def _remove(name: str) -> None:
    """Remove a module, also from the package that it is in."""
    module = sys.modules.pop(name, None)
    package, _, attribute = name.rpartition(".")
    if getattr(sys.modules.get(package), attribute, None) is module is not None:
        delattr(sys.modules[package], attribute)


def _remove_lancedb(before: set[str]) -> None:
    """Remove LanceDB's modules, which have empty ones, except the native one, which can be loaded only once."""
    for name in [name for name in sys.modules if name not in before and name != "lancedb._lancedb"]:
        if name.partition(".")[0] == "lancedb" or name == "nearfield.stores.lancedb":
            del sys.modules[name]


class _EmptyModules(MetaPathFinder, Loader):
    """Finds the unused packages and their modules, and loads an ``_EmptyModule`` for each."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a module of an unused package."""
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        if not f"{fullname}.".startswith(tuple(f"{name}." for name in _UNUSED)):
            return None
        self.names.append(fullname)
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return an empty module."""
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: there is no code."""


class _EmptyModule(ModuleType):
    """A module in which each name is a class without attributes."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        bases: tuple[type, ...] = (Exception,) if name.endswith("Error") else ()
        created = type(name, bases, {})
        setattr(self, name, created)
        return created
