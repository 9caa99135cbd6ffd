"""The process of a tokenizer whose time is not bounded: it tokenises text after text until it is killed.

``tokenizer_process.py`` starts it with ``python -m``. Messages are msgpack behind their length. Nothing is pickled.
"""

from __future__ import annotations

import os
import signal
from typing import IO

import msgspec
import tokenizers

#: Bytes of the length before each message.
LENGTH_BYTES = 8


class TokenizerState(msgspec.Struct, array_like=True, frozen=True):
    """The tokenizer: its JSON, and the flag that the JSON lacks. ``seconds``: the time after which a text ends it."""

    json: str
    encode_special_tokens: bool
    seconds: float


class WorkerRequest(msgspec.Struct, array_like=True, frozen=True):
    """Texts to tokenise, or token ids to decode. ``whole``: reply with all fields of an encoding, not the ids alone."""

    texts: list[str] = []
    special_tokens: bool = True
    whole: bool = False
    ids: list[int] | None = None


class WorkerReply(msgspec.Struct, array_like=True, frozen=True):
    """One encoding with the fields of ``tokenizers.Encoding``, a decoded text, or an error."""

    ids: list[int] = []
    error: str = ""
    text: str = ""
    tokens: list[str] = []
    offsets: list[tuple[int, int]] = []
    type_ids: list[int] = []
    special_tokens_mask: list[int] = []


def write_message(stream: IO[bytes], message: msgspec.Struct) -> None:
    """Write a message behind its length."""
    data = msgspec.msgpack.encode(message)
    stream.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
    stream.flush()


def main() -> None:
    """Reply to the requests that arrive on standard input until it is closed: one reply a text, in order."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    state = msgspec.msgpack.decode(_read_message(requests), type=TokenizerState)
    tokenizer = tokenizers.Tokenizer.from_str(state.json)
    tokenizer.encode_special_tokens = state.encode_special_tokens
    while data := _read_message(requests):
        request = msgspec.msgpack.decode(data, type=WorkerRequest)
        for text in [""] if request.ids is not None else request.texts:
            # Not caught: it ends the process, in case the parent no longer can.
            signal.setitimer(signal.ITIMER_REAL, state.seconds)
            write_message(replies, _reply(tokenizer, request, text))
            signal.setitimer(signal.ITIMER_REAL, 0)


def _reply(tokenizer: tokenizers.Tokenizer, request: WorkerRequest, text: str) -> WorkerReply:
    try:
        if request.ids is not None:
            return WorkerReply(text=tokenizer.decode(request.ids, skip_special_tokens=not request.special_tokens))
        encoding = tokenizer.encode(text, add_special_tokens=request.special_tokens)
    except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
        return WorkerReply(error=str(error) or type(error).__name__)
    if not request.whole:
        return WorkerReply(encoding.ids)
    return WorkerReply(
        encoding.ids,
        tokens=encoding.tokens,
        offsets=encoding.offsets,
        type_ids=encoding.type_ids,
        special_tokens_mask=encoding.special_tokens_mask,
    )


def _read_message(stream: IO[bytes]) -> bytes:
    return stream.read(int.from_bytes(stream.read(LENGTH_BYTES), "big"))


if __name__ == "__main__":
    main()
