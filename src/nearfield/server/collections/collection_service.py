"""Served: the collections that a server gives access to, worked on apart from its event loop, with its own models."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nearfield.errors import CollectionBusy, CollectionNotFound, Forbidden, ModelNotFound, nearest
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.collections.thread_pool import BoundedThreadPool
from nearfield.server.models.description import ModelDescription, describe
from nearfield.server.models.model_pool import ModelPool
from nearfield.settings import Settings

if TYPE_CHECKING:
    from nearfield.corpus.answering.answer import Answer
    from nearfield.corpus.answering.chat_client import ChatEndpoint
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.search.hit import SearchHit

Made = TypeVar("Made")
Allowed = Callable[[str], bool]
#: What stands for all collections, in the setting that names them.
ALL = "all"
#: Threads that work on collections, and that wait for the chat endpoint; requests that may wait for a thread.
_WORKERS, _CHATS, _WAITING = 8, 16, 64
#: Collections of one name that are kept open while nobody uses them.
_IDLE = 4
#: Seconds that a reply takes after the chat endpoint's answer, at most.
_REST = 0.5


@dataclass(eq=False)
class _OpenCollection:
    """A collection in one request's hands, and the models lent to it meanwhile."""

    collection: Collection
    stamp: tuple[int, int]
    lent: dict[str, LoadedModel] = field(default_factory=dict)


class CollectionService:
    """The collections that are served.

    Args:
        models: lends models; a collection is searched with those that the server has or may load.
        names: of the collections; ``all`` stands for each that there is or will be.
        home: folder that they lie in; None: the user's own collections.
        endpoint: the chat endpoint that answers are asked from.
    """

    def __init__(
        self,
        models: ModelPool,
        names: Sequence[str] = (),
        home: Path | None = None,
        endpoint: ChatEndpoint | None = None,
    ) -> None:
        self._models = models
        self._allowed_names = frozenset(names)
        self._home = home
        self.endpoint = endpoint
        self._idle: dict[str, list[_OpenCollection]] = {}
        self._lock = threading.Lock()
        self._workers = BoundedThreadPool(_WORKERS, "collections", _WAITING)
        self._chats = BoundedThreadPool(_CHATS, "chats", _WAITING)
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    def from_settings(cls, settings: Settings, models: ModelPool) -> CollectionService:
        """Read the settings. Raises as ``Endpoint`` does."""
        endpoint = None
        if settings.served_collections:
            import nearfield.corpus.collection  # noqa: F401 - else the first request would wait for it, and all others
        if settings.chat_url:
            from nearfield.corpus.answering.chat_client import ChatEndpoint

            told = (settings.chat_url, settings.chat_model, settings.chat_kind, settings.chat_timeout)
            endpoint = ChatEndpoint.configured(*told)
        return cls(models, settings.served_collections, settings.collections_dir, endpoint)

    # -- which there are -----------------------------------------------------------------------------------------

    async def listed(self) -> list[str]:
        """Return the names of those that are there and served; raises Overloaded where too many requests wait."""
        return await self._workers.run(self.names)

    def names(self) -> list[str]:
        """Return the names of those that are there and served; it looks at the disk."""
        if not self._allowed_names:
            return []
        from nearfield.corpus.directory import list_collections

        return [name for name in list_collections(self._home) if self._may(name)]

    def check(self, name: str) -> None:
        """Refuse a name that is none of these.

        Raises:
            CollectionNotFound: with the nearest name.
        """
        known = self.names()
        if name not in known:
            how = "" if self._allowed_names else " None is: start the server with --collections NAME, or all."
            raise CollectionNotFound(
                f"The collection {name[:100]!r} is not served here.{how or ' ' + nearest(name, known)}",
                param="collection",
            )

    def _may(self, name: str) -> bool:
        return ALL in self._allowed_names or name in self._allowed_names

    # -- using one -----------------------------------------------------------------------------------------------

    async def use(
        self,
        name: str,
        do: Callable[[Collection], Made],
        allowed: Allowed,
        *,
        reranker: str | None = None,
        models: bool = True,
    ) -> Made:
        """Do something with a collection in a thread, its models lent to it meanwhile.

        What was begun is finished, though whoever asked for it may have left: models and collection are needed so long.

        Raises:
            CollectionNotFound, ModelNotFound, ModelUnavailable, Forbidden, Overloaded: it cannot be begun.
        """
        await self._workers.run(self.check, name)
        return await self._to_its_end(self._use(name, do, allowed, reranker if models else None, models))

    async def _use(
        self, name: str, do: Callable[[Collection], Made], allowed: Allowed, reranker: str | None, models: bool
    ) -> Made:
        opened = await self._workers.run(self._take, name)
        try:
            try:
                return await self._work(opened, do, allowed, reranker, models)
            except _NotLent:  # its definition has changed since it was last looked at, and is known by now
                return await self._work(opened, do, allowed, reranker, models)
        finally:
            await self._workers.run(self._give_back, name, opened, anyway=True)

    async def _work(
        self,
        opened: _OpenCollection,
        do: Callable[[Collection], Made],
        allowed: Allowed,
        reranker: str | None,
        models: bool,
    ) -> Made:
        async with AsyncExitStack() as loans:
            for wanted in _encoders(opened.collection):
                if models:
                    loan = self._lend(wanted, opened.collection.name, allowed)
                    opened.lent[wanted] = await loans.enter_async_context(loan)
                else:
                    self._check_allowed(wanted, allowed)
            if reranker is not None:
                opened.lent[reranker] = await loans.enter_async_context(self._lend_reranker(reranker, allowed))
            try:
                return await self._workers.run(do, opened.collection)
            finally:
                opened.collection.release()
                opened.lent.clear()

    def _lend(self, model: str, name: str, allowed: Allowed) -> Any:
        try:
            return _checked(self._models.use(model, _is_encoder, allowed=allowed), _is_encoder, "encodes no texts")
        except ModelNotFound as error:
            raise ModelNotFound(
                f"The collection {name!r} was made with {model!r}, and is searched with the same. {error}", name=model
            ) from error

    def _check_allowed(self, model: str, allowed: Allowed) -> None:
        """Refuse to show a collection to whoever may not use its model, which need not be there for that."""
        try:
            full = self._models.slot(model).name
        except ModelNotFound:
            full = model
        if not allowed(full):
            raise Forbidden(f"This key may not use {full}, and so none of its collections.")

    def _lend_reranker(self, model: str, allowed: Allowed) -> Any:
        return _checked(self._models.use(model, _is_reranker, allowed=allowed), _is_reranker, "is no reranker")

    def _take(self, name: str) -> _OpenCollection:
        """Take a collection that is open already, unless another one of its name has replaced it, or open it."""
        from nearfield.corpus.collection import Collection

        stamp = _stamp(self._home, name)
        with self._lock:
            idle = self._idle.get(name, [])
            while idle:
                opened = idle.pop()
                if opened.stamp == stamp:
                    return opened
                opened.collection.close()
        lent: dict[str, LoadedModel] = {}

        def of(model: str) -> Any:
            if model not in lent:
                raise _NotLent(f"Collection {name!r} was changed just now. Send the request again.")
            return lent[model]

        return _OpenCollection(Collection.open(name, home=self._home, encoder_of=of, reranker_of=of), stamp, lent)

    def _give_back(self, name: str, opened: _OpenCollection) -> None:
        with self._lock:
            idle = self._idle.setdefault(name, [])
            if len(idle) < _IDLE and opened.stamp == _stamp(self._home, name):
                idle.append(opened)
                return
        opened.collection.close()

    async def create(self, name: str, config: Mapping[str, Any], allowed: Allowed) -> dict[str, Any]:
        """Make an empty collection, whose models the server has or may load, and tell of it.

        Raises:
            Forbidden: it would not be served, or the asker may not use a model.
            ModelNotFound: a model is not served.
            InputError: there is one of that name, or the definition is wrong.
        """
        if not self._may(name):
            self._refuse_new(name)
        return await self._to_its_end(self._create(name, config, allowed))

    def _refuse_new(self, name: str) -> None:
        named = ", ".join(sorted(self._allowed_names)) or "none"
        raise Forbidden(
            f"The collection {name[:100]!r} would not be served here (served: {named}). Start the server with "
            "--collections all, or name it there."
        )

    async def _create(self, name: str, config: Mapping[str, Any], allowed: Allowed) -> dict[str, Any]:
        from nearfield.corpus import config as definition
        from nearfield.corpus.collection import Collection

        told = definition.read(config)
        for model in dict.fromkeys(each.model for each in told.features.values() if each.of is None):
            async with self._lend(model, name, allowed):
                pass  # it can be had

        def make() -> dict[str, Any]:
            with Collection.create(name, told, home=self._home) as made:
                return made.info()

        return await self._workers.run(make)

    async def drop(self, name: str) -> None:
        """Remove a collection, its vectors included.

        Raises:
            CollectionNotFound: it is none of these.
            CollectionBusy: another process, or request, writes to it.
        """
        await self._workers.run(self.check, name)
        await self._to_its_end(self._workers.run(self._drop, name))

    def _drop(self, name: str) -> None:
        from nearfield.corpus.collection import Collection

        with self._lock:
            idle = self._idle.pop(name, [])
        for opened in idle:
            opened.collection.close()
        Collection.open(name, home=self._home).drop()

    # -- answers -------------------------------------------------------------------------------------------------

    async def ask(self, question: str, passages: Sequence[SearchHit], seconds: float) -> Answer:
        """Answer a question from passages within ``seconds``, through the chat endpoint if there is one."""
        from nearfield.corpus.answering import answer

        endpoint = self.endpoint
        if endpoint is not None:
            timeout = max(0.001, min(endpoint.timeout, seconds - _REST))
            endpoint = dataclasses.replace(endpoint, timeout=timeout)
        return await self._chats.run(answer.ask, question, passages, endpoint)

    async def stream(self, question: str, passages: Sequence[SearchHit]) -> AsyncIterator[str | Answer]:
        """Yield an answer in pieces, the ``Answer`` last."""
        from nearfield.corpus.answering import answer

        pieces = answer.stream(question, passages, self.endpoint)
        begun = False
        while (piece := await self._chats.step(pieces, anyway=begun)) is not None:
            begun = True
            yield piece

    # -- threads -------------------------------------------------------------------------------------------------

    async def _to_its_end(self, work: Coroutine[Any, Any, Made]) -> Made:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Whoever waited may have left: its error is then nobody's, and no fault of the loop.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    def close(self) -> None:
        """Let go of collections and threads."""
        self._workers.close()
        self._chats.close()
        for opened in [each for idle in self._idle.values() for each in idle]:
            opened.collection.close()
        self._idle.clear()


class _NotLent(CollectionBusy):
    """A collection asks for a model that was not lent to it."""


class _Checked:
    """A loan of a model of the right kind."""

    def __init__(self, loan: Any, fits: Callable[[ModelDescription], bool], otherwise: str) -> None:
        self._loan, self._fits, self._otherwise = loan, fits, otherwise

    async def __aenter__(self) -> LoadedModel:
        model: LoadedModel = await self._loan.__aenter__()
        if self._fits(describe(model)):
            return model
        await self._loan.__aexit__(None, None, None)
        raise ModelNotFound(f"{model.name} {self._otherwise}.", name=model.name)

    async def __aexit__(self, *error: object) -> None:
        await self._loan.__aexit__(*error)


def _checked(loan: Any, fits: Callable[[ModelDescription], bool], otherwise: str) -> _Checked:
    return _Checked(loan, fits, otherwise)


def _is_encoder(model: ModelDescription) -> bool:
    return model.is_encoder


def _is_reranker(model: ModelDescription) -> bool:
    return model.is_reranker


def _encoders(collection: Collection) -> list[str]:
    """Return the names of the models that a collection's vectors are made by."""
    return list(dict.fromkeys(each.model for each in collection.config.features.values() if each.of is None))


def _stamp(place: Path | None, name: str) -> tuple[int, int]:
    """Return what tells a collection from another one of its name; zeros where it is gone."""
    from nearfield.corpus.directory import CollectionDirectory

    return CollectionDirectory.of(name, place).stamp()
