"""Inputs of `Encoder.encode`: check them, batch them into windows, split over-long texts, find the spans of chunks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from nearfield import text_inputs
from nearfield.argument_checks import require_count
from nearfield.checkpoint.tokenizer import long_texts
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import InputError, InputTooLong
from nearfield.inference.preparation.media_inputs import is_medium, read_item, refuse_medium, runs
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image, ImageSource
from nearfield.media.video.video import Video
from nearfield.tensors import is_tensor, tensor_to_array

if TYPE_CHECKING:
    from tokenizers import Encoding

#: One input: a text, or token ids.
Text = str | Sequence[int]
#: One input of any modality.
Input = Text | Image | Audio | Video | MixedContent
#: One input or many.
Texts = Text | Iterable[Text]
#: One input or many, of any modality. What each medium may be is said in `Image`, `Audio` and `Video`.
if TYPE_CHECKING:
    Inputs: TypeAlias = Texts | ImageSource | Audio | Video | Mapping[str, Any] | Iterable[Any]
else:  # without Pillow's class, which is not imported here
    Inputs = Texts | Image | Audio | Video | os.PathLike[str] | Mapping[str, Any] | Iterable[Any]
#: Texts in the first window of a long call and in the largest. The first is small, so that lanes start early.
FIRST_WINDOW, LARGEST_WINDOW = 128, 4096
#: Characters at which a window ends, whatever its number of texts, so that memory stays bounded.
WINDOW_CHARACTERS = 4_000_000
#: Characters as which a picture or sound counts: some 60 are prepared ahead of those that run.
_MEDIUM_CHARACTERS = 64_000
#: Characters as which a video counts, all of whose frames are prepared at the same time.
_VIDEO_CHARACTERS = 8 * _MEDIUM_CHARACTERS
#: Characters of a document whose chunks are encoded together: far more than any model reads.
MAX_DOCUMENT_CHARACTERS = 2**20
#: Sentences that are tokenised in one call, and characters of a sentence, which is split at spaces beyond that.
_SENTENCES_PER_BATCH, _SENTENCE_CHARACTERS = 1024, 2**16
#: Where a sentence may end: after its full stop and the white space that follows, or after a line.
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")


def parse_inputs(
    texts: object, reads: tuple[str, ...] = ("text",), *, fuses: bool = False
) -> tuple[bool, Iterable[Input], int | None]:
    """Return whether it is a single input, the inputs, and their number where that is known.

    The items of a list are checked now, those of an iterator as they come. ``reads`` are the modalities that the model
    reads, and ``fuses`` says whether it reads them together, so that one input may have several parts.

    Raises:
        InputError: it is neither an input, nor several; or an item is neither a text, nor token ids, nor a picture.
    """
    # The usual inputs first, without the checks of the others.
    if isinstance(texts, str):
        return True, [texts], 1
    if type(texts) is list and texts and all(isinstance(item, str) for item in texts):
        return False, texts, len(texts)
    texts = tensor_to_array(texts) if is_tensor(texts) else texts
    if is_medium(texts, reads):
        return True, [read_item(texts, 0, reads, fuses=fuses)], 1
    if reads != ("text",) and isinstance(texts, np.ndarray) and texts.ndim > 3:
        texts = list(texts)  # an array of pictures
    refuse_medium(texts, "The input")
    _refuse_arrays(texts, "The input", reads)
    value = text_inputs.one_or_many(texts)
    if isinstance(value, str):
        return True, [value], 1
    if not isinstance(value, Sequence) and not isinstance(value, np.ndarray):
        return False, _checked(value, reads, fuses), len(value) if isinstance(value, Sized) else None
    if len(value) and all(map(_is_token_id, value)):
        return True, [list(value)], 1
    if all(isinstance(item, str) for item in value):
        return False, cast(Sequence[Input], value), len(value)
    return False, list(_checked(value, reads, fuses)), len(value)


def list_inputs(texts: object, reads: tuple[str, ...] = ("text",), *, fuses: bool = False) -> tuple[bool, list[Input]]:
    """Return whether it is a single input, and the inputs as a list. Raises as ``parse_inputs`` does."""
    single, items, _ = parse_inputs(texts, reads, fuses=fuses)
    return single, list(items)


def check_documents(documents: object) -> Sequence[Sequence[str]]:
    """Return documents of ``encode_late``: for each the list of its chunks.

    Raises:
        InputError: they are something else.
    """
    several = text_inputs.one_or_many(documents, "documents")
    several = several if isinstance(several, (str, Sequence)) else list(several)
    for number, chunks in enumerate(several):
        if isinstance(several, str) or isinstance(chunks, str):
            raise InputError(
                f"documents must be a list of documents, each a list of chunks; document {number} is one text.",
                param="documents",
            )
        if not text_inputs.many_texts(chunks, f"document {number}", "Chunk"):
            raise InputError(f"Document {number} has no chunks.", param="documents")
    return several


def _checked(items: Iterable[Any], reads: tuple[str, ...], fuses: bool) -> Iterator[Input]:
    for number, item in enumerate(items):
        if reads != ("text",) and is_tensor(item):
            item = tensor_to_array(item)
        if isinstance(item, str):
            yield item
        elif is_medium(item, reads, in_list=True):
            yield read_item(item, number, reads, fuses=fuses)
        else:
            _check_ids(number, item, reads)
            yield item


def _refuse_arrays(item: object, name: str, reads: tuple[str, ...]) -> None:
    """Raise InputError for an array of vectors, and for one of samples or pixels in another form than those read."""
    if not isinstance(item, np.ndarray) or reads == ("text",) or np.ma.is_masked(item):
        return refuse_vectors(item, name)
    is_vector, has_pixels = item.dtype.kind == "f", item.ndim > 2 or (item.ndim == 2 and item.dtype == np.uint8)
    if not is_vector and not (has_pixels and item.dtype.kind in "iu" and "image" in reads):
        return None
    advice = []
    if "image" in reads and item.ndim > 1:
        advice.append("A picture is an array of uint8 [height, width, 3]; a grey one is nearfield.Image(array).")
    if "audio" in reads and item.ndim < 3:
        advice.append("A sound is nearfield.Audio(samples, rate=...).")
    if is_vector and item.ndim < 3:
        advice.append("Vectors are compared by similarity.")
    raise InputError(" ".join([f"{name} is an array of {item.dtype} of shape {item.shape}.", *advice]), param="input")


def _check_ids(number: int, item: object, reads: tuple[str, ...]) -> None:
    """Raise InputError for an input that is no list of token ids; the ids after the first are checked later."""
    refuse_medium(item, f"Input {number}")
    _refuse_arrays(item, f"Input {number}", reads)
    is_list = isinstance(item, (list, tuple)) or (isinstance(item, np.ndarray) and item.ndim == 1)
    named = text_inputs.record_names(item) is not None
    if not is_list or named or (len(item) and not _is_token_id(item[0])):  # type: ignore[arg-type,index]
        text_inputs.refuse_item(item, number, "input", expected="text or a list of token ids")


def _is_token_id(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def refuse_vectors(item: object, name: str) -> None:
    """Raise InputError for an array of floating-point numbers: it is a vector already, and no list of token ids."""
    if isinstance(item, np.ndarray) and item.dtype.kind == "f" and not np.ma.is_masked(item):
        raise InputError(
            f"{name} is an array of {item.dtype} of shape {item.shape}, and encode reads texts. Vectors are compared "
            "by similarity.",
            param="input",
        )


def windows(inputs: Iterable[Input], max_size: int) -> Iterator[tuple[str, list[Any]]]:
    """Yield modality and inputs of lists that grow from small to ``max_size``, each bounded in characters too.

    The inputs of a list are consecutive, and of one modality.

    Raises:
        InputError: ``max_size`` is less than 1.
    """
    require_count("window", max_size)
    size = min(FIRST_WINDOW, max_size)
    for modality, stream in runs(inputs):
        while window := list(_up_to(islice(stream, size), WINDOW_CHARACTERS)):
            yield modality, window
            size = min(size * 2, max_size)


def _up_to(inputs: Iterator[Input], characters: int) -> Iterator[Input]:
    for item in inputs:
        yield item
        if isinstance(item, (Image, Audio)):
            characters -= _MEDIUM_CHARACTERS
        elif isinstance(item, Video):
            characters -= _VIDEO_CHARACTERS
        elif isinstance(item, MixedContent):
            characters -= _MEDIUM_CHARACTERS * len(item.media) + len(item.text)
        else:
            characters -= len(item) if isinstance(item, (str, list, tuple, np.ndarray)) else 0
        if characters <= 0:
            return


def split_long_text(text: str, tokenizer: Tokenizer, max_tokens: int) -> list[str]:
    """Split a text into pieces of at most ``max_tokens`` tokens, at ends of sentences where possible.

    A sentence that is longer is split between tokens. The pieces join to the text, except for the white space between
    sentences.
    """
    pieces: list[list[str]] = []
    used = max_tokens
    for part, size in _parts(text, tokenizer, max_tokens):
        if used + size > max_tokens:
            pieces.append([])
            used = 0
        pieces[-1].append(part)
        used += size
    return [" ".join(parts) for parts in pieces]


def _parts(text: str, tokenizer: Tokenizer, max_tokens: int) -> Iterator[tuple[str, int]]:
    """Yield sentences, and parts of sentences that are too long, with their numbers of tokens."""
    sentences = [part for part in _SENTENCE.split(text) if part.strip()] or [text]
    sentences = [part for sentence in sentences for part in _bounded(sentence)]
    for start in range(0, len(sentences), _SENTENCES_PER_BATCH):
        for group in long_texts.batches(sentences[start : start + _SENTENCES_PER_BATCH]):
            encodings = tokenizer.backend.encode_batch(group, add_special_tokens=False)
            for sentence, encoding in zip(group, encodings, strict=True):
                size = len(encoding.ids)
                yield from _split_sentence(sentence, encoding, max_tokens) if size > max_tokens else [(sentence, size)]


def _bounded(sentence: str) -> Iterator[str]:
    """Split a sentence that is no sentence, at spaces where there are some, so that memory stays bounded."""
    while len(sentence) > _SENTENCE_CHARACTERS:
        end = sentence.rfind(" ", _SENTENCE_CHARACTERS // 2, _SENTENCE_CHARACTERS)
        end = _SENTENCE_CHARACTERS if end < 0 else end
        yield sentence[:end]
        sentence = sentence[end:]
    yield sentence


def _split_sentence(sentence: str, encoding: Encoding, max_tokens: int) -> list[tuple[str, int]]:
    """Split a sentence between tokens, by their character offsets."""
    places = range(0, len(encoding.ids), max_tokens)
    starts = [encoding.offsets[at][0] for at in places]
    ends = [*starts[1:], len(sentence)]
    sizes = [min(max_tokens, len(encoding.ids) - at) for at in places]
    return [(sentence[start:end], size) for start, end, size in zip(starts, ends, sizes, strict=True)]


def chunk_token_spans(
    tokenizer: Tokenizer, chunks: Sequence[str], prompt: str
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokenise consecutive chunks as one text; return its ids, and the token span (start, stop) of each chunk.

    A token that crosses a border belongs to the chunk in which it begins. Special tokens and prompt belong to none.

    Raises:
        InputTooLong: the text is so long that it is not tokenised.
        InputError: a chunk contains no token.
    """
    text = prompt + "".join(chunks)
    if len(text) > MAX_DOCUMENT_CHARACTERS:
        raise InputTooLong(
            f"A document has {len(text)} characters, and late chunking takes at most {MAX_DOCUMENT_CHARACTERS}: "
            "split it.",
            param="input",
        )
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    tokenizer.check_rows(encoding.ids, "a document")
    ends = np.cumsum([len(prompt), *map(len, chunks)])
    starts = np.array([start for start, _ in encoding.offsets] or [0])
    # A token's leading space may lie before the border: what counts is where its text begins.
    places = np.searchsorted(starts, ends, "left") + len(tokenizer.prefix)
    spans = list(zip(places[:-1].tolist(), places[1:].tolist(), strict=True))
    empty = next((number for number, (start, stop) in enumerate(spans) if start >= stop), None)
    if empty is not None:
        raise InputError(
            f"Chunk {empty} contains no token: {chunks[empty][:40]!r}. Join it to another chunk.", param="input"
        )
    return [*tokenizer.prefix, *encoding.ids, *tokenizer.suffix], spans
