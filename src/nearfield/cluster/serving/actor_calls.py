"""Actors as the controller starts, calls and ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nearfield.cluster.ray_runtime import import_ray
from nearfield.errors import ClusterFailed

#: Seconds for a call that only reads or sets something.
SHORT_SECONDS = 10.0


class CallFailed(ClusterFailed):
    """An actor did not answer: ``dead`` says whether it has ended for sure, or is slow or cannot be reached."""

    def __init__(self, message: str, *, dead: bool) -> None:
        super().__init__(message)
        self.dead = dead


async def ask(method: Any, *values: Any, seconds: float = SHORT_SECONDS) -> Any:
    """Return the result of a method of an actor.

    Raises:
        CallFailed: the actor has ended or does not answer in time, or the method failed.
    """
    failures = import_ray().exceptions
    try:
        answer = asyncio.wrap_future(method.remote(*values).future())
        return await asyncio.wait_for(answer, seconds)
    except asyncio.TimeoutError as error:
        raise CallFailed(f"no answer within {seconds:g} s", dead=False) from error
    except failures.RayTaskError as error:
        raise CallFailed(f"{type(error.cause).__name__}: {error.cause}", dead=False) from error
    except failures.RayError as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CallFailed(text, dead=isinstance(error, failures.ActorDiedError)) from error


def start_actor(actor_class: type, options: Mapping[str, Any], *values: Any) -> Any:
    """Start an actor; Ray neither restarts it nor repeats its calls, since the controller knows better when."""
    ray = import_ray()
    remote = ray.remote(actor_class).options(max_restarts=0, max_task_retries=0, **options)
    return remote.remote(*values)


def end_actor(actor: Any) -> None:
    """End an actor at once."""
    import_ray().kill(actor)
