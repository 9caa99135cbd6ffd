"""Cohere's tokenize and detokenize API, and the download of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import InputError
from nearfield.server.dialects import JsonObject, Reply
from nearfield.server.dialects.cohere.responses import reply_meta
from nearfield.server.dialects.cohere.schemas import CohereDetokenizeRequest, CohereTokenizeRequest
from nearfield.server.exchange import Tokenize
from nearfield.server.http.request_context import RequestContext


@dataclass(kw_only=True)
class TokenizerFile(Tokenize):
    """The tokenizer of a model as a file."""

    @property
    def number_count(self) -> int:
        """The size of the vocabulary: a large one is slow to write."""
        return 0 if self.tokenizer is None else self.tokenizer.vocab_size


def read_tokenize(request: CohereTokenizeRequest, _: RequestContext) -> Tokenize:
    """Convert a body of POST /v1/tokenize to an exchange."""
    return Tokenize(model=request.model, texts=[request.text])


def write_tokenize(exchange: Tokenize) -> JsonObject:
    """Return the response body: token ids and their strings."""
    encoding = _tokenizer(exchange).backend.encode(exchange.texts[0], add_special_tokens=False)
    return {"tokens": encoding.ids, "token_strings": encoding.tokens, "meta": reply_meta("1")}


def read_detokenize(request: CohereDetokenizeRequest, _: RequestContext) -> Tokenize:
    """Convert a body of POST /v1/detokenize to an exchange."""
    return Tokenize(model=request.model, ids=[request.tokens])


def write_detokenize(exchange: Tokenize) -> JsonObject:
    """Return the response body: the text."""
    ids, tokenizer = exchange.ids[0], _tokenizer(exchange)
    unknown = next((number for number in ids if not 0 <= number < tokenizer.vocab_size), None)
    if unknown is not None:
        raise InputError(f"The token {unknown} is out of range: 0 to {tokenizer.vocab_size - 1} exist.", param="tokens")
    return {"text": tokenizer.backend.decode(list(ids)), "meta": reply_meta("1")}


def read_tokenizer_file(_: None, context: RequestContext) -> TokenizerFile:
    """Return an exchange for the tokenizer of the model in the path."""
    return TokenizerFile(model=context.path["model"])


def write_tokenizer_file(exchange: TokenizerFile) -> Reply:
    """Return the tokenizer as a tokenizer.json."""
    # Clients read it as text, and guess the encoding unless the header names it.
    content = _tokenizer(exchange).backend.to_str().encode()
    return Reply(content, media_type="application/json; charset=utf-8")


def _tokenizer(exchange: Tokenize) -> Tokenizer:
    if exchange.tokenizer is None:
        raise ValueError("the exchange has not been performed")
    return exchange.tokenizer
