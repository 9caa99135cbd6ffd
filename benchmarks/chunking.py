"""Recall of answers within a token budget, by chunker and chunk size.

The method is that of "Evaluating Chunking Strategies for Retrieval" (Smith & Troynikov, Chroma 2024) on its five
corpora: each question has the passages that answer it, and recall, precision and intersection over union are in
characters of these. Other than there, all ways of cutting may fill the same budget of tokens, so that larger chunks are
fewer: the best chunks are taken until it is used up, and the last one is cut where it ends.

Splitters of other libraries (``splitters.py``) are compared as well, if they are installed: ``pip install chonkie
semantic-text-splitter langchain-text-splitters``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import splitters
from nearfield.corpus.chunkers import DEFAULT, DEFAULT_OVERLAP, DEFAULT_SIZE, REGISTRY
from nearfield.corpus.chunkers.late import group_runs
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Block, Document, Span

Array = np.ndarray[Any, np.dtype[Any]]

DATA = Path(__file__).parents[2] / "shared" / "data" / "chunking_evaluation"
BUDGETS = (200, 400, 800, 1600)
#: Chunker, tokens of a chunk, and tokens of overlap; 254 is all that the model reads.
WAYS = (
    *(("sentence", size, 0) for size in (64, 128, 200, 254)),
    *(("sentence", size, size * 15 // 100) for size in (64, 128, 200)),
    ("fixed", 128, 0),
    ("fixed", 128, 19),
    ("markdown", 128, 0),
    ("markdown", 128, 19),
    ("semantic", 128, 0),
    ("late", 64, 0),
    ("late", 128, 0),
)
#: Of libraries, the sizes without and with overlap at which chunks have 106 tokens on average, as ours do at 128.
MATCHED = {
    "chonkie recursive": (147, None),
    "chonkie sentence": (124, 124),
    "semantic-text-splitter text": (138, 136),
    "semantic-text-splitter markdown": (149, 148),
    "langchain recursive": (144, 137),
    "langchain recursive, sentences": (149, 148),
}
LIBRARY_WAYS = tuple(
    (name, size, overlap)
    for name, (plain, overlapping) in MATCHED.items()
    for size, overlap in (
        *((size, 0) for size in (64, 128, 200, plain)),
        *((size, size * 15 // 100) for size in (64, 128, 200, overlapping) if size and overlapping),
    )
)
QUICK = (("sentence", 128, 0), ("fixed", 128, 0), *((name, 128, 0) for name in MATCHED))
#: Corpora in a quick run: those that take seconds.
SMALL = ("chatlogs", "state_of_the_union", "wikitexts")
#: Characters read of a corpus; questions that are answered further on are left out. All take three times as long.
LONGEST = 200_000
_TITLE = re.compile(r"^ ((?:= )+)([^=\n]+?) ((?:= ?)+)$", re.MULTILINE)
_RESAMPLED = 2000


@dataclass(frozen=True)
class Question:
    """A question, its corpus, and from where to where the passages that answer it go."""

    text: str
    corpus: str
    passages: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Pieces:
    """Corpora cut in one way: whose piece each is, where, and its vector."""

    owners: list[str]
    spans: list[Span]
    vectors: Array
    rate: float = 0.0
    seconds_per_mb: float = 0.0


def measure(*, quick: bool) -> dict[str, Any]:
    """Return a row for each way of cutting, the best first, and what headings before the text change."""
    from nearfield import Encoder

    questions = [each for each in _questions() if not quick or each.corpus in SMALL]
    corpora = {name: _document(name) for name in sorted({each.corpus for each in questions})}
    with Encoder("all-MiniLM-L6-v2") as encoder:
        bench = _Bench(encoder, corpora, questions)
        rows = [row for way in (QUICK if quick else (*WAYS, *LIBRARY_WAYS)) if (row := bench.row(*way))]
        return {
            "questions": len(questions),
            "budgets": BUDGETS,
            "rows": sorted(map(bench.compared, rows), key=lambda row: -row["mean_recall"]),
            "headings before the text": bench.headings(),
            "default": [DEFAULT, DEFAULT_SIZE, DEFAULT_OVERLAP],
            "versions": _versions(),
        }


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed."""
    versions = {}
    for package in splitters.PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _questions() -> list[Question]:
    found = []
    for line in (DATA / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        passages = tuple((each["start"], each["end"]) for each in told["references"])
        if max(end for _, end in passages) <= LONGEST:
            found.append(Question(told["question"], told["corpus"], passages))
    return found


def _document(name: str) -> Document:
    """Read a corpus; the headings of Wikipedia's articles, `` = Title = ``, become blocks."""
    text = (DATA / f"{name}.md").read_text(encoding="utf-8")[:LONGEST]
    blocks: list[Block] = []
    at = 0
    for match in _TITLE.finditer(text) if name == "wikitexts" else ():
        blocks += _paragraphs(text, at, match.start())
        blocks.append(Block(match.start(2), match.end(2), "heading", match[1].count("=")))
        at = match.end()
    return Document(text, tuple([*blocks, *_paragraphs(text, at, len(text))] if blocks else ()))


def _paragraphs(text: str, start: int, end: int) -> list[Block]:
    return [Block(match.start(), match.end()) for match in re.compile(r"[^\n]*\S[^\n]*").finditer(text, start, end)]


class _Bench:
    """One model, one set of questions; vectors of chunks that were seen before are not computed again."""

    def __init__(self, encoder: Any, corpora: dict[str, Document], questions: Sequence[Question]) -> None:
        self._encoder = encoder
        self._corpora = corpora
        self._questions = questions
        self._ruler = TokenCounter(encoder.tokenizer)
        self._asked = np.asarray(encoder.encode_query([each.text for each in questions]))
        self._known: dict[str, Array] = {}
        self._recalls: dict[tuple[Any, ...], Array] = {}

    def row(self, name: str, size: int, overlap: int) -> dict[str, Any]:
        """Return the figures of one way of cutting; none if its library is not installed or changes the text."""
        try:
            pieces = self._cut(name, size, overlap)
        except (ModuleNotFoundError, ValueError) as error:
            print(f"skipped: {name}, {size} tokens, overlap {overlap}: {error}", flush=True)
            return {}
        figures = self._figures(pieces)
        recall = figures[:, :, 0].mean(1)
        self._recalls[name, size, overlap] = recall
        low, high = _interval(recall)
        tokens = np.array([span.tokens for span in pieces.spans])
        told = {
            "chunker": name,
            "size": size,
            "overlap": overlap,
            "chunks": len(pieces.spans),
            "tokens_per_chunk": round(float(tokens.mean()), 1),
            "longest": int(tokens.max()),
            "larger_than_size": int((tokens > size).sum()),
            "mean_recall": round(100 * float(recall.mean()), 2),
            "interval": [round(100 * low, 2), round(100 * high, 2)],
        }
        for number, budget in enumerate(BUDGETS):
            found = 100 * figures[:, number].mean(0)
            told[str(budget)] = dict(zip(("recall", "precision", "iou"), np.round(found, 2).tolist(), strict=True))
        corpora = np.array([question.corpus for question in self._questions])
        told["by_corpus"] = {
            corpus: round(100 * float(recall[corpora == corpus].mean()), 2) for corpus in self._corpora
        }
        speed = {"tokens_per_second": round(pieces.rate), "seconds_per_mb": round(pieces.seconds_per_mb, 2)}
        print(told | speed, flush=True)
        return {**told, **speed}

    def compared(self, row: dict[str, Any]) -> dict[str, Any]:
        """Add how far a row is from the default's, and from the default's at about its own size and overlap."""
        recall = self._recalls[row["chunker"], row["size"], row["overlap"]]
        peers = [
            way for way in self._recalls if way[0] == DEFAULT and way[1] < 254 and (way[2] > 0) == (row["overlap"] > 0)
        ]
        peer = min(peers, key=lambda way: abs(way[1] - row["size"]), default=None)
        told: dict[str, Any] = {"peer": peer}
        for name, way in (("default", (DEFAULT, DEFAULT_SIZE, DEFAULT_OVERLAP)), ("peer", peer)):
            if way in self._recalls:
                gap = recall - self._recalls[way]
                figures = [100 * float(gap.mean()), *(100 * bound for bound in _interval(gap))]
                told[f"against_{name}"] = [round(figure, 2) for figure in figures]
        return row | told

    def headings(self) -> dict[str, Any]:
        """Return the mean recall on Wikipedia's articles with and without the path of headings before the text."""
        told: dict[str, Any] = {}
        kept = self._questions, self._asked
        some = [number for number, each in enumerate(self._questions) if each.corpus == "wikitexts"]
        self._questions, self._asked = [self._questions[number] for number in some], self._asked[some]
        for name, size in (("sentence", 64), ("sentence", 128), ("markdown", 128)):
            recall = {}
            for before in (False, True):
                figures = self._figures(self._cut(name, size, 0, before=before, only="wikitexts"))
                recall[before] = figures[:, :, 0].mean(1)
            low, high = _interval(recall[True] - recall[False])
            told[f"{name} {size}"] = {
                "without": round(100 * float(recall[False].mean()), 2),
                "with": round(100 * float(recall[True].mean()), 2),
                "interval of the gain": [round(100 * low, 2), round(100 * high, 2)],
            }
        self._questions, self._asked = kept
        return told

    def _cut(self, name: str, size: int, overlap: int, *, before: bool = False, only: str = "") -> Pieces:
        """Cut the corpora and embed what is cut; time is the processor's own, of all threads, without embedding."""
        chunker = self._open(name, size, overlap)
        owners: list[str] = []
        spans: list[Span] = []
        vectors: list[Array] = []
        seconds, tokens, size_mb = 0.0, 0, 0.0
        for corpus, document in self._corpora.items():
            if only and corpus != only:
                continue
            started = time.process_time()
            cut = chunker.split(document)
            seconds += time.process_time() - started
            tokens += self._ruler.count(document.text)
            size_mb += len(document.text.encode()) / 1e6
            owners += [corpus] * len(cut)
            spans += cut
            texts = [_headed(span, before) + document.text[span.start : span.end] for span in cut]
            vectors.append(self._late(document.text, cut) if chunker.late else self._vectors(texts))
        rate = tokens / max(seconds, 1e-9)
        return Pieces(owners, spans, np.concatenate(vectors), rate, seconds / max(size_mb, 1e-9))

    def _open(self, name: str, size: int, overlap: int) -> Any:
        if name in splitters.LIBRARIES:
            return splitters.open_library(name, self._ruler, self._encoder.tokenizer.backend, size, overlap)
        return REGISTRY.load(name)(self._ruler, size, overlap, embed=self._vectors)

    def _vectors(self, texts: Sequence[str]) -> Array:
        fresh = list(dict.fromkeys(text for text in texts if text not in self._known))
        if fresh:
            self._known.update(zip(fresh, np.asarray(self._encoder.encode_document(fresh)), strict=True))
        return np.stack([self._known[text] for text in texts])

    def _late(self, text: str, spans: Sequence[Span]) -> Array:
        found = self._encoder.encode_late([run.texts for run in group_runs(text, spans, self._ruler)], role="document")
        return np.concatenate([np.asarray(vectors) for vectors in found])

    def _figures(self, pieces: Pieces) -> Array:
        """Return recall, precision and intersection over union [questions, budgets, 3]."""
        order = np.argsort(-(self._asked @ pieces.vectors.T), axis=1, kind="stable")
        return np.array([self._judged(each, pieces, row) for each, row in zip(self._questions, order, strict=True)])

    def _judged(self, question: Question, pieces: Pieces, order: Array) -> list[tuple[float, float, float]]:
        length = len(self._corpora[question.corpus].text)
        wanted = np.zeros(length, bool)
        for start, end in question.passages:
            wanted[start:end] = True
        return [score(wanted, question.corpus, pieces, order, budget) for budget in BUDGETS]


def score(
    wanted: Array, corpus: str, pieces: Pieces, order: Sequence[int] | Array, budget: int
) -> tuple[float, float, float]:
    """Return recall, precision and intersection over union of the first pieces that fit a budget of tokens.

    ``wanted`` bool [characters] marks the passages of one corpus. What pieces repeat of each other counts each time as
    shown, and once as found.
    """
    seen, shown = np.zeros(len(wanted), bool), 0
    for number in order:
        span = pieces.spans[number]
        share = min(1.0, budget / span.tokens)
        end = span.start + round((span.end - span.start) * share)
        shown += end - span.start
        if pieces.owners[number] == corpus:
            seen[span.start : end] = True
        budget -= span.tokens
        if budget <= 0:
            break
    hit, total = int((wanted & seen).sum()), int(wanted.sum())
    return hit / total, hit / shown, hit / (total + shown - hit)


def _headed(span: Span, before: bool) -> str:
    return " > ".join(span.headings) + "\n" if before and span.headings else ""


def _interval(values: Array) -> tuple[float, float]:
    """Return the 95% interval of the mean over questions, by resampling them."""
    drawn = np.random.default_rng(0).integers(0, len(values), (_RESAMPLED, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    return float(low), float(high)


def table(results: dict[str, Any]) -> str:
    """Return the rows as a Markdown table."""
    budgets = [str(budget) for budget in results["budgets"]]
    titles = ["chunker", "size/overlap", "chunks", "tokens a chunk", "mean recall (95%)", "against the default (95%)"]
    titles += ["against ours of that size", *(f"recall at {budget}" for budget in budgets)]
    titles += ["precision, IoU at 400", "tokens/s", "CPU s/MB"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in results["rows"]:
        low, high = row["interval"]
        cells = [row["chunker"], f"{row['size']}/{row['overlap']}", row["chunks"], row["tokens_per_chunk"]]
        cells += [f"{row['mean_recall']} ({low} to {high})", _gap(row, "default"), _gap(row, "peer")]
        cells += [row[budget]["recall"] for budget in budgets]
        cells += [f"{row['400']['precision']}, {row['400']['iou']}", row["tokens_per_second"]]
        cells += [row.get("seconds_per_mb", "")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, f"\nheadings before the text: {results['headings before the text']}"])


def _gap(row: dict[str, Any], reference: str) -> str:
    gap, least, most = row.get(f"against_{reference}", (0.0, 0.0, 0.0))
    return f"{gap:+} ({least:+} to {most:+})" if gap else ""
