"""Pictures and videos at addresses: fetched before a model runs, if the setting ``media_urls`` allows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from nearfield.engine.fair_turns import FairTurns
from nearfield.engine.turns import CALLER
from nearfield.errors import DeadlineExceeded, InputError, TooLarge
from nearfield.media.content import MixedContent
from nearfield.media.fetch import FetchPolicy, fetch
from nearfield.media.image import Image
from nearfield.media.video.frame_reading import VideoFile
from nearfield.media.video.video import Video
from nearfield.server.exchange.content_parts import parts_of

#: Addresses that are fetched at the same time, for all requests together.
_SLOTS = 8
#: Different addresses of one request: with more of them, a server could be used to flood others.
_MAX_ADDRESSES = 96


class PictureAddress(Image):
    """A picture at an address. ``PictureFetcher`` puts the picture itself in its place; it cannot be read before.

    Args:
        url: the address, as the client wrote it.
        name: what messages call it, such as ``inputs[2]``.
        field: the request's field that it is from.
        advice: what to send where fetching is off.
    """

    __slots__ = ("advice", "field", "label", "url")

    def __init__(self, url: str, name: str, field: str, advice: str) -> None:
        self._source = url
        self.url, self.label, self.field, self.advice = url, name, field, advice


class VideoAddress(Video):
    """A video at an address, as `PictureAddress` is a picture at one; ``max_bytes`` is the limit of its file."""

    __slots__ = ("advice", "field", "label", "max_bytes", "url")

    def __init__(self, url: str, name: str, field: str, advice: str, max_bytes: int) -> None:
        super().__init__(b"")
        self._source = VideoFile(url)
        self.url, self.label, self.field, self.advice, self.max_bytes = url, name, field, advice, max_bytes


class PictureFetcher:
    """Fetches the pictures and videos of requests in threads. Owners of requests take turns."""

    def __init__(self) -> None:
        self._turns = FairTurns(_SLOTS)
        self._pool = ThreadPoolExecutor(_SLOTS, "nearfield-fetch")

    async def fetch(
        self, inputs: Sequence[Any], policy: FetchPolicy, seconds: float, reserve: Callable[[int], None]
    ) -> list[Any]:
        """Return the inputs with pictures and videos in place of their addresses; each address is fetched once.

        Args:
            inputs: of any kind.
            policy: what may be fetched.
            seconds: within which all must be fetched.
            reserve: called with the bytes of each of them.

        Raises:
            InputError: an address is not allowed, or cannot be fetched.
            TooLarge: there are too many, or they have more bytes than the server allows.
            DeadlineExceeded: they were not fetched in time.
            Overloaded: ``reserve`` raised it.
        """
        addresses = {(type(item), item.url): item for item in addresses_of(inputs)}
        if len(addresses) > _MAX_ADDRESSES:
            raise TooLarge(
                f"{len(addresses)} addresses, and at most {_MAX_ADDRESSES} are fetched for one request.",
                param=next(iter(addresses.values())).field,
            )
        tasks = {key: asyncio.ensure_future(self._fetch_one(item, policy, reserve)) for key, item in addresses.items()}
        try:
            await asyncio.wait_for(asyncio.gather(*tasks.values()), seconds)
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise DeadlineExceeded("The addresses were not fetched before the deadline.") from error
        finally:
            for task in tasks.values():
                task.cancel()
        return [_fetched(item, {key: task.result() for key, task in tasks.items()}) for item in inputs]

    async def _fetch_one(
        self, item: PictureAddress | VideoAddress, policy: FetchPolicy, reserve: Callable[[int], None]
    ) -> Image | Video:
        if isinstance(item, VideoAddress):
            policy = replace(policy, max_bytes=item.max_bytes)
        async with self._turns.slot(CALLER.get().owner):
            work = partial(fetch, item.url, policy)
            try:
                data = await asyncio.get_running_loop().run_in_executor(self._pool, work)
            except (InputError, TooLarge) as error:
                raise type(error)(f"{item.label}: {error}", param=item.field) from error
        try:
            reserve(len(data))
        except TooLarge as error:
            raise TooLarge(
                "The body and what is at its addresses have more bytes than one request may have "
                "(max_body_bytes). Send the inputs in parts.",
                param=item.field,
            ) from error
        return Video(data) if isinstance(item, VideoAddress) else Image(data)

    def close(self) -> None:
        """Fetch nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def addresses_of(inputs: Iterable[object]) -> list[PictureAddress | VideoAddress]:
    """Return the pictures and videos of a request that are not fetched yet."""
    return [part for part in parts_of(inputs) if isinstance(part, (PictureAddress, VideoAddress))]


def _fetched(item: Any, media: Mapping[tuple[type, str], Image | Video]) -> Any:
    """Return an input with pictures and videos in place of their addresses."""
    if isinstance(item, (PictureAddress, VideoAddress)):
        return media[type(item), item.url]
    if isinstance(item, MixedContent):
        return MixedContent(tuple(_fetched(part, media) for part in item.parts))
    return item


def policy_of(media_urls: str, hosts: Sequence[str], max_bytes: int) -> FetchPolicy:
    """Return what the settings ``media_urls`` and ``media_hosts`` allow."""
    return replace(
        FetchPolicy(), enabled=media_urls != "off", allow_http=media_urls == "http", hosts=hosts, max_bytes=max_bytes
    )
