"""Transcripts of paragraphs that espeak-ng speaks: word error rate, and whether questions find them.

    python -m benchmarks.speech --model tiny.en

speaks paragraphs of SQuAD (``../shared/data/squad-dev``), one recording for each; indexes the folder with ``speech``;
and asks a question of each paragraph. The same questions are asked of the written paragraphs, and of recordings to
which noise is added. It needs espeak-ng and the extra ``speech``. Synthetic speech is cleaner than people's: figures
compare models and settings, and promise nothing about a meeting.
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
from nearfield.hardware import cpu_name
from nearfield.media.audio import Audio
from nearfield.media.sound.sound_decoding import encode_wav

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "squad-dev"
EMBEDDING_MODEL = "all-MiniLM-L6-v2"
#: Words a minute, samples a second, and decibels of the speech above added noise.
_PACE, _RATE, _NOISE = 160, 22_050, 10.0
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


def questions(count: int) -> list[SpokenQuestion]:
    """Return a question for each of so many paragraphs, spread over the set."""
    texts = {row["_id"]: row["text"] for row in _rows("corpus.jsonl")}
    asked = {row["_id"]: row["text"] for row in _rows("queries.jsonl")}
    pairs = [line.split("\t")[:2] for line in (DATA / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    first = {paragraph: query for query, paragraph in reversed(pairs)}
    chosen = list(first)[:: max(1, len(first) // count)][:count]
    return [SpokenQuestion(texts[paragraph], asked[first[paragraph]]) for paragraph in chosen]


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


def measure(asked: Sequence[SpokenQuestion], model: str, noise: float | None, folder: Path) -> SpeechResult:
    """Return the figures of the paragraphs spoken, with or without noise."""
    recordings = folder / "recordings"
    recordings.mkdir()
    sound = sum(speak(item.paragraph, recordings / f"{number}.wav", noise) for number, item in enumerate(asked))
    started = time.perf_counter()
    with _indexed(folder, recordings, {"speech": model}) as collection:
        seconds = time.perf_counter() - started
        texts = {int(Path(info.key).stem): collection.text(info.id) for info in collection.documents()}
        pairs = [(words_of(item.paragraph), words_of(texts.get(number, ""))) for number, item in enumerate(asked)]
        errors = sum(word_errors(*pair) for pair in pairs) / sum(len(expected) for expected, _ in pairs)
        found = recalls(collection, asked)
    name = "spoken" if noise is None else f"spoken, noise at {noise:g} dB"
    return SpeechResult(f"{name}, {Path(model).name}", errors, *found, sound, seconds)


def measure_written(asked: Sequence[SpokenQuestion], folder: Path) -> SpeechResult:
    """Return the figures of the written paragraphs."""
    texts = folder / "texts"
    texts.mkdir()
    for number, item in enumerate(asked):
        (texts / f"{number}.txt").write_text(item.paragraph, encoding="utf-8")
    with _indexed(folder, texts, {}) as collection:
        return SpeechResult("written", 0.0, *recalls(collection, asked))


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


def recalls(collection: Collection, asked: Sequence[SpokenQuestion]) -> tuple[float, float]:
    """Return the shares of questions whose paragraph is the first document, and among the first five."""
    ranks = [_rank(collection, item.question, number) for number, item in enumerate(asked)]
    return sum(rank < 1 for rank in ranks) / len(ranks), sum(rank < 5 for rank in ranks) / len(ranks)


def _rank(collection: Collection, question: str, number: int) -> int:
    documents = dict.fromkeys(hit.document for hit in collection.search(question, 50))
    keys = [Path(document.rpartition("#")[2]).stem for document in documents]
    return keys.index(str(number)) if str(number) in keys else len(keys) + 5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="base", help="name, id on the Hub, or folder of a Whisper model [base]")
    parser.add_argument("--count", type=int, default=50, help="paragraphs [50]")
    options = parser.parse_args()
    asked = questions(options.count)
    words = sum(len(words_of(item.paragraph)) for item in asked)
    print(f"{cpu_name()}: {len(asked)} paragraphs of {words:,} words")
    print("| paragraphs | word error rate | recall@1 | recall@5 | times real time |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number, noise in enumerate((None, _NOISE)):
            place = Path(folder, str(number))
            place.mkdir()
            print(measure(asked, options.model, noise, place).row(), flush=True)
        print(measure_written(asked, Path(folder)).row())


if __name__ == "__main__":
    main()
