"""Splitters of other libraries as chunkers: chonkie, semantic-text-splitter and langchain.

Each library counts with the model's own tokenizer. Around it are what a collection needs of a chunker: exact offsets in
the text, and the number of tokens of each chunk alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Document, Span

#: Returns the texts of the chunks of a text, in order.
SplitText = Callable[[str], Sequence[str]]
#: Ends of sentences for langchain, which knows none by default; those of Chroma's report.
_SENTENCE_SEPARATORS = ["\n\n", "\n", ".", "?", "!", " ", ""]


class LibraryChunker:
    """Splits documents with a library; ``markdown`` writes headings as Markdown before, in the same positions."""

    late = False

    def __init__(self, split_text: SplitText, counter: TokenCounter, *, markdown: bool = False) -> None:
        self._split_text = split_text
        self._counter = counter
        self._markdown = markdown

    def split(self, document: Document) -> list[Span]:
        """Return the spans of the chunks, in order, without white space at their ends.

        Raises:
            ValueError: the library changed the text, or left a part of it out.
        """
        text = markdown_headings(document) if self._markdown else document.text
        spans = locate_chunks(text, self._split_text(text))
        counts = self._counter.counts([document.text[start:end] for start, end in spans])
        return [Span(start, end, tokens=count) for (start, end), count in zip(spans, counts, strict=True) if count]


def locate_chunks(text: str, chunks: Iterable[str]) -> list[tuple[int, int]]:
    """Return where each chunk starts and ends in a text, as late as possible without a gap after the chunk before.

    Raises:
        ValueError: a chunk is not part of the text, or there is a gap that is not white space.
    """
    spans: list[tuple[int, int]] = []
    start, end = -1, 0
    for chunk in filter(None, map(str.strip, chunks)):
        following = _skip_space(text, end)
        start = text.rfind(chunk, start + 1, following + len(chunk))
        if start < 0:
            raise ValueError(f"No chunk {chunk!r} at {following}: {text[following : following + len(chunk)]!r}")
        end = start + len(chunk)
        spans.append((start, end))
    if _skip_space(text, end) < len(text):
        raise ValueError(f"No chunk has the last {len(text) - end} characters.")
    return spans


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def markdown_headings(document: Document) -> str:
    """Return the text with the markup of headings as in Markdown; all titles and other characters keep their places."""
    text = document.text
    parts, position = [], 0
    for block in document.blocks:
        if block.kind == "heading":
            start = text.rfind("\n", 0, block.start) + 1
            end = text.find("\n", block.end)
            end = len(text) if end < 0 else end
            parts += [text[position:start], ("#" * block.level).ljust(block.start - start)]
            parts += [text[block.start : block.end], " " * (end - block.end)]
            position = end
    return "".join([*parts, text[position:]])


def _chonkie(name: str, backend: Any, size: int, overlap: int) -> SplitText:
    import chonkie

    options: dict[str, Any] = {"chunk_overlap": overlap} if overlap else {}
    if name == "RecursiveChunker":
        # The last level decodes tokens, and so changes the text where the tokenizer is not reversible.
        levels = list(chonkie.RecursiveRules().levels or ())
        options["rules"] = chonkie.RecursiveRules(levels=levels[:-1])
    splitter = getattr(chonkie, name)(tokenizer=backend, chunk_size=size, **options)
    return lambda text: [chunk.text for chunk in splitter.chunk(text)]


def _semantic_text_splitter(name: str, backend: Any, size: int, overlap: int) -> SplitText:
    import semantic_text_splitter

    splitter = getattr(semantic_text_splitter, name).from_huggingface_tokenizer(backend, size, overlap)
    return lambda text: list(splitter.chunks(text))


def _langchain(name: str, backend: Any, size: int, overlap: int) -> SplitText:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    def count(text: str) -> int:
        return len(backend.encode(text, add_special_tokens=False).ids)

    options: dict[str, Any] = {"chunk_size": size, "chunk_overlap": overlap, "length_function": count}
    if name == "sentences":
        options |= {"separators": _SENTENCE_SEPARATORS, "keep_separator": "end"}
    split_text: SplitText = RecursiveCharacterTextSplitter(**options).split_text
    return split_text


#: For each row of the benchmark, its library's builder and splitter.
LIBRARIES: Mapping[str, tuple[Callable[[str, Any, int, int], SplitText], str]] = {
    "chonkie recursive": (_chonkie, "RecursiveChunker"),
    "chonkie sentence": (_chonkie, "SentenceChunker"),
    "semantic-text-splitter text": (_semantic_text_splitter, "TextSplitter"),
    "semantic-text-splitter markdown": (_semantic_text_splitter, "MarkdownSplitter"),
    "langchain recursive": (_langchain, "default"),
    "langchain recursive, sentences": (_langchain, "sentences"),
}
#: The packages that are compared, for their versions.
PACKAGES = ("chonkie", "semantic-text-splitter", "langchain-text-splitters")


def open_library(name: str, counter: TokenCounter, backend: Any, size: int, overlap: int) -> LibraryChunker:
    """Return the splitter of a library as a chunker; ``backend`` is the model's tokenizer.

    Raises:
        ModuleNotFoundError: the library is not installed.
    """
    build, splitter = LIBRARIES[name]
    split_text = build(splitter, backend, size, overlap)
    return LibraryChunker(split_text, counter, markdown=splitter == "MarkdownSplitter")
