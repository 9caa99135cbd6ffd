"""Judging: a retrieval set built by asking somebody, one document at a time; what was said is kept at once.

Candidates come from several ways to search, best ranks first (pooling, as TREC does it), so that no way is favoured. A
folder in BEIR's layout grows with every answer, and work goes on where it was left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nearfield.errors import InputError
from nearfield.evaluation.datasets import beir
from nearfield.evaluation.datasets import rows as lines

#: What may be answered, and the grade that it stands for.
GRADES: Mapping[str, int] = {"0": 0, "1": 1, "2": 2, "3": 3}
MEANING = "0 not relevant, 1 related, 2 answers in part, 3 answers; s skip, n next query, b back, q stop"


@dataclass(frozen=True)
class JudgmentCandidate:
    """A document that may be relevant: its id, all of its text, and what is shown of it."""

    id: str
    text: str
    shown: str = ""
    title: str = ""


class Judgments:
    """A folder of judgements in BEIR's layout; each answer is on disk before the next question.

    Args:
        folder: that is there and holds such a set, or that is made.

    Raises:
        InputError: the folder holds something else, or a malformed set (with file and line).
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
            raise InputError(f"{self.folder} holds no judgements (corpus.jsonl): choose a new folder.", param="folder")
        for row in lines.read(self.folder / "corpus.jsonl"):
            self.documents[row.text("_id")] = row.text("text", empty=True)
        for name, columns in (("queries.jsonl", None), ("qrels.tsv", None)):
            path = self.folder / name
            rows = lines.read(path, columns) if path.is_file() and path.stat().st_size > 30 else []
            for row in rows:
                if name == "queries.jsonl":
                    self.queries[row.text("_id")] = row.text("text")
                else:
                    self.grades.setdefault(row.text("query-id"), {})[row.text("corpus-id")] = row.whole("score")

    def hold(self, documents: Iterable[tuple[str, str]]) -> None:
        """Put documents into the corpus, judged or not: what is searched is more than what was judged."""
        self.documents |= dict(documents)
        self._write_corpus()

    def add(self, query: str, document: JudgmentCandidate, grade: int) -> None:
        """Keep an answer; one that was given before is replaced."""
        key = key_of(query)
        if document.id not in self.documents:
            self.documents[document.id] = document.text
            self._write_corpus()
        if key not in self.queries:
            self.queries[key] = query
            rows = self.queries.items()
            beir.replace(self.folder / "queries.jsonl", (beir.line({"_id": k, "text": v}) for k, v in rows))
        self.grades.setdefault(key, {})[document.id] = grade
        beir.replace(self.folder / "qrels.tsv", beir.judgements(self.grades))

    def judged(self, query: str) -> Mapping[str, int]:
        """Return the grades that a query has so far, by document."""
        return self.grades.get(key_of(query), {})

    def _write_corpus(self) -> None:
        rows = self.documents.items()
        told = (beir.line({"_id": key, "title": "", "text": text}) for key, text in rows)
        beir.replace(self.folder / "corpus.jsonl", told)


def key_of(query: str) -> str:
    """Return a query's id, which comes from its text: the same query is never asked for twice."""
    return "q" + hashlib.sha256(" ".join(query.split()).encode()).hexdigest()[:12]


def pooled(rankings: Sequence[Sequence[JudgmentCandidate]], depth: int) -> list[JudgmentCandidate]:
    """Return the first ``depth`` of each ranking, each document once: all first places, then all second ones."""
    found: dict[str, JudgmentCandidate] = {}
    for rank in range(depth):
        for ranking in rankings:
            if rank < len(ranking):
                found.setdefault(ranking[rank].id, ranking[rank])
    return list(found.values())


def annotate(
    kept: Judgments,
    queries: Sequence[str],
    candidates: Callable[[str], Sequence[JudgmentCandidate]],
    ask: Callable[[str, JudgmentCandidate, str], str],
) -> int:
    """Ask about each query's candidates that have no answer yet, and return how many answers were given.

    ``ask`` shows a query, a candidate and how far the work is, and returns what was typed: a grade, ``s`` to skip the
    document, ``n`` to go to the next query, ``b`` to go back to the last answer, ``q`` to stop. Anything else is asked
    for again.
    """
    given = 0
    for number, query in enumerate(queries, 1):
        known = kept.judged(query)
        waiting = [each for each in candidates(query) if each.id not in known]
        at = 0
        while at < len(waiting):
            place = f"query {number} of {len(queries)}, document {at + 1} of {len(waiting)}"
            answer = ask(query, waiting[at], place).strip().lower()
            if answer == "q":
                return given
            if answer == "n":
                break
            if answer == "b":
                at = max(0, at - 1)
            elif answer == "s":
                at += 1
            elif answer in GRADES:
                kept.add(query, waiting[at], GRADES[answer])
                given += 1
                at += 1
    return given
