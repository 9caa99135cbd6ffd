"""What an index run uses of Ray, with actors that are threads of this process: for tests that need no cluster.

Arguments and results are pickled, as Ray pickles them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any


class InlineRayError(Exception):
    """Stands for ``ray.exceptions.RayError``."""


class InlineTaskError(InlineRayError):
    """Stands for ``RayTaskError``: a method raised ``cause``."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class InlineActorDied(InlineRayError):
    """Stands for ``ActorDiedError``. A method that raises it ends its actor."""


class InlineReference:
    """A reference to a result, or to a value that was put."""

    def __init__(self, result: Future[bytes]) -> None:
        self.result = result

    def future(self) -> Future[Any]:
        """Return a future of the value."""
        value: Future[Any] = Future()

        def copy(done: Future[bytes]) -> None:
            error = done.exception()
            if error is None:
                value.set_result(pickle.loads(done.result()))
            else:
                value.set_exception(error)

        self.result.add_done_callback(copy)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return _reference, (self.result.result(),)


def _reference(data: bytes) -> InlineReference:
    result: Future[bytes] = Future()
    result.set_result(data)
    return InlineReference(result)


class InlineActor:
    """A handle of an actor."""

    def __init__(self, cls: type) -> None:
        self._instance = cls()
        self._thread = ThreadPoolExecutor(1)
        self.is_dead = False

    def end(self) -> None:
        """End what would end with its process."""
        self.is_dead = True
        if hasattr(self._instance, "_reader"):
            self._instance.close()

    def __getattr__(self, method: str) -> SimpleNamespace:
        def remote(*arguments: Any) -> InlineReference:
            return InlineReference(self._thread.submit(self._call, method, pickle.dumps(arguments)))

        return SimpleNamespace(remote=remote)

    def _call(self, method: str, data: bytes) -> bytes:
        if self.is_dead:
            raise InlineActorDied("it is dead")
        values = [
            value.future().result() if isinstance(value, InlineReference) else value for value in pickle.loads(data)
        ]
        try:
            return pickle.dumps(getattr(self._instance, method)(*values))
        except InlineActorDied:
            self.end()
            raise
        except Exception as error:
            raise InlineTaskError(error) from error


class InlineRay:
    """A cluster of one machine with ``cpus`` cores."""

    exceptions = SimpleNamespace(
        RayError=InlineRayError, RayTaskError=InlineTaskError, RaySystemError=type("RaySystemError", (Exception,), {})
    )
    util = SimpleNamespace(
        get_node_ip_address=lambda: "127.0.0.1",
        client=SimpleNamespace(ray=SimpleNamespace(is_connected=lambda: True)),
    )

    def __init__(self, cpus: int = 2) -> None:
        self.cpus = cpus
        self.actors: list[InlineActor] = []

    def remote(self, **_: Any) -> Callable[[type], Any]:
        """Return what makes a class one of actors."""

        def create(cls: type) -> InlineActor:
            self.actors.append(InlineActor(cls))
            return self.actors[-1]

        return lambda cls: SimpleNamespace(remote=lambda: create(cls))

    def put(self, value: Any) -> InlineReference:
        """Return a reference to a copy of a value."""
        return _reference(pickle.dumps(value))

    def get(self, reference: InlineReference) -> Any:
        """Return the value of a reference."""
        return reference.future().result()

    def kill(self, actor: InlineActor) -> None:
        """End an actor."""
        actor.end()

    def nodes(self) -> list[dict[str, Any]]:
        """Return the one machine."""
        return [{"NodeID": "node", "Alive": True, "Resources": {"CPU": float(self.cpus)}}]

    def get_runtime_context(self) -> SimpleNamespace:
        """Return where this process runs."""
        return SimpleNamespace(get_node_id=lambda: "node")
