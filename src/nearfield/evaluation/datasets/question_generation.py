"""Retrieval data sets from questions that a chat model writes about passages of a collection.

Known-item search with generated queries (InPars, Bonifacio et al. 2022; GPL, Wang et al. 2022), with a round trip
(Promptagator, Dai et al. 2023; Alberti et al. 2019): a question stays only if the collection's search finds its passage
among the first results, and if the model answers it from that passage alone, with a citation.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nearfield.corpus.answering import answer
from nearfield.corpus.answering.chat_client import ChatEndpoint
from nearfield.corpus.answering.prompt import estimate_tokens
from nearfield.corpus.collection import Collection
from nearfield.corpus.search.hit import SearchHit
from nearfield.errors import AnswerFailed, InputError
from nearfield.evaluation.datasets import beir
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.evaluation.datasets.loaders import SYNTHETIC_NOTE
from nearfield.evaluation.datasets.question_prompts import MAX_PASSAGE, GeneratedQuestion, build_messages, parse_reply
from nearfield.evaluation.datasets.synthetic import LEVELS, Level, read_passages
from nearfield.evaluation.json_types import JsonDict, JsonMapping

#: File of all tried passages, by which an interrupted run continues.
JOURNAL = "questions.jsonl"
#: Words that a passage needs to be asked about.
MIN_PASSAGE_WORDS = 25
#: Passages that are tried for each question that is wanted, at most.
MAX_TRIES = 5
#: Failures of the endpoint, one after another, that end a run.
MAX_FAILURES = 3
#: Results among which the round trip must find the passage, by default.
TOP = 20
_FORMAT = 1

#: Called after each tried passage: number of questions so far, number wanted, and what became of the passage.
Step = Callable[[int, int, str], None]


@dataclass(frozen=True)
class GenerationOptions:
    """How questions are generated.

    Args:
        level: unit of retrieval: ``passage`` or ``document``.
        queries: number of questions; fewer if the passages do not suffice.
        top: a question stays if its passage is among so many first results of the collection's search.
        seed: of the order in which passages are tried.
    """

    level: Level = "passage"
    queries: int = 100
    top: int = TOP
    seed: int = 0

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise InputError(f"The level is {' or '.join(LEVELS)}, not {self.level!r}.", param="level")
        for name in ("queries", "top"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, not {getattr(self, name)}.", param=name)


def generate_questions(
    collection: Collection,
    endpoint: ChatEndpoint,
    folder: Path,
    options: GenerationOptions | None = None,
    on_step: Step | None = None,
) -> tuple[Dataset, JsonDict]:
    """Write a data set of generated questions to a folder in BEIR's layout, or continue one that was interrupted.

    Each passage is one item, tried once: one question of it at most stays. Passages with the same text are all
    relevant. Each result is written at once to ``questions.jsonl``; the same call continues from there.

    Returns:
        The data set, and a report: ``tried`` passages, ``questions``, ``left_out`` (passages by reason) and
        ``shared_words`` (mean share of a question's words that its passage has).

    Raises:
        InputError: the folder is of another run or something else, or no question could be generated.
        AnswerFailed: the endpoint failed at once, or three times one after another; what was done stays.
    """
    options = options or GenerationOptions()
    journal = _QuestionJournal(folder, {"collection": collection.name, **asdict(options), "model": endpoint.model})
    documents, passages = _read_texts(collection, options.level)
    run = _GenerationRun(collection, endpoint, options, journal, passages)
    run.generate(on_step)
    rows = _to_rows(journal.questions(passages), documents, passages, options)
    note = (
        f"Synthetic: questions by {endpoint.model or 'a chat model'} about {options.level}s of collection "
        f"{collection.name!r}; each finds its {options.level} among {options.top} results there; not judged."
    )
    dataset = Dataset(f"{collection.name} (synthetic)", "retrieval", rows, synthetic=note)
    (folder / SYNTHETIC_NOTE).write_text(note + "\n", encoding="utf-8")
    beir.write_corpus(folder, rows.documents)
    beir.write_queries(folder, rows.queries)
    beir.write_judgments(folder, rows.relevant)
    return dataset, journal.report(passages)


@dataclass(frozen=True)
class _SourcePassage:
    """A passage, and the id of its unit of retrieval."""

    text: str
    unit: str


def _read_texts(collection: Collection, level: Level) -> tuple[dict[str, str], dict[str, _SourcePassage]]:
    """Return the texts to search by id, and all passages by id."""
    documents: dict[str, str] = {}
    passages: dict[str, _SourcePassage] = {}
    for document in read_passages(collection):
        units = {key: document.key if level == "document" else key for key in document.passages}
        passages |= {key: _SourcePassage(text, units[key]) for key, text in document.passages.items()}
        joined = {document.key: "\n\n".join(document.passages.values())}
        documents |= joined if level == "document" else document.passages
    return {key: text for key, text in documents.items() if text.strip()}, passages


def _to_rows(
    questions: Mapping[str, str],
    documents: Mapping[str, str],
    passages: Mapping[str, _SourcePassage],
    options: GenerationOptions,
) -> Retrieval:
    """Return queries q1, q2, ... with their units, and the units that contain a passage with the same words."""
    units_of: dict[str, set[str]] = {}
    for passage in passages.values():
        units_of.setdefault(_words(passage.text), set()).add(passage.unit)
    chosen = dict(list(questions.items())[: options.queries])
    if not chosen:
        raise InputError(
            "No question passed the checks: see questions.jsonl for the reasons. Try another chat model, or a larger "
            "--top.",
            param="collection",
        )
    ids = {key: f"q{number}" for number, key in enumerate(chosen, 1)}
    relevant = {ids[key]: dict.fromkeys(sorted(units_of[_words(passages[key].text)]), 1) for key in chosen}
    return Retrieval(documents, {ids[key]: question for key, question in chosen.items()}, relevant)


def _words(text: str) -> str:
    return " ".join(text.casefold().split())


class _GenerationRun:
    """Tries passages in the order of the seed until there are enough questions."""

    def __init__(
        self,
        collection: Collection,
        endpoint: ChatEndpoint,
        options: GenerationOptions,
        journal: _QuestionJournal,
        passages: Mapping[str, _SourcePassage],
    ) -> None:
        self._collection, self._endpoint, self._options = collection, endpoint, options
        self._journal, self._passages = journal, passages

    def generate(self, on_step: Step | None) -> None:
        """Fill the journal.

        Raises:
            AnswerFailed: the endpoint failed at once, or too often.
        """
        failures, answers = 0, len(self._journal.rows)
        for key in self._untried():
            try:
                row = self._try_passage(key)
            except AnswerFailed as error:
                failures += 1
                if not answers or failures == MAX_FAILURES:
                    raise AnswerFailed(f"{error} {self._progress()}") from error
                row = {"reason": "the endpoint failed"}
            else:
                failures, answers = 0, answers + 1
                self._journal.add({"passage": key, **row})
            count = len(self._journal.questions(self._passages))
            if on_step is not None:
                on_step(count, self._options.queries, str(row.get("reason", "question")))

    def _progress(self) -> str:
        count, folder = len(self._journal.questions(self._passages)), self._journal.folder
        return f"So far there are {count} questions in {folder}; the same command continues."

    def _untried(self) -> Iterator[str]:
        """Yield passages while questions and tries are left."""
        order = sorted(
            key for key, passage in self._passages.items() if len(passage.text.split()) >= MIN_PASSAGE_WORDS
        ) or sorted(self._passages)
        random.Random(self._options.seed).shuffle(order)
        texts: set[str] = set()
        for key in order[: MAX_TRIES * self._options.queries]:
            if len(self._journal.questions(self._passages)) >= self._options.queries:
                return
            text = _words(self._passages[key].text)
            if text and text not in texts and key not in self._journal.rows:
                yield key
            texts.add(text)

    def _try_passage(self, key: str) -> JsonDict:
        """Return the question of a passage, or the reason why there is none."""
        text = self._passages[key].text
        messages = build_messages(text)
        size = sum(estimate_tokens(message["content"]) for message in messages)
        reply, _ = self._endpoint.complete(messages, prompt_tokens=size)
        questions, reason = parse_reply(reply, text)
        for question in questions:
            reason = self._check_round_trip(key, question)
            if not reason:
                return asdict(question)
        return {"reason": reason}

    def _check_round_trip(self, key: str, question: GeneratedQuestion) -> str:
        """Return why a question fails the round trip; empty if it passes."""
        own = self._passages[key]
        hits = self._collection.search(question.question, self._options.top)
        match = next((hit for hit in hits if self._is_own(hit, own)), None)
        if match is None:
            return f"passage not among the first {self._options.top} results"
        passage = SearchHit(key, match.document, 1.0, own.text[:MAX_PASSAGE])
        reply = answer.ask(question.question, [passage], self._endpoint, budget=2 * MAX_PASSAGE)
        return "" if reply.found and reply.cited else "question not answered by its passage"

    def _is_own(self, hit: SearchHit, own: _SourcePassage) -> bool:
        """Return whether a hit is the passage (or one with the same text), or of its document."""
        if self._options.level == "document":
            return hit.document == own.unit
        return hit.id == own.unit or _words(hit.text) == _words(own.text)


class _QuestionJournal:
    """The file of tried passages: settings in the first line, then one object for each passage."""

    def __init__(self, folder: Path, settings: JsonMapping) -> None:
        self.folder, self._path = folder, folder / JOURNAL
        self.rows: dict[str, JsonDict] = {}
        head = {"format": _FORMAT, **settings}
        if self._path.is_file():
            self._read(head)
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there already: write to a new folder.", param="folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(head, ensure_ascii=False) + "\n", encoding="utf-8")

    def _read(self, head: JsonMapping) -> None:
        lines = self._path.read_bytes().split(b"\n")
        # A line that was being written when the run ended is not complete.
        if lines[-1]:
            self._path.write_bytes(b"\n".join(lines[:-1]) + b"\n" if lines[:-1] else b"")
        for number, line in enumerate(lines[:-1], 1):
            row = self._parse(number, line)
            if number == 1:
                self._require_same(row, head)
            else:
                self.rows[str(row.get("passage"))] = row

    def _parse(self, number: int, line: bytes) -> JsonDict:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{self._path}, line {number}: no JSON object: {error}", param="folder") from error
        if not isinstance(row, dict):
            raise InputError(f"{self._path}, line {number}: no JSON object.", param="folder")
        return row

    def _require_same(self, row: JsonMapping, head: JsonMapping) -> None:
        """Refuse a run with other settings; the number of questions may change."""
        for name, value in head.items():
            if name != "queries" and row.get(name) != value:
                raise InputError(
                    f"{self.folder} was begun with {name} {row.get(name)!r}, not {value!r}. Use the same, or a new "
                    "folder.",
                    param="folder",
                )

    def add(self, row: JsonDict) -> None:
        """Append what became of a passage."""
        self.rows[str(row["passage"])] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def questions(self, passages: Mapping[str, _SourcePassage]) -> dict[str, str]:
        """Return the questions by passage; passages that the collection has no more are left out."""
        return {key: row["question"] for key, row in self.rows.items() if "question" in row and key in passages}

    def report(self, passages: Mapping[str, _SourcePassage]) -> JsonDict:
        """Return ``tried``, ``questions``, ``left_out`` by reason, and the mean of ``shared_words``."""
        chosen = [self.rows[key] for key in self.questions(passages)]
        reasons = Counter(str(row["reason"]) for row in self.rows.values() if "reason" in row)
        shared = sum(float(row["shared_words"]) for row in chosen) / max(len(chosen), 1)
        return {
            "tried": len(self.rows),
            "questions": len(chosen),
            "left_out": dict(reasons.most_common()),
            "shared_words": shared,
        }
