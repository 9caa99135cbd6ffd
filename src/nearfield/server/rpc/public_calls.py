"""The calls that need no key: health and reflection, with limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from nearfield.server.rpc.call_limits import ActiveConnections, CallLimit

Code = grpc.StatusCode
#: Maximum number of open calls in all, and of one address.
_MAX_CALLS, _MAX_ADDRESS_CALLS = 256, 16
#: Seconds within which a message must arrive, its maximum bytes, and the maximum number of messages of a call.
_READ_SECONDS, _MAX_MESSAGE_BYTES, _MAX_MESSAGES = 10.0, 4096, 1000


class PublicCalls:
    """Answers health checks and reflection.

    All methods are registered as streams of bytes, so that a call counts before its message arrives.

    Args:
        names: names of the services that reflection describes.
        connections: the connections that have calls.
    """

    def __init__(self, names: Sequence[str], connections: ActiveConnections) -> None:
        self.health = health.aio.HealthServicer()
        self._reflection = reflection.aio.ReflectionServicer((*names, health.SERVICE_NAME, reflection.SERVICE_NAME))
        self._limits = (CallLimit(_MAX_CALLS, _MAX_ADDRESS_CALLS), connections)
        self._statuses: dict[str, Any] = {}

    async def set_health(self, service: str, status: Any) -> None:
        """Set the health of a service; those who watch it are woken only by changes."""
        if self._statuses.get(service) != status:
            self._statuses[service] = status
            await self.health.set(service, status)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return the handlers of both services."""
        return [
            grpc.method_handlers_generic_handler(service, {name: self._handler(call) for name, call in calls.items()})
            for service, calls in (
                (health.SERVICE_NAME, {"Check": self._check, "Watch": self._watch}),
                (reflection.SERVICE_NAME, {"ServerReflectionInfo": self._reflect}),
            )
        ]

    def _handler(self, call: Callable[[Any], Awaitable[None]]) -> Any:
        return grpc.stream_stream_rpc_method_handler(partial(self._answer, call), response_serializer=_serialize)

    async def _answer(self, call: Callable[[Any], Awaitable[None]], _: Any, context: Any) -> None:
        peer, entered = context.peer(), []
        try:
            for limit in self._limits:
                if not limit.enter(peer):
                    await context.abort(Code.RESOURCE_EXHAUSTED, "Too many calls without a key, or connections.")
                entered.append(limit)
            await call(context)
        finally:
            for limit in entered:
                limit.leave(peer)

    async def _check(self, context: Any) -> None:
        request = await self._read(context, health_pb2.HealthCheckRequest)
        if request is None:
            await context.abort(Code.INVALID_ARGUMENT, "The call came without a message.")
        await context.write(await self.health.Check(request, context))

    async def _watch(self, context: Any) -> None:
        request = await self._read(context, health_pb2.HealthCheckRequest)
        if request is None:
            await context.abort(Code.INVALID_ARGUMENT, "The call came without a message.")
        await self.health.Watch(request, context)

    async def _reflect(self, context: Any) -> None:
        async for response in self._reflection.ServerReflectionInfo(self._requests(context), context):
            await context.write(response)

    async def _requests(self, context: Any) -> AsyncIterator[Any]:
        for _ in range(_MAX_MESSAGES):
            request = await self._read(context, reflection_pb2.ServerReflectionRequest)
            if request is None:
                return
            yield request

    async def _read(self, context: Any, kind: Callable[[], Message]) -> Any:
        """Return the next message of a call, or None at their end."""
        try:
            data = await asyncio.wait_for(context.read(), _READ_SECONDS)
        except asyncio.TimeoutError:
            return await context.abort(Code.DEADLINE_EXCEEDED, "The message did not arrive in time.")
        if data is grpc.aio.EOF:
            return None
        if len(data) > _MAX_MESSAGE_BYTES:
            await context.abort(Code.INVALID_ARGUMENT, f"The message is longer than {_MAX_MESSAGE_BYTES} bytes.")
        message = kind()
        try:
            message.ParseFromString(data)
        except DecodeError:
            await context.abort(Code.INVALID_ARGUMENT, "The message is malformed.")
        return message


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
