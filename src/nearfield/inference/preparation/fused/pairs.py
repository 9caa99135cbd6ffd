"""Pairs of a query and a document with pictures in them, in the template of a language model that scores them."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any

from nearfield.checkpoint.tokenizer.pairs import PairEncoder, PairTokens, Prompted
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Truncate
from nearfield.errors import InputError
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.preparation.fused import FusedOptions, PairProcessor
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, MediaLimits
from nearfield.media.video.video import Video
from nearfield.recipe import Template

#: Characters as which a picture counts: so many are tokenised in the time that one takes.
_MEDIUM_CHARACTERS = 64_000
#: What is read in place of nothing.
EMPTY = "NULL"


class FusedPrompted(Prompted):
    """Writes pairs into a template, as `Prompted` does, also those with pictures.

    An empty part is read as ``NULL``, as in training.

    Args:
        tokenizer: the model's tokenizer.
        processor: what makes the sequences of pairs with pictures.
        template: of the model.
        instruction: in place of the template's own.
    """

    def __init__(
        self, tokenizer: Tokenizer, processor: PairProcessor, template: Template, instruction: str | None = None
    ) -> None:
        super().__init__(tokenizer, template, instruction)
        self._processor = processor

    def encode(
        self,
        firsts: Sequence[str | MixedContent],
        seconds: Sequence[str | MixedContent],
        *,
        truncate: str = "report",
        first_index: int = 0,
        prompt: str | None = None,
        max_length: int | None = None,
        limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
    ) -> list[PairTokens]:
        """Prepare pairs. Arguments as for ``Prompted.encode``; ``limits`` are those of each picture.

        Raises:
            InputError: a part cannot be decoded or tokenised.
            InputTooLong: a pair's pictures, or its texts where ``truncate`` is "error", are too long.
        """
        pairs = list(zip(firsts, seconds, strict=True))
        places: dict[str, Any] = {"truncate": truncate, "prompt": prompt, "max_length": max_length}
        if all(isinstance(part, str) for pair in pairs for part in pair):
            texts = [[str(part) or EMPTY for part in parts] for parts in (firsts, seconds)]
            return super().encode(*texts, first_index=first_index, **places)
        policy: Truncate | None = "error" if truncate == "error" else None
        length = max_length or self._tokenizer.max_length
        # A query is a part of all its pairs: it is decoded once. ``pairs`` holds the objects, so their ids stay theirs.
        options = FusedOptions(prompt or self._instruction, None, length, policy, limits, prepared={})
        return [
            self._encode_pair(first, second, options, index)
            if isinstance(first, MixedContent) or isinstance(second, MixedContent)
            else super(FusedPrompted, self).encode([first or EMPTY], [second or EMPTY], first_index=index, **places)[0]
            for index, (first, second) in enumerate(pairs, first_index)
        ]

    def _encode_pair(
        self, first: str | MixedContent, second: str | MixedContent, options: FusedOptions, index: int
    ) -> PairTokens:
        parts: list[str | Image | Audio | Video] = [self._template.head]
        for literal, field, *_ in Formatter().parse(self._template.body):
            parts.append(literal)
            parts += {"query": _parts(first), "document": _parts(second)}.get(str(field), [])
            parts += [options.prompt] if field == "instruction" else []
        try:
            pair = self._processor.read_in_order(MixedContent(tuple(parts)), self._tail, options)
        except InputError as error:
            raise type(error)(f"Pair {index}: {error}", param=error.param or "input") from error
        return PairTokens(list(pair.features.ids), 0, pair.dropped, pair.unknown, pair.features)

    def sizes(self, firsts: Sequence[str | MixedContent], seconds: Sequence[str | MixedContent]) -> list[int]:
        """Return the characters to tokenise of each pair; a picture counts as many as take its time."""
        template = len(self._template.body) + len(self._instruction)
        return [template + _size(first) + _size(second) for first, second in zip(firsts, seconds, strict=True)]


def create_pairs(model: ModelInfo, template: Template | None, instruction: str | None) -> PairEncoder | Prompted:
    """Return what turns the pairs of a model into tokens."""
    if template is None:
        return PairEncoder(model.tokenizer)
    if not isinstance(model.fused_processor, PairProcessor):
        return Prompted(model.tokenizer, template, instruction)
    return FusedPrompted(model.tokenizer, model.fused_processor, template, instruction)


def _parts(item: str | MixedContent) -> list[str | Image | Audio | Video]:
    """Return pictures, then the text, as the model was trained; an empty part is ``NULL``."""
    if isinstance(item, str):
        return [item or EMPTY]
    return [*item.media, item.text] if item.media or item.text else [EMPTY]


def _size(item: str | MixedContent) -> int:
    if isinstance(item, str):
        return len(item)
    return len(item.text) + _MEDIUM_CHARACTERS * len(item.media)
