"""`Features`: one input as a processor prepared it, text, picture or sound: what the model reads, and its cost."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol, cast

import numpy as np

from nearfield.arrays import Array


class Features(Protocol):
    """One input as a processor prepared it. Schedulers and caches know nothing else of it."""

    @property
    def cost(self) -> int:
        """Rows of hidden states that the model computes for it: tokens of a text, patches of a picture."""
        ...

    @property
    def rows(self) -> int:
        """Length of the first axis of each of its arrays: the part of ``cost`` that is in the graph itself."""
        ...

    def digest(self) -> bytes:
        """Return bytes that are equal only for inputs with equal arrays: the key of the result cache."""
        ...

    def arrays(self) -> Mapping[str, Array]:
        """Return what the graph reads, by names of ``ops.INPUTS``; the first axis of each array has ``rows`` rows."""
        ...


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """The token ids of a text."""

    ids: Sequence[int]

    @property
    def cost(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    @property
    def rows(self) -> int:
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


def _digest(array: Array, facts: object) -> bytes:
    """Return a digest of an array's values and of facts about it, such as its shape."""
    return hashlib.sha256(repr(facts).encode() + np.ascontiguousarray(array).tobytes()).digest()


@dataclass(frozen=True)
class PatchLayout:
    """How the pixels of a picture become rows of numbers, one row a patch; all pictures of a model share it.

    ``patch`` is the edge of a patch in pixels. ``channels_last`` orders a row's values as (row, column, channel), as
    linear patch embeddings read them; otherwise as (channel, row, column), which is the order of a convolution's
    kernel. ``lead`` rows of zeros come first: slots of the class token and of register tokens, to which the family's
    position table adds their vectors. Pixels of type uint8 are multiplied by ``rescale``, then normalised by ``mean``
    and ``std`` of each channel; pixels of type float32 are normalised already.

    Patches run row by row. With ``merge``, blocks of ``merge`` x ``merge`` patches do, and the patches of a block are
    neighbours: a tower joins them to one row. With ``temporal``, a patch has the pixels of that many frames, ordered as
    (channel, frame, row, column); a still picture fills all of them.
    """

    patch: int
    channels_last: bool = False
    lead: int = 0
    rescale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    merge: int = 1
    temporal: int = 1

    @property
    def width(self) -> int:
        """Values of a patch."""
        return 3 * self.temporal * self.patch**2

    @cached_property
    def values(self) -> Array:
        """The normalised value of each 8-bit value of each channel, float32 [3, 256]."""
        rescaled = (np.arange(256) * self.rescale).astype(np.float32)
        mean, std = (np.asarray(one, np.float32)[:, None] for one in (self.mean, self.std))
        table: Array = (rescaled - mean) / std
        return table

    def normalised(self, pixels: Array) -> Array:
        """Return pixels [..., 3] as float32, as the model reads them."""
        if pixels.dtype != np.uint8:
            return pixels
        return np.stack([np.take(self.values[channel], pixels[..., channel]) for channel in range(3)], axis=-1)

    def rows(self, pixels: Array) -> Array:
        """Return patches, float32 [lead + patches, width], of pixels [H, W, 3] or of frames [temporal, H, W, 3]."""
        size, (height, width) = self.patch, pixels.shape[-3:-1]
        rows = np.zeros((self.lead + height * width // size**2, self.width), np.float32)
        if self.merge > 1 or self.temporal > 1:
            rows[self.lead :] = self._blocks(self.normalised(pixels))
            return rows
        cut = self.normalised(pixels).reshape(height // size, size, width // size, size, 3)
        order = (0, 2, 1, 3, 4) if self.channels_last else (0, 2, 4, 1, 3)
        rows[self.lead :] = cut.transpose(order).reshape(-1, rows.shape[1])
        return rows

    def _blocks(self, pixels: Array) -> Array:
        """Return the patches of frames, block after block: [patches, width]."""
        size, merge, (height, width) = self.patch, self.merge, pixels.shape[-3:-1]
        frames = pixels if pixels.ndim == 4 else np.broadcast_to(pixels, (self.temporal, *pixels.shape))
        tall, wide = height // (merge * size), width // (merge * size)
        cut = frames.reshape(self.temporal, tall, merge, size, wide, merge, size, 3)
        # Axes: 0 frame; 1, 4 block; 2, 5 patch of the block; 3, 6 pixel of the patch; 7 channel.
        order = (1, 4, 2, 5, 0, 3, 6, 7) if self.channels_last else (1, 4, 2, 5, 7, 0, 3, 6)
        return cut.transpose(order).reshape(-1, self.width)


@dataclass(frozen=True, slots=True, eq=False)
class PatchFeatures:
    """A picture, resized and cropped: uint8 or float32 [H, W, 3], whose sides are multiples of the patch.

    It may be frames that share their patches, [frames, H, W, 3], as many as the layout's ``temporal``.

    ``content`` is a digest of what the picture was decoded from: how it was prepared is part of the model's space.
    """

    pixels: Array
    layout: PatchLayout
    content: bytes = b""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.pixels.shape[-3:-1]
        return height // self.layout.patch, width // self.layout.patch

    @property
    def cost(self) -> int:
        """Number of patches, and of the slots before them."""
        rows, columns = self.grid
        return self.layout.lead + rows * columns

    @property
    def rows(self) -> int:
        """Number of patches, and of the slots before them."""
        return self.cost

    def digest(self) -> bytes:
        """Return the digest of the content, or of the pixels where that is unknown."""
        return self.content or _digest(self.pixels, self.pixels.shape)

    def arrays(self) -> Mapping[str, Array]:
        """Return ``patches``, float32 [cost, width of the layout]."""
        return {"patches": self.layout.rows(self.pixels)}


def morton(side: int) -> tuple[Array, Array]:
    """Return row and column of each cell of a grid in Morton order, int64 [side²]; ``side`` is a power of two.

    Cells of an aligned block of 2 x 2, 4 x 4 and so on are neighbours. The four of the smallest run down first.
    """
    numbers = np.arange(side * side)
    bits = range(side.bit_length() - 1)
    row, column = (sum((numbers >> (2 * bit + axis) & 1) << bit for bit in bits) for axis in (0, 1))
    return numbers * 0 + row, numbers * 0 + column


@dataclass(frozen=True)
class MelLayout:
    """How mel spectrograms become rows of numbers, for a Swin transformer whose grid is halved between its stages.

    Time is stretched to ``side²/bins`` frames, cut into ``side/bins`` parts, and the parts are stacked: a picture of
    ``side`` x ``side`` values, with frequencies down and time across (HTSAT, arXiv:2202.00874). It is cut into patches
    of ``patch`` x ``patch``. In a ``fused`` model, each patch has also ``patch`` x 3 ``patch`` values of one of three
    crops of the sound, which fill the grid from left to right, and 1 where the sound is long (arXiv:2211.06687).
    A row is what becomes one token of the last stage: a block of patches, which are in Morton order throughout.
    """

    side: int = 256
    bins: int = 64
    patch: int = 4
    stages: int = 4
    fused: bool = False

    @property
    def frames(self) -> int:
        """Frames that the picture has room for."""
        return self.side**2 // self.bins

    @property
    def grid(self) -> int:
        """Patches along an edge."""
        return self.side // self.patch

    @property
    def count(self) -> int:
        """Number of rows, which are tokens of the last stage."""
        return (self.grid >> (self.stages - 1)) ** 2

    @property
    def values(self) -> int:
        """Values of a patch."""
        return 4 * self.patch**2 + 1 if self.fused else self.patch**2

    @property
    def width(self) -> int:
        """Values of a row."""
        return self.grid**2 // self.count * self.values

    @cached_property
    def bin_numbers(self) -> Array:
        """The mel bin of each value of each patch, int64 [patches, values]; -1 for what is no mel value."""
        bins = np.broadcast_to((np.arange(self.side) % self.bins)[:, None], (self.side, self.side))
        return self._patches(np.stack([bins] * (4 if self.fused else 1)), -1, -1)

    def rows(self, mels: Array, is_long: bool) -> Array:
        """Return float32 [count, width] of mels [1, frames, bins], or [4, frames, bins]: the whole and three crops."""
        pictures = np.stack([self._fold(stretch(mel, self.frames)) for mel in mels])
        return np.ascontiguousarray(self._patches(pictures, 0, is_long), np.float32).reshape(self.count, self.width)

    def widened(self, weight: Array, start: int) -> Array:
        """Return a layer of a part of a patch's values, from ``start`` on, as a layer of all of them."""
        wide = np.zeros((len(weight), self.values), weight.dtype)
        wide[:, start : start + weight.shape[1]] = weight
        return wide

    def _fold(self, mel: Array) -> Array:
        parts = mel.reshape(self.side // self.bins, self.side, self.bins)
        return parts.transpose(0, 2, 1).reshape(self.side, self.side)

    def _patches(self, pictures: Array, filler: int, flag: int) -> Array:
        """Return the patches of one picture, or of four, in Morton order: [patches, values]."""
        order = morton(self.grid)
        whole = self._split(pictures[0], self.patch)[order]
        if not self.fused:
            return whole
        crops = np.concatenate([self._split(picture, 3 * self.patch) for picture in pictures[1:]], axis=1)
        padded = np.full((self.grid, self.grid, crops.shape[2]), filler, crops.dtype)
        padded[:, : crops.shape[1]] = crops
        return np.concatenate([whole, padded[order], np.full((len(whole), 1), flag, whole.dtype)], axis=1)

    def _split(self, picture: Array, width: int) -> Array:
        """Cut a picture into pieces ``patch`` high and ``width`` wide: [grid, pieces, values]. A rest is left out."""
        pieces = self.side // width
        cut = picture[:, : pieces * width].reshape(self.grid, self.patch, pieces, width)
        return cut.transpose(0, 2, 1, 3).reshape(self.grid, pieces, -1)


def stretch(mel: Array, frames: int) -> Array:
    """Stretch [frames before, bins] to ``frames`` frames, float32, bicubic with aligned corners, as torch does it."""
    if len(mel) == frames:
        return np.asarray(mel, np.float32)
    columns, weights = _taps(len(mel), frames)
    return np.asarray((np.asarray(mel, np.float32)[columns] * weights[:, :, None]).sum(1), np.float32)


@lru_cache(maxsize=8)
def _taps(before: int, after: int) -> tuple[Array, Array]:
    """Return the four frames around each new one, int64 [after, 4], and their weights (Keys' kernel, a = -0.75)."""
    scale = np.float32(before - 1) / np.float32(after - 1)
    at = np.arange(after, dtype=np.float32) * scale
    first = np.floor(at)
    near = at - first
    columns = np.clip(first.astype(int)[:, None] + np.arange(-1, 3), 0, before - 1)
    weights = [_outer(near + 1), _inner(near), _inner(1 - near), _outer(2 - near)]
    return columns, np.stack(weights, axis=1)


def _inner(x: Array) -> Array:
    return np.asarray((1.25 * x - 2.25) * x * x + 1)


def _outer(x: Array) -> Array:
    return np.asarray(((-0.75 * x + 3.75) * x - 6) * x + 3)


@dataclass(frozen=True, slots=True, eq=False)
class MelFeatures:
    """One window of a sound as mel spectrograms in decibel, float32 [1 or 4, frames, bins]; see ``MelLayout``.

    ``content`` is a digest of the samples and of the window's place: how they were prepared is part of the model's
    space.
    """

    mels: Array
    layout: MelLayout
    is_long: bool = False
    content: bytes = b""

    @property
    def cost(self) -> int:
        """Number of rows: each costs what a token of the last stage's width costs in a transformer of all blocks."""
        return self.layout.count

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.layout.count

    def digest(self) -> bytes:
        """Return the digest of the content, or of the values where that is unknown."""
        return self.content or _digest(self.mels, (self.mels.shape, self.is_long))

    def arrays(self) -> Mapping[str, Array]:
        """Return ``patches``, float32 [cost, width]."""
        return {"patches": self.layout.rows(self.mels, self.is_long)}


@dataclass(frozen=True, slots=True, eq=False)
class FrameFeatures:
    """A sound as log-mel frames, float32 [frames, bins], of which two convolutions of stride 2 make tokens.

    ``content`` is a digest of the samples: how they were prepared is part of the model's space. ``dropped`` is the
    number of tokens that the rest of a sound would have, of which only the first seconds are read.
    """

    mels: Array
    content: bytes = b""
    dropped: int = 0

    @property
    def cost(self) -> int:
        """Number of tokens: one for each four frames that begin."""
        return -(-len(self.mels) // 4)

    @property
    def rows(self) -> int:
        """Number of tokens."""
        return self.cost

    def digest(self) -> bytes:
        """Return the digest of the content, or of the values where that is unknown."""
        return self.content or _digest(self.mels, self.mels.shape)

    def arrays(self) -> Mapping[str, Array]:
        """Return ``patches``, float32 [tokens, 3 x (bins / 2 + 1) x 9].

        They are what the first convolution (3 x 3, stride 2) reads for each output that the second one reads for a
        token: of three frames, each bin and one before them. What lies outside of the sound is zero, in both.
        """
        frames, bins = self.mels.shape
        halved, count = -(-frames // 2), self.cost
        padded = np.pad(self.mels, ((1, 2), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[::2, ::2][:halved, : bins // 2]
        outputs = np.zeros((2 * count + 1, bins // 2 + 1, 9), np.float32)
        outputs[1 : halved + 1, 1:] = windows.reshape(halved, bins // 2, 9)
        parts = [outputs[start : start + 2 * count : 2] for start in range(3)]
        return {"patches": np.stack(parts, axis=1).reshape(count, -1)}
