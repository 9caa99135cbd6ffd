"""Models of components: loaded at their first use, shared by copies, loaded again by name after unpickling."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from nearfield.attach import open_encoder, open_reranker
from nearfield.encoder import Encoder
from nearfield.errors import InputError, Overloaded, nearest
from nearfield.fork_safety import ProcessLock
from nearfield.inference.calls.rerank_options import RerankKeywords
from nearfield.inference.encode_options import EncodeKeywordsWithoutRole
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.reranker import Ranked, Reranker
from nearfield.text_inputs import many_texts

if sys.version_info >= (3, 11):
    from typing import Self
else:
    from typing_extensions import Self

ModelT = TypeVar("ModelT", Encoder, Reranker)
ResultT = TypeVar("ResultT")

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
DEFAULT_RERANKER = "cross-encoder/ms-marco-MiniLM-L6-v2"
#: Keywords of each class.
_LOAD_OPTIONS: Mapping[type, frozenset[str]] = {
    Encoder: LoadKeywords.__optional_keys__ | {"force_truncate_dim", "truncate_dim"},
    Reranker: LoadKeywords.__optional_keys__ | {"instruction"},
}
#: Options that a component sets itself are not among them.
_ENCODE_OPTIONS = EncodeKeywordsWithoutRole.__optional_keys__ - {"outputs"}
#: Types of options that every framework can write to a file.
_PLAIN = (str, int, float, bool, type(None))
#: Seconds between two attempts to queue a text while the queue is full.
_RETRY_SECONDS = 0.5


class EncoderKeywords(LoadKeywords, total=False):
    """Keywords of ``Encoder`` that components take as further keywords."""

    force_truncate_dim: bool


class LazyModel(Generic[ModelT]):
    """A model that is loaded when it is first used, or one that its owner has loaded.

    Copies share the model. A pickled one is loaded again where it is unpickled.

    Args:
        model_class: Encoder or Reranker.
        model: what ``model_class`` loads, or an instance of it. An instance stays open when the component is closed.
        options: keywords of ``model_class``.

    Raises:
        InputError: ``model`` is of another class, an option is unknown, or there are options for a loaded model.
    """

    def __init__(self, model_class: type[ModelT], model: str | Path | ModelT, options: Mapping[str, Any]) -> None:
        loaded: ModelT | None = model if isinstance(model, model_class) else None
        if loaded is None and not isinstance(model, (str, Path)):
            names = f"a model's name, its folder, or an instance of {model_class.__name__}"
            raise InputError(f"Give {names}, not {type(model).__name__}.", param="model")
        _check_load_options(model_class, options, loaded)
        self._class: type[ModelT] = model_class
        self.options = {name: _without_paths(value) for name, value in options.items()}
        self.name = loaded.name if loaded is not None else str(model)
        #: A model that the caller has loaded, and closes.
        self._borrowed: ModelT | None = loaded
        self._loaded: ModelT | None = loaded
        self._lock = ProcessLock()

    def load(self) -> ModelT:
        """Return the model, loaded at the first call."""
        with self._lock:
            if self._loaded is None:
                open_model: Any = open_encoder if self._class is Encoder else open_reranker
                self._loaded = open_model(self.name, **self.options)
            return self._loaded

    async def aload(self) -> ModelT:
        """Return the model; loading it does not block the event loop."""
        return self._loaded if self._loaded is not None else await asyncio.to_thread(self.load)

    def close(self) -> None:
        """Unload the model, unless the caller loaded it. The next use loads it again."""
        with self._lock:
            owned, self._loaded = self._loaded, self._borrowed
        if owned is not None and owned is not self._borrowed:
            owned.close()

    def check_portable(self) -> None:
        """Raise InputError unless the model can be loaded elsewhere by its name and options."""
        if self._borrowed is not None:
            kind = self._class.__name__
            raise InputError(
                f"This component has a loaded {kind} ({self.name}), which is in this process only. To pickle or "
                "serialise the component, create it with the model's name or folder.",
                param="model",
            )
        for name, value in self.options.items():
            if not _is_plain(value):
                raise InputError(f"{name}={value!r} cannot be pickled or serialised: leave it out.", param=name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        self.check_portable()
        return {**self.__dict__, "_loaded": None}


class LazyEncoder(LazyModel[Encoder]):
    """An encoder with the options of its calls; it gives one kind of vectors, for queries or for documents.

    Args:
        model: a model's name or folder, or an Encoder.
        load_options: keywords of ``Encoder``.
        output: ``dense`` or ``sparse``.
        encode_options: keywords of ``Encoder.encode``, for all texts.
        query_options: the same for queries; they win over ``encode_options``.
    """

    def __init__(
        self,
        model: str | Path | Encoder,
        load_options: Mapping[str, Any],
        *,
        output: str = "dense",
        encode_options: EncodeKeywordsWithoutRole | None = None,
        query_options: EncodeKeywordsWithoutRole | None = None,
    ) -> None:
        super().__init__(Encoder, model, load_options)
        for options in (encode_options, query_options):
            _check_names(options or {}, _ENCODE_OPTIONS, "encode")
        documents: dict[str, Any] = {"outputs": output, **(encode_options or {})}
        self._output = output
        self._call_options = {"document": documents, "query": {**documents, **(query_options or {})}}

    def encode(self, texts: Sequence[str], role: str, *, progress: bool | None = False) -> Any:
        """Return the vectors of texts. ``progress`` is ``show_progress_bar`` of ``Encoder.encode``."""
        _check_texts(texts)
        result = self.load().encode(texts, role=role, show_progress_bar=progress, **self._call_options[role])
        return result[self._output]

    async def aencode(self, texts: Sequence[str], role: str, *, progress: bool | None = False) -> Any:
        """Return the vectors of texts without blocking the event loop.

        A query runs before documents that wait. Documents are encoded from a thread, in which they can wait for space
        in the queue.
        """
        if role == "document":
            return await asyncio.to_thread(self.encode, texts, role, progress=progress)
        _check_texts(texts)
        encoder = await self.aload()
        result = await _until_admitted(lambda: encoder.aencode(texts, role=role, **self._call_options[role]))
        return result[self._output]


class LazyReranker(LazyModel[Reranker]):
    """A reranker with the options of its calls.

    Args:
        model: a model's name or folder, or a Reranker.
        load_options: keywords of ``Reranker``.
        rerank_options: keywords of ``Reranker.score``.
    """

    def __init__(
        self,
        model: str | Path | Reranker,
        load_options: Mapping[str, Any],
        rerank_options: RerankKeywords | None = None,
    ) -> None:
        super().__init__(Reranker, model, load_options)
        self._call_options: RerankKeywords = rerank_options or {}
        _check_names(self._call_options, RerankKeywords.__optional_keys__, "score")

    def rank(self, query: str, documents: Sequence[str], top_k: int | None) -> list[Ranked]:
        """Return the best documents, by falling score."""
        return self.load().rank(query, documents, top_k=top_k, **self._call_options)

    async def arank(self, query: str, documents: Sequence[str], top_k: int | None) -> list[Ranked]:
        """Return the best documents without blocking the event loop."""
        reranker = await self.aload()
        ranking, _ = await _until_admitted(lambda: reranker.arank(query, documents, top_k=top_k, **self._call_options))
        return ranking


def merge_options(*options: Mapping[str, Any] | None, **arguments: Any) -> dict[str, Any]:
    """Return options and arguments as one mapping, without arguments that are None."""
    merged = {name: value for part in options for name, value in (part or {}).items()}
    return {**merged, **{name: value for name, value in arguments.items() if value is not None}}


def dense_rows(vectors: Any) -> list[list[float]]:
    """Return dense vectors as lists of numbers."""
    rows: list[list[float]] = np.asarray(vectors).tolist()
    return rows


def sparse_rows(vectors: Any) -> list[tuple[list[int], list[float]]]:
    """Return indices and values of each sparse vector."""
    return [(indices.tolist(), values.tolist()) for indices, values in vectors]


async def _until_admitted(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Await a call; again while the queue of this process is full."""
    while True:
        try:
            return await call()
        except Overloaded as error:
            if type(error) is not Overloaded:
                raise
            await asyncio.sleep(min(error.retry_after, _RETRY_SECONDS))


def _check_load_options(model_class: type, options: Mapping[str, Any], loaded: Encoder | Reranker | None) -> None:
    """Raise InputError for an option that the class does not have, and for any option of a loaded model."""
    known = _LOAD_OPTIONS[model_class]
    for name in sorted(set(options) - known):
        if name in _ENCODE_OPTIONS and model_class is Encoder:
            hint = f"encode_options={{{name!r}: {options[name]!r}}}"
            raise InputError(f"{name!r} is an option of encode, not of Encoder: pass {hint}.", param=name)
    _check_names(options, known, model_class.__name__)
    if options and loaded is not None:
        raise InputError(
            f"{loaded.name} is loaded already, so {', '.join(options)} would have no effect. Pass it to "
            f"{type(loaded).__name__}.",
            param=next(iter(options)),
        )


def _check_names(options: Mapping[str, Any], known: frozenset[str], purpose: str) -> None:
    """Raise InputError for an option that does not exist."""
    for name in sorted(set(options) - known):
        raise InputError(f"Unknown option {name!r} of {purpose}. {nearest(name, known)}", param=name)


def _check_texts(texts: object) -> None:
    """Raise InputError for anything but a list of texts: a single text would become a list of its letters."""
    many_texts(texts, "texts")


def _without_paths(value: Any) -> Any:
    """Return an option with paths as strings."""
    if isinstance(value, Mapping):
        return {name: _without_paths(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _is_plain(value: Any) -> bool:
    """Return whether an option consists of strings, numbers and mappings of them."""
    return isinstance(value, _PLAIN) or (isinstance(value, Mapping) and all(map(_is_plain, value.values())))
