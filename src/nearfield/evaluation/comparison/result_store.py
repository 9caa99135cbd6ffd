"""On-disk store for evaluation results and embeddings; survives interrupted runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.systems.embedding_cache import MAX_BYTES, EmbeddingCache
from nearfield.fileio.atomic import atomic_file, write_atomic
from nearfield.settings import cache_dir
from nearfield.vectors.dense import Vectors

#: Texts whose vectors are written together: the loss when a run is killed.
TEXTS_PER_FILE = 256
#: Version of the stored results; part of their file names.
FORMAT = 1


def default_folder() -> Path:
    """Return the default folder of results: ``evaluate`` in the cache folder."""
    return cache_dir() / "evaluate"


class ResultStore:
    """Stores each result as a JSON file, written in one step; without a ``folder``, nothing is stored."""

    def __init__(self, folder: Path | str | None) -> None:
        self.folder = None if folder is None else Path(folder)
        #: Number of results that were read, and that were written.
        self.hits, self.added = 0, 0

    def get(self, kind: str, **of: Any) -> JsonDict | None:
        """Return a result by its kind (``quality``, ``speed``) and what it is ``of``; None if it is not stored."""
        path = self._path(kind, of)
        if path is None:
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(stored, dict) or stored.get("of") != json.loads(json.dumps(of)):
            return None
        self.hits += 1
        result: JsonDict = stored["result"]
        return result

    def put(self, kind: str, result: JsonDict, **of: Any) -> None:
        """Store a result."""
        path = self._path(kind, of)
        if path is None:
            return
        write_file(path, json.dumps({"kind": kind, "of": of, "result": result}, ensure_ascii=False).encode())
        self.added += 1

    def embedding_cache(self) -> EmbeddingCache:
        """Return a cache of vectors, which is stored in the folder if there is one."""
        return EmbeddingCache() if self.folder is None else PersistentEmbeddingCache(self.folder / "vectors")

    def _path(self, kind: str, of: JsonDict) -> Path | None:
        if self.folder is None:
            return None
        key = json.dumps([FORMAT, kind, of], sort_keys=True)
        return self.folder / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


class PersistentEmbeddingCache(EmbeddingCache):
    """A cache that writes its vectors to a folder, and starts with the vectors stored there."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(max_bytes)
        self._folder = folder
        self._read: set[str] = set()
        self._space = ""

    def encode(self, space: str, texts: Sequence[str], run: Callable[[list[str]], Vectors]) -> tuple[Array, int]:
        """Return rows of texts and the number of truncated texts, like ``EmbeddingCache.encode``."""
        self._space = space
        if space not in self._read:
            self._read.add(space)
            self._load(space)
        return super().encode(space, texts, run)

    def _encode(self, run: Callable[[list[str]], Vectors], texts: list[str]) -> dict[str, tuple[Array, bool]]:
        entries: dict[str, tuple[Array, bool]] = {}
        # Texts of similar length together, for little padding.
        order = sorted(texts, key=len)
        for start in range(0, len(order), TEXTS_PER_FILE):
            fresh = super()._encode(run, order[start : start + TEXTS_PER_FILE])
            self._save(fresh)
            entries |= fresh
        return entries

    def _home(self, space: str) -> Path:
        return self._folder / hashlib.sha256(space.encode()).hexdigest()[:32]

    def _save(self, fresh: dict[str, tuple[Array, bool]]) -> None:
        texts = json.dumps(list(fresh)).encode()
        rows, dropped = (
            np.stack([row for row, _ in fresh.values()]),
            np.array([truncated for _, truncated in fresh.values()]),
        )
        home = self._home(self._space)
        home.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(texts).hexdigest()[:32]
        with atomic_file(home / f"{name}.npz", shared=True) as file:
            np.savez(file, texts=np.frombuffer(texts, np.uint8), rows=rows, cut=dropped)

    def _load(self, space: str) -> None:
        for path in sorted(self._home(space).glob("*.npz")):
            try:
                with np.load(path) as file:
                    texts, rows, dropped = json.loads(file["texts"].tobytes()), file["rows"], file["cut"]
            except (OSError, ValueError, KeyError):
                continue
            for text, row, truncated in zip(texts, rows, dropped, strict=True):
                if self._bytes < self._max_bytes:
                    self._rows[space, text] = (row, bool(truncated))
                    self._bytes += row.nbytes


def write_file(path: Path, data: bytes) -> None:
    """Write a file in one step, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data, shared=True)
