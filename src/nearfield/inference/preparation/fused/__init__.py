"""From an input of several parts to one sequence: a `FusedProcessor` for each architecture that reads them together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Truncate
from nearfield.checkpoint.tokenizer.truncation import take, too_long
from nearfield.errors import InputTooLong, ModelRefused
from nearfield.features import Features
from nearfield.fused_features import FusedFeatures, MediaPart
from nearfield.media.content import MixedContent
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, MediaLimits
from nearfield.recipe import Recipe
from nearfield.registry import Registry

if TYPE_CHECKING:
    from nearfield.inference.processors import MediaProcessor

#: ``model_type`` of the part that reads texts to the class that makes its sequences.
PROCESSORS = Registry(
    "fused processor",
    {
        "qwen3_vl_text": "nearfield.inference.preparation.fused.qwen3_vl:Qwen3VlProcessor",
        "modernvbert_text": "nearfield.inference.preparation.fused.page_retrievers:TiledPageProcessor",
        "paligemma_text": "nearfield.inference.preparation.fused.page_retrievers:PageProcessor",
        "qwen2_vl_text": "nearfield.inference.preparation.fused.page_retrievers:QwenPageProcessor",
        "qwen2_5_vl_text": "nearfield.inference.preparation.fused.page_retrievers:QwenPageProcessor",
        "embedding_gemma2_text": "nearfield.inference.preparation.fused.embedding_gemma2:EmbeddingGemma2Processor",
    },
    group="nearfield.fused_processors",
)


@dataclass(frozen=True, slots=True)
class FusedOptions:
    """What a call says about its inputs. ``max_length`` counts tokens, those of media included.

    ``truncate`` says which side of the text is dropped; media are never cut. ``prepared`` has the pictures that
    were prepared so far, by ``id``, for calls that read the same objects several times; None prepares each time.
    """

    prompt: str = ""
    role: str | None = None
    max_length: int = 0
    truncate: Truncate | None = None
    media: MediaLimits = DEFAULT_MEDIA_LIMITS
    prepared: dict[int, Features] | None = None


@dataclass(frozen=True, slots=True)
class FusedInput:
    """One prepared input, with the number of tokens that were dropped, and of unknown ones.

    ``kept_tokens`` are the tokens whose vectors are given, of models with a vector for each token; None: all.
    """

    features: FusedFeatures
    dropped: int = 0
    unknown: int = 0
    kept_tokens: Array | None = None


@dataclass
class SequenceBuilder:
    """Builds a sequence: words, and media with a placeholder for each row that their tower gives."""

    ids: list[int] = field(default_factory=list)
    parts: list[MediaPart] = field(default_factory=list)

    def add_words(self, ids: Sequence[int]) -> None:
        """Add tokens of a text."""
        self.ids.extend(ids)

    def add_medium(self, tower: str, features: Features, rows: int, token: int) -> None:
        """Add what a tower reads: ``rows`` times the placeholder ``token``."""
        places = np.arange(len(self.ids), len(self.ids) + rows, dtype=np.int32)
        self.parts.append(MediaPart(tower, features, places))
        self.ids.extend([token] * rows)


class FusedProcessor(ABC):
    """Turns inputs with media into sequences. Objects do not change, and several threads use them at the same time.

    Args:
        recipe: the model's recipe.
        tokenizer: of its texts.
        media: what prepares the media of each of its towers, by modality.

    Raises:
        ModelRefused: the parts do not belong together.
    """

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, media: Mapping[str, MediaProcessor]) -> None:
        self.tokenizer = tokenizer
        self.media = dict(media)
        self.prompt = recipe.prompts.get(recipe.default_prompt_name or "", "")

    @abstractmethod
    def read(self, content: MixedContent, options: FusedOptions) -> FusedInput:
        """Decode and prepare an input.

        Raises:
            InputError: a part cannot be decoded, or is too large.
            InputTooLong: media alone have more tokens than are read, or the text has and may not be cut.
        """

    def token(self, text: str) -> int:
        """Return the id of a special token.

        Raises:
            ModelRefused: the tokenizer has none of that name.
        """
        number = self.tokenizer.backend.token_to_id(text)
        if number is None:
            raise ModelRefused(f"the tokenizer has no token {text!r}, which stands for a picture or sound")
        return int(number)

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text that is part of a template, without special ones around it.

        Raises:
            InputError: the embedding table has no row for one of them.
        """
        ids = self.tokenizer.encode_bare([text], self.tokenizer.max_length)[0].ids
        self.tokenizer.check_rows(ids, "the prompt")
        return list(ids)

    def fitting_tokens(self, text: str, room: int, options: FusedOptions) -> tuple[list[int], int]:
        """Return the tokens of an input's text that fit into ``room`` tokens, and how many were dropped.

        Raises:
            InputTooLong: media and template alone take more, or the text does and may not be cut.
            InputError: the text cannot be tokenised.
        """
        side = self.tokenizer.side if options.truncate is None else options.truncate
        whole = self.tokenizer.encode_bare([text], max(0, room), "left" if side == "left" else "right")[0]
        self.room(options.max_length - room, whole.count, options)
        ids = take(whole.ids, room, side)
        self.tokenizer.check_rows(ids, "the text")
        return ids, whole.count - len(ids)

    @staticmethod
    def room(special: int, words: int, options: FusedOptions) -> int:
        """Return how many words fit beside ``special`` tokens, which are never dropped.

        Raises:
            InputTooLong: those alone are too many, or the words are, and may not be cut.
        """
        limit = options.max_length
        if special > limit:
            raise InputTooLong(
                f"its pictures and sounds have at least {special} tokens, with what surrounds them, and at most "
                f"{limit} are read: send fewer or smaller ones, or fewer frames of a video, or raise max_length",
                param="input",
            )
        if options.truncate == "error" and special + words > limit:
            raise too_long(str(special + words), limit, None)
        return limit - special


class PairProcessor(FusedProcessor):
    """A processor of a model that also scores pairs of a query and a document."""

    @abstractmethod
    def read_in_order(self, content: MixedContent, tail: Sequence[int], options: FusedOptions) -> FusedInput:
        """Return the sequence of texts and media as they come, and ``tail`` after it.

        Of what is too long, words are dropped at the end, before ``tail``. Raises as ``read`` does.
        """


def load_fused_processor(recipe: Recipe, tokenizer: Tokenizer, media: Mapping[str, MediaProcessor]) -> FusedProcessor:
    """Return what makes the sequences of a model.

    Raises:
        ModelRefused: its tokenizer or its media do not belong to it.
    """
    kind: type[FusedProcessor] = PROCESSORS.load(str(recipe.config["model_type"]))
    return kind(recipe, tokenizer, media)
