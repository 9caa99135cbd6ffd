"""Places of hits: the same positions in a search and in what is read, lines and pages, and near-duplicates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.answering.prompt import build_messages
from nearfield.corpus.collection import Collection
from nearfield.corpus.extractors import windows
from nearfield.corpus.manifest.reading_text import join_chunks, shared_ranges, shift_highlights
from nearfield.corpus.search.hit import Location
from nearfield.corpus.sources.spec import parse_source
from nearfield.errors import InputError
from nearfield.testing import write_tiny_model

SENTENCE = "The cat sat on the mat and the dog ran to the river number {}. "
NOTICE = "The term of notice is three months to the end of a quarter for both parties of the contract."
MARKDOWN = "---\ntitle: Pets\n---\n\n# Cats\n\n" + SENTENCE.format(1) * 3 + "\n\n## Dogs\n\n" + SENTENCE.format(2) * 30


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    texts = {
        "long.txt": "\n\n".join(SENTENCE.format(number) * 4 for number in range(12)),
        "odd.txt": "A\u00adcat with soft hy\u00adphens\u200b.\r\n\r\nAnd cafe\u0301 in the\u00a0town of cats.\r\n" * 8,
        "guide.md": MARKDOWN,
        "paged.txt": "\f".join(f"Page {number}: a cat sat there." for number in range(1, 6)),
        "code.py": "def run(cats):\n    '''Run after cats.'''\n    return [cat for cat in cats if cat.red]\n" * 6,
        "page.html": "<h1>Cats</h1><ul><li>A red cat on a mat</li><li>A blue dog in a world</li></ul>"
        + "<p>Hello</p>" * 9,
    }
    for number in range(6):
        goods = ("cats", "dogs", "mats", "rivers", "worlds", "cities")[number]
        body = f"Contract number {number} is about the sale of {goods}."
        texts[f"contract{number}.txt"] = f"{body} {SENTENCE.format(number) * 3}\n\n{NOTICE}\n\n{body} It ends here."
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    return folder


@pytest.fixture
def collection(tmp_path: Path, files: Path, model: Path) -> Iterator[Collection]:
    config = {
        "features": {"dense": {"model": str(model)}},
        "store": f"memory:{tmp_path}",
        "chunks": {"tokens": 40, "overlap": 16},
    }
    with Collection.create("docs", config, home=tmp_path / "home") as created:
        created.index([parse_source(str(files))])
        yield created


def _hits(collection: Collection, **options: Any) -> list[Any]:
    return [hit for query in ("cat", "dog river", "notice") for hit in collection.search(query, 100, **options)]


def test_a_hit_is_read_at_its_place(collection: Collection) -> None:
    hits = _hits(collection)
    assert len({hit.document for hit in hits}) > 8
    for hit in hits:
        assert collection.text(hit.document)[hit.start : hit.end] == hit.text


def test_places_of_near_duplicates_are_read_too(collection: Collection) -> None:
    places = [(place, hit) for hit in _hits(collection) for place in hit.also]
    assert places
    for place, hit in places:
        read = collection.text(place.document)[place.start : place.end]
        assert len(set(read.split()) ^ set(hit.text.split())) <= 2


def test_chunks_without_places_are_read_at_places_that_fit(collection: Collection) -> None:
    for info in collection.documents():
        records = [*collection.manifest.chunks(info.id), *(d.chunk for d in collection.manifest.duplicates(info.id))]
        bare = [replace(r, payload={k: v for k, v in r.payload.items() if k not in ("place", "gap")}) for r in records]
        result = join_chunks(bare)
        for record in bare:
            start, end = result.places[record.id]
            assert result.text[start:end] == record.text


def test_hits_of_collections_without_places(collection: Collection) -> None:
    rows = collection.manifest.rows("SELECT rowid, payload FROM chunks")
    with collection.manifest.writing():
        for row, payload in rows:
            old = {k: v for k, v in json.loads(payload).items() if k in ("start", "end", "title", "headings", "page")}
            collection.manifest.rows("UPDATE chunks SET payload = ? WHERE rowid = ?", (json.dumps(old), row))
    for hit in _hits(collection, mode="bm25"):
        assert collection.text(hit.document)[hit.start : hit.end] == hit.text
        assert hit.last_page == hit.page


@pytest.mark.parametrize("name", ["long.txt", "odd.txt", "guide.md", "code.py", "contract3.txt"])
def test_lines_are_those_of_the_file(collection: Collection, files: Path, name: str) -> None:
    lines = (files / name).read_bytes().decode().split("\n")
    hits = [hit for hit in _hits(collection, where={"path": name}, mode="bm25") if hit.document.endswith(name)]
    assert hits
    for hit in hits:
        first, last = hit.lines
        words = "".join(letter for letter in hit.text.split("\n")[0] if letter.isascii() and letter.isalpha())
        shown = "".join(letter for letter in "".join(lines[first - 1 : last]) if letter.isascii() and letter.isalpha())
        assert words[:3] in shown
        assert hit.location.describe().startswith("line")


def test_a_hit_in_subtitles_says_when_it_is_said(tmp_path: Path, model: Path) -> None:
    times = [(minute, 60 * minute + 5.0, 60 * minute + 13.5) for minute in range(8)]
    cues = [
        f"{minute + 1}\n00:{minute:02}:05,000 --> 00:{minute:02}:13,500\n{SENTENCE.format(minute)}"
        for minute, *_ in times
    ]
    (tmp_path / "talk.srt").write_text("\n\n".join(cues))
    config = {
        "features": {"dense": {"model": str(model)}},
        "store": f"memory:{tmp_path}/s",
        "chunks": {"tokens": 40, "overlap": 16},
    }
    with Collection.create("talk", config, home=tmp_path / "home") as created:
        created.index([parse_source(str(tmp_path / "talk.srt"))])
        hits = created.search("the river number 3", 100)
    assert len({hit.start_time for hit in hits}) > 2
    for hit in hits:
        spoken = [(start, end) for minute, start, end in times if SENTENCE.format(minute).strip() in hit.text]
        assert spoken
        assert hit.start_time is not None
        assert hit.end_time is not None
        assert hit.start_time <= spoken[0][0]
        assert hit.end_time >= spoken[-1][1]
        assert hit.end_time - hit.start_time < 60 * (len(spoken) + 1)
        assert hit.location.describe().startswith(f"{int(hit.start_time) // 60}:")


def test_files_that_are_no_text_have_no_lines(collection: Collection) -> None:
    hits = _hits(collection, where={"path": "page.html"}, mode="bm25")
    assert hits
    assert all(hit.lines is None for hit in hits)


def test_a_chunk_names_its_last_page(collection: Collection) -> None:
    hits = _hits(collection, where={"path": "paged.txt"}, mode="bm25")
    assert {hit.page for hit in hits} <= {1, 2, 3, 4, 5}
    for hit in hits:
        numbers = [int(part.split(":")[0]) for part in hit.text.split("Page ")[1:]]
        assert not numbers or (hit.page <= numbers[0] and numbers[-1] == hit.last_page)
    assert any(hit.last_page > hit.page for hit in hits)


def test_a_long_document_is_read_in_the_same_positions(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LONG", "WINDOW"):
        monkeypatch.setattr(f"{windows.__name__}.{name}", 1500)
    folder = tmp_path / "long"
    folder.mkdir()
    text = "\n\n".join(SENTENCE.format(number) for number in range(120))
    (folder / "long.txt").write_text(text, encoding="utf-8")
    config = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}"}
    with Collection.create("docs", config, home=tmp_path / "home") as collection:
        collection.index([parse_source(str(folder))])
        hits = collection.search("river number 99", 500, mode="bm25")
        assert max(hit.start for hit in hits) > 4000
        for hit in hits:
            read = collection.text(hit.document)
            assert read[hit.start : hit.end] == hit.text
            first, last = hit.lines or (0, 0)
            shown = "\n".join(text.split("\n")[first - 1 : last])
            assert hit.text.split("\n")[0].strip() in shown
        assert read.split() == text.split()


@pytest.mark.parametrize(
    ("location", "text"),
    [
        (Location("d", 0, 9), ""),
        (Location("d", 0, 9, 3, 3), "page 3"),
        (Location("d", 0, 9, 3), "page 3"),
        (Location("d", 0, 9, 3, 5), "pages 3-5"),
        (Location("d", 0, 9, 2, 2, "slide"), "slide 2"),
        (Location("d", 0, 9, 1, 2, "sheet"), "sheets 1-2"),
        (Location("d", 0, 9, lines=(4, 4)), "line 4"),
        (Location("d", 0, 9, 1, 1, "page", (4, 7)), "lines 4-7"),
        (Location("d", 0, 9, start_time=12.7, end_time=22.2), "0:12-0:22"),
        (Location("d", 0, 9, start_time=12.1, end_time=12.9), "0:12"),
        (Location("d", 0, 9, start_time=3599.0, end_time=3723.5), "59:59-1:02:03"),
    ],
)
def test_places_in_words(location: Location, text: str) -> None:
    assert location.describe() == text


@pytest.mark.parametrize("mode", ["bm25", "dense", "auto"])
@pytest.mark.parametrize("number", range(6))
def test_a_filter_finds_shared_text_in_each_of_its_files(collection: Collection, mode: str, number: int) -> None:
    name = f"contract{number}.txt"
    hits = collection.search("term of notice", 50, where={"path": name}, mode=mode)
    assert {hit.fields["path"] for hit in hits} == {name}
    assert {hit.document.split("#")[1] for hit in hits} == {name}
    assert any("three months" in hit.text for hit in hits)
    for hit in hits:
        assert collection.text(hit.document)[hit.start : hit.end] == hit.text


@pytest.mark.parametrize(
    "where",
    [
        {"path": {"in": ["contract1.txt", "contract2.txt"]}},
        {"not": {"path": "contract0.txt"}},
        {"or": [{"path": "contract5.txt"}, {"path": "long.txt"}]},
    ],
)
def test_filters_with_operators_find_shared_text(collection: Collection, where: dict[str, Any]) -> None:
    hits = collection.search("term of notice three months", 5, where=where, mode="bm25")
    assert any("three months" in hit.text for hit in hits)
    assert "contract0.txt" not in {hit.fields["path"] for hit in hits}


@pytest.mark.parametrize("mode", ["bm25", "dense", "auto"])
@pytest.mark.parametrize(
    ("condition", "pages"),
    [
        *((page, {page}) for page in range(1, 6)),
        ({"in": [1, 5]}, {1, 5}),
        ({"gt": 3}, {4, 5}),
        ({"gte": 2, "lt": 3}, {2}),
        ({"lte": 2}, {1, 2}),
        ({"exists": True}, {1, 2, 3, 4, 5}),
        (9, set()),
    ],
)
def test_a_filter_on_pages_matches_each_page_of_a_chunk(
    collection: Collection, mode: str, condition: Any, pages: set[int]
) -> None:
    everything = collection.search("page cat", 50, where={"path": "paged.txt"}, mode=mode)
    spans = {hit.id: set(range(hit.page or 0, (hit.last_page or 0) + 1)) for hit in everything}
    assert any(len(span) > 1 for span in spans.values())
    expected = {key for key, span in spans.items() if span & pages}
    found = collection.search("page cat", 50, where={"path": "paged.txt", "page": condition}, mode=mode)
    assert {hit.id for hit in found} == expected
    where = {"path": "paged.txt", "not": {"page": condition}}
    others = collection.search("page cat", 50, where=where, mode=mode)
    assert {hit.id for hit in others} == set(spans) - expected


def test_a_filter_on_pages_matches_each_page_of_a_near_duplicate(collection: Collection, files: Path) -> None:
    text = (files / "paged.txt").read_text(encoding="utf-8")
    (files / "copy.txt").write_text(text, encoding="utf-8")
    collection.index()
    spans = [hit for hit in _hits(collection, where={"path": "paged.txt"}, mode="bm25") if hit.last_page != hit.page]
    where = {"path": "copy.txt", "page": spans[0].last_page}
    assert spans[0].text in {hit.text for hit in _hits(collection, where=where, mode="bm25")}
    assert _hits(collection, where={**where, "page": 9}, mode="bm25") == []


CLAUSE = "The ombudsman decides about quarrels of the two sides."


@pytest.fixture
def contracts(tmp_path: Path) -> Iterator[Collection]:
    """Contracts whose passages have a clause in the middle that all of them share."""
    model = write_tiny_model(tmp_path / "model", length=512)
    config = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}", "chunks": {"tokens": 440}}
    with Collection.create("contracts", config, home=tmp_path / "home") as created:
        names = ("Anna", "Berta", "Clara", "Dora", "Emma", "Frida")
        texts = [f"The contract with {name} is old.\n\n{CLAUSE}\n\nThe rent of {name} is due." for name in names]
        folder = tmp_path / "contracts"
        folder.mkdir()
        for name, text in zip(names, texts, strict=True):
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        created.index([parse_source(str(folder))])
        yield created


def test_a_shared_clause_in_a_passage_is_marked(contracts: Collection) -> None:
    (hit,) = contracts.search("rent Berta contract", 1, mode="bm25", highlight=True)
    assert hit.document.endswith("#Berta.txt")
    assert contracts.text(hit.document)[hit.start : hit.end] == hit.text
    assert [hit.text[start:end].strip() for start, end in hit.shared] == [CLAUSE]
    assert " ".join(hit.own_text.split()) == "The contract with Berta is old. [...] The rent of Berta is due."
    shown = hit.without_shared()
    assert shown.shared == ()
    marked = {hit.text[start:end].strip() for start, end in hit.highlights}
    assert marked == {"The contract with Berta is old.", "The rent of Berta is due."}
    assert {shown.text[start:end].strip() for start, end in shown.highlights} == marked


def test_a_shared_clause_is_a_passage_of_its_own(contracts: Collection) -> None:
    (hit,) = contracts.search("ombudsman quarrels", 3, mode="bm25")
    assert (hit.text, hit.shared, len(hit.also)) == (CLAUSE, (), 5)
    answer = contracts.ask("Does the ombudsman decide about the rent of Berta?", k=20, min_score=0)
    sent = build_messages("Who decides?", answer.passages)[1]["content"]
    assert sent.count(CLAUSE) == 1


def test_a_highlight_does_not_reach_over_a_shared_passage() -> None:
    cuts = [(5, 4), (5, 2), (8, 3)]
    assert shared_ranges(cuts) == ((5, 11), (14, 17))
    assert shift_highlights([(0, 10), (6, 7), (0, 5)], cuts) == ((0, 5), (11, 14), (17, 19), (12, 13), (0, 5))


@pytest.mark.parametrize("value", ["high", float("nan"), True])
def test_a_minimum_score_that_is_none(collection: Collection, value: object) -> None:
    with pytest.raises(InputError, match="min_score"):
        collection.search("cat", min_score=value)


@pytest.mark.parametrize("method", ["search", "ask", "search_many"])
def test_a_mistyped_option_names_the_option_and_nothing_of_the_inside(collection: Collection, method: str) -> None:
    text: Any = ["cat"] if method == "search_many" else "cat"
    with pytest.raises(TypeError, match="A search has no option 'moed'") as wrong:
        getattr(collection, method)(text, moed="dense")
    assert "Did you mean 'mode'?" in str(wrong.value) and "Searcher" not in str(wrong.value)
