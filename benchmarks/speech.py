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
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.known_answers import SearchTask, index_files, recalls, search_task, texts_read, write_texts
from nearfield.hardware import cpu_name
from nearfield.media.audio import Audio
from nearfield.media.sound.sound_decoding import encode_wav

#: Words a minute, and samples a second of recordings with noise.
_PACE, _RATE = 160, 22_050
#: Documents among which a paragraph must be.
_DEPTHS = (1, 5)
_TIMES = re.compile(r"\[[\d:]+\] ")
_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


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


def error_rate(task: SearchTask, texts: Mapping[int, str]) -> float:
    """Return the word errors of the texts that were read, by their numbers, as a share of the words."""
    pairs = [(words_of(item.text), words_of(texts.get(number, ""))) for number, item in enumerate(task.answers)]
    return sum(word_errors(*pair) for pair in pairs) / sum(len(expected) for expected, _ in pairs)


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


def measure(task: SearchTask, model: str, noise: float | None, folder: Path) -> SpeechResult:
    """Return the figures of the paragraphs spoken, with or without noise."""
    recordings, spoken = folder / "recordings", task.answers
    recordings.mkdir()
    sound = sum(speak(item.text, recordings / f"{number}.wav", noise) for number, item in enumerate(spoken))
    started = time.perf_counter()
    with index_files(folder, recordings, {"speech": model}) as collection:
        seconds = time.perf_counter() - started
        errors = error_rate(task, texts_read(collection))
        first, fifth = recalls(collection, task, folder, _DEPTHS)
    name = "spoken" if noise is None else f"spoken, noise at {noise:g} dB"
    return SpeechResult(f"{name}, {Path(model).name}", errors, first, fifth, sound, seconds)


def measure_written(task: SearchTask, folder: Path) -> SpeechResult:
    """Return the figures of the written paragraphs."""
    texts = write_texts(folder / "texts", [item.text for item in task.answers])
    with index_files(folder, texts, {}) as collection:
        first, fifth = recalls(collection, task, folder, _DEPTHS)
        return SpeechResult("written", 0.0, first, fifth)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="base", help="name, id on the Hub, or folder of a Whisper model [base]")
    parser.add_argument("--count", type=int, default=50, help="spoken paragraphs [50]")
    parser.add_argument("--noise", type=float, help="decibels by which noise is weaker than the speech [none]")
    options = parser.parse_args()
    task = search_task("squad-dev", options.count, titles=False)
    words = sum(len(words_of(item.text)) for item in task.answers)
    print(f"{cpu_name()}: {len(task.answers)} paragraphs of {words:,} words, {len(task.others):,} others")
    print("| paragraphs | word error rate | recall@1 | recall@5 | times real time |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as spoken, tempfile.TemporaryDirectory() as written:
        print(measure(task, options.model, options.noise, Path(spoken)).row(), flush=True)
        print(measure_written(task, Path(written)).row())


if __name__ == "__main__":
    main()
