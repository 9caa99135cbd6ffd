"""`Features`: one input as a processor prepared it, text or picture: what the model reads, and what that costs."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import numpy as np

from nearfield.arrays import Array


class Features(Protocol):
    """One input as a processor prepared it. Schedulers and caches know nothing else of it."""

    @property
    def cost(self) -> int:
        """Rows of hidden states that the model computes for it: tokens of a text, patches of a picture."""
        ...

    def digest(self) -> bytes:
        """Return bytes that are equal only for inputs with equal arrays: the key of the result cache."""
        ...

    def arrays(self) -> Mapping[str, Array]:
        """Return what the graph reads, by names of ``ops.INPUTS``; the first axis of each array has ``cost`` rows."""
        ...


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """The token ids of a text."""

    ids: Sequence[int]

    @property
    def cost(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    def digest(self) -> bytes:
        """Return the ids as bytes. Files on disk hold keys that contain these, so they cannot change."""
        return np.asarray(self.ids, np.int64).tobytes()

    def arrays(self) -> Mapping[str, Array]:
        """Return ``ids``, int32 [tokens]."""
        return {"ids": np.asarray(self.ids, np.int32)}


@dataclass(frozen=True)
class JoinedTexts:
    """The features of several texts in one buffer, as they are sent to another process: token ids as int32."""

    ids: bytes
    lengths: Sequence[int]

    @classmethod
    def join(cls, inputs: Sequence[Features]) -> JoinedTexts | Sequence[Features]:
        """Join features if all are those of texts; otherwise return them: large arrays need no joining."""
        texts = [item for item in inputs if isinstance(item, TextFeatures)]
        if len(texts) != len(inputs):
            return inputs
        joined = b"".join(array("i", item.ids).tobytes() for item in texts)
        return cls(joined, [len(item.ids) for item in texts])

    def split(self) -> list[TextFeatures]:
        """Return the features of each text; their ids are views of the buffer."""
        ids = np.frombuffer(self.ids, np.int32)
        ends = itertools.accumulate(self.lengths, initial=0)
        return [TextFeatures(cast("Sequence[int]", ids[start:end])) for start, end in itertools.pairwise(ends)]


@dataclass(frozen=True)
class PatchLayout:
    """How the pixels of a picture become rows of numbers, one row a patch; all pictures of a model share it.

    ``patch`` is the edge of a patch in pixels. ``channels_last`` orders a row's values as (row, column, channel), as
    linear patch embeddings read them; otherwise as (channel, row, column), which is the order of a convolution's
    kernel. ``lead`` rows of zeros come first: slots of the class token and of register tokens, to which the family's
    position table adds their vectors. Pixels of type uint8 are multiplied by ``rescale``, then normalised by ``mean``
    and ``std`` of each channel; pixels of type float32 are normalised already.
    """

    patch: int
    channels_last: bool = False
    lead: int = 0
    rescale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @cached_property
    def values(self) -> Array:
        """The normalised value of each 8-bit value of each channel, float32 [3, 256]."""
        rescaled = (np.arange(256) * self.rescale).astype(np.float32)
        mean, std = (np.asarray(one, np.float32)[:, None] for one in (self.mean, self.std))
        table: Array = (rescaled - mean) / std
        return table

    def normalised(self, pixels: Array) -> Array:
        """Return pixels [H, W, 3] as float32, as the model reads them."""
        if pixels.dtype != np.uint8:
            return pixels
        return np.stack([np.take(self.values[channel], pixels[..., channel]) for channel in range(3)], axis=-1)

    def rows(self, pixels: Array) -> Array:
        """Return patches row by row, float32 [lead + patches, 3 x patch x patch], of pixels [H, W, 3]."""
        size, (height, width) = self.patch, pixels.shape[:2]
        cut = self.normalised(pixels).reshape(height // size, size, width // size, size, 3)
        order = (0, 2, 1, 3, 4) if self.channels_last else (0, 2, 4, 1, 3)
        rows = np.zeros((self.lead + height * width // size**2, 3 * size * size), np.float32)
        rows[self.lead :] = cut.transpose(order).reshape(-1, rows.shape[1])
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class PatchFeatures:
    """A picture, resized and cropped: uint8 or float32 [H, W, 3], whose sides are multiples of the patch.

    ``content`` is a digest of what the picture was decoded from: how it was prepared is part of the model's space.
    """

    pixels: Array
    layout: PatchLayout
    content: bytes = b""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.pixels.shape[0] // self.layout.patch, self.pixels.shape[1] // self.layout.patch

    @property
    def cost(self) -> int:
        """Number of patches, and of the slots before them."""
        rows, columns = self.grid
        return self.layout.lead + rows * columns

    def digest(self) -> bytes:
        """Return the digest of the content, or of the pixels where that is unknown."""
        if self.content:
            return self.content
        return hashlib.sha256(repr(self.pixels.shape).encode() + np.ascontiguousarray(self.pixels).tobytes()).digest()

    def arrays(self) -> Mapping[str, Array]:
        """Return ``patches``, float32 [cost, 3 x patch x patch]."""
        return {"patches": self.layout.rows(self.pixels)}
