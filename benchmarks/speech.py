"""Transcripts of paragraphs that espeak-ng speaks: word error rate, and whether questions find them.

    python -m benchmarks.speech --model tiny.en

speaks paragraphs of SQuAD (``../shared/data/squad-dev``), one recording for each; indexes the recordings with
``speech`` beside other paragraphs of the set, which are written; and asks a question of each spoken paragraph. The same
questions are asked where all paragraphs are written. ``--noise 10`` adds noise that is 10 dB weaker than the speech. It
needs espeak-ng and the extra ``speech``. Synthetic speech is cleaner than people's: figures compare models and
settings, and promise nothing about a meeting.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearfield import Collection
from nearfield.corpus.sources.spec import parse_source
from nearfield.hardware import cpu_name
from nearfield.media.audio import Audio
from nearfield.media.sound.sound_decoding import encode_wav

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "squad-dev"
EMBEDDING_MODEL = "all-MiniLM-L6-v2"
#: Words a minute, and samples a second of recordings with noise.
_PACE, _RATE = 160, 22_050
#: Written paragraphs beside those that questions are about.
_OTHERS = 500
_TIMES = re.compile(r"\[[\d:]+\] ")
_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclass(frozen=True)
class SpokenQuestion:
    """A paragraph that is spoken, and a question that it answers."""

    paragraph: str
    question: str


@dataclass(frozen=True)
class SpeechResult:
    """What a collection of transcripts is worth: its word error rate, recall, and seconds of sound and of the run."""

    name: str
    errors: float
    recall_at_1: float
    recall_at_5: float
    sound: float = 0.0
    seconds: float = 0.0

    def row(self) -> str:
        """Return the row of the table."""
        speed = f"{self.sound / self.seconds:.1f}" if self.sound else "-"
        errors = f"{self.errors:.1%}" if self.sound else "-"
        return f"| {self.name} | {errors} | {self.recall_at_1:.0%} | {self.recall_at_5:.0%} | {speed} |"


@dataclass(frozen=True)
class SpeechTask:
    """Questions, each about one paragraph, and other paragraphs."""

    questions: list[SpokenQuestion]
    others: list[str]


def speech_task(count: int) -> SpeechTask:
    """Return a question for each of so many paragraphs, spread over the set, and some of the others."""
    texts = {row["_id"]: row["text"] for row in _rows("corpus.jsonl")}
    asked = {row["_id"]: row["text"] for row in _rows("queries.jsonl")}
    pairs = [line.split("\t")[:2] for line in (DATA / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    first = {paragraph: query for query, paragraph in reversed(pairs)}
    chosen = list(first)[:: max(1, len(first) // count)][:count]
    others = [text for paragraph, text in texts.items() if paragraph not in chosen]
    questions = [SpokenQuestion(texts[paragraph], asked[first[paragraph]]) for paragraph in chosen]
    return SpeechTask(questions, others[:: max(1, len(others) // _OTHERS)][:_OTHERS])


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def word_errors(expected: Sequence[str], read: Sequence[str]) -> int:
    """Return the least number of words to insert, remove or replace that turn one text into another."""
    row = np.arange(len(read) + 1)
    words = np.asarray(read, dtype=object)
    for count, word in enumerate(expected, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (words != word))
        # An insertion costs one more than the place before it, whatever that costs.
        steps = np.arange(len(read) + 1)
        row = np.minimum.accumulate(np.concatenate(([count], best)) - steps) + steps
    return int(row[-1])


def words_of(text: str) -> list[str]:
    """Return the words of a text for comparison: in lower case, without punctuation and times."""
    return _WORDS.findall(_TIMES.sub(" ", text).lower())


def speak(text: str, path: Path, noise: float | None = None) -> float:
    """Write the speech of a text, with noise so many decibels below it; return its seconds."""
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", str(_PACE), "-w", str(path), text], check=True)
    sound = Audio(path).read(_RATE)
    if noise is not None:
        power = float(np.mean(sound.samples**2)) / 10 ** (noise / 10)
        added = np.random.default_rng(len(text)).normal(0, np.sqrt(power), len(sound.samples)).astype(np.float32)
        path.write_bytes(encode_wav(sound.samples + added, _RATE))
    return sound.seconds


def measure(task: SpeechTask, model: str, noise: float | None, folder: Path) -> SpeechResult:
    """Return the figures of the paragraphs spoken, with or without noise."""
    recordings, asked = folder / "recordings", task.questions
    recordings.mkdir()
    sound = sum(speak(item.paragraph, recordings / f"{number}.wav", noise) for number, item in enumerate(asked))
    started = time.perf_counter()
    with _indexed(folder, recordings, {"speech": model}) as collection:
        seconds = time.perf_counter() - started
        texts = {int(Path(info.key).stem): collection.text(info.id) for info in collection.documents()}
        pairs = [(words_of(item.paragraph), words_of(texts.get(number, ""))) for number, item in enumerate(asked)]
        errors = sum(word_errors(*pair) for pair in pairs) / sum(len(expected) for expected, _ in pairs)
        found = recalls(collection, task, folder)
    name = "spoken" if noise is None else f"spoken, noise at {noise:g} dB"
    return SpeechResult(f"{name}, {Path(model).name}", errors, *found, sound, seconds)


def measure_written(task: SpeechTask, folder: Path) -> SpeechResult:
    """Return the figures of the written paragraphs."""
    texts = _written(folder / "texts", [item.paragraph for item in task.questions])
    with _indexed(folder, texts, {}) as collection:
        return SpeechResult("written", 0.0, *recalls(collection, task, folder))


def _written(folder: Path, texts: Sequence[str]) -> Path:
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


def _indexed(folder: Path, source: Path, definition: Mapping[str, object]) -> Collection:
    config = {
        "features": {"dense": {"model": EMBEDDING_MODEL}},
        "store": f"memory:{folder}",
        "sources": [{"kind": "files", "location": str(source)}],
        **definition,
    }
    collection = Collection.create("speech", config, home=folder / "home")
    collection.index()
    return collection


def recalls(collection: Collection, task: SpeechTask, folder: Path) -> tuple[float, float]:
    """Return the shares of questions whose paragraph is the first document, and among the first five.

    The other paragraphs are indexed too.
    """
    collection.index([parse_source(str(_written(folder / "others", task.others)))])
    ranks = [_rank(collection, item.question, number) for number, item in enumerate(task.questions)]
    return sum(rank < 1 for rank in ranks) / len(ranks), sum(rank < 5 for rank in ranks) / len(ranks)


def _rank(collection: Collection, question: str, number: int) -> int:
    """Return the place of a paragraph's document among those of a search, from 0; a large number if it is not there."""
    documents = list(dict.fromkeys(hit.document for hit in collection.search(question, 50)))
    right = [place for place, document in enumerate(documents) if _is_paragraph(document, number)]
    return right[0] if right else len(documents) + 50


def _is_paragraph(document: str, number: int) -> bool:
    source, _, key = document.rpartition("#")
    return not source.endswith("others") and Path(key).stem == str(number)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="base", help="name, id on the Hub, or folder of a Whisper model [base]")
    parser.add_argument("--count", type=int, default=50, help="spoken paragraphs [50]")
    parser.add_argument("--noise", type=float, help="decibels by which noise is weaker than the speech [none]")
    options = parser.parse_args()
    task = speech_task(options.count)
    words = sum(len(words_of(item.paragraph)) for item in task.questions)
    print(f"{cpu_name()}: {len(task.questions)} paragraphs of {words:,} words, {len(task.others):,} others")
    print("| paragraphs | word error rate | recall@1 | recall@5 | times real time |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as spoken, tempfile.TemporaryDirectory() as written:
        print(measure(task, options.model, options.noise, Path(spoken)).row(), flush=True)
        print(measure_written(task, Path(written)).row())


if __name__ == "__main__":
    main()
