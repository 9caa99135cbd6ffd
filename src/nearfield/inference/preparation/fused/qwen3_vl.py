"""Sequences of Qwen3-VL-Embedding: videos, pictures, then the text, in the template of a chat."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby, islice
from typing import TYPE_CHECKING

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.processors.patch_budget import FrameBudget, SmartResize
from nearfield.checkpoint.processors.video import EMBEDDER_FRAMES, VideoProcessor, read_video_processor
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import ModelRefused
from nearfield.features import PatchFeatures, PatchLayout
from nearfield.fused_features import FusedFeatures, MediaPart
from nearfield.inference.preparation.fused import FusedInput, FusedOptions, PairProcessor, SequenceBuilder
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.media.limits import stop_if_abandoned
from nearfield.media.video.video import Video
from nearfield.recipe import Recipe

if TYPE_CHECKING:
    from nearfield.inference.processors import MediaProcessor

_START, _END, _PICTURE = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"
#: Rows of a pair of frames, at the least and at the most, and rows of all pairs of a video, as the model's embedder
#: reads them where no file says another number.
_LEAST_ROWS, _MOST_ROWS, _VIDEO_ROWS = 128, 768, 7680


class Qwen3VlProcessor(PairProcessor):
    """Videos come before pictures, and both before texts, in whatever order the caller gives them, as in training.

    A pair of frames is read as a picture is, after the time of its middle. Of a sequence that is too long the end of
    the text is dropped; pictures and the end of the template stay.
    """

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, media: Mapping[str, MediaProcessor]) -> None:
        super().__init__(recipe, tokenizer, media)
        self._start, self._end, self._picture = (self.token(name) for name in (_START, _END, _PICTURE))
        stated = recipe.fused["image"].config.get("image_token_id", self._picture)
        if stated != self._picture:
            raise ModelRefused(
                f"config.json: image_token_id is {stated!r}, and the tokenizer's {_PICTURE} has the id {self._picture}"
            )
        self._pictures = media["image"]
        images, layout = getattr(self._pictures, "images", None), getattr(self._pictures, "layout", None)
        if not isinstance(images, SmartResize) or layout is None or images.merge != layout.merge:
            raise ModelRefused(
                "the processor of pictures must be Qwen2VLImageProcessor, with the merge_size of the config's "
                "spatial_merge_size"
            )
        self._merge: int = layout.merge
        self._layout = layout
        self._videos = read_video_processor(recipe.fused["image"].folder) or VideoProcessor(images, EMBEDDER_FRAMES)
        _check_frames(self._videos.images, layout)
        self._frame = recipe.fused["image"].config.get("video_token_id", self._picture)

    def read(self, content: MixedContent, options: FusedOptions) -> FusedInput:
        videos, pictures = content.parts_of(Video), content.parts_of(Image)
        sequence = SequenceBuilder()
        sequence.add_words(self.tokenizer.prefix)
        # A special token ends the words before it: prompt, pictures and text are tokenised apart as they are together.
        for run in self._runs((options.prompt, *videos, *pictures), options):
            if isinstance(run, PatchFeatures):
                self._add_picture(sequence, run)
            else:
                sequence.add_words(run)
        tail = self.tokenizer.suffix
        words, dropped = self.fitting_tokens(content.text, options.max_length - len(sequence.ids) - len(tail), options)
        sequence.add_words(words)
        sequence.add_words(tail)
        return self._finished(sequence, dropped, self.tokenizer.count_unknown(words))

    def read_in_order(self, content: MixedContent, tail: Sequence[int], options: FusedOptions) -> FusedInput:
        runs = self._runs(content.parts, options)
        special = sum(self._rows(run) + 2 for run in runs if isinstance(run, PatchFeatures)) + len(tail)
        room = self.room(special, sum(len(run) for run in runs if isinstance(run, list)), options)
        sequence, dropped, unknown = SequenceBuilder(), 0, 0
        for run in runs:
            if isinstance(run, PatchFeatures):
                self._add_picture(sequence, run)
                continue
            sequence.add_words(run[:room])
            unknown += self.tokenizer.count_unknown(run[:room])
            dropped, room = dropped + max(0, len(run) - room), max(0, room - len(run))
        sequence.add_words(tail)
        return self._finished(sequence, dropped, unknown)

    def _runs(
        self, parts: Sequence[str | Image | Audio | Video], options: FusedOptions
    ) -> list[list[int] | PatchFeatures]:
        """Return the tokens of texts that follow one another, and the pictures and pairs of frames between them.

        Raises:
            InputTooLong: these alone are too many. What comes after is not decoded.
        """
        pieces: list[str | PatchFeatures] = []
        rows = 0
        with closing(self._pieces(parts, options)) as read:
            for piece in read:
                stop_if_abandoned()
                pieces.append(piece)
                if isinstance(piece, PatchFeatures):
                    rows += self._rows(piece) + 2
                    self.room(rows, 0, options)
        runs: list[list[int] | PatchFeatures] = []
        for is_text, run in groupby(pieces, lambda piece: isinstance(piece, str)):
            if is_text:
                text = "".join(str(piece) for piece in run)
                runs += [self.tokens(text)] if text else []
            else:
                runs += [piece for piece in run if isinstance(piece, PatchFeatures)]
        return runs

    def _pieces(
        self, parts: Sequence[str | Image | Audio | Video], options: FusedOptions
    ) -> Generator[str | PatchFeatures, None, None]:
        for part in parts:
            if isinstance(part, Video):
                yield from self._read_video(part, options)
            elif isinstance(part, Image):
                yield self._read_picture(part, options)
            else:
                yield str(part)

    def _read_video(self, video: Video, options: FusedOptions) -> Generator[str | PatchFeatures, None, None]:
        """Yield the time of each pair of frames, and the pair. All frames, as they are decoded, may be gigabytes."""
        with closing(video.frames(self._videos.rule, options.media.videos)) as frames:
            while read := list(islice(frames, 2)):
                first, second = read[0], read[-1]  # of a damaged video one may be missing
                images = _frame_processor(self._videos.images, first.chosen)
                pair = [images.process(frame.picture, self._layout) for frame in (first, second)]
                content = hashlib.sha256(images.digest.encode() + b"".join(part.digest() for part in pair))
                yield f"<{(first.seconds + second.seconds) / 2:.1f} seconds>"
                yield PatchFeatures(np.stack([part.pixels for part in pair]), pair[0].layout, content.digest())

    def _add_picture(self, sequence: SequenceBuilder, picture: PatchFeatures) -> None:
        sequence.add_words([self._start])
        token = self._picture if picture.pixels.ndim == 3 else self._frame
        sequence.add_medium("image", picture, self._rows(picture), token)
        sequence.add_words([self._end])

    def _rows(self, picture: PatchFeatures) -> int:
        return picture.cost // self._merge**2

    def _finished(self, sequence: SequenceBuilder, dropped: int, unknown: int) -> FusedInput:
        parts = tuple(sequence.parts)
        positions = rotary_positions(len(sequence.ids), parts, self._merge)
        return FusedInput(FusedFeatures(sequence.ids, parts, positions), dropped, unknown)

    def _read_picture(self, image: Image, options: FusedOptions) -> PatchFeatures:
        known = {} if options.prepared is None else options.prepared
        if id(image) not in known:
            known[id(image)] = self._pictures.read(image, options.media)[0]  # type: ignore[arg-type]  # that of pictures
        picture = known[id(image)]
        assert isinstance(picture, PatchFeatures)
        return picture


def _frame_processor(images: ImageProcessor, chosen: int) -> ImageProcessor:
    """Return what prepares the frames of a video of which ``chosen`` are read."""
    if isinstance(images, FrameBudget):
        return images.for_frames(chosen)
    assert isinstance(images, SmartResize)
    unit = (images.patch_size * images.merge) ** 2
    most = max(min(_MOST_ROWS, 2 * _VIDEO_ROWS / chosen), 1.05 * _LEAST_ROWS)
    return replace(images, min_pixels=_LEAST_ROWS * unit, max_pixels=int(most * unit))


def _check_frames(images: ImageProcessor, layout: PatchLayout) -> None:
    """Raise ModelRefused unless frames have the patches of the model's config."""
    temporal = getattr(images, "temporal", layout.temporal)
    sizes = (getattr(images, "patch_size", 0), getattr(images, "merge", 0), temporal)
    expected = (layout.patch, layout.merge, layout.temporal)
    if sizes != expected:
        raise ModelRefused(
            "the processor of videos must be Qwen3VLVideoProcessor, with the config's patch_size, spatial_merge_size "
            f"and temporal_patch_size: it has {', '.join(map(str, sizes))}, and they are "
            f"{', '.join(map(str, expected))}"
        )


def rotary_positions(length: int, parts: tuple[MediaPart, ...], merge: int) -> Array:
    """Return time, row and column of each token, int32 [3, length] (transformers' ``get_rope_index``).

    The three are one number for a word. A picture's rows share the time, and count rows and columns of its grid from
    there on; the next word follows the largest of them.
    """
    positions = np.zeros((3, length), np.int32)
    start, after = 0, 0
    for part in parts:
        assert isinstance(part.features, PatchFeatures)
        rows, columns = (side // merge for side in part.features.grid)
        first = int(part.places[0])
        positions[:, start:first] = np.arange(first - start) + after
        after += first - start
        places = np.arange(rows * columns)
        positions[:, part.places] = after + np.stack([places * 0, places // columns, places % columns])
        start, after = first + len(part.places), after + max(rows, columns)
    positions[:, start:] = np.arange(length - start) + after
    return positions
