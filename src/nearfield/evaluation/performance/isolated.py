"""Measure speed, latency and memory of a variant in a separate process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nearfield import hardware
from nearfield.errors import NearfieldError
from nearfield.evaluation.json_types import JsonDict, JsonMapping

if TYPE_CHECKING:
    from nearfield.evaluation.performance.load_test import Target
    from nearfield.evaluation.systems.local_model import LocalModel
    from nearfield.evaluation.systems.search import SearchPipeline

_Bulk: TypeAlias = "Callable[[Sequence[str]], int | None]"
_Ask: TypeAlias = "Callable[[str], Awaitable[object]]"
#: Maximum length of a failed process's error message.
_MAX_MESSAGE = 300


def measure_in_subprocess(
    variant: str,
    documents: Sequence[str],
    queries: Sequence[str],
    *,
    seconds: float = 2.0,
    clients: Sequence[int] = (1, 4, 16),
) -> JsonDict:
    """Measure a variant in a new process.

    Args:
        variant: in its text form.
        documents: prepared for search repeatedly: encoded, and for a search variant split and indexed.
        queries: encoded, and for a search variant searched, one at a time by each client.
        seconds: for each measurement.
        clients: numbers of concurrent clients.

    Returns:
        The result of ``load_test.measure``; ``memory`` also has ``empty``: bytes before the model was opened.

    Raises:
        NearfieldError: the process failed; the message is that of the process.
    """
    request: JsonDict = {"variant": variant, "documents": [*documents], "queries": [*queries]}
    request |= {"seconds": seconds, "clients": [*clients]}
    with tempfile.TemporaryDirectory(prefix="nearfield-timed-") as directory:
        folder = Path(directory)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-m", "nearfield.evaluation.performance.isolated", directory]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        reply = folder / "reply.json"
        if done.returncode or not reply.exists():
            raise NearfieldError(_last_error(done.stderr) or f"the measurement ended with status {done.returncode}")
        result: JsonDict = json.loads(reply.read_text(encoding="utf-8"))
    return result


def _last_error(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].split(": ", 1)[-1][-_MAX_MESSAGE:] if lines else ""


class _MixedTarget:
    """A load test target: documents in bulk, queries one at a time."""

    def __init__(self, name: str, facts: JsonDict, bulk: _Bulk, ask: _Ask, queries: Sequence[str]) -> None:
        self.name, self.facts, self._bulk = name, facts, bulk
        self._ask, self._queries, self._next = ask, queries, count()

    def bulk(self, texts: Sequence[str]) -> int | None:
        """Prepare documents for search; return the number of tokens, None if it is unknown."""
        return self._bulk(texts)

    async def ask(self, _: str) -> None:
        """Run the next query; the text is ignored."""
        await self._ask(self._queries[next(self._next) % len(self._queries)])

    async def close(self) -> None:
        """Do nothing: the caller closes the system."""


def _run(request: JsonMapping) -> JsonDict:
    from nearfield.evaluation.performance import load_test

    empty = hardware.memory_resident()
    with ExitStack() as stack:
        target = _target(request, stack)
        options = {"seconds": request["seconds"], "clients": request["clients"]}
        result = load_test.measure(target, request["documents"], **options)
    result["memory"]["empty"] = empty
    return result


def _target(request: JsonMapping, stack: ExitStack) -> Target:
    """Return the target; the stack closes it."""
    from nearfield.evaluation.performance import http_target
    from nearfield.evaluation.systems import Variant, open_system
    from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
    from nearfield.evaluation.systems.local_model import LocalModel

    variant, queries = Variant.parse(request["variant"]), request["queries"]
    if variant.url:
        extra = {"dimensions": variant.dimensions} if variant.dimensions else {}
        key = os.environ.get(variant.key_env) if variant.key_env else None
        return http_target.HttpTarget(variant.url, variant.model, key, **extra)
    started = time.perf_counter()
    system = open_system(variant, EmbeddingCache(0))
    loaded = time.perf_counter() - started
    stack.callback(system.close)
    target = (
        _model_target(system, queries) if isinstance(system, LocalModel) else _search_target(system, request, stack)
    )
    target.facts["load_seconds"] = round(loaded, 3)
    return target


def _model_target(system: LocalModel, queries: Sequence[str]) -> _MixedTarget:
    encoder = system.encoder
    counted: dict[int, int] = {}

    def bulk(texts: Sequence[str]) -> int:
        system.encode(texts, role="document")
        if len(texts) not in counted:
            counted[len(texts)] = sum(len(tokens.ids) for tokens in encoder.tokenize(list(texts), role="document"))
        return counted[len(texts)]

    async def ask(query: str) -> None:
        await encoder.aencode(query, **system.encode_keywords("query"))

    facts = {"where": "in this process", "precision": encoder.precision, "model_bytes": encoder.bytes}
    return _MixedTarget(system.name, facts, bulk, ask, queries)


def _search_target(system: SearchPipeline, request: JsonMapping, stack: ExitStack) -> _MixedTarget:
    documents = {str(at): text for at, text in enumerate(request["documents"])}

    def bulk(texts: Sequence[str]) -> None:
        with system.open_index({str(at): text for at, text in enumerate(texts)}):
            pass

    search = stack.enter_context(system.open_index(documents))

    async def ask(query: str) -> None:
        await asyncio.to_thread(search, [query], 10)

    return _MixedTarget(system.name, {"where": "in this process"}, bulk, ask, request["queries"])


def main(directory: str) -> None:
    """Read the request from the directory, measure, and write the reply there."""
    folder = Path(directory)
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    (folder / "reply.json").write_text(json.dumps(_run(request)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
