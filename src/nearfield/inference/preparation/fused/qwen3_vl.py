"""Sequences of Qwen3-VL-Embedding: pictures, then the text, in the template of a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.processors.patch_budget import SmartResize
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import ModelRefused
from nearfield.features import PatchFeatures
from nearfield.fused_features import FusedFeatures, MediaPart
from nearfield.inference.preparation.fused import FusedInput, FusedOptions, PairProcessor, SequenceBuilder
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.recipe import Recipe

if TYPE_CHECKING:
    from nearfield.inference.processors import MediaProcessor

_START, _END, _PICTURE = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"


class Qwen3VlProcessor(PairProcessor):
    """Pictures come before texts, in whatever order the caller gives them: so the model was trained.

    Of a sequence that is too long the end of the text is dropped; pictures and the end of the template stay.
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

    def read(self, content: MixedContent, options: FusedOptions) -> FusedInput:
        pictures = [self._read_picture(image, options) for image in content.parts_of(Image)]
        sequence = SequenceBuilder()
        sequence.add_words(self.tokenizer.prefix)
        # A special token ends the words before it: prompt, pictures and text are tokenised apart as they are together.
        sequence.add_words(self.tokens(options.prompt) if options.prompt else [])
        for picture in pictures:
            self._add_picture(sequence, picture)
        tail = self.tokenizer.suffix
        words, dropped = self.fitting_tokens(content.text, options.max_length - len(sequence.ids) - len(tail), options)
        sequence.add_words(words)
        sequence.add_words(tail)
        return self._finished(sequence, dropped, self.tokenizer.count_unknown(words))

    def read_in_order(self, content: MixedContent, tail: Sequence[int], options: FusedOptions) -> FusedInput:
        runs: list[list[int] | PatchFeatures] = []
        for is_text, parts in groupby(content.parts, lambda part: isinstance(part, str)):
            if is_text:
                runs.append(self.tokens("".join(str(part) for part in parts)))
            else:
                runs += [self._read_picture(image, options) for image in parts if isinstance(image, Image)]
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

    def _add_picture(self, sequence: SequenceBuilder, picture: PatchFeatures) -> None:
        sequence.add_words([self._start])
        sequence.add_medium("image", picture, self._rows(picture), self._picture)
        sequence.add_words([self._end])

    def _rows(self, picture: PatchFeatures) -> int:
        return picture.cost // self._merge**2

    def _finished(self, sequence: SequenceBuilder, dropped: int, unknown: int) -> FusedInput:
        parts = tuple(sequence.parts)
        positions = rotary_positions(len(sequence.ids), parts, self._merge)
        return FusedInput(FusedFeatures(sequence.ids, parts, positions), dropped, unknown)

    def _read_picture(self, image: Image, options: FusedOptions) -> PatchFeatures:
        picture = self._pictures.read(image, options.media)[0]  # type: ignore[arg-type]  # that of pictures
        assert isinstance(picture, PatchFeatures)
        return picture


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
