"""Pack OpenAI's cl100k_base vocabulary, with which the server decodes the token ids that LangChain's client sends.

``python -m tools.cl100k FILE`` takes ``cl100k_base.tiktoken`` as tiktoken fetches it (MIT licence), checks its hash and
writes ``src/nearfield/server/dialects/openai/cl100k.xz``: a byte for each token's length, in order of numbers, then
their bytes.
"""

from __future__ import annotations

import hashlib
import lzma
import sys
from base64 import b64decode
from pathlib import Path

HASH = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
OUT = Path(__file__).parent.parent / "src/nearfield/server/dialects/openai/cl100k.xz"


def pack(file: bytes) -> bytes:
    """Return the packed table.

    Raises:
        ValueError: it is another file, or its tokens aren't numbered without gaps.
    """
    if hashlib.sha256(file).hexdigest() != HASH:
        raise ValueError("this is not cl100k_base.tiktoken as tiktoken knows it")
    rows = [line.split() for line in file.splitlines()]
    tokens = [b64decode(token) for token, _ in rows]
    if [int(number) for _, number in rows] != list(range(len(rows))):
        raise ValueError("tokens are not numbered in order")
    return lzma.compress(bytes(map(len, tokens)) + b"".join(tokens), preset=9)


if __name__ == "__main__":
    print(f"{OUT.write_bytes(pack(Path(sys.argv[1]).read_bytes()))} bytes")
