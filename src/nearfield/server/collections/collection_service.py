"""The collection service: opens, searches, changes and drops collections in threads, with models of the model pool."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nearfield.encoder import Encoder
from nearfield.errors import (
    CollectionBusy,
    CollectionNotFound,
    Forbidden,
    InputError,
    MissingExtra,
    ModelNotFound,
    StoreFailed,
    nearest,
)
from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Reranker
from nearfield.server.collections.collection_errors import (
    NotInstalled,
    collection_version,
    convert_collection_errors,
)
from nearfield.server.collections.surveys.survey_runner import SurveyRunner
from nearfield.server.collections.thread_pool import BoundedThreadPool
from nearfield.server.collections.upload_store import CollectionUploads, OwnerBytes, UploadLimits
from nearfield.server.models.description import ModelDescription
from nearfield.server.models.lease import ModelLease
from nearfield.server.models.model_pool import ModelPool
from nearfield.settings import Settings

if TYPE_CHECKING:
    from nearfield.corpus.answering.answer import Answer
    from nearfield.corpus.answering.chat_client import ChatEndpoint
    from nearfield.corpus.answering.passage_pictures import PassagePicture
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.config import CollectionConfig
    from nearfield.corpus.search.hit import SearchHit

ResultT = TypeVar("ResultT")
#: Whether a client may use the model with a full id.
ModelFilter = Callable[[str], bool]
#: Stands for all collections, in the setting that names those that are served.
ALL = "all"
#: Threads for collections, threads for the chat endpoint, and requests that may wait for a thread.
_WORKERS, _CHATS, _MAX_WAITING = 8, 16, 64
#: Open collections of one name that are retained while no request uses them.
_MAX_IDLE = 4
#: Seconds of a request's time that are reserved for what follows the chat endpoint's answer.
_RESPONSE_SECONDS = 0.5


@dataclass(eq=False)
class _OpenCollection:
    """A collection that one request uses, and the models leased for that time."""

    collection: Collection
    version: tuple[int, int]
    models: dict[str, LoadedModel] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """What an answer may rest on: the passages of a search, and pictures of some of them."""

    passages: Sequence[SearchHit]
    pictures: Sequence[PassagePicture] = ()


class CollectionService:
    """The collections that a server gives access to.

    Args:
        models: the model pool. Collections use only models that the server has or may load.
        names: names of the collections; ``all`` stands for all of them, present and future.
        home: folder of the collections; None: the user's own.
        endpoint: the chat endpoint that answers questions.
        upload_limits: limits of the files that clients send.
    """

    def __init__(
        self,
        models: ModelPool,
        names: Sequence[str] = (),
        home: Path | None = None,
        endpoint: ChatEndpoint | None = None,
        upload_limits: UploadLimits | None = None,
    ) -> None:
        self.upload_limits = upload_limits or UploadLimits()
        #: Returns the bytes of an owner that count for its limit. Blocks.
        self.owner_bytes: OwnerBytes = self.stored_bytes
        self._models = models
        self._allowed_names = frozenset(names)
        self._home = home
        self.endpoint = endpoint
        self._idle: dict[str, list[_OpenCollection]] = {}
        self._lock = threading.Lock()
        #: Names of the collections that requests are dropping.
        self._dropping: list[str] = []
        self._workers = BoundedThreadPool(_WORKERS, "collections", _MAX_WAITING)
        self._chats = BoundedThreadPool(_CHATS, "chats", _MAX_WAITING)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.surveys = SurveyRunner()

    @classmethod
    def from_settings(cls, settings: Settings, models: ModelPool) -> CollectionService:
        """Create the service that the settings describe. Raises as ``ChatEndpoint`` does."""
        endpoint = None
        if settings.served_collections:
            # Imported at the start: otherwise the first request would wait for it, and all others with it.
            import nearfield.corpus.collection  # noqa: F401
        if settings.chat_url:
            from nearfield.corpus.answering.chat_client import ChatEndpoint

            endpoint = ChatEndpoint.configured(
                settings.chat_url,
                settings.chat_model,
                settings.chat_kind,
                settings.chat_timeout,
                settings.chat_max_tokens,
                settings.chat_temperature,
            )
        limits = UploadLimits(
            settings.max_upload_bytes,
            settings.max_stored_bytes,
            settings.max_key_files,
            settings.max_key_uploads,
            settings.upload_seconds,
            settings.max_key_stored_bytes,
        )
        return cls(models, settings.served_collections, settings.collections_dir, endpoint, limits)

    # -- names ---------------------------------------------------------------------------------------------------

    async def list_names(self) -> list[str]:
        """Return the names of the collections that exist and are served. Raises Overloaded if too many wait."""
        return await self._call("", self.names)

    def names(self) -> list[str]:
        """Return the names of the collections that exist and are served; reads the disk."""
        if not self._allowed_names:
            return []
        from nearfield.corpus.directory import list_collections

        return [name for name in list_collections(self._home) if self._is_served(name)]

    def stored_bytes(self, owner: str) -> int:
        """Return the bytes of the files that an owner has sent to collections. Blocks."""
        from nearfield.corpus.directory import home, list_collections
        from nearfield.corpus.sources.uploads import UploadSource

        names = list_collections(self._home) if self._allowed_names else []
        folders = [(self._home or home()) / name for name in names]
        return sum(CollectionUploads(UploadSource(folder), self.upload_limits).count_bytes(owner) for folder in folders)

    def check(self, name: str) -> None:
        """Raise CollectionNotFound, with the nearest name, if a collection is not served."""
        known = self.names()
        if name not in known:
            hint = nearest(name, known)
            if not self._allowed_names:
                hint = "No collections are served: start the server with --collections NAME, or all."
            raise CollectionNotFound(f"The collection {name[:100]!r} is not served here. {hint}", param="collection")

    def _is_served(self, name: str) -> bool:
        return ALL in self._allowed_names or name in self._allowed_names

    # -- use -----------------------------------------------------------------------------------------------------

    async def use(
        self,
        name: str,
        work: Callable[[Collection], ResultT],
        allowed: ModelFilter,
        *,
        reranker: str | None = None,
        models: bool = True,
    ) -> ResultT:
        """Call ``work`` with a collection in a thread, while its models are leased.

        Once started, the work is finished even if the client disconnects: it needs collection and models until then.

        Args:
            name: the collection.
            work: called with it.
            allowed: whether the client may use a model.
            reranker: name of a reranker that the work needs.
            models: whether the work needs the collection's models. The client must be allowed to use them either way.

        Raises:
            CollectionNotFound, ModelNotFound, ModelUnavailable, Forbidden, Overloaded: the work cannot be started.
        """
        await self._call(name, self.check, name)
        return await self._run_to_end(self._use(name, work, allowed, reranker if models else None, models))

    async def _use(
        self, name: str, work: Callable[[Collection], ResultT], allowed: ModelFilter, reranker: str | None, models: bool
    ) -> ResultT:
        opened = await self._call(name, self._open, name)
        try:
            try:
                return await self._run_with_models(opened, work, allowed, reranker, models)
            except _ModelNotLeased:  # the definition changed since it was last read; it has been read again now
                return await self._run_with_models(opened, work, allowed, reranker, models)
        finally:
            await self._workers.run(self._return, name, opened, force=True)

    async def _run_with_models(
        self,
        opened: _OpenCollection,
        work: Callable[[Collection], ResultT],
        allowed: ModelFilter,
        reranker: str | None,
        models: bool,
    ) -> ResultT:
        async with AsyncExitStack() as leases:
            for model in _model_names(opened.collection):
                if models:
                    lease = self._lease_encoder(model, opened.collection.name, allowed)
                    opened.models[model] = await leases.enter_async_context(lease)
                else:
                    self._check_allowed(model, allowed)
            if reranker is not None:
                lease = self._models.lease(reranker, _is_reranker, allowed=allowed, misfit="is no reranker")
                opened.models[reranker] = await leases.enter_async_context(lease)
            try:
                return await self._call(opened.collection.name, work, opened.collection, version=opened.version)
            finally:
                opened.collection.release()
                opened.models.clear()

    def _lease_encoder(self, model: str, collection: str, allowed: ModelFilter) -> ModelLease:
        try:
            return self._models.lease(model, _is_encoder, allowed=allowed, misfit="encodes no texts")
        except ModelNotFound as error:
            raise ModelNotFound(
                f"The collection {collection!r} was created with {model!r}, and is searched with the same. {error} "
                "Name it in the command nearfield serve, beside the other models of the collection.",
                name=model,
            ) from error

    def _check_allowed(self, model: str, allowed: ModelFilter) -> None:
        """Raise Forbidden if the client may not use a collection's model, even if the model is not served."""
        try:
            full_id = self._models.entry(model).name
        except ModelNotFound:
            full_id = model
        if not allowed(full_id):
            raise Forbidden(f"This key may not use {full_id}, and so none of its collections.")

    def _open(self, name: str) -> _OpenCollection:
        """Return an idle collection that is open and up to date, or open one."""
        from nearfield.corpus.collection import Collection

        version = collection_version(self._home, name)
        with self._lock:
            idle = self._idle.get(name, [])
            while idle:
                opened = idle.pop()
                if opened.version == version:
                    return opened
                opened.collection.close()
        models: dict[str, LoadedModel] = {}

        def leased(model: str) -> LoadedModel:
            if model not in models:
                raise _ModelNotLeased(f"Collection {name!r} was changed just now. Send the request again.")
            return models[model]

        with convert_collection_errors(name, self._home, version, self._dropping):
            try:
                collection = Collection.open(
                    name,
                    home=self._home,
                    encoder_of=lambda model: cast(Encoder, leased(model)),
                    reranker_of=lambda model: cast(Reranker, leased(model)),
                )
            except CollectionNotFound:
                raise
            except InputError as error:  # of the definition: its operator wrote it, not this client
                raise StoreFailed(str(error)) from error
        return _OpenCollection(collection, version, models)

    def _return(self, name: str, opened: _OpenCollection) -> None:
        """Retain an open collection for the next request, or close it."""
        with self._lock:
            idle = self._idle.setdefault(name, [])
            if len(idle) < _MAX_IDLE and opened.version == collection_version(self._home, name):
                idle.append(opened)
                return
        with suppress(OSError, sqlite3.Error, StoreFailed):  # the result is complete, or another error explains more
            opened.collection.close()

    async def _call(
        self,
        name: str,
        function: Callable[..., ResultT],
        *arguments: Any,
        version: tuple[int, int] | None = None,
    ) -> ResultT:
        """Call a function in a thread. Its errors are those of ``convert_collection_errors``, and Overloaded."""

        def call() -> ResultT:
            with convert_collection_errors(name, self._home, version, self._dropping):
                return function(*arguments)

        return await self._workers.run(call)

    # -- create and drop -----------------------------------------------------------------------------------------

    async def create(self, name: str, config: Mapping[str, Any], allowed: ModelFilter) -> dict[str, Any]:
        """Create an empty collection, and return its info.

        Raises:
            Forbidden: it would not be served, or the client may not use a model.
            ModelNotFound: a model is not served.
            NotInstalled: its files are to be read with a library that the server lacks.
            InputError: there is one of that name, or the definition is invalid.
        """
        if not self._is_served(name):
            names = ", ".join(sorted(self._allowed_names)) or "none"
            raise Forbidden(
                f"The collection {name[:100]!r} would not be served here (served: {names}). Start the server with "
                "--collections all, or name it there."
            )
        return await self._run_to_end(self._create(name, config, allowed))

    async def _create(self, name: str, config: Mapping[str, Any], allowed: ModelFilter) -> dict[str, Any]:
        from nearfield.corpus import config as definitions
        from nearfield.corpus.collection import Collection

        definition = definitions.parse_config(config)
        _require_readers(definition)
        for model in dict.fromkeys(feature.model for feature in definition.features.values() if feature.of is None):
            async with self._lease_encoder(model, name, allowed):
                pass  # it can be loaded

        def create() -> dict[str, Any]:
            with Collection.create(name, definition, home=self._home) as collection:
                return collection.info()

        return await self._call(name, create)

    async def drop(self, name: str) -> None:
        """Delete a collection and its vectors.

        Raises:
            CollectionNotFound: it is not served.
            CollectionBusy: another process or request is writing to it.
        """
        await self._call(name, self.check, name)
        await self._run_to_end(self._call(name, self._drop, name))

    def _drop(self, name: str) -> None:
        from nearfield.corpus.collection import Collection

        with self._lock:
            idle = self._idle.pop(name, [])
        for opened in idle:
            opened.collection.close()
        collection = Collection.open(name, home=self._home)
        self._dropping.append(name)
        try:
            collection.drop()
        finally:
            self._dropping.remove(name)
            collection.close()

    # -- answers -------------------------------------------------------------------------------------------------

    async def ask(self, question: str, evidence: Evidence, seconds: float) -> Answer:
        """Answer a question from evidence within ``seconds``, through the chat endpoint if there is one."""
        from nearfield.corpus.answering import answer

        endpoint = self.endpoint
        if endpoint is not None:
            timeout = max(0.001, min(endpoint.timeout, seconds - _RESPONSE_SECONDS))
            endpoint = dataclasses.replace(endpoint, timeout=timeout)
        ask = partial(answer.ask, pictures=evidence.pictures)
        return await self._chats.run(ask, question, evidence.passages, endpoint)

    async def stream(self, question: str, evidence: Evidence) -> AsyncIterator[str | Answer]:
        """Yield an answer in pieces, the ``Answer`` last."""
        from nearfield.corpus.answering import answer

        pieces = answer.stream(question, evidence.passages, self.endpoint, pictures=evidence.pictures)
        started = False
        while (piece := await self._chats.step(pieces, force=started)) is not None:
            started = True
            yield piece

    # -- tasks ---------------------------------------------------------------------------------------------------

    async def _run_to_end(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Await work in its own task, so that it goes on if the client disconnects."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # The client may have disconnected; asyncio would then complain that the error was never read.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    def close(self) -> None:
        """Close collections and threads."""
        self._workers.close()
        self._chats.close()
        for opened in [opened for idle in self._idle.values() for opened in idle]:
            opened.collection.close()
        self._idle.clear()


class _ModelNotLeased(CollectionBusy):
    """A collection needs a model that was not leased for it."""


def _require_readers(definition: CollectionConfig) -> None:
    """Raise NotInstalled if a definition needs OCR or speech recognition, and the server lacks it."""
    from nearfield.corpus.extractors.ocr import require_ocr
    from nearfield.corpus.extractors.speech import require_speech

    try:
        if definition.ocr:
            require_ocr()
        if definition.speech:
            require_speech()
    except MissingExtra as error:
        raise NotInstalled(f"The server lacks a library. {error}") from error


def _is_encoder(model: ModelDescription) -> bool:
    return model.is_encoder


def _is_reranker(model: ModelDescription) -> bool:
    return model.is_reranker


def _model_names(collection: Collection) -> list[str]:
    """Return the names of the models that compute a collection's vectors."""
    return list(dict.fromkeys(feature.model for feature in collection.config.features.values() if feature.of is None))
