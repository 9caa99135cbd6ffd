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
#: What is used where nothing is said; chosen by ``python -m benchmarks --only chunking``.
DEFAULT = "sentence"
#: The default by a document's form, where it is another.
BY_FORM: Mapping[Form, str] = {"markdown": "markdown", "code": "code"}


def open_chunker(
    by: str, form: Form, ruler: TokenCounter, size: int | None = None, overlap: int | None = None, **options: Any
) -> Chunker:
    """Return the chunker of a name, for documents of a form; ``auto`` takes the default for that form.

    A ``size`` that is not given is the default, or what the model reads where that is less.

    Raises:
        InputError: there is none of that name, or the sizes do not fit.
    """
    name = BY_FORM.get(form, DEFAULT) if by == "auto" else by
    tokens = min(DEFAULT_SIZE, ruler.length) if size is None else size
    repeated = min(DEFAULT_OVERLAP, tokens // 2) if overlap is None else overlap
    made: Chunker = REGISTRY.load(name)(ruler, tokens, repeated, **options)
    return made
