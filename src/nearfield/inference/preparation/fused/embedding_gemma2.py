"""Sequences of EmbeddingGemma 2: the prompt, then texts and media in the caller's order, as its chat template does.

The template is that of google/embeddinggemma-2, which puts nothing between the parts. So does sentence-transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.processors.patch_budget import SoftTokenBudget
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.tokenizer.truncation import Truncate, UntruncatedIds
from nearfield.errors import InputError, ModelRefused
from nearfield.features import Features, FrameFeatures
from nearfield.fused_features import FusedFeatures
from nearfield.inference.preparation.fused import FusedInput, FusedOptions, FusedProcessor, SequenceBuilder
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.media.limits import stop_if_abandoned
from nearfield.media.video.video import Video
from nearfield.recipe import Recipe

if TYPE_CHECKING:
    from nearfield.inference.processors import MediaProcessor

#: Fields of config.json by modality: the token before a medium, that of each of its rows, and the one after it.
_TOKENS: Mapping[str, tuple[str, str, str]] = {
    "image": ("boi_token_id", "image_token_id", "eoi_token_id"),
    "audio": ("boa_token_id", "audio_token_id", "eoa_token_index"),
}
#: A part of a sequence.
Part = str | Image | Audio | Video


@dataclass(frozen=True)
class Medium:
    """A picture or sound as its tower reads it, the rows that it has in the sequence, and those that were dropped."""

    modality: str
    features: Features
    rows: int
    dropped: int = 0


class EmbeddingGemma2Processor(FusedProcessor):
    """Texts, pictures and sounds as they come.

    A text that contains the placeholder of a medium (``<|image|>``) says itself where media stand: the first
    placeholder is the first picture. Of a sequence that is too long, texts are cut, and media never.
    """

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, media: Mapping[str, MediaProcessor]) -> None:
        super().__init__(recipe, tokenizer, media)
        self._tokens = {name: _tokens(tower.config, name, tokenizer) for name, tower in recipe.fused.items()}
        self._places = {tokenizer.backend.id_to_token(own[1]): name for name, own in self._tokens.items()}
        self._pattern = re.compile(f"({'|'.join(map(re.escape, self._places))})")
        self._patches = _patches_of_a_row(media["image"]) if "image" in media else 1

    def read(self, content: MixedContent, options: FusedOptions) -> FusedInput:
        runs = self._runs(content, options)
        runs, dropped = self._shortened(runs, options)
        sequence = SequenceBuilder()
        sequence.add_words(self.tokenizer.prefix)
        unknown = 0
        for run in runs:
            if isinstance(run, Medium):
                dropped += run.dropped
                begin, token, end = self._tokens[run.modality]
                sequence.add_words([begin])
                sequence.add_medium(run.modality, run.features, run.rows, token)
                sequence.add_words([end])
                continue
            self.tokenizer.check_rows(run.ids, "the text")
            unknown += self.tokenizer.count_unknown(run.ids)
            sequence.add_words(run.ids)
        sequence.add_words(self.tokenizer.suffix)
        return FusedInput(FusedFeatures(sequence.ids, tuple(sequence.parts)), dropped, unknown)

    def _in_place(self, content: MixedContent) -> Iterator[Part]:
        """Yield texts and media in order: the caller's, or that of the placeholders in the texts."""
        texts = self._pattern.split(content.text)
        if len(texts) == 1:
            yield from content.parts
            return
        media: dict[str, Sequence[Image | Audio]] = {
            "image": content.parts_of(Image),
            "audio": content.parts_of(Audio),
        }
        for placeholder, modality in self._places.items():
            if (count := texts.count(placeholder)) != len(media[modality]):
                raise InputError(
                    f"The placeholder {placeholder} is {count} times in the text, and there are {len(media[modality])} "
                    f"inputs of modality {modality!r}: write one for each, or no placeholders.",
                    param="input",
                )
        left = {name: iter(parts) for name, parts in media.items()}
        for text in texts:
            yield next(left[self._places[text]]) if text in self._places else text

    def _runs(self, content: MixedContent, options: FusedOptions) -> list[UntruncatedIds | Medium]:
        """Return tokens and media. If media alone are too long, those that come after are not decoded."""
        runs: list[UntruncatedIds | Medium] = []
        rows = 0
        for part in _joined(options.prompt, self._in_place(content)):
            stop_if_abandoned()
            runs.append(run := self._run(part, options))
            if isinstance(run, Medium):
                rows += run.rows + 2
                self.room(rows, 0, options)
        return runs

    def _run(self, part: Part, options: FusedOptions) -> UntruncatedIds | Medium:
        if isinstance(part, str):
            return self.tokenizer.encode_bare([part], options.max_length, self._side(options))[0]
        if isinstance(part, Video):
            raise InputError("Videos are not read among texts here: give frames of it as pictures.", param="input")
        modality = "image" if isinstance(part, Image) else "audio"
        features = self.media[modality].read(part, options.media)[0]  # type: ignore[arg-type]  # of that modality
        if isinstance(features, FrameFeatures):
            return Medium(modality, features, features.cost, features.dropped)
        return Medium(modality, features, features.cost // self._patches)

    def _side(self, options: FusedOptions) -> Truncate:
        side = self.tokenizer.side if options.truncate is None else options.truncate
        return "left" if side == "left" else "right"

    def _shortened(
        self, runs: Sequence[UntruncatedIds | Medium], options: FusedOptions
    ) -> tuple[list[UntruncatedIds | Medium], int]:
        """Return the runs with texts cut so that all fit, and the number of dropped tokens."""
        texts = [run for run in runs if isinstance(run, UntruncatedIds)]
        special = len(self.tokenizer.prefix) + len(self.tokenizer.suffix)
        special += sum(run.rows + 2 for run in runs if isinstance(run, Medium))
        words = sum(text.count for text in texts)
        room = self.room(special, words, options)
        if words <= room:
            return list(runs), 0
        # As of a text alone: what the model's own files drop on the left may be the prompt.
        head = room if self._side(options) == "right" else 0
        if options.truncate == "left" and options.prompt:
            head = min(room, len(self.tokens(options.prompt)))
        places = _places_left([len(text.ids) for text in texts], head, room)
        cut = [
            UntruncatedIds([run.ids[place] for place in next(places)]) if isinstance(run, UntruncatedIds) else run
            for run in runs
        ]
        return cut, words - room


def _tokens(config: JsonObject, modality: str, tokenizer: Tokenizer) -> tuple[int, int, int]:
    for name in _TOKENS[modality]:
        number = config.get(name)
        if not isinstance(number, int) or tokenizer.backend.id_to_token(number) is None:
            raise ModelRefused(f"config.json: {name} is {number!r}, and the tokenizer has no token of that number")
    begin, row, end = (int(config[name]) for name in _TOKENS[modality])
    return begin, row, end


def _patches_of_a_row(processor: MediaProcessor) -> int:
    images, layout = getattr(processor, "images", None), getattr(processor, "layout", None)
    if not isinstance(images, SoftTokenBudget) or layout is None or images.pooling != layout.merge:
        raise ModelRefused(
            "the processor of pictures must be Gemma4ImageProcessor, with the pooling_kernel_size of the config's "
            "vision_config"
        )
    return int(layout.merge) ** 2


def _joined(prompt: str, parts: Iterator[Part]) -> Iterator[Part]:
    """Yield parts after the prompt; texts that follow each other are one, and empty ones are left out."""
    text = prompt
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        if text:
            yield text
        yield part
        text = ""
    if text:
        yield text


def _places_left(lengths: Sequence[int], head: int, room: int) -> Iterator[list[int]]:
    """Yield the places of the tokens of each text that stay: of all, the first ``head``, and as many last as fit."""
    places = np.arange(sum(lengths))
    stays = (places < head) | (places >= len(places) - (room - head))
    for part in np.split(stays, np.cumsum(lengths)[:-1]):
        yield np.flatnonzero(part).tolist()
