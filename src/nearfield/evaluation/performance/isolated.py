"""Timed: a variant's speed, latency and memory, measured in a process of its own that holds nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from nearfield import hardware
from nearfield.errors import NearfieldError

#: Characters of a failed process's complaint that are passed on.
_TOLD = 300


def measure_in_subprocess(
    variant: str,
    documents: Sequence[str],
    queries: Sequence[str],
    *,
    seconds: float = 2.0,
    clients: Sequence[int] = (1, 4, 16),
) -> dict[str, Any]:
    """Measure a variant in a new process.

    Args:
        variant: its text form.
        documents: made ready to be searched, over and over: encoded, and for a search of its own cut and indexed.
        queries: encoded, and for a search of its own looked for among the documents, one at a time by each client.
        seconds: for each figure.
        clients: callers at once.

    Returns:
        What ``speed.measure`` returns; ``memory`` has ``empty`` (bytes before the model was opened) and ``peak``.

    Raises:
        NearfieldError: the process failed; the message is its own.
    """
    asked: dict[str, Any] = {"variant": variant, "documents": [*documents], "queries": [*queries]}
    asked |= {"seconds": seconds, "clients": [*clients]}
    with tempfile.TemporaryDirectory(prefix="nearfield-timed-") as place:
        folder = Path(place)
        (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        command = [sys.executable, "-m", "nearfield.evaluation.performance.isolated", place]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        answer = folder / "answer.json"
        if done.returncode or not answer.exists():
            raise NearfieldError(_complaint(done.stderr) or f"the measuring process ended with {done.returncode}")
        told: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return told


def _complaint(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].split(": ", 1)[-1][-_TOLD:] if lines else ""


class _Mixed:
    """Documents in bulk, and queries one at a time."""

    def __init__(self, name: str, facts: dict[str, Any], bulk: Any, ask: Any, queries: Sequence[str]) -> None:
        self.name, self.facts, self.bulk = name, facts, bulk
        self._ask, self._queries, self._next = ask, queries, count()

    async def ask(self, _: str) -> None:
        """Ask the next query, whatever text it was to be."""
        await self._ask(self._queries[next(self._next) % len(self._queries)])

    async def close(self) -> None:
        """What was opened is closed elsewhere."""


def _run(asked: Mapping[str, Any]) -> dict[str, Any]:
    from nearfield.evaluation.performance import load_test

    empty = hardware.memory_resident()
    with ExitStack() as stack:
        target = _target(asked, stack)
        options = {"seconds": asked["seconds"], "clients": asked["clients"]}
        found = load_test.measure(target, asked["documents"], **options)
    found["memory"]["empty"] = empty
    return found


def _target(asked: Mapping[str, Any], stack: ExitStack) -> Any:
    """Return what is measured; the stack closes it."""
    from nearfield.evaluation.performance import http_target
    from nearfield.evaluation.systems import Variant, open_system
    from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
    from nearfield.evaluation.systems.local_model import LocalModel

    variant, queries = Variant.parse(asked["variant"]), asked["queries"]
    if variant.url:
        extra = {"dimensions": variant.dimensions} if variant.dimensions else {}
        key = os.environ.get(variant.key_env) if variant.key_env else None
        return http_target.HttpTarget(variant.url, variant.model, key, **extra)
    started = time.perf_counter()
    system = open_system(variant, EmbeddingCache(0))
    loaded = time.perf_counter() - started
    stack.callback(system.close)
    found = _model(system, queries) if isinstance(system, LocalModel) else _search(system, asked, stack)
    found.facts["load_seconds"] = round(loaded, 3)
    return found


def _model(system: Any, queries: Sequence[str]) -> _Mixed:
    encoder = system.encoder
    counted: dict[int, int] = {}

    def bulk(texts: Sequence[str]) -> int:
        system.encode(texts, role="document")
        if len(texts) not in counted:
            counted[len(texts)] = sum(len(each.ids) for each in encoder.tokenize(list(texts), role="document"))
        return counted[len(texts)]

    async def ask(query: str) -> None:
        await encoder.aencode(query, **system.encode_keywords("query"))

    facts = {"where": "in this process", "precision": encoder.precision, "model_bytes": encoder.bytes}
    return _Mixed(system.name, facts, bulk, ask, queries)


def _search(system: Any, asked: Mapping[str, Any], stack: ExitStack) -> _Mixed:
    documents = {str(at): text for at, text in enumerate(asked["documents"])}

    def bulk(texts: Sequence[str]) -> None:
        with system.open_index({str(at): text for at, text in enumerate(texts)}):
            pass

    find = stack.enter_context(system.open_index(documents))

    async def ask(query: str) -> None:
        await asyncio.to_thread(find, [query], 10)

    return _Mixed(system.name, {"where": "in this process"}, bulk, ask, asked["queries"])


def main(place: str) -> None:
    """Measure what the folder asks for, and leave the answer there."""
    folder = Path(place)
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    (folder / "answer.json").write_text(json.dumps(_run(asked)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
