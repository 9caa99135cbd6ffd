"""cl100k: turns token ids of OpenAI's cl100k_base back into text.

LangChain's client sends such ids for any model whose name it does not know: they aren't the served model's own, and
read as if they were would give vectors of another text. The table is OpenAI's (tiktoken, MIT licence).
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate, pairwise

from nearfield.errors import InputError

#: Ordinary tokens; the table holds them and nothing else.
COUNT = 100_256
#: Tokens beyond the table; they stand for ends and gaps, which no text has.
SPECIAL = {
    100_257: "<|endoftext|>",
    100_258: "<|fim_prefix|>",
    100_259: "<|fim_middle|>",
    100_260: "<|fim_suffix|>",
    100_276: "<|endofprompt|>",
}


@lru_cache(maxsize=1)
def table() -> tuple[bytes, ...]:
    """Return each token's bytes, by its number."""
    data = lzma.decompress(files(__package__).joinpath("cl100k.xz").read_bytes())
    ends = list(accumulate(data[:COUNT], initial=COUNT))
    return tuple(data[start:end] for start, end in pairwise(ends))


def decode(ids: Sequence[int]) -> str:
    """Return the text of ids; half a letter, as where a client cuts long texts, becomes U+FFFD.

    Raises:
        InputError: an id is not of this table.
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
                f"{number} is no token of cl100k_base, as which ids are read here. Send texts, or have the server read "
                "ids as the model's own (token_ids=native).",
                param="input",
            )
    return b"".join(parts).decode("utf-8", "replace")
