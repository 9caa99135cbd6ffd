"""Kill indexing at random moments, and check that nothing is lost, duplicated or incomplete.

``python -m tools.crash --documents 2000 --kills 30`` indexes the same documents into each store twice: once without
interruption, and once by processes that are killed (SIGKILL) at random moments until that many have died, followed by a
complete run. Documents, chunks, their places and vectors must be the same in both. The exit status is 1 if they differ.
``--kind media`` does so with folders of texts, pictures, pages, sounds and videos: ``--documents 25`` are 200 files.
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
from nearfield.corpus.features import table_from_dict
from nearfield.encoder import Encoder
from nearfield.testing import WORDS, write_tiny_model
from tests.support import media_files

NAME = "crash"
#: A child prints this when its model is loaded: an earlier kill would interrupt nothing.
READY = "ready"
#: What is indexed: texts, or texts, pictures, pages, sounds and videos.
KINDS = ("text", "media")
#: Maximum difference of a vector's values; batches differ from run to run.
_TOLERANCE = 1e-5
_CHILD = "from tools.crash import child; import sys; child(*sys.argv[1:])"


@dataclass(frozen=True)
class Outcome:
    """The result for one store: the number of killed processes and of rounds, and the differences."""

    store: str
    kills: int
    rounds: int
    seconds: float
    differences: list[str]


def write_documents(folder: Path, count: int) -> None:
    """Write Markdown files: a tenth duplicates another one, all have the same last line, and some are nearly empty."""
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


def write(kind: str, documents: Path, models: Path, count: int) -> None:
    """Write so many documents, or folders of media, and the models that read them."""
    if kind == "text":
        write_documents(documents, count)
        write_tiny_model(models)
        return
    media_files.write_models(models)
    for number in range(count):
        media_files.write_media(documents / f"{number:03}", seed=10 * number)


def child(kind: str, home: str, address: str, documents: str, models: str) -> None:
    """Index once. This runs in the processes that are killed.

    The models compute in float32: in bfloat16, vectors depend on how inputs were batched.
    """
    from nearfield.corpus.sources.spec import parse_source

    config: dict[str, Any] = {"features": {"dense": {"model": models}}, "store": address}
    if kind == "media":
        config = media_files.media_config({name: f"{models}/{name}" for name in ("text", "clip", "clap")}, address)
    paths = {feature["model"] for feature in config["features"].values()}
    with ExitStack() as opened:
        loaded = {path: opened.enter_context(Encoder(path, precision="float32", progress=False)) for path in paths}
        collection = Collection.ensure(NAME, config, home=Path(home), encoder_of=loaded.__getitem__)
        opened.enter_context(collection)
        _ = collection.features
        print(READY, flush=True)
        collection.index([parse_source(documents)])


def start(kind: str, home: Path, address: str, documents: Path, models: Path) -> subprocess.Popen[str]:
    """Start a child, and wait until it begins to index."""
    command = [sys.executable, "-c", _CHILD, kind, str(home), address, str(documents), str(models)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": _path()})
    assert process.stdout is not None
    if process.stdout.readline().strip() != READY:
        process.wait()
        raise RuntimeError(f"the child exited with {process.returncode} before it began")
    return process


def _path() -> str:
    return os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a child to exit; raise RuntimeError if it failed."""
    if process.wait() != 0:
        raise RuntimeError(f"indexing exited with {process.returncode}")


def state(home: Path) -> dict[str, Any]:
    """Return the content of a collection, in a stable order: documents, chunks, and records of the store."""
    with Collection.open(NAME, home=home) as collection:
        manifest = collection.manifest
        live = manifest.live_tables()
        records = [
            (f"{name} {record.id}", record)
            for name, table in live.items()
            for part in collection.store.scan(table_from_dict(table.described), vectors=True)
            for record in part
        ]
        return {
            "documents": manifest.rows("SELECT id, digest, version, state, error, chunks, tokens FROM documents"),
            "chunks": manifest.rows("SELECT id, document, ordinal, text, context, payload FROM chunks ORDER BY id"),
            "duplicates": manifest.rows(
                "SELECT document, ordinal, kept_chunk FROM duplicates ORDER BY document, ordinal"
            ),
            "document_tables": manifest.rows("SELECT document, version FROM document_tables ORDER BY document"),
            "consistent": manifest.keywords.is_consistent(),
            "whole": len(manifest.vector_tables()) == len(collection.store.tables()) == len(live),
            "records": {key: [record.document, record.version, record.ordinal, record.text] for key, record in records},
            "count": len(records),
            "vectors": {key: np.asarray(record.vector, np.float64) for key, record in records},
        }


def differences(expected: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    """Return the differences between two states."""
    result = [
        f"{key}: {len(expected[key])} expected, {len(actual[key])} present, and they differ"
        for key in ("documents", "chunks", "duplicates", "document_tables", "records")
        if expected[key] != actual[key]
    ]
    result += [key for key in ("consistent", "whole") if not actual[key]]
    if actual["count"] != len(actual["records"]):
        result.append("records: some ids occur twice")
    different = [
        key
        for key, vector in expected["vectors"].items()
        if key in actual["vectors"] and np.abs(vector - actual["vectors"][key]).max() > _TOLERANCE
    ]
    return [*result, *(f"vectors: {len(different)} differ" for _ in different[:1])]


def crash(
    kind: str, name: str, address: str, folder: Path, documents: Path, models: Path, kills: int, seed: int = 0
) -> Outcome:
    """Index without interruption and under kills; each round ends with a complete run, and the states must be equal."""
    started, chance = time.monotonic(), random.Random(seed)
    reference = folder / "reference"
    process = start(kind, reference, address, documents, models)
    indexing = time.monotonic()
    finish(process)
    seconds = time.monotonic() - indexing
    expected = state(reference)
    with Collection.open(NAME, home=reference) as collection:
        collection.drop()
    died, rounds, result = 0, 0, []
    while died < kills:
        rounds += 1
        home = folder / f"round{rounds}"
        # Ten kills reach the end of a run, since work that is finished before a kill is not repeated.
        for _ in range(min(kills - died, 10)):
            process = start(kind, home, address, documents, models)
            if _kill(process, chance.uniform(0, 2 * seconds / 10)):
                died += 1
            else:
                break
        finish(start(kind, home, address, documents, models))
        result += differences(expected, state(home))
        with Collection.open(NAME, home=home) as collection:
            collection.drop()
    return Outcome(name, died, rounds, time.monotonic() - started, result)


def _kill(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kill a child after some time; return whether it was still running."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    if process.returncode:
        raise RuntimeError(f"indexing exited with {process.returncode}")
    return False


def main(words: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    from tests.support.databases import DATABASES

    names = [name for name in DATABASES if name != "memory"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, default="text", help="what is indexed [text]")
    parser.add_argument("--documents", type=int, default=2000, help="documents, or folders of eight files of media")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--stores", nargs="*", default=names, choices=names)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="nearfield-crash-") as place, ExitStack() as opened:
        documents, models = Path(place) / "documents", Path(place) / "models"
        write(options.kind, documents, models, options.documents)
        for name in options.stores:
            folder = Path(place) / name
            folder.mkdir()
            address = opened.enter_context(DATABASES[name](folder))
            outcome = crash(options.kind, name, address, folder, documents, models, options.kills, options.seed)
            wrong += len(outcome.differences)
            print(json.dumps(outcome.__dict__), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
