"""Questions with known answers: documents in any form beside others that are written, and the recall of a search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nearfield import Collection
from nearfield.corpus.sources.spec import parse_source

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
EMBEDDING_MODEL = "all-MiniLM-L6-v2"
#: Documents that are written beside those that questions are about, and hits of a search.
_OTHERS, _HITS = 500, 50


@dataclass(frozen=True)
class KnownAnswer:
    """A document, and a question that it answers."""

    text: str
    question: str


@dataclass(frozen=True)
class SearchTask:
    """Questions, each about one document, and other documents."""

    answers: list[KnownAnswer]
    others: list[str]


def search_task(name: str, count: int, *, titles: bool = True, most_letters: int = 10**6) -> SearchTask:
    """Return a question for each of so many documents of a data set, spread over it, and some other documents.

    Args:
        name: the folder of the data set.
        count: documents that questions are about.
        titles: whether the title of a document is a part of its text.
        most_letters: the length of the longest document that a question is about.
    """
    rows = _rows(name, "corpus.jsonl")
    texts = {row["_id"]: f"{row['title']} {row['text']}" if titles else row["text"] for row in rows}
    questions = {row["_id"]: row["text"] for row in _rows(name, "queries.jsonl")}
    lines = (DATA / name / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    pairs = [(query, document) for query, document, _ in (line.split("\t") for line in lines)]
    first = {document: query for query, document in reversed(pairs) if len(texts[document]) <= most_letters}
    chosen = list(first)[:: max(1, len(first) // count)][:count]
    asked = {first[document] for document in chosen}
    answering = {document for query, document in pairs if query in asked}
    others = [text for document, text in texts.items() if document not in answering]
    answers = [KnownAnswer(texts[document], questions[first[document]]) for document in chosen]
    return SearchTask(answers, others[:: max(1, len(others) // _OTHERS)][:_OTHERS])


def _rows(name: str, file: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / name / file).read_text(encoding="utf-8").splitlines()]


def write_texts(folder: Path, texts: Sequence[str]) -> Path:
    """Write a file for each text, with its number as name."""
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


def index_files(folder: Path, source: Path, definition: Mapping[str, object]) -> Collection:
    """Return a collection of the files of the answers, which have their numbers as names."""
    config = {
        "features": {"dense": {"model": EMBEDDING_MODEL}},
        "store": f"memory:{folder}",
        "sources": [{"kind": "files", "location": str(source)}],
        **definition,
    }
    collection = Collection.create("known", config, home=folder / "home")
    collection.index()
    return collection


def texts_read(collection: Collection) -> dict[int, str]:
    """Return the text that was read of each document, by its number."""
    return {int(Path(info.key).stem): collection.text(info.id) for info in collection.documents()}


def recalls(collection: Collection, task: SearchTask, folder: Path, depths: Sequence[int]) -> list[float]:
    """Return the shares of questions whose document is among the first ones of a search, for each depth.

    The other documents are indexed too.
    """
    collection.index([parse_source(str(write_texts(folder / "others", task.others)))])
    ranks = [_rank(collection, item.question, number) for number, item in enumerate(task.answers)]
    return [sum(rank < depth for rank in ranks) / len(ranks) for depth in depths]


def _rank(collection: Collection, question: str, number: int) -> int:
    """Return the place of an answer among the documents of a search, from 0; a large number if it is not there."""
    documents = list(dict.fromkeys(hit.document for hit in collection.search(question, _HITS)))
    right = [place for place, document in enumerate(documents) if _is_answer(document, number)]
    return right[0] if right else len(documents) + _HITS


def _is_answer(document: str, number: int) -> bool:
    source, _, key = document.rpartition("#")
    return not source.endswith("others") and Path(key).stem == str(number)
