"""Text that documents or pages share: it is stored once, with all its places, and nothing else is removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nearfield import Collection
from nearfield.corpus.document import Block, Document
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.indexing.cleaning.boilerplate import Boilerplate, BoilerplateDetector, page_boilerplate
from nearfield.corpus.indexing.cleaning.document_cleaner import clean
from nearfield.corpus.manifest.records import ChunkRecord
from nearfield.corpus.sources.spec import parse_source
from nearfield.testing import write_tiny_model
from tests.support.sample_documents import column, docx, pdf

NAMES = ("Anna", "Berta", "Clara", "Dora", "Emma", "Frida")
NOTICE = "Either side may end the contract with three months notice."
PAYMENT = "Invoices are paid within thirty days after their receipt, without deduction."


def text_files(name: str) -> dict[str, bytes]:
    text = f"Contract with {name} of the year.\n\n{NOTICE}\n\nThe rent of {name} is due monthly.\n\n{PAYMENT}\n"
    return {f"{name}.txt": text.encode()}


def wrapped_files(name: str) -> dict[str, bytes]:
    notice = NOTICE.replace(" with", "\nwith")
    return {f"{name}.txt": f"Contract with {name}, signed in spring.\n\n{notice}\n\n{name} pays.\n\n{PAYMENT}".encode()}


def markdown_files(name: str) -> dict[str, bytes]:
    text = (
        f"# Contract with {name}\n\nSigned by {name} alone.\n\n## End\n\n{NOTICE}\n\n## Price\n\nAs {name} said.\n\n"
        f"- {name} pays.\n\n{PAYMENT}\n"
    )
    return {f"{name}.md": text.encode()}


def html_files(name: str) -> dict[str, bytes]:
    about = f"The contract with {name} was signed in spring, and {name} was content with all that it says. " * 4
    text = f"<html><body><main><h1>{name}</h1><p>{about}</p><p>{NOTICE}</p><p>{PAYMENT}</p></main></body></html>"
    return {f"{name}.html": text.encode()}


def docx_files(name: str) -> dict[str, bytes]:
    def write(file: Any) -> None:
        file.add_heading(f"Contract with {name}", 1)
        for text in (f"Signed by {name}.", NOTICE, f"The rent of {name} is due.", PAYMENT):
            file.add_paragraph(text)

    return {f"{name}.docx": docx(write)}


def pdf_files(name: str) -> dict[str, bytes]:
    texts = (
        f"Contract with {name} of the year,",
        "signed in spring.",
        "",
        NOTICE,
        "",
        f"The rent of {name}",
        "is due.",
    )
    lines = enumerate((*texts, "", PAYMENT))
    return {f"{name}.pdf": pdf([[(72, 780 - 14 * number, 11, line) for number, line in lines if line]])}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny", length=512)


@pytest.fixture
def collection(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    definition = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}"}
    with Collection.create("repeated", definition) as collection:
        yield collection


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def chunks(collection: Collection) -> list[ChunkRecord]:
    return [chunk for document in collection.documents() for chunk in collection.manifest.chunks(document.id)]


def flat(text: str) -> str:
    return " ".join(text.split())


def places(collection: Collection, text: str) -> list[str]:
    """Return the names of the documents that a search for a text leads to."""
    names = []
    for chunk in chunks(collection):
        if text in flat(chunk.text):
            same = [chunk, *collection.manifest.duplicates_of(chunk.id)]
            names += [str(other.fields["path"]).partition(".")[0] for other in same]
    return sorted(names)


@pytest.mark.parametrize(
    "files",
    [text_files, wrapped_files, markdown_files, html_files, docx_files, pdf_files],
    ids=lambda made: made.__name__,
)
def test_clauses_of_all_contracts_are_stored_once_with_all_places(
    collection: Collection, tmp_path: Path, files: Callable[[str], dict[str, bytes]]
) -> None:
    folder = tmp_path / "contracts"
    for name in NAMES:
        write(folder, files(name))
    report = collection.index([parse_source(str(folder))])
    assert (report.new, report.failed) == (6, 0)
    for clause in (NOTICE, PAYMENT):
        assert sum(clause in flat(chunk.text) for chunk in chunks(collection)) == 1
        assert places(collection, clause) == sorted(NAMES)
    (hit,) = collection.search("three months notice", 1, mode="bm25")
    assert flat(hit.text) == NOTICE
    assert len({hit.document, *(place.document for place in hit.also)}) == 6
    with DocumentReader() as reader:
        places_of_hit: list[Any] = [hit, *hit.also]
        for place in places_of_hit:
            path = folder / place.document.partition("#")[2]
            text = reader.document(path.read_bytes(), path.name)[0].text
            assert flat(collection.text(place.document)[place.start : place.end]) == NOTICE
            assert flat(text).replace("#", "").split() == collection.text(place.document).replace("#", "").split()
    assert all(any(name in chunk.text for chunk in chunks(collection)) for name in NAMES)


def test_a_clause_moves_to_another_contract_when_its_first_one_is_removed(
    collection: Collection, tmp_path: Path
) -> None:
    folder = tmp_path / "contracts"
    for name in NAMES:
        write(folder, text_files(name))
    collection.index([parse_source(str(folder))])
    (folder / "Anna.txt").unlink()
    collection.index()
    assert places(collection, NOTICE) == sorted(NAMES[1:])
    write(folder, text_files("Gerda"))
    collection.index()
    assert places(collection, NOTICE) == sorted([*NAMES[1:], "Gerda"])
    assert collection.verify()["whole"]


def test_the_heading_of_a_clause_stays_and_labels_it(collection: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    for name in NAMES:
        write(folder, markdown_files(name))
    collection.index([parse_source(str(folder))])
    (clause,) = [chunk for chunk in chunks(collection) if NOTICE in chunk.text]
    assert clause.payload["headings"] == ["Contract with Anna", "End"]
    assert clause.context == "End"


def test_navigation_and_notices_of_a_site_are_stored_once(collection: Collection, tmp_path: Path) -> None:
    menu = "- [Home](/)\n- [Products](/products)\n- [About us](/about)"
    cookies = "We use cookies to count visits. Accept or decline them."
    below = f"{cookies}\n\n© Acme Ltd 2024"
    pages = {
        f"page{at}.md": f"{menu}\n\n# Page {at}\n\nThe story of {'x' * at} is new.\n\n{below}\n".encode()
        for at in range(1, 51)
    }
    report = collection.index([parse_source(str(write(tmp_path / "site", pages)))])
    assert report.boilerplate == 150
    for text in ("Products", "cookies", "© Acme Ltd 2024"):
        assert sum(text in chunk.text for chunk in chunks(collection)) == 1
        assert len(places(collection, flat(text))) == 50
    assert {menu, cookies, "© Acme Ltd 2024"} <= {line for line, _ in report.dropped_lines}
    assert sum("story of" in chunk.text for chunk in chunks(collection)) == 50


def test_a_licence_stays_in_each_file_of_code(collection: Collection, tmp_path: Path) -> None:
    licence = "# Copyright 2024 Acme Ltd. You may use this file under the terms of the licence.\n"
    files = {f"{name}.py": f"{licence}\n\ndef {name.lower()}():\n    return '{name}'\n".encode() for name in NAMES}
    report = collection.index([parse_source(str(write(tmp_path / "code", files)))])
    assert report.boilerplate == 0
    assert places(collection, licence.strip()) == sorted(NAMES)


def test_signatures_of_mails_are_stored_once(collection: Collection, tmp_path: Path) -> None:
    signature = "-- \nJane Doe, Acme Ltd, 12 Main Street\nThis mail is confidential."
    files = {f"{name}.txt": f"Dear {name},\n\nwe met {name} in spring.\n\n{signature}\n".encode() for name in NAMES}
    collection.index([parse_source(str(write(tmp_path / "mails", files)))])
    assert sum("Jane Doe" in chunk.text for chunk in chunks(collection)) == 1
    assert places(collection, flat(signature)) == sorted(NAMES)
    assert all(any(f"we met {name}" in chunk.text for chunk in chunks(collection)) for name in NAMES)


# -- what is removed from which text -----------------------------------------------------------------------------


def blocks_of(*texts: str, pages: bool = False) -> Document:
    blocks, at = [], 0
    for number, text in enumerate(texts, 1):
        blocks.append(Block(at, at + len(text), page=number if pages else None))
        at += len(text) + 2
    return Document("\n\n".join(texts), tuple(blocks))


def boilerplate_of(documents: list[Document]) -> Boilerplate:
    detector = BoilerplateDetector()
    for document in documents:
        detector.add(document)
    return detector.result()


FLOWING = [
    (
        "The tenant {} pays five hundred euros each month, and from then on\n"
        "either side may end the contract at the end of a quarter with three\n"
        "months notice."
    ),
    (
        "{} said in spring that all of it was well, and that was all of it\n"
        "since the seal was inspected and the bolts were tightened to the right\n"
        "torque by {}, who signed it"
    ),
    (
        "In {} wird die Miete am dritten Werktag gezahlt, und von da an kann der\n"
        "Vertrag von beiden Seiten zum Ende des Quartals mit einer Frist von drei\n"
        "Monaten beendet werden."
    ),
    ("{} is the first\nwho reads the passage that many others have read before, in many books\nof the world."),
]


@pytest.mark.parametrize("text", [*FLOWING, "The rent of {}\nis due soon,\nas was said."])
@pytest.mark.parametrize("pages", [False, True])
def test_lines_in_a_paragraph_stay(text: str, pages: bool) -> None:
    texts = [text.replace("{}", name) for name in NAMES]
    if pages:
        document = blocks_of(*texts, pages=True)
        assert clean(document).document is document
    documents = [Document(text) for text in texts] + [blocks_of("One of them.", text) for text in texts]
    boilerplate = boilerplate_of(documents)
    for document in documents:
        assert all(line in clean(document, boilerplate).document.text for line in text.split("\n")[1:-1])
        assert clean(document, boilerplate).document.text.endswith(document.text.rpartition("\n\n")[2])


def test_a_header_is_removed_above_a_sentence_that_began_on_the_page_before() -> None:
    texts = [
        f"Acme yearly report\nand so {name} went on with the long story that had begun before it, and\n"
        f"the story of {name} ended.\nThen {name} began another story, which is as long as the one before, and\n"
        "Acme Ltd"
        for name in NAMES
    ]
    cleaned = clean(blocks_of(*texts, pages=True))
    assert cleaned.dropped == {"Acme yearly report": 6, "Acme Ltd": 6}
    assert cleaned.document.text.count("went on with") == cleaned.document.text.count("began another story") == 6
    assert cleaned.before is not None
    passages = [cleaned.before.document.text[slice(*passage)].strip() for passage in cleaned.passages]
    assert passages == ["Acme yearly report", "Acme Ltd"]


def test_short_labels_inside_a_page_stay() -> None:
    texts = [
        ("Amount due", f"{at}19 EUR for {name}", "Due date", f"{name}'s birthday") for at, name in enumerate(NAMES)
    ]
    blocks = [text for page in texts for text in (f"Dear {page[3]}", f"for {page[3]}", *page, f"{page[3]}!")]
    document = blocks_of(*blocks)
    paged = Document(
        document.text,
        tuple(Block(block.start, block.end, page=at // 7 + 1) for at, block in enumerate(document.blocks)),
    )
    assert page_boilerplate(paged).lines
    assert clean(paged).document is paged
    documents = [blocks_of(*blocks[at : at + 7]) for at in range(0, 42, 7)]
    boilerplate = boilerplate_of(documents)
    assert boilerplate.lines
    assert all(clean(document, boilerplate).document is document for document in documents)


def test_items_of_a_menu_are_one_text() -> None:
    menu = ("Home", "Products", "About us", "Contact")
    documents = [blocks_of(*menu, f"{name} has a story.", f"It is {name}'s own.") for name in NAMES]
    cleaned = clean(documents[1], boilerplate_of(documents))
    assert cleaned.document.text.strip() == "Berta has a story.\n\nIt is Berta's own."
    assert cleaned.before is not None
    assert [cleaned.before.document.text[slice(*place)].split("\n\n") for place in cleaned.passages] == [list(menu)]


def test_a_running_title_is_stored_once_where_it_is_first(collection: Collection, tmp_path: Path) -> None:
    pages = []
    for at, name in enumerate(NAMES, 1):
        body = (f"{name} reads {word}." for word in ("one", "two", "six", "ten"))
        pages.append(column("Acme pump manual, revision 7", f"Page {at} of 6", *body))
    report = collection.index([parse_source(str(write(tmp_path / "manual", {"a.pdf": pdf(pages)})))])
    assert report.boilerplate == 12
    titles = [chunk for chunk in chunks(collection) if "revision 7" in chunk.text]
    assert [(chunk.text, chunk.fields["page"]) for chunk in titles] == [("Acme pump manual, revision 7", 1)]
    assert not any("Page" in chunk.text for chunk in chunks(collection))
