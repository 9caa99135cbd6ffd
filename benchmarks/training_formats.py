"""Folders that `nearfield train` writes, read by another version of sentence-transformers and of PEFT.

``python -m benchmarks.training_formats --python OTHER/bin/python``: short runs here write a dense model, a LoRA
adapter, a reranker and a SPLADE model; the other Python loads each with its libraries and computes the texts. Prints
the lowest cosine of each form; the exit status is 1 if one is below 0.9999. ``--model all-MiniLM-L6-v2 --data FOLDER``
trains that model on TREC's questions too. The other Python needs sentence-transformers, such as 5.1.2, and PEFT alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nearfield
from nearfield.arrays import Array
from nearfield.training.data.loaders import load_training_data
from nearfield.training.fine_tuning.train import train
from nearfield.training.splitting import split_by_source
from nearfield.training.training_data import TrainingData

MIN_COSINE = 0.9999
#: The tiny models that are trained.
FORMS = ("dense", "lora", "reranker", "splade")
READER = Path(__file__).with_name("training_formats_reader.py")
#: Settings with which the tiny models get better in some steps.
QUICK: Mapping[str, Any] = {"batch": 16, "epochs": 4, "measurements": 6, "patience": 20, "test_share": 0.3}


@dataclass(frozen=True)
class WrittenForm:
    """A folder that a run wrote: its name, its kind, the base where it is an adapter, and what it gives for texts."""

    name: str
    kind: str
    folder: Path
    texts: Sequence[str]
    expected: Array
    base: Path | None = None

    def to_job(self, expected: Path) -> dict[str, Any]:
        """Return what the reader needs; ``expected`` is the file of the expected numbers."""
        base = None if self.base is None else str(self.base)
        job = {"name": self.name, "kind": self.kind, "folder": str(self.folder), "base": base}
        return {**job, "texts": list(self.texts), "expected": str(expected)}


def write_tiny_forms(home: Path, only: Container[str]) -> Iterator[WrittenForm]:
    """Train the tiny models of the tests, those that are named, and yield what was written."""
    from tests.parity.scores import classifier
    from tests.support.tiny_models import WORDS
    from tests.support.tiny_training import labelled_rows, marked_rows, tiny_base, tiny_splade, translated_rows

    base = tiny_base(home / "base", prompts={"query": "ba de ", "document": ""})
    texts = list(labelled_rows(24, seed=5).rows.texts)  # type: ignore[union-attr]
    lora: dict[str, Any] = {"rate": 2e-2, "adapter": 8, "epochs": 3, "measurements": 5}
    if "dense" in only:
        yield _trained("dense", "dense", base, labelled_rows(), home, texts, rate=8e-3)
    if "lora" in only:
        yield _trained("LoRA adapter", "dense", base, labelled_rows(), home, texts, **lora)
    words = [" ".join(WORDS[start : start + 5]) for start in range(0, 120, 5)]
    if "reranker" in only:
        reranker = classifier("bert")(home / "reranker-base")
        yield _trained("reranker", "scores", reranker, marked_rows(WORDS), home, words, rate=3e-3)
    if "splade" in only:
        splade = _as_before_6(tiny_splade(home / "splade-base"))
        yield _trained("SPLADE", "sparse", splade, translated_rows(), home, texts, rate=3e-3, epochs=6, negatives=0)


def _as_before_6(folder: Path) -> Path:
    """Rewrite a SPLADE folder to the layout that public models have: version 5 does not know class names of 6."""
    kinds = ("models.MLMTransformer", "models.SpladePooling")
    stages = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    for stage, kind in zip(stages, kinds, strict=True):
        stage["type"] = f"sentence_transformers.sparse_encoder.{kind}"
    (folder / "modules.json").write_text(json.dumps(stages), encoding="utf-8")
    settings = {"max_seq_length": 40, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings), encoding="utf-8")
    pooling = {"pooling_strategy": "max", "activation_function": "relu"}
    (folder / "1_SpladePooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def write_real_forms(home: Path, model: str, data: Path) -> Iterator[WrittenForm]:
    """Train a model of the catalogue and an adapter of it on some of TREC's questions, and yield what was written."""
    rows = load_training_data(data / "trec-qc" / "train.tsv", shape="labels")
    small = split_by_source(rows, 0.15, 1)[1]
    texts = list(small.rows.texts[:24])  # type: ignore[union-attr]
    base = nearfield.load(model)
    folder = base.recipe.folder
    base.close()
    options: dict[str, Any] = {"batch": 64, "epochs": 1, "measurements": 2, "pairs_per_class": 16}
    yield _trained(f"dense, {model}", "dense", folder, small, home, texts, rate=5e-5, **options)
    yield _trained(f"LoRA adapter, {model}", "dense", folder, small, home, texts, rate=5e-4, adapter=16, **options)


def _trained(
    name: str, kind: str, base: Path, data: TrainingData, home: Path, texts: list[str], **options: Any
) -> WrittenForm:
    output = home / name.replace(" ", "-").replace(",", "").lower()
    result = train(str(base), data, output, accept_unproved=True, **{**QUICK, **options})
    if result["written"] is None:
        raise RuntimeError(f"{name}: nothing was written: {result['verdict']['reasons']}")
    is_adapter = bool(options.get("adapter"))
    expected = _expected(base if is_adapter else output, kind, texts, output if is_adapter else None)
    return WrittenForm(name, kind, output, texts, expected, base if is_adapter else None)


def _expected(folder: Path, kind: str, texts: list[str], adapter: Path | None) -> Array:
    """Return what Nearfield gives: vectors [n, dimensions], or scores of each text with the next one [1, n]."""
    options: dict[str, Any] = {"kind": kind, "precision": "float32", "compile_cache": False}
    options |= {} if adapter is None else {"adapters": {"mine": adapter}}
    with nearfield.load(str(folder), **options) as model:
        if kind == "scores":
            return np.asarray(model.score(texts, [*texts[1:], texts[0]], activation="identity"))[None]  # type: ignore
        return np.asarray(model.encode(texts, **({} if adapter is None else {"adapter": "mine"})))  # type: ignore


def read_forms(forms: Sequence[WrittenForm], python: str, home: Path) -> dict[str, Any]:
    """Return the versions of the other Python's libraries, and its lowest cosine for each way to load each form."""
    jobs = []
    for number, form in enumerate(forms):
        file = home / f"expected-{number}.npy"
        np.save(file, form.expected)
        jobs.append(form.to_job(file))
    (home / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    command = [python, str(READER), str(home / "jobs.json"), str(home / "read.json")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    read: dict[str, Any] = json.loads((home / "read.json").read_text(encoding="utf-8"))
    return read


def main() -> None:
    """Train, let the other Python read, and print a row for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="Python with the other versions.")
    parser.add_argument("--model", help="Model of the catalogue that is trained too.")
    parser.add_argument("--only", nargs="+", choices=FORMS, default=FORMS, help="Tiny models to train.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        writers: list[Callable[[], Iterator[WrittenForm]]] = [lambda: write_tiny_forms(home, options.only)]
        if options.model:
            writers.append(lambda: write_real_forms(home, options.model, options.data))
        forms = [form for writer in writers for form in writer()]
        read = read_forms(forms, options.python, home)
    print(", ".join(f"{name} {version}" for name, version in read["versions"].items()))
    for row in read["forms"]:
        print(f"| {row['name']} | {row['how']} | {row['cosine']:.7f} | {row['difference']:.1e} |")
    sys.exit(int(any(row["cosine"] < MIN_COSINE for row in read["forms"])))


if __name__ == "__main__":
    main()
