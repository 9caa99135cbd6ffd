"""Conversion of answered exchanges to Ollama's response bodies, and Ollama's error body."""

from __future__ import annotations

import json
import time

from nearfield.errors import InputTooLong, MissingBody, ModelNotFound, NearfieldError, Overloaded
from nearfield.server.dialects import JsonObject, Reply, message_of
from nearfield.server.dialects.ollama.requests import EncodeTimed
from nearfield.server.exchange import Encode, Exchange


def write_embed(exchange: Exchange) -> JsonObject:
    """Return the vectors and durations; counts of zero are left out, as Go's ``omitempty`` does."""
    reply: JsonObject = {"model": exchange.reply_options["model"], "embeddings": []}
    if not isinstance(exchange, EncodeTimed):
        return reply
    reply["embeddings"] = list(exchange.vectors.data)
    counts = {
        "total_duration": time.perf_counter_ns() - exchange.read_at,
        "load_duration": exchange.loaded_at - exchange.read_at,
        "prompt_eval_count": exchange.tokens,
    }
    return {**reply, **{name: count for name, count in counts.items() if count}}


def write_prompt(exchange: Exchange) -> JsonObject:
    """Return the vector of the single input."""
    return {"embedding": exchange.vectors.data[0] if isinstance(exchange, Encode) else []}


def error_reply(error: NearfieldError) -> Reply:
    """Return Ollama's error body, with the message that its server sends for errors that clients recognise by it."""
    message, status = message_of(error), error.status
    if isinstance(error, ModelNotFound) and error.name is not None:
        message = (
            f"model {quote_name(error.name)} not found, try pulling it first: here, the server's operator "
            f"does that (nearfield serve NAME ...). {message}"
        )
    elif isinstance(error, InputTooLong):
        message = f"the input length exceeds the context length: {message}"
    elif isinstance(error, MissingBody):
        message = "missing request body"
    elif isinstance(error, Overloaded) and error.status == 429:
        message, status = f"server busy, please try again: {message}", 503
    return Reply({"error": message}, status)


def quote_name(name: str) -> str:
    """Return a model's name in double quotes."""
    return json.dumps(name, ensure_ascii=False)
