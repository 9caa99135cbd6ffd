"""Kill indexing at random moments, and see that nothing is lost, doubled or half there.

``python -m tools.crash --documents 2000 --kills 30`` indexes the same documents into each store twice: once in peace,
once by processes that are killed (SIGKILL) at random moments until that many have died, and then once more to the end.
Documents, chunks, their places and vectors must be the same in both. It ends with 1 where they are not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.corpus.collection import Collection
from nearfield.corpus.features import table_of
from nearfield.testing import WORDS, write_tiny_model

NAME = "crash"
#: The first run's child says so once its models are loaded: a kill before that would hit nothing.
READY = "ready"
_NEAR = 1e-5
_CHILD = "from tools.crash import child; import sys; child(*sys.argv[1:])"


@dataclass(frozen=True)
class Outcome:
    """What came of one store: how many processes were killed, in how many rounds, and what differed."""

    store: str
    kills: int
    rounds: int
    seconds: float
    differences: list[str]


def write_documents(folder: Path, count: int) -> None:
    """Write files of Markdown: a tenth repeats another, each has the same last line, and some hold next to nothing."""
    chance = random.Random(1)
    words = [word for word in WORDS if len(word) > 1]
    texts: list[str] = []
    for number in range(count):
        if number % 10 == 9:
            body = texts[chance.randrange(len(texts))]
        else:
            sentences = [" ".join(chance.choices(words, k=9)).capitalize() for _ in range(chance.randrange(1, 14))]
            body = f"Number {number}. " + ". ".join(sentences) + "."
        texts.append(body)
        path = folder / f"{number % 37:02}" / f"{number:05}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Document {number}\n\n{body}\n\nAll rights reserved by the cat\n", encoding="utf-8")


def child(home: str, address: str, documents: str, model: str) -> None:
    """Index once, as the process that is killed does."""
    from nearfield.corpus.sources.spec import parse_source

    config = {"features": {"dense": {"model": model}}, "store": address}
    with Collection.ensure(NAME, config, home=Path(home)) as collection:
        _ = collection.features
        print(READY, flush=True)
        collection.index([parse_source(documents)])


def start(home: Path, address: str, documents: Path, model: Path) -> subprocess.Popen[str]:
    """Start a child, and wait until it is about to index."""
    command = [sys.executable, "-c", _CHILD, str(home), address, str(documents), str(model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": _path()})
    assert process.stdout is not None
    if process.stdout.readline().strip() != READY:
        process.wait()
        raise RuntimeError(f"the child ended with {process.returncode} before it began")
    return process


def _path() -> str:
    return os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a child's end; raises RuntimeError where it failed."""
    if process.wait() != 0:
        raise RuntimeError(f"indexing ended with {process.returncode}")


def state(home: Path) -> dict[str, Any]:
    """Return all that a collection holds, in an order of its own: documents, chunks, and records of the store."""
    with Collection.open(NAME, home=home) as collection:
        manifest = collection.manifest
        placement = manifest.placements()[0]
        records = [each for part in collection.store.scan(table_of(placement.described), vectors=True) for each in part]
        return {
            "documents": manifest.rows("SELECT id, digest, version, state, error, chunks, tokens FROM documents"),
            "chunks": manifest.rows("SELECT id, document, ordinal, text, context, payload FROM chunks ORDER BY id"),
            "twins": manifest.rows("SELECT document, ordinal, kept FROM twins ORDER BY document, ordinal"),
            "placed": manifest.rows("SELECT document, version FROM placed ORDER BY document"),
            "sound": manifest.keywords.sound(),
            "whole": len(manifest.placements()) == len(collection.store.tables()) == 1,
            "records": {each.id: [each.document, each.version, each.ordinal, each.text] for each in records},
            "count": len(records),
            "vectors": {each.id: np.asarray(each.vector, np.float64) for each in records},
        }


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Say in what two states differ."""
    told = [
        f"{key}: {len(wanted[key])} wanted, {len(found[key])} found, and they differ"
        for key in ("documents", "chunks", "twins", "placed", "records")
        if wanted[key] != found[key]
    ]
    told += [key for key in ("sound", "whole") if not found[key]]
    if found["count"] != len(found["records"]):
        told.append("records: some ids are there twice")
    far = [
        key
        for key, vector in wanted["vectors"].items()
        if key in found["vectors"] and np.abs(vector - found["vectors"][key]).max() > _NEAR
    ]
    return [*told, *(f"vectors: {len(far)} differ" for _ in far[:1])]


def crash(name: str, address: str, folder: Path, documents: Path, model: Path, kills: int, seed: int = 0) -> Outcome:
    """Index in peace and under kills; each round ends with a whole run, which must leave the same."""
    started, chance = time.monotonic(), random.Random(seed)
    peace = folder / "peace"
    begun = time.monotonic()
    process = start(peace, address, documents, model)
    begun = time.monotonic()
    finish(process)
    length = time.monotonic() - begun
    wanted = state(peace)
    with Collection.open(NAME, home=peace) as collection:
        collection.drop()
    died, rounds, told = 0, 0, []
    while died < kills:
        rounds += 1
        home = folder / f"round{rounds}"
        # So many fit into one round that all of it is hit: what was done before a kill need not be done again.
        for _ in range(min(kills - died, 10)):
            process = start(home, address, documents, model)
            if _killed(process, chance.uniform(0, 2 * length / 10)):
                died += 1
            else:
                break
        finish(start(home, address, documents, model))
        told += differences(wanted, state(home))
        with Collection.open(NAME, home=home) as collection:
            collection.drop()
    return Outcome(name, died, rounds, time.monotonic() - started, told)


def _killed(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kill a child after so long; returns whether it was still at work."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    if process.returncode:
        raise RuntimeError(f"indexing ended with {process.returncode}")
    return False


def main(words: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    from tests.support.databases import DATABASES

    names = [name for name in DATABASES if name != "memory"]
    parser = argparse.ArgumentParser(description="Kill indexing at random moments, and compare what is left.")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--stores", nargs="*", default=names, choices=names)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(words)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="nearfield-crash-") as place, ExitStack() as opened:
        documents, model = Path(place) / "documents", Path(place) / "model"
        write_documents(documents, asked.documents)
        write_tiny_model(model)
        for name in asked.stores:
            folder = Path(place) / name
            folder.mkdir()
            address = opened.enter_context(DATABASES[name](folder))
            told = crash(name, address, folder, documents, model, asked.kills, asked.seed)
            wrong += len(told.differences)
            print(json.dumps(told.__dict__), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
