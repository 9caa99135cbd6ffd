"""Decoder of OpenAI's cl100k_base token ids.

LangChain's client sends such ids for any model whose name it does not know. They are not ids of the served model's
tokenizer, which would read them as another text. The table is OpenAI's (tiktoken, MIT licence).
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate, pairwise

from nearfield.errors import InputError

#: Number of ordinary tokens, which are those in the table.
COUNT = 100_256
#: Special tokens, which are not in the table.
SPECIAL = {
    100_257: "<|endoftext|>",
    100_258: "<|fim_prefix|>",
    100_259: "<|fim_middle|>",
    100_260: "<|fim_suffix|>",
    100_276: "<|endofprompt|>",
}


@lru_cache(maxsize=1)
def table() -> tuple[bytes, ...]:
    """Return the bytes of each token, in the order of the ids."""
    data = lzma.decompress(files(__package__).joinpath("cl100k.xz").read_bytes())
    ends = list(accumulate(data[:COUNT], initial=COUNT))
    return tuple(data[start:end] for start, end in pairwise(ends))


def decode(ids: Sequence[int]) -> str:
    """Return the text of token ids; an incomplete character, as a client may send when it splits a text, is U+FFFD.

    Raises:
        InputError: an id is not in the table.
    """
    known = table()
    parts = []
    for number in ids:
        if 0 <= number < COUNT:
            parts.append(known[number])
        elif number in SPECIAL:
            parts.append(SPECIAL[number].encode())
        else:
            raise InputError(
                f"{number} is no token id of cl100k_base, which this server expects. Send texts, or set "
                "token_ids=native on the server to read ids as the model's own.",
                param="input",
            )
    return b"".join(parts).decode("utf-8", "replace")
