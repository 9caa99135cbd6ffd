"""A model before it is compiled (`UncompiledModel`): its files found or downloaded, its recipe and adapters read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, TypedDict

from nearfield import catalog, hub
from nearfield.argument_checks import require_kind, require_mapping, require_optional_texts
from nearfield.checkpoint import model_folder
from nearfield.checkpoint.output_kinds import KINDS
from nearfield.checkpoint.towers.joined_models import join_partner
from nearfield.checkpoint.towers.page_retrievers import is_retriever_adapter
from nearfield.checkpoint.weights import lora
from nearfield.checkpoint.weights.quantized.quantization_record import read_record
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import (
    InputError,
    ModelNotFound,
    ModelRefused,
    NearfieldError,
    OutOfMemory,
    SourceUnavailable,
    WeightsError,
    nearest,
)
from nearfield.hardware import MemoryLimit, memory_limit, memory_used
from nearfield.inference.space import QUANTIZED
from nearfield.recipe import MergedWeights, Recipe, RerankPrompt
from nearfield.text_inputs import describe
from nearfield.units import format_bytes

#: Bytes of memory that a value of the weights takes at least, by precision. Measured: 4.8 to 6.8 for float32; with the
#: widths and layers of Mistral 7B 1.01 for int8 and 0.65 for int4.
_BYTES_PER_VALUE = {"int8": 1.05, "int8-dynamic": 1.05, "int4": 0.66}
_FLOAT_BYTES = 4.6
#: The same for a byte of an exported graph.
_BYTES_PER_GRAPH_BYTE = 1.15
#: Precisions that ``auto`` becomes if the memory would not hold the model otherwise, the one with the least loss first.
_SMALL_PRECISIONS = ("int8", "int4")
#: An error while a model is loaded is put down to memory if fewer bytes than these are left.
_MIN_AVAILABLE = 256 * 2**20


class ReadModelKeywords(TypedDict, total=False):
    """The keywords of ``read_model``; ``nearfield.load`` documents them."""

    source: str | None
    revision: str | None
    kind: str | None
    progress: bool
    adapters: Mapping[str, str | Path] | None
    file: str | None
    answer: RerankPrompt | None
    accept_license: bool


@dataclass(frozen=True)
class UncompiledModel:
    """A model whose files are on disk and whose recipe is read; it is neither compiled nor in memory."""

    recipe: Recipe
    adapters: tuple[lora.Adapter, ...]
    #: The adapter of calls that name none: the model's own folder, if it is an adapter.
    default_adapter: str | None
    #: ``time.perf_counter`` before the model was located, and the bytes of memory in use at that time.
    started: float
    memory_before: int | None
    #: Arguments with which another process reads the same files.
    arguments: Mapping[str, Any]

    def choose_precision(self, precision: str = "auto", copies: int = 1) -> str:
        """Return the precision in which OpenVINO loads the model, into memory as many times as there are ``copies``.

        ``auto`` is that of the folder, if its weights are quantised. It becomes int8, and else int4, where the memory
        would not hold the model otherwise: the system kills a process that takes more than its cgroup may.

        Raises:
            OutOfMemory: there is less memory than the model takes at the least.
        """
        limit = memory_limit()
        sizes = {name: copies * _needed_bytes(self.recipe, name) for name in self._forms(precision)}
        for name, size in sizes.items():
            if limit is None or size <= limit.available:
                return name
        assert limit is not None
        needed = format_bytes(size, limit.bytes) + (f" in {name}" if name in QUANTIZED else "")
        needed += f" for {copies} devices" if copies > 1 else ""
        raise OutOfMemory(f"{self.recipe.name} takes at least {needed} of memory, but {_advice(limit)}")

    def _forms(self, precision: str) -> tuple[str, ...]:
        """Return the precisions in which a model that is requested in one may be loaded, the first that fits."""
        if precision != "auto" or self.recipe.quantized:
            return (self.recipe.quantized if precision == "auto" else precision,)
        return ("auto", *_SMALL_PRECISIONS) if self.recipe.has_matrices else ("auto",)

    @contextmanager
    def reporting_memory(self) -> Iterator[None]:
        """Raise ``OutOfMemory`` for an error in the ``with`` block that is due to memory.

        Runtimes raise errors of many kinds when they get none, some of them without a text.
        """
        try:
            yield
        except NearfieldError:
            raise
        except (MemoryError, OSError, RuntimeError, SystemError, ValueError) as error:
            limit, size = memory_limit(), max(_needed_bytes(self.recipe, "auto"), _MIN_AVAILABLE)
            if not isinstance(error, MemoryError) and (limit is None or limit.available >= size):
                raise
            cause = " ".join(f"{type(error).__name__} {error}".split())[:200]
            raise OutOfMemory(
                f"Memory ran out while {self.recipe.name} was loaded ({cause}): {_advice(limit)}"
            ) from error


def model_name(model: object) -> str:
    """Return the name of a model, or the path of its folder, as text.

    Raises:
        InputError: it is neither.
    """
    name = os.fspath(model) if isinstance(model, os.PathLike) else model
    if not isinstance(name, str) or not name.strip():
        shown = "empty" if isinstance(name, str) else describe(name)
        raise InputError(f"model must be the name of a model or the path of its folder, and is {shown}.", param="model")
    return name


def read_model(
    model: str,
    *,
    source: str | None = None,
    revision: str | None = None,
    kind: str | None = None,
    progress: bool = False,
    adapters: Mapping[str, str | Path] | None = None,
    file: str | None = None,
    answer: RerankPrompt | None = None,
    accept_license: bool = False,
) -> UncompiledModel:
    """Find or download a model's files and read its recipe; arguments as for ``nearfield.load``.

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be downloaded.
        ModelRefused: its files cannot be loaded exactly.
    """
    started, memory_before = time.perf_counter(), memory_used()
    require_optional_texts(source=source, revision=revision, kind=kind, file=file)
    if kind is not None and kind not in KINDS:
        raise InputError(f"Unknown kind {kind!r}. {nearest(kind, KINDS)}", param="kind")
    if file == "":
        raise InputError("file must be the name of a file, and is empty.", param="file")
    require_mapping("adapters", adapters)
    require_kind("answer", answer, RerankPrompt, "a RerankPrompt")
    entry = catalog.find_unless_folder(model, source)
    if entry is not None:
        catalog.check_licence(entry, accepted=accept_license)
    pin, files = entry.pin if entry else None, _required_files(file)
    located = hub.locate(model, pin=pin, source=source, revision=revision, progress=progress, files=files)
    record = read_record(located.folder)
    name = entry.id if entry else located.name
    if entry is None and (entry := catalog.find_stated(located.stated)) is not None:
        catalog.check_licence(entry, accepted=accept_license)
    arguments = {
        **_place(model, located, revision),
        "source": source,
        "kind": kind,
        "file": file,
        "answer": answer,
        "accept_license": accept_license,
    }
    loaded = [lora.read_adapter(adapter_folder(at, source, progress), key) for key, at in (adapters or {}).items()]
    if hub.is_adapter(located.folder):
        base = locate_base(located, source, progress=progress)
        recipe, own = read_with_base(located, base, name=name, entry=entry, kind=kind)
        first, default = ((), None) if own is None else ((own,), own.name)
        return UncompiledModel(recipe, (*first, *loaded), default, started, memory_before, arguments)
    if record is not None:  # what the catalogue says of the model holds for its quantised weights
        entry = catalog.find_by_id(record.catalogue_id)
    recipe = model_folder.read_model_folder(
        located.folder, name=name, revision=located.revision, entry=entry, kind=kind, exported_graph=file, answer=answer
    )
    if entry is not None:
        read = partial(read_model, source=source, progress=progress, accept_license=accept_license)
        recipe = join_partner(recipe, entry, lambda partner: read(partner).recipe)
    recipe = replace(recipe, quantized=record.precision if record else "")
    return UncompiledModel(recipe, tuple(loaded), None, started, memory_before, arguments)


def _place(model: str, located: hub.LocatedModel, revision: str | None) -> dict[str, str | None]:
    """Return model and revision as arguments that name the same files wherever they are used."""
    if located.source == "folder":
        return {"model": str(located.file or located.folder), "revision": revision}
    return {"model": model, "revision": located.revision if located.source in ("cache", "hub") else revision}


def _needed_bytes(recipe: Recipe, precision: str) -> int:
    """Return the bytes of memory that a model takes at least; 0 if its weights have a format of another backend."""
    graph = recipe.exported_graph
    if graph is not None:
        files = [file for file in (graph, graph.with_suffix(".bin")) if file.is_file()]
        return round(_BYTES_PER_GRAPH_BYTE * sum(file.stat().st_size for file in files))
    try:
        opened = Weights.open(recipe.merged.base if recipe.merged else recipe.folder)
    except WeightsError:
        return 0
    values = sum(prod(opened.shape(name)) for name in opened.names())
    return round(values * _BYTES_PER_VALUE.get(precision, _FLOAT_BYTES))


def _advice(limit: MemoryLimit | None) -> str:
    """Say how much memory there is, and what to do."""
    if limit is None:
        return "choose a smaller model."
    free = f"{format_bytes(limit.available, limit.bytes)} of {format_bytes(limit.bytes, limit.bytes)} are free"
    return {
        "machine": f"{free} on this machine. Close other programs, or choose a smaller model.",
        "cgroup": f"{free} for this process. Raise the memory limit of its container or service (its cgroup), or "
        "choose a smaller model.",
        "ulimit -v": f"{free} for this process. Raise its limit (ulimit -v), or choose a smaller model.",
    }[limit.cause]


def adapter_folder(adapter: str | Path, source: str | None = None, progress: bool = False) -> Path:
    """Return the folder of an adapter, from its path or its id on the Hub."""
    if not isinstance(adapter, (str, Path)) or not str(adapter):
        raise InputError(f"adapter must be a folder or an id on the Hub, and is {describe(adapter)}.", param="adapter")
    path = hub.existing_path(str(adapter))
    if path is not None and path.is_dir():
        return path
    return hub.locate(str(adapter), pin=None, source=source, revision=None, progress=progress).folder


def _required_files(file: str | None) -> tuple[str, ...]:
    """Return the files of an exported model: OpenVINO stores the weights in a second file."""
    if file is None:
        return ()
    return (file, file.removesuffix(".xml") + ".bin") if file.endswith(".xml") else (file,)


def locate_base(
    adapter: hub.LocatedModel, source: str | None = None, *, progress: bool = False, fetch: bool = True
) -> hub.LocatedModel:
    """Find the base model of a folder that is an adapter: a folder beside it, or wherever models are found.

    Args:
        adapter: the adapter's files.
        source: the only place to search.
        progress: show a bar while downloading.
        fetch: False looks only at what is on this machine.

    Raises:
        ModelRefused: the adapter does not name its base model.
        ModelNotFound, SourceUnavailable: the base model is not found; the message says its id, and what to do.
    """
    base = lora.base_of(adapter.folder)
    if not base:
        raise ModelRefused(f"{adapter.folder} is an adapter and does not name its base model.")
    beside = adapter.folder.parent / Path(base).name
    is_beside = adapter.source == "folder" and beside != adapter.folder and hub.has_model(str(beside))
    if is_beside and not hub.has_model(base):
        return hub.locate(str(beside), source="folder")
    entry = catalog.find_unless_folder(base, source)
    try:
        # The adapter's revision says nothing about its base.
        return hub.locate(base, pin=entry.pin if entry else None, source=source, progress=progress, fetch=fetch)
    except (ModelNotFound, SourceUnavailable) as error:
        fetched = "" if hub.is_path(base) else f"run `nearfield models pull {base}` where there is a network, or "
        place = f"copy its folder to {beside}" if adapter.source == "folder" else "put both folders beside each other"
        raise type(error)(
            f"{adapter.name} is an adapter of {base!r}, and that base model is missing: {fetched}{place}. {error}"
        ) from error


def read_with_base(
    adapter: hub.LocatedModel,
    base: hub.LocatedModel,
    *,
    name: str,
    entry: catalog.CatalogEntry | None = None,
    kind: str | None = None,
) -> tuple[Recipe, lora.Adapter | None]:
    """Read the recipe of a base model with an adapter; also return the adapter, unless it is merged into the weights.

    Those of retrievers of pages are merged: they change towers and the last layer too. Pooling and prompts of the
    adapter's folder take precedence over those of the base.

    Args:
        adapter: the adapter's files.
        base: those of its base model.
        name: the name of both together.
        entry: the catalogue's entry of the adapter.
        kind: overrules what the files say the model is.

    Raises:
        ModelRefused, WeightsError: the two do not fit together, or cannot be loaded exactly.
    """
    if is_retriever_adapter(adapter.folder, base.folder):
        if kind not in (None, "multivector"):
            raise ModelRefused(f"{adapter.folder} holds a retriever of pages: kind does not apply to it")
        merged = MergedWeights(base.folder, adapter.folder)
        return model_folder.read_merged_retriever(merged, name=name, revision=adapter.revision, entry=entry), None
    own = lora.read_adapter(adapter.folder, adapter.folder.name)
    known = None if base.source == "folder" else catalog.find(base.name)
    recipe = model_folder.read_model_folder(base.folder, name=name, revision=base.revision, entry=known, kind=kind)
    return model_folder.overlay(recipe, adapter.folder), own
