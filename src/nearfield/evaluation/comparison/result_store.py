"""Kept: results and vectors on disk, so that what was computed once is not computed again, whatever interrupted it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation.systems.embedding_cache import MOST, EmbeddingCache
from nearfield.fileio.atomic import atomic_file, write_atomic
from nearfield.settings import cache_dir
from nearfield.vectors.dense import Vectors

#: Texts whose vectors are written together: what is lost where a run is killed.
PART = 256
#: The form of what is kept; another number keeps readers of one form from files of another.
FORM = 1


def default_folder() -> Path:
    """Return where results are kept when nobody says: ``evaluate`` in the cache folder."""
    return cache_dir() / "evaluate"


class ResultStore:
    """Results by what they are of: one JSON file each, which appears whole or not at all.

    ``folder`` None keeps nothing.
    """

    def __init__(self, folder: Path | str | None) -> None:
        self.folder = None if folder is None else Path(folder)
        #: Results that were found, and those that were kept.
        self.found, self.added = 0, 0

    def get(self, kind: str, **of: Any) -> dict[str, Any] | None:
        """Return the result of a kind (``quality``, ``speed``) that is kept of something; None where there is none."""
        path = self._path(kind, of)
        if path is None:
            return None
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(told, dict) or told.get("of") != json.loads(json.dumps(of)):
            return None
        self.found += 1
        result: dict[str, Any] = told["result"]
        return result

    def put(self, kind: str, result: dict[str, Any], **of: Any) -> None:
        """Keep a result."""
        path = self._path(kind, of)
        if path is None:
            return
        write(path, json.dumps({"kind": kind, "of": of, "result": result}, ensure_ascii=False).encode())
        self.added += 1

    def memo(self) -> EmbeddingCache:
        """Return a memo whose vectors outlive the process, where there is a folder."""
        return EmbeddingCache() if self.folder is None else PersistentEmbeddingCache(self.folder / "vectors")

    def _path(self, kind: str, of: dict[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        told = json.dumps([FORM, kind, of], sort_keys=True)
        return self.folder / f"{kind}-{hashlib.sha256(told.encode()).hexdigest()[:32]}.json"


class PersistentEmbeddingCache(EmbeddingCache):
    """A memo that writes what it encodes to a folder, some texts at a time, and begins with what is there."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        super().__init__(most)
        self._folder = folder
        self._read: set[str] = set()
        self._space = ""

    def encode(self, space: str, texts: Any, run: Callable[[list[str]], Vectors]) -> tuple[Array, int]:
        """Return rows of texts, and how many of the texts were cut, as ``Memo.encode`` does."""
        self._space = space
        if space not in self._read:
            self._read.add(space)
            self._load(space)
        return super().encode(space, texts, run)

    def _encode(self, run: Callable[[list[str]], Vectors], texts: list[str]) -> dict[str, tuple[Array, bool]]:
        found: dict[str, tuple[Array, bool]] = {}
        # Like lengths together: a part is padded to its longest text.
        order = sorted(texts, key=len)
        for start in range(0, len(order), PART):
            fresh = super()._encode(run, order[start : start + PART])
            self._save(fresh)
            found |= fresh
        return found

    def _home(self, space: str) -> Path:
        return self._folder / hashlib.sha256(space.encode()).hexdigest()[:32]

    def _save(self, fresh: dict[str, tuple[Array, bool]]) -> None:
        texts = json.dumps(list(fresh)).encode()
        rows, cut = np.stack([row for row, _ in fresh.values()]), np.array([gone for _, gone in fresh.values()])
        home = self._home(self._space)
        home.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(texts).hexdigest()[:32]
        with atomic_file(home / f"{name}.npz", shared=True) as file:
            np.savez(file, texts=np.frombuffer(texts, np.uint8), rows=rows, cut=cut)

    def _load(self, space: str) -> None:
        for path in sorted(self._home(space).glob("*.npz")):
            try:
                with np.load(path) as told:
                    texts, rows, cut = json.loads(told["texts"].tobytes()), told["rows"], told["cut"]
            except (OSError, ValueError, KeyError):
                continue
            for text, row, gone in zip(texts, rows, cut, strict=True):
                if self._held < self._most:
                    self._rows[space, text] = (row, bool(gone))
                    self._held += row.nbytes


def write(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data, shared=True)
