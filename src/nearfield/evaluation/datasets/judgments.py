"""Build a retrieval data set from human relevance judgments, one document at a time.

Candidates come from several searches, best ranks first (pooling, as TREC does), so that no search method is favoured.
The folder in BEIR's layout grows with every judgment, so that work can be interrupted at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nearfield.errors import InputError
from nearfield.evaluation.datasets import beir, loaders
from nearfield.evaluation.datasets.rows import DatasetRow, read_rows

#: Answers, and the relevance grades that they stand for.
GRADES: Mapping[str, int] = {"0": 0, "1": 1, "2": 2, "3": 3}
#: All answers.
ANSWERS = frozenset((*GRADES, "s", "n", "b", "q"))
MEANING = "0 not relevant, 1 related, 2 answers in part, 3 answers; s skip, n next query, b back, q stop"

#: The columns of the files that are written.
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "corpus.jsonl": ("_id", "title", "text"),
    "queries.jsonl": ("_id", "text"),
    "qrels.tsv": ("query-id", "corpus-id", "score"),
}


@dataclass(frozen=True)
class JudgmentCandidate:
    """A document that may be relevant: its id, its whole text, and the part that is shown."""

    id: str
    text: str
    shown: str = ""
    title: str = ""


class Judgments:
    """A folder of judgments in BEIR's layout; each judgment is written before the next question.

    Args:
        folder: with such a data set, or a new one.

    Raises:
        InputError: the folder holds something else, or a malformed data set (with file and line).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.documents: dict[str, str] = {}
        self.queries: dict[str, str] = {}
        self.grades: dict[str, dict[str, int]] = {}
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is no folder.", param="folder")
        if folder.is_dir() and any(folder.iterdir()):
            self._load()
        folder.mkdir(parents=True, exist_ok=True)

    def _load(self) -> None:
        if not (self.folder / "corpus.jsonl").is_file():
            raise InputError(f"{self.folder} holds no judgments (corpus.jsonl): choose a new folder.", param="folder")
        self.documents = loaders.texts_by_id(self._read("corpus.jsonl"), titled=True)
        self.queries = loaders.texts_by_id(self._read("queries.jsonl"), titled=False)
        for row in self._read("qrels.tsv"):
            grades, document = self.grades.setdefault(row.text("query-id"), {}), row.text("corpus-id")
            if document in grades:
                raise row.error(f"the document {document!r} is judged twice for this query.")
            grades[document] = row.int_value("score")

    def _read(self, name: str) -> list[DatasetRow]:
        """Return the rows of a file, none if it is not there or has only a header; refuse what would be lost."""
        path = self.folder / name
        rows = read_rows(path) if path.is_file() and _has_rows(path) else []
        for row in rows:
            row.refuse_unknown(_COLUMNS[name], "judging writes this file again, without it")
        return rows

    def add_documents(self, documents: Iterable[tuple[str, str]]) -> None:
        """Add documents to the corpus, judged or not: a search covers more documents than are judged."""
        self.documents |= dict(documents)
        beir.write_corpus(self.folder, self.documents)

    def add(self, query: str, document: JudgmentCandidate, grade: int) -> None:
        """Store a judgment; it replaces an earlier one."""
        key = self._key(query)
        if document.id not in self.documents:
            self.add_documents([(document.id, document.text)])
        if key not in self.queries:
            self.queries[key] = query
            beir.write_queries(self.folder, self.queries)
        self.grades.setdefault(key, {})[document.id] = grade
        beir.write_judgments(self.folder, self.grades)

    def grades_of(self, query: str) -> Mapping[str, int]:
        """Return the grades that a query has so far, by document."""
        return self.grades.get(self._key(query), {})

    def _key(self, query: str) -> str:
        """Return the id under which the folder has a query; a new one has ``query_id``."""
        words = query.split()
        return next((key for key, text in self.queries.items() if text.split() == words), query_id(query))


def _has_rows(path: Path) -> bool:
    """Return whether a file has a row: a table has one if there is a second line."""
    header_lines = int(path.suffix == ".tsv")
    with path.open("rb") as file:
        return any(line.strip() for line in islice(file, header_lines, None))


def query_id(query: str) -> str:
    """Return a query's id, computed from its text, so that a query has one id only."""
    return "q" + hashlib.sha256(" ".join(query.split()).encode()).hexdigest()[:12]


def pool_candidates(rankings: Sequence[Sequence[JudgmentCandidate]], depth: int) -> list[JudgmentCandidate]:
    """Return the first ``depth`` of each ranking, each document once: all first ranks, then all second ones."""
    pool: dict[str, JudgmentCandidate] = {}
    for rank in range(depth):
        for ranking in rankings:
            if rank < len(ranking):
                pool.setdefault(ranking[rank].id, ranking[rank])
    return list(pool.values())


def annotate(
    judgments: Judgments,
    queries: Sequence[str],
    candidates: Callable[[str], Sequence[JudgmentCandidate]],
    ask: Callable[[str, JudgmentCandidate, str], str],
) -> int:
    """Ask for a judgment of each query's candidates that have none, and return the number of judgments.

    ``ask`` shows a query, a candidate and the progress, and returns what was typed: a grade, ``s`` to skip the
    document, ``n`` for the next query, ``b`` to go back to the last document, ``q`` to stop. After anything else it
    is called again, with a progress that says so.
    """
    count = 0
    for number, query in enumerate(queries, 1):
        judged = judgments.grades_of(query)
        unjudged = [candidate for candidate in candidates(query) if candidate.id not in judged]
        index, problem = 0, ""
        while index < len(unjudged):
            progress = f"query {number} of {len(queries)}, document {index + 1} of {len(unjudged)}{problem}"
            answer = ask(query, unjudged[index], progress).strip().lower()
            problem = "" if answer in ANSWERS else f". {answer!r} is no answer: {MEANING}"
            if answer == "q":
                return count
            if answer == "n":
                break
            if answer == "b":
                index = max(0, index - 1)
            elif answer == "s":
                index += 1
            elif answer in GRADES:
                judgments.add(query, unjudged[index], GRADES[answer])
                count += 1
                index += 1
    return count
