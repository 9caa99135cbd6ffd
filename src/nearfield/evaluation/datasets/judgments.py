"""Build a retrieval data set from human relevance judgments, one document at a time.

Candidates come from several searches, best ranks first (pooling, as TREC does), so that no search method is favoured.
The folder in BEIR's layout grows with every judgment, so that work can be interrupted at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nearfield.errors import InputError
from nearfield.evaluation.datasets import beir
from nearfield.evaluation.datasets.rows import DatasetRow, read_rows

#: Answers, and the relevance grades that they stand for.
GRADES: Mapping[str, int] = {"0": 0, "1": 1, "2": 2, "3": 3}
MEANING = "0 not relevant, 1 related, 2 answers in part, 3 answers; s skip, n next query, b back, q stop"

ValueT = TypeVar("ValueT")


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
        for row in read_rows(self.folder / "corpus.jsonl"):
            self._add_once(self.documents, row, row.text("_id"), row.text("text", empty=True))
        for row in self._read_optional("queries.jsonl"):
            self._add_once(self.queries, row, row.text("_id"), row.text("text"))
        for row in self._read_optional("qrels.tsv"):
            grades = self.grades.setdefault(row.text("query-id"), {})
            self._add_once(grades, row, row.text("corpus-id"), row.int_value("score"))

    @staticmethod
    def _add_once(table: dict[str, ValueT], row: DatasetRow, key: str, value: ValueT) -> None:
        if key in table:
            raise row.error(f"the id {key!r} is there twice.")
        table[key] = value

    def _read_optional(self, name: str) -> list[DatasetRow]:
        path = self.folder / name
        # The header of qrels.tsv has 25 bytes: a file of up to 30 has no rows.
        return read_rows(path) if path.is_file() and path.stat().st_size > 30 else []

    def add_documents(self, documents: Iterable[tuple[str, str]]) -> None:
        """Add documents to the corpus, judged or not: a search covers more documents than are judged."""
        self.documents |= dict(documents)
        beir.write_corpus(self.folder, self.documents)

    def add(self, query: str, document: JudgmentCandidate, grade: int) -> None:
        """Store a judgment; it replaces an earlier one."""
        key = query_id(query)
        if document.id not in self.documents:
            self.add_documents([(document.id, document.text)])
        if key not in self.queries:
            self.queries[key] = query
            beir.write_queries(self.folder, self.queries)
        self.grades.setdefault(key, {})[document.id] = grade
        beir.write_judgments(self.folder, self.grades)

    def grades_of(self, query: str) -> Mapping[str, int]:
        """Return the grades that a query has so far, by document."""
        return self.grades.get(query_id(query), {})


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
    document, ``n`` for the next query, ``b`` to go back to the last document, ``q`` to stop. It is called again after
    anything else.
    """
    count = 0
    for number, query in enumerate(queries, 1):
        judged = judgments.grades_of(query)
        unjudged = [candidate for candidate in candidates(query) if candidate.id not in judged]
        index = 0
        while index < len(unjudged):
            progress = f"query {number} of {len(queries)}, document {index + 1} of {len(unjudged)}"
            answer = ask(query, unjudged[index], progress).strip().lower()
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
