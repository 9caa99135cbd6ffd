"""Questions over files of mixed formats: how often the right passage is first, and how often no answer is recognised.

    python -m benchmarks.documents
    python -m benchmarks.documents --mode dense --min-score 0.4 --show

Thirty short files of some fifteen formats (``tests/corpus/truth``) are indexed as one collection with
all-MiniLM-L6-v2, with the defaults of a collection unless options change them. Each file answers one question. A
question counts if the first hit has the passage that answers it.

Ten further questions have no answer in the files: one counts as recognised if no hit reaches the minimum score.
``passed_on`` counts the right first hits that do reach it. Five near misses, which ask for a missing fact about a thing
that a file describes, are listed but not required.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield import Collection
from nearfield.corpus.search.hit import SearchHit
from nearfield.corpus.search.relevance import MIN_ANSWER_SCORE
from nearfield.corpus.sources.files import FileSource
from tests.corpus.truth.questions import NEAR_MISSES, UNANSWERABLE, question_files

MODEL = "all-MiniLM-L6-v2"
#: Requirements: right passages first, and unanswerable questions that are recognised.
RIGHT_FIRST, RECOGNISED = 28, 9


@dataclass(frozen=True)
class QuestionResult:
    """A question, what its first hit is, and whether that has the passage."""

    question: str
    file: str
    right: bool
    score: float
    rank: int
    first: str


def index_files(folder: Path, home: Path, config: dict[str, Any] | None = None) -> tuple[Collection, list[str]]:
    """Write the files into a folder and index them; return the collection and the files that failed."""
    folder.mkdir(exist_ok=True)
    for _, file in question_files():
        (folder / file.name).write_bytes(file.build())
    settings = {"features": {"dense": {"model": MODEL}}, **(config or {})}
    collection = Collection.ensure("documents", settings, home=home)
    report = collection.index([FileSource(str(folder))])
    return collection, [f"{name}: {reason}" for name, reason in (*report.failures, *report.skipped_files)]


def ask_all(collection: Collection, options: dict[str, Any]) -> list[QuestionResult]:
    """Return the result of each question."""
    results = []
    for topic, file in question_files():
        hits = collection.search(topic.question, k=10, **options)
        ranks = [at for at, hit in enumerate(hits, 1) if has_passage(hit, topic.passage, file.name)]
        score, first = (hits[0].score, hits[0].document) if hits else (0.0, "")
        rank = ranks[0] if ranks else 0
        results.append(QuestionResult(topic.question, file.name, rank == 1, score, rank, first))
    return results


def has_passage(hit: SearchHit, passage: str, name: str) -> bool:
    """Return whether a hit is of the file and has the passage; marks and line breaks do not count."""
    return name in hit.document and _plain(passage) in _plain(hit.text)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def best_scores(collection: Collection, questions: Sequence[str], options: dict[str, Any]) -> list[float]:
    """Return the best score of each question; 0 if nothing was returned."""
    results = [collection.search(question, k=1, **options) for question in questions]
    return [hits[0].score if hits else 0.0 for hits in results]


def measure(options: dict[str, Any], min_score: float = MIN_ANSWER_SCORE, *, show: bool = False) -> dict[str, Any]:
    """Return the counts; print each question if ``show``."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        collection, failed = index_files(place / "files", place / "home")
        with collection:
            results = ask_all(collection, options)
            none = best_scores(collection, UNANSWERABLE, options)
            near = best_scores(collection, NEAR_MISSES, options)
    if show:
        for result in results:
            print(f"{'' if result.right else '!'}{result.rank:2} {result.score:.3f} {result.file:28} {result.question}")
        for question, score in zip((*UNANSWERABLE, *NEAR_MISSES), (*none, *near), strict=True):
            print(f"   {score:.3f} {question}")
    return {
        "files": len(results),
        "failed": failed,
        "right_first": sum(result.right for result in results),
        "recognised": sum(score < min_score for score in none),
        "unanswerable": len(none),
        "near_recognised": sum(score < min_score for score in near),
        "passed_on": sum(result.right and result.score >= min_score for result in results),
        "lowest_of_answers": sorted(round(result.score, 3) for result in results)[:5],
        "highest_of_unanswerable": sorted((round(score, 3) for score in none), reverse=True)[:5],
    }


def main() -> None:
    """Print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", help="dense, bm25 or hybrid [the collection's default]")
    parser.add_argument("--min-score", type=float, default=MIN_ANSWER_SCORE, help="below which a passage is no answer")
    parser.add_argument("--show", action="store_true", help="print each question")
    arguments = parser.parse_args()
    options = {"mode": arguments.mode} if arguments.mode else {}
    result = measure(options, arguments.min_score, show=arguments.show)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
