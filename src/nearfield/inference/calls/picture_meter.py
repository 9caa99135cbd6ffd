"""`PictureMeter`: the millions of pixels that a call has encoded, for its progress bar."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from nearfield.inference.preparation.inputs import Input
from nearfield.media.content import MixedContent
from nearfield.media.image import Image


class PictureMeter:
    """Notes the pictures of a call as they are consumed, and counts their pixels once they are encoded.

    Args:
        items: the inputs of the call.
    """

    def __init__(self, items: Iterable[Input]) -> None:
        self._items = items
        self._pending = deque[tuple[Image, ...]]()

    def __iter__(self) -> Iterator[Input]:
        for item in self._items:
            self._pending.append(_pictures(item))
            yield item

    def take(self, count: int) -> float:
        """Return the millions of pixels of the next inputs that are done, before they were resized."""
        done = [self._pending.popleft() for _ in range(count)]
        return sum(picture.pixel_count() for pictures in done for picture in pictures) / 1e6


def _pictures(item: object) -> tuple[Image, ...]:
    if isinstance(item, MixedContent):
        return item.parts_of(Image)
    return (item,) if isinstance(item, Image) else ()
