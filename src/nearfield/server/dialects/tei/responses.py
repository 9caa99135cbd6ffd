"""Conversion of answered exchanges to TEI's response bodies, and TEI's error body."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import orjson

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import (
    AccessDenied,
    ExecutionFailed,
    Forbidden,
    InputError,
    ModelNotFound,
    ModelUnavailable,
    NearfieldError,
    Overloaded,
    ShuttingDown,
    SourceUnavailable,
    TooLarge,
    WrongModel,
)
from nearfield.server.dialects import JsonObject, Reply, message_of
from nearfield.server.dialects.schemas import to_json_rows
from nearfield.server.exchange import CompositeExchange, Encode, Exchange, Predict, Rank, Tokenize
from nearfield.vectors.dense import normalize
from nearfield.vectors.outputs import Outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Characters of a text that TEI tokenises at most, for each token that the model reads.
_CHARACTERS_PER_TOKEN = 250


def write_reply(exchange: Exchange) -> Reply:
    """Return the body that the exchange's ``reply["body"]`` writes, with TEI's headers."""
    return Reply(exchange.reply_options["body"](exchange), headers=compute_headers(exchange))


def compute_headers(exchange: Exchange) -> dict[str, str]:
    """Return TEI's headers of counts and times, in whole milliseconds; a time that was not measured is left out.

    ``x-compute-type`` is left out, too: TEI sends the same value on all machines.
    """
    elapsed = time.perf_counter() - exchange.started
    stages = {
        "x-compute-time": elapsed,
        "x-total-time": elapsed,
        "x-tokenization-time": exchange.stage_seconds.get("tokenise"),
        "x-queue-time": exchange.stage_seconds.get("queue"),
        "x-inference-time": exchange.stage_seconds.get("run"),
    }
    times = {name: str(int(1000 * seconds)) for name, seconds in stages.items() if seconds is not None}
    counts = {"x-compute-characters": exchange.reply_options["characters"], "x-compute-tokens": exchange.tokens}
    return {name: str(count) for name, count in counts.items()} | times


# -- vectors -----------------------------------------------------------------------------------------------------------


def write_vectors(exchange: Encode) -> list[object]:
    """Return the dense vector of each input."""
    model = exchange.description
    if exchange.reply_options["unnormalized"] and model is not None and model.normalized:
        exchange.ignored = (*exchange.ignored, "normalize")
    return list(to_json_rows(exchange.vectors))


def write_token_vectors(exchange: Encode) -> list[object]:
    """Return the vectors of the tokens of each input."""
    assert isinstance(exchange.result, Outputs)
    assert exchange.result.multivector is not None
    return list(exchange.result.multivector)


def write_sparse(exchange: Encode) -> list[list[JsonObject]]:
    """Return the sparse vector of each input."""
    assert isinstance(exchange.result, Outputs)
    assert exchange.result.sparse is not None
    # The values stay float32, which the JSON encoder writes in its shortest form.
    return [
        [{"index": index, "value": value} for index, value in zip(ids.tolist(), values, strict=True)]
        for ids, values in exchange.result.sparse
    ]


def write_similarities(exchange: Encode) -> NDArray[np.float32]:
    """Return the cosine of the first text and each of the others."""
    unit = normalize(exchange.vectors.data)
    similarities: NDArray[np.float32] = unit[1:] @ unit[0]
    return similarities


# -- scores ------------------------------------------------------------------------------------------------------------


def write_ranks(exchange: Rank) -> list[JsonObject]:
    """Return the texts by descending score."""
    assert exchange.scores is not None
    scores = exchange.scores.data
    return [
        {
            "index": rank.index,
            **({"text": exchange.documents[rank.index]} if exchange.reply_options["texts"] else {}),
            "score": scores[rank.index],
        }
        for rank in exchange.ranked
    ]


def write_labels(exchange: Predict) -> list[JsonObject] | list[list[JsonObject]]:
    """Return the labels with their scores, highest first, of each input, or of the single one."""
    assert exchange.scores is not None
    assert exchange.description is not None
    labels = exchange.description.labels
    rows: list[list[JsonObject]] = [
        [{"score": row[index], "label": labels[index]} for index in np.argsort(-row, kind="stable")]
        for row in exchange.scores.data
    ]
    return rows[0] if exchange.reply_options["single"] else rows


def write_predictions(exchange: CompositeExchange) -> JsonObject:
    """Return the body of each part; fields that a part ignored count as ignored by the whole request."""
    bodies = [part.reply_options["body"](part) for part in exchange.parts]
    ignored = (name for part in exchange.parts for name in part.ignored)
    exchange.ignored = tuple(dict.fromkeys((*exchange.ignored, *ignored)))
    return {"predictions": bodies}


# -- tokens ------------------------------------------------------------------------------------------------------------


def write_tokens(exchange: Tokenize) -> list[orjson.Fragment]:
    """Return the tokens of each text as JSON, encoded before the next text is tokenised."""
    return [orjson.Fragment(orjson.dumps(tokens)) for tokens in iter_tokens(exchange)]


def iter_tokens(exchange: Tokenize) -> Iterator[list[JsonObject]]:
    """Yield all tokens of each text, without truncation, as the fields of ``TeiToken``.

    Raises:
        InputError: a text is too long, or not valid Unicode.
        TooLarge: the texts have more tokens together than one request may have.
    """
    assert exchange.tokenizer is not None
    tokenizer, max_tokens = exchange.tokenizer, exchange.reply_options["max_tokens"]
    max_characters = _CHARACTERS_PER_TOKEN * tokenizer.max_length
    count = 0
    for index, text in enumerate(exchange.texts):
        if len(text) > max_characters:
            raise InputError(f"`inputs` must have at most {max_characters} characters; item {index} has {len(text)}.")
        tokens = _tokenize_text(tokenizer, exchange.prompt + text, exchange.reply_options["special"])
        count += len(tokens)
        if max_tokens is not None and count > max_tokens:
            raise TooLarge(
                f"The inputs have more than {max_tokens} tokens, the maximum of one request. Send them in parts.",
                param="inputs",
            )
        yield tokens


def _tokenize_text(tokenizer: Tokenizer, text: str, special: bool) -> list[JsonObject]:
    encoding = tokenizer.backend.encode(text, add_special_tokens=special)
    offsets = _byte_offsets(text)
    parts = zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [
        {"id": number, "text": token, "special": True, "start": None, "stop": None}
        if mark
        else {"id": number, "text": text[start:stop], "special": False, "start": offsets[start], "stop": offsets[stop]}
        for number, token, (start, stop), mark in parts
    ]


def _byte_offsets(text: str) -> Sequence[int]:
    """Return where each character begins in UTF-8, and where the last one ends: TEI counts bytes."""
    if text.isascii():
        return range(len(text) + 1)
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    ends: list[int] = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    return ends


def write_texts(exchange: Tokenize) -> list[str]:
    """Return the text of each list of token ids.

    Raises:
        InputError: an id is outside the vocabulary.
    """
    assert exchange.tokenizer is not None
    tokenizer = exchange.tokenizer
    for ids in exchange.ids:
        unknown = next((number for number in ids if not 0 <= number < tokenizer.vocab_size), None)
        if unknown is not None:
            raise InputError(f"Token id {unknown} is out of range: 0 to {tokenizer.vocab_size - 1} exist.", param="ids")
    skip = exchange.reply_options["skip_special"]
    return [tokenizer.backend.decode(ids, skip_special_tokens=skip) for ids in exchange.ids]


# -- errors ------------------------------------------------------------------------------------------------------------


class EmptyInput(InputError):
    """A text or a list of inputs is empty."""

    code = "empty_input"


#: TEI's ``error_type`` of each error class, and the HTTP status; None keeps the error's status. The first match counts.
_ERROR_TYPES: tuple[tuple[type[NearfieldError], str, int | None], ...] = (
    (EmptyInput, "Empty", 400),
    (WrongModel, "Backend", 424),
    (ExecutionFailed, "Backend", 424),
    (ModelUnavailable, "Unhealthy", 503),
    (Overloaded, "Overloaded", 429),
    (ShuttingDown, "Unhealthy", 503),
    (SourceUnavailable, "Unhealthy", 503),
    (AccessDenied, "Unauthorized", None),
    (Forbidden, "Unauthorized", None),
    (ModelNotFound, "Validation", None),
    (InputError, "Validation", None),
)
_MESSAGE_PREFIXES = {
    "Empty": "Input validation error: ",
    "Validation": "Input validation error: ",
    "Backend": "Backend error: ",
    "Overloaded": "Model is overloaded: ",
}


def error_reply(error: NearfieldError) -> Reply:
    """Return TEI's error body, ``error`` and ``error_type``, with the status that TEI sends."""
    types = (row[1:] for row in _ERROR_TYPES if isinstance(error, row[0]))
    kind, status = next(types, ("Backend", None))
    if status is None:
        status = 422 if kind == "Validation" and error.status == 400 else error.status
    return Reply({"error": _MESSAGE_PREFIXES.get(kind, "") + message_of(error), "error_type": kind}, status)
