"""Text chunkers: the table of ways to split a document into chunks, one file for each.

To add one, copy ``sentence.py``, return candidate boundaries from ``outline``, and add a row to ``REGISTRY``. The base
class ``Chunker`` (``chunker.py``) does the rest: it splits parts that are too long, chooses boundaries so that chunks
are full and of similar size, and counts the tokens of each chunk with the model's own tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearfield.corpus.chunkers.chunker import DEFAULT_OVERLAP, DEFAULT_SIZE, Chunker, ChunkOutline, Embed
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Form
from nearfield.registry import Registry

__all__ = [
    "BY_FORM",
    "DEFAULT",
    "DEFAULT_OVERLAP",
    "DEFAULT_SIZE",
    "REGISTRY",
    "ChunkOutline",
    "Chunker",
    "Embed",
    "open_chunker",
]

REGISTRY = Registry(
    "chunker",
    {
        "sentence": "nearfield.corpus.chunkers.sentence:SentenceChunker",
        "markdown": "nearfield.corpus.chunkers.markdown:MarkdownChunker",
        "code": "nearfield.corpus.chunkers.code:CodeChunker",
        "semantic": "nearfield.corpus.chunkers.semantic:SemanticChunker",
        "fixed": "nearfield.corpus.chunkers.fixed:FixedChunker",
        "late": "nearfield.corpus.chunkers.late:LateChunker",
    },
    group="nearfield.chunkers",
)
#: The default, chosen by ``python -m benchmarks --only chunking``.
DEFAULT = "sentence"
#: The default by a document's form, if it differs.
BY_FORM: Mapping[Form, str] = {"markdown": "markdown", "code": "code"}


def open_chunker(
    by: str, form: Form, counter: TokenCounter, size: int | None = None, overlap: int | None = None, **options: Any
) -> Chunker:
    """Return the chunker with this name, for documents of a form; ``auto`` takes the default for that form.

    Without a ``size`` it is the default, or the length that the model reads if that is less. ``options`` are those of
    ``Chunker``.

    Raises:
        InputError: there is no chunker with this name, or the sizes do not fit.
    """
    name = BY_FORM.get(form, DEFAULT) if by == "auto" else by
    tokens = min(DEFAULT_SIZE, counter.length) if size is None else size
    repeated = min(DEFAULT_OVERLAP, tokens // 2) if overlap is None else overlap
    chunker: Chunker = REGISTRY.load(name)(counter, tokens, repeated, **options)
    return chunker
