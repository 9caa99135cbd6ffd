"""The encoding of a table that is not UTF-8, recognised by a part of the file."""

from __future__ import annotations

import codecs
from pathlib import Path

from nearfield.corpus.extractors.encoding_detection import EncodingGuess, guess_encoding, guess_utf16

_BLOCK_BYTES = 2**20
#: Byte order marks of encodings that are not UTF-8, those of four bytes first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def guess_table_encoding(path: Path) -> EncodingGuess | None:
    """Return the encoding of a table; None for UTF-8, also if some of its rows are not UTF-8.

    The file is read up to the first byte that is not UTF-8.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        block = file.read(_BLOCK_BYTES)
        marked = next((encoding for mark, encoding in _MARKS if block.startswith(mark)), None)
        if marked is not None:
            return EncodingGuess(marked, sure=True)
        start = block[: 2**13]
        if b"\0" in start and (guess := guess_utf16(start[: len(start) // 2 * 2])) is not None:
            return guess
        decoder = codecs.getincrementaldecoder("utf-8")()
        while block:
            try:
                text = decoder.decode(block)
            except UnicodeDecodeError:
                return _guess_block(block)
            if not text.isascii():
                return None  # other rows that are not UTF-8 are damaged
            block = file.read(_BLOCK_BYTES)
    return None


def _guess_block(block: bytes) -> EncodingGuess | None:
    """Return the encoding of a block with bytes that are not UTF-8; None if it has characters in UTF-8 too."""
    cut = block.rpartition(b"\n")[0] or block
    return None if not cut.decode("utf-8", "ignore").isascii() else guess_encoding(cut)
