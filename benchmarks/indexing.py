"""Speed of indexing compared with the bare engine, and memory of growing collections.

The same chunks are embedded by ``Encoder.stream`` alone and by ``Collection.index`` of plain text files, which also
reads, chunks, looks for duplicates, writes to LanceDB and updates the manifest. They take turns, so that both meet the
same machine.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.process_memory import watch_memory
from nearfield.corpus.collection import Collection
from nearfield.corpus.document import embedded
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.testing import write_tiny_model

MODEL = "all-MiniLM-L6-v2"
#: Documents of a round, and words of each.
DOCUMENTS, WORDS = 160, 900
_CHILD = "from benchmarks.indexing import grow; import sys; grow(sys.argv[1], sys.argv[2], int(sys.argv[3]))"


def write(folder: Path, count: int, words: int, seed: int) -> None:
    """Write text files of sentences whose words are drawn at random, so that no two repeat each other."""
    chance = random.Random(seed)
    vocabulary = ["".join(chance.choices("abcdefghilmnoprstu", k=chance.randrange(2, 9))) for _ in range(5000)]
    folder.mkdir(parents=True)
    for number in range(count):
        sentences = []
        for _ in range(words // 15):
            sentences.append(" ".join(chance.choices(vocabulary, k=15)).capitalize() + ".")
        (folder / f"{number:06}.txt").write_text(" ".join(sentences), encoding="utf-8")


def measure(rounds: int, *, quick: bool = False) -> dict[str, Any]:
    """Return the share of the engine's tokens/s that indexing reaches, and memory against the number of chunks."""
    return {"throughput": throughput(rounds, DOCUMENTS // (4 if quick else 1)), "memory": memory(quick=quick)}


def throughput(rounds: int, documents: int) -> dict[str, Any]:
    """Index and embed the same texts in turn; tokens are those that the model reads, special ones included."""
    encoder = Encoder(MODEL)
    shares, speeds = [], []
    with tempfile.TemporaryDirectory(prefix="nearfield-indexing-") as place:
        home = Path(place)
        for number in range(rounds):
            folder = home / f"files{number}"
            write(folder, documents, WORDS, number)
            with Collection.create(f"round{number}", home=home, encoder_of=lambda _: encoder) as collection:
                report = collection.index([parse_source(str(folder))])
                sql = "SELECT context, text FROM chunks ORDER BY rowid"
                texts = [embedded(text, context) for context, text in collection.manifest.rows(sql)]
            started = time.perf_counter()
            tokens = sum(int(part.tokens.sum()) for part in encoder.stream(texts, window=512, role="document"))
            own = tokens / (time.perf_counter() - started)
            speeds.append(report.tokens / report.seconds)
            shares.append(speeds[-1] / own)
            told = f"{speeds[-1]:,.0f} tokens/s, {shares[-1]:.1%} of the engine's {own:,.0f}"
            print(f"  round {number}: {told}", flush=True)
    encoder.close()
    return {
        "chunks": len(texts),
        "tokens_per_second": round(statistics.median(speeds)),
        "share_of_engine": round(statistics.median(shares), 3),
        "range": [round(min(shares), 3), round(max(shares), 3)],
    }


def memory(*, quick: bool = False) -> list[dict[str, Any]]:
    """Index ever more chunks with a tiny model, each number in a separate process; peak resident memory."""
    told = []
    with tempfile.TemporaryDirectory(prefix="nearfield-indexing-") as place:
        home = Path(place)
        write_tiny_model(home / "model")
        for chunks in (1_000, 10_000) if quick else (10_000, 30_000, 100_000):
            folder = home / f"files{chunks}"
            write_short(folder, chunks)
            command = [sys.executable, "-c", _CHILD, str(home), str(folder), str(chunks)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            levels = watch_memory(process)
            told.append({"chunks": int(process.communicate()[0].split()[-1]), **asdict(levels)})
            print(f"  {told[-1]}", flush=True)
    return told


def write_short(folder: Path, chunks: int) -> None:
    """Write files of twenty short paragraphs each; a paragraph becomes a chunk."""
    chance = random.Random(chunks)
    folder.mkdir(parents=True)
    for number in range(chunks // 20):
        lines = [" ".join(str(chance.randrange(10**4)) for _ in range(6)) + "." for _ in range(20)]
        (folder / f"{number:06}.txt").write_text("\n\n".join(lines), encoding="utf-8")


def grow(home: str, folder: str, chunks: int) -> None:
    """Index one folder, as a child does."""
    config = {
        "features": {"dense": {"model": f"{home}/model"}},
        "chunks": {"by": "fixed", "tokens": 32, "context": False},
    }
    with Collection.create(f"grow{chunks}", config, home=Path(home)) as collection:
        print(collection.index([parse_source(folder)]).chunks, flush=True)
