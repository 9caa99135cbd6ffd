"""Throughput of engines that encode the same texts alternately; ratios are computed within a round."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contender import CONTENDERS
from nearfield.evaluation.performance.workloads import SIZES, texts

OURS = "nearfield"


class Contender:
    """A contender's process."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        command = [sys.executable, "-m", "benchmarks.contender", name, str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        told = self._read()
        self.loaded: float = told["loaded"]
        self.sample = np.array(told["sample"])

    def encode(self, workload: str, *, quick: bool) -> dict[str, Any]:
        """Encode a workload once; returns seconds, texts and resident bytes."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"workload": workload, "quick": quick}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} died: run python -m benchmarks.contender {self.name!r} FOLDER to see why")
        return json.loads(line)


def minilm(folder: Path, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Compare all contenders on all-MiniLM-L6-v2."""
    return compare(folder, list(CONTENDERS), list(SIZES), rounds, quick=quick, label="")


def bert_base(folder: Path, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Compare with sentence-transformers on a BERT-base shape of random weights."""
    from transformers import BertConfig, BertModel

    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "bert-base"
        shutil.copytree(folder, home, ignore=shutil.ignore_patterns("*.safetensors"))
        BertModel(BertConfig(), add_pooling_layer=False).save_pretrained(home)
        pooling = home / "1_Pooling" / "config.json"
        pooling.write_text(json.dumps({**json.loads(pooling.read_text()), "word_embedding_dimension": 768}))
        names = ["nearfield", "sentence-transformers"]
        return compare(home, names, ["mixed"], max(1, rounds // 2), quick=quick, label="BERT-base ", share=4)


def compare(
    folder: Path,
    names: Sequence[str],
    workloads: Sequence[str],
    rounds: int,
    *,
    quick: bool,
    label: str,
    share: int = 1,
) -> dict[str, Any]:
    """Run the rounds and return texts/s, tokens/s and the ratios to each other contender."""
    contenders = [Contender(name, folder) for name in names]
    _require_same(contenders)
    speeds: dict[str, dict[str, list[float]]] = {work: {name: [] for name in names} for work in workloads}
    memory = {}
    for work in workloads:
        for number in range(rounds + 1):
            for contender in contenders:
                told = contender.encode(work, quick=quick or share > 1)
                memory[contender.name] = told["rss"] / 2**20
                if number:  # the first round warms up
                    speeds[work][contender.name].append(told["texts"] / told["seconds"])
    for contender in contenders:
        contender.close()
    tokens = {work: _tokens(folder, work, quick=quick or share > 1) for work in workloads}
    return {
        "texts_per_second": {
            f"{label}{work}": {name: round(statistics.median(values), 1) for name, values in row.items()}
            for work, row in speeds.items()
        },
        "tokens_per_text": {f"{label}{work}": round(value, 2) for work, value in tokens.items()},
        "ratios": {
            f"{label}{work} / {name}": ratio(row[OURS], row[name])
            for work, row in speeds.items()
            for name in names
            if name != OURS
        },
        "rss_mib": {name: round(value) for name, value in memory.items()},
        "load_seconds": {contender.name: round(contender.loaded, 2) for contender in contenders},
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return median and range of the ratios within each round."""
    values = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": round(statistics.median(values), 2), "low": round(min(values), 2), "high": round(max(values), 2)}


def _tokens(folder: Path, workload: str, *, quick: bool) -> float:
    """Return the mean tokens of a text, as read by the model."""
    from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder, max_length=256)
    batch = texts(workload, quick=quick)
    return sum(len(tokens.ids) for tokens in tokenizer.encode(batch)) / len(batch)


def _require_same(contenders: Sequence[Contender]) -> None:
    """Refuse to compare engines that give other vectors: they would not do the same work."""
    first = next(each for each in contenders if each.name == "sentence-transformers").sample
    for contender in contenders:
        other = contender.sample
        cosines = (first * other).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(other, axis=1)
        print(
            f"  {contender.name}: loaded in {contender.loaded:.1f} s, cosine to the reference {cosines.min():.6f}",
            flush=True,
        )
        if cosines.min() < 0.999:
            raise RuntimeError(f"{contender.name} gives other vectors (cosine {cosines.min():.4f})")
