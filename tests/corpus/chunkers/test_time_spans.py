"""Times of chunks: exact at the ends of blocks, estimated inside of them, and none without a recording."""

from __future__ import annotations

import msgspec
import pytest

from nearfield.corpus.chunkers.time_spans import times_between
from nearfield.corpus.document import Block, Chunk, Document
from nearfield.corpus.extractors.document_builder import DocumentBuilder

DOCUMENT = Document(
    "Heading\n\nfirst part\n\nother part",
    (
        Block(0, 7, "heading", 1),
        Block(9, 19, start_time=2.04, end_time=12.04),
        Block(21, 31, start_time=20.0, end_time=21.06),
    ),
)


@pytest.mark.parametrize(
    ("part", "times"),
    [
        ((0, 7), (None, None)),
        ((7, 9), (None, None)),
        ((0, 31), (2.0, 21.1)),
        ((9, 19), (2.0, 12.1)),
        ((15, 19), (8.0, 12.1)),
        ((9, 12), (2.0, 5.1)),
        ((14, 26), (7.0, 20.6)),
        ((21, 31), (20.0, 21.1)),
    ],
)
def test_times_between_two_positions(part: tuple[int, int], times: tuple[float | None, float | None]) -> None:
    assert times_between(DOCUMENT)(*part) == times


def test_a_text_without_a_recording_has_no_times() -> None:
    assert times_between(Document("text", (Block(0, 4),)))(0, 4) == (None, None)
    assert "start_time" not in Chunk(0, "text", 0, 4).payload()


def test_times_never_run_backwards() -> None:
    late, early = Block(0, 4, start_time=50.0, end_time=60.0), Block(4, 8, start_time=3.0, end_time=4.0)
    assert times_between(Document("textmore", (late, early)))(0, 8) == (50.0, 50.0)


def test_times_survive_the_worker_process_and_a_surrounding_document() -> None:
    inner, outer = DocumentBuilder(), DocumentBuilder()
    inner.add("said", times=(1.5, 2.5))
    outer.heading("Talk", 1)
    outer.append(msgspec.json.decode(msgspec.json.encode(inner.document("prose")), type=Document))
    document = outer.document("prose")
    assert [(block.start_time, block.end_time) for block in document.blocks] == [(None, None), (1.5, 2.5)]
    chunk = Chunk(0, "said", 0, 4, start_time=1.5, end_time=2.5)
    assert {"start_time": 1.5, "end_time": 2.5}.items() <= chunk.payload().items()
