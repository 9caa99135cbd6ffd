"""Choice of the back-end for a request: of those with its model, the one with the least queued tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence

from nearfield.cluster.router.backends.backend import BackendServer
from nearfield.cluster.router.backends.membership import BackendSet
from nearfield.errors import NearfieldError
from nearfield.server.auth.host_guard import is_loopback


class NoBackend(NearfieldError):
    """No back-end can take the request now."""

    status = 503
    code = "no_backend"


class NoHome(NearfieldError):
    """The request needs the back-end with the files, batches and collections, and the router has none."""

    status = 501
    code = "no_home"


class Balancer:
    """Chooses back-ends.

    Args:
        backends: the back-ends.
        random_share: returns a number from 0 to 1.
    """

    def __init__(self, backends: BackendSet, random_share: Callable[[], float] = random.random) -> None:
        self._backends = backends
        self._random_share = random_share
        self._turn = 0

    def choose(self, model: str | None, exclude: Collection[BackendServer] = ()) -> BackendServer:
        """Return the back-end for a request that names a model, or none.

        A back-end that has the model in memory is preferred to one that would load it. Where no back-end knows the
        model, any of them answers that. A request without a model goes to the back-ends with the same models as the
        first one: the default model of others would give vectors of another space.

        Raises:
            NoBackend: all that could take it are down, or in ``exclude``.
        """
        capable = self._capable(model)
        usable = [backend for backend in capable if backend.up and backend not in exclude]
        usable = [backend for backend in usable if backend.available] or usable
        if not usable:
            raise NoBackend(self._reason(model, capable))
        return self._least_loaded(self._taking_turns(_preferred(model, usable)))

    def choose_home(self) -> BackendServer:
        """Return the back-end with the files, batches and collections.

        Raises:
            NoHome: the router has several back-ends, and none is named as this one.
            NoBackend: it is down.
        """
        origins, home = self._backends.origins, self._backends.home
        if home is None and len(origins) > 1:
            raise NoHome(
                "Files, batches and collections are stored by one server, and this router has several. Call that "
                "server itself, or name it to the router with --home."
            )
        origin = home or origins[0]
        backends = [backend for backend in self._backends.all if backend.origin == origin]
        if all(is_loopback(backend.address.address or "") for backend in backends):  # 127.0.0.1 and ::1 of one server
            backends = [backend for backend in backends if backend.up] or backends[:1]
        if len(backends) > 1:
            raise NoHome(f"{origin.url} has {len(backends)} addresses: --home must be one server.")
        if not backends or not backends[0].up:
            raise NoBackend(f"The server with the files, batches and collections, {origin.url}, is down.")
        return backends[0]

    def _capable(self, model: str | None) -> Sequence[BackendServer]:
        backends = self._backends.all
        if model is None:
            return _like_the_first(backends)
        return [backend for backend in backends if backend.has(model)] or backends

    def _reason(self, model: str | None, capable: Sequence[BackendServer]) -> str:
        what = "No server" if model is None else f"No server with the model {model!r}"
        problems = [f"{backend.problem or 'failed this request'}" for backend in capable[:3]]
        return f"{what} is available now{': ' if problems else '.'}{' '.join(problems)} Try again later.".strip()

    def _taking_turns(self, backends: Sequence[BackendServer]) -> Sequence[BackendServer]:
        """Return those that take their turn now: one that has just returned takes only some."""
        if len(backends) == 1:
            return backends
        taking = [
            backend
            for backend in backends
            if backend.detector.share >= 1 or self._random_share() < backend.detector.share
        ]
        return taking or backends

    def _least_loaded(self, backends: Sequence[BackendServer]) -> BackendServer:
        """Return the one with the least load; of equal ones, each in its turn."""
        self._turn += 1
        start = self._turn % len(backends)
        return min((*backends[start:], *backends[:start]), key=lambda backend: backend.load)


def _preferred(model: str | None, usable: Sequence[BackendServer]) -> Sequence[BackendServer]:
    if model is None:
        return usable
    return [backend for backend in usable if backend.has_loaded(model)] or usable


def _like_the_first(backends: Sequence[BackendServer]) -> Sequence[BackendServer]:
    """Return the back-ends that were started with the same models as the first whose models are known."""
    first = next((backend.status for backend in backends if backend.status is not None), None)
    if first is None:
        return backends
    return [backend for backend in backends if backend.status is None or backend.status.pinned == first.pinned]
