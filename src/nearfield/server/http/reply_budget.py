"""The memory of large replies: each waits for its bytes before it is encoded, and is sent at its client's pace."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nearfield.errors import Overloaded
from nearfield.hardware import return_memory

#: Replies up to this many bytes are sent at once and not counted.
SMALL_REPLY_BYTES = 65_536
#: Bytes of a large reply that are passed to the connection at a time.
_PIECE_BYTES = 262_144
#: Replies that wait may have this many times the bytes of those that are being sent: they are still arrays, which are
#: smaller than their text.
_WAITING_FACTOR = 3
#: So many seconds after a reply of so many bytes, freed memory is returned to the system: the arrays and texts of such
#: replies leave holes in the heaps, which would otherwise stay as large as the worst moment.
_TRIM_BYTES, _TRIM_SECONDS = 8 * 2**20, 5.0


@dataclass(eq=False)
class ReplyShare:
    """The bytes of one reply, from its encoding until the client has read it."""

    budget: ReplyBudget
    owner: str
    size: int

    def resize(self, size: int) -> None:
        """Correct the size once it is known."""
        self.budget.add(self.owner, size - self.size)
        self.size = size

    def release(self) -> None:
        """Release the bytes; does nothing the second time."""
        if self.size:
            self.budget.add(self.owner, -self.size)
            self.size = 0


class ReplyBudget:
    """Counts the bytes of large replies that are in memory.

    An owner may have half of what others do not use. An owner without replies may also have one that is larger, if
    there is space for it. A reply that is larger than everything is sent when there is no other.

    Args:
        max_bytes: bytes of all replies together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = self.waiting_bytes = 0
        self._used: Counter[str] = Counter()
        #: Replies that wait, the oldest first.
        self._waiting: dict[asyncio.Future[None], tuple[str, int]] = {}
        self._trim: asyncio.TimerHandle | None = None

    async def reserve(self, owner: str, size: int) -> ReplyShare | None:
        """Wait until there is space for a reply of about ``size`` bytes; return None for one that is not counted.

        Raises:
            Overloaded: too many replies wait already.
        """
        if size <= SMALL_REPLY_BYTES:
            return None
        waits = any(waiting == owner for waiting, _ in self._waiting.values())
        if not waits and self._fits(owner, size):
            self.add(owner, size)
        else:
            await self._wait(owner, size)
        return ReplyShare(self, owner, size)

    async def _wait(self, owner: str, size: int) -> None:
        """Wait until the bytes are counted for the owner."""
        if self._waiting and self.waiting_bytes + size > _WAITING_FACTOR * self.max_bytes:
            raise Overloaded("Too many large replies wait to be sent. Read the replies, then try again.")
        granted = asyncio.get_running_loop().create_future()
        self._waiting[granted] = owner, size
        self.waiting_bytes += size
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.add(owner, -size)
            elif size >= _TRIM_BYTES:
                self._trim_later()
            raise
        finally:
            self._remove_waiting(granted)

    def _remove_waiting(self, granted: asyncio.Future[None]) -> None:
        waiting = self._waiting.pop(granted, None)
        if waiting is not None:
            self.waiting_bytes -= waiting[1]

    def _trim_later(self) -> None:
        if self._trim is None:
            self._trim = asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim_now)

    def _trim_now(self) -> None:
        self._trim = None
        asyncio.get_running_loop().run_in_executor(None, return_memory)

    def _fits(self, owner: str, size: int) -> bool:
        used = self._used[owner]
        if not used:
            return not self.used_bytes or self.used_bytes + size <= self.max_bytes
        return used + size <= (self.max_bytes - (self.used_bytes - used)) // 2

    def add(self, owner: str, size: int) -> None:
        """Count ``size`` more bytes; a negative number admits the replies that fit now."""
        self.used_bytes += size
        self._used[owner] += size
        if not self._used[owner]:
            del self._used[owner]
        if size < 0 and self._waiting:
            self._admit()
        if size <= -_TRIM_BYTES:
            self._trim_later()

    def _admit(self) -> None:
        blocked: set[str] = set()
        for granted, (owner, size) in list(self._waiting.items()):
            if owner in blocked or granted.done():
                continue
            if self._fits(owner, size):
                self._remove_waiting(granted)
                self.add(owner, size)
                granted.set_result(None)
            else:
                blocked.add(owner)


class LargeResponse(Response):
    """A response that is sent in pieces, so that a slow client does not fill the connection's buffer with all of it.

    Its bytes are released when all but the last piece's end were read, or the client has disconnected.
    """

    def __init__(
        self, content: bytes, share: ReplyShare, status: int, headers: Mapping[str, str], media_type: str
    ) -> None:
        super().__init__(content, status, headers, media_type)
        self._share = share

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the response."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            view = memoryview(self.body)
            for start in range(0, len(view), _PIECE_BYTES):
                piece = view[start : start + _PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            # Sending waits while the connection's buffer is full, so this one waits for the last piece.
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._share.release()
