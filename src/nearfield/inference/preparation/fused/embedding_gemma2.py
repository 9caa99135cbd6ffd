"""Sequences of EmbeddingGemma 2: the prompt, then texts and media in the caller's order, as its chat template does.

The template is that of google/embeddinggemma-2, which puts nothing between the parts. So does sentence-transformers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.processors.patch_budget import SoftTokenBudget
from nearfield.checkpoint.processors.video import VideoProcessor, read_video_processor
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.tokenizer.truncation import Truncate, UntruncatedIds
from nearfield.errors import InputError, ModelRefused
from nearfield.features import Features, FrameFeatures, PatchLayout
from nearfield.fused_features import FusedFeatures
from nearfield.inference.preparation.fused import FusedInput, FusedOptions, FusedProcessor, SequenceBuilder
from nearfield.inference.preparation.media_inputs import TOWERS
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
    "video": ("boi_token_id", "video_token_id", "eoi_token_id"),
}
#: A part of a sequence.
Part = str | Image | Audio | Video


@dataclass(frozen=True)
class Medium:
    """A picture, a sound or a frame of a video as its tower reads it, and the rows that it has in the sequence.

    ``before`` are tokens that stay with it, the time of a frame. ``dropped`` is what is not read of a sound.
    """

    modality: str
    features: Features
    rows: int
    dropped: int = 0
    before: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Its tokens, with those around it."""
        return len(self.before) + self.rows + 2


class EmbeddingGemma2Processor(FusedProcessor):
    """Texts, pictures, sounds and videos as they come.

    A text that contains the placeholder of a medium (``<|image|>``) says itself where media stand: the first
    placeholder is the first picture. A video is its frames, each after its time where the model's files say so. Of a
    sequence that is too long, texts are cut, and media never.
    """

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, media: Mapping[str, MediaProcessor]) -> None:
        super().__init__(recipe, tokenizer, media)
        self._tokens = {name: _tokens(tower.config, name, tokenizer) for name, tower in recipe.fused.items()}
        self._patches = _patches_of_a_row(media["image"]) if "image" in media else 1
        self._videos: VideoProcessor | None = None
        if "video" in recipe.reads:
            tower = recipe.fused["image"]
            self._tokens["video"] = _tokens(tower.config, "video", tokenizer)
            self._layout: PatchLayout = media["image"].layout  # type: ignore[union-attr]  # of pictures
            self._videos = _checked_videos(read_video_processor(tower.folder), self._layout)
        self._places = {tokenizer.backend.id_to_token(own[1]): name for name, own in self._tokens.items()}
        self._pattern = re.compile(f"({'|'.join(map(re.escape, self._places))})")

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
                sequence.add_words([*run.before, begin])
                sequence.add_medium(TOWERS.get(run.modality, run.modality), run.features, run.rows, token)
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
        media: dict[str, Sequence[Image | Audio | Video]] = {
            "image": content.parts_of(Image),
            "audio": content.parts_of(Audio),
            "video": content.parts_of(Video),
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
        size = 0
        with closing(self._media(self._in_place(content), options)) as parts:
            for part in _joined(options.prompt, parts):
                if isinstance(part, Medium):
                    size += part.size
                    self.room(size, 0, options)
                    runs.append(part)
                else:
                    runs.append(self.tokenizer.encode_bare([part], options.max_length, self._side(options))[0])
        return runs

    def _media(self, parts: Iterator[Part], options: FusedOptions) -> Generator[str | Medium, None, None]:
        """Yield texts unchanged, and media as their towers read them."""
        for part in parts:
            stop_if_abandoned()
            if isinstance(part, str):
                yield part
            elif isinstance(part, Video):
                yield from self._read_video(part, options)
            else:
                yield self._read_medium(part, options)

    def _read_medium(self, part: Image | Audio, options: FusedOptions) -> Medium:
        modality = "image" if isinstance(part, Image) else "audio"
        features = self.media[modality].read(part, options.media)[0]  # type: ignore[arg-type]  # of that modality
        if isinstance(features, FrameFeatures):
            return Medium(modality, features, features.cost, features.dropped)
        return Medium(modality, features, features.cost // self._patches)

    def _read_video(self, video: Video, options: FusedOptions) -> Generator[str | Medium, None, None]:
        """Yield the frames, each as a medium; the time of the first one is a text, as it may follow one."""
        videos = self._videos
        if videos is None:
            raise InputError(
                f"{video.name} is a video, and no file of the model says how these are read.", param="input"
            )
        before: tuple[int, ...] = ()
        with closing(video.frames(videos.rule, options.media.videos)) as frames:
            for number, frame in enumerate(frames):
                if videos.has_times and number:
                    before = tuple(self.tokens(f" {time_of(frame.seconds)} "))
                elif videos.has_times:
                    yield f"{time_of(frame.seconds)} "
                picture = videos.images.process(frame.picture, self._layout)
                content = hashlib.sha256(videos.images.digest.encode() + picture.digest()).digest()
                features = replace(picture, content=content)
                yield Medium("video", features, features.cost // self._patches, before=before)

    def _side(self, options: FusedOptions) -> Truncate:
        side = self.tokenizer.side if options.truncate is None else options.truncate
        return "left" if side == "left" else "right"

    def _shortened(
        self, runs: Sequence[UntruncatedIds | Medium], options: FusedOptions
    ) -> tuple[list[UntruncatedIds | Medium], int]:
        """Return the runs with texts cut so that all fit, and the number of dropped tokens."""
        texts = [run for run in runs if isinstance(run, UntruncatedIds)]
        special = len(self.tokenizer.prefix) + len(self.tokenizer.suffix)
        special += sum(run.size for run in runs if isinstance(run, Medium))
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


def time_of(seconds: float) -> str:
    """Return a time as minutes and seconds, as transformers' ``timestamp_fmt`` does: rounded, as half a second is."""
    whole = round(seconds)
    return f"{whole // 60:02d}:{whole % 60:02d}"


def _checked_videos(videos: VideoProcessor | None, layout: PatchLayout) -> VideoProcessor | None:
    """Raise ModelRefused unless frames have the patches that the tower reads."""
    if videos is None:
        return None
    images = videos.images
    if not isinstance(images, SoftTokenBudget) or (images.patch_size, images.pooling) != (layout.patch, layout.merge):
        raise ModelRefused(
            "the processor of videos must be EmbeddingGemma2VideoProcessor, with the patch_size and "
            "pooling_kernel_size of the config's vision_config"
        )
    return videos


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


def _joined(prompt: str, parts: Iterator[str | Medium]) -> Iterator[str | Medium]:
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
