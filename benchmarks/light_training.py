"""Maps, bridges and static tables of all-MiniLM-L6-v2 on public data: ``python -m benchmarks.light_training TASK``.

Tasks: ``maps`` (query-side maps of German and Spanish sentences onto English ones, by number of pairs and prior),
``xquad`` (German and Spanish questions on English paragraphs, with a map fitted on Tatoeba's sentences), ``bridge``
(from a model to a static distillation of it, and back; with ``--tuned FOLDER`` to what ``benchmarks.training`` has
written). Each takes a few minutes on two cores and needs no torch.

``--data`` is the folder with the data sets, ``--seeds`` how many seeds, from 1 on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.training.light.bridge import fit_bridge
from nearfield.training.light.query_map import MapSettings, fit_query_map
from nearfield.training.light.query_regression import first_ranks, identity_ridge
from nearfield.training.light.static import distil
from nearfield.training.training_data import TrainingData

MODEL = "all-MiniLM-L6-v2"
LANGUAGES = {"German": "deu-eng.tsv", "Spanish": "spa-eng.tsv"}
PAIRS, TEST = (100, 300, 700), 300
STRENGTHS = tuple(float(10**power) for power in np.arange(-2, 3.01, 0.5))

Candidates = Callable[[Array, Array], Iterator[tuple[float, Array]]]


def _procrustes(x: Array, y: Array) -> Iterator[tuple[float, Array]]:
    left, _, right = np.linalg.svd(x.T @ y)
    yield 0.0, left @ right


def _ridge(x: Array, y: Array) -> Iterator[tuple[float, Array]]:
    moments, size = x.T @ x, x.shape[1]
    for strength in STRENGTHS:
        weight = strength * np.trace(moments) / size
        yield strength, np.linalg.solve(moments + weight * np.eye(size), x.T @ y)


FORMS: dict[str, Candidates] = {"Procrustes": _procrustes, "ridge to zero": _ridge, "ridge to identity": identity_ridge}


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return [(row[0], row[1]) for row in rows]


def _first(queries: Array, documents: Array) -> Array:
    """Return for each query 100 if its document is first, else 0."""
    return 100.0 * (first_ranks(queries, documents, [[number] for number in range(len(queries))]) == 1)


def _choose(candidates: Iterator[tuple[float, Array]], queries: Array, documents: Array) -> Array:
    """Return the matrix with the best precision on a part of the pairs; the stronger prior of equal ones."""
    scored = [(_first(queries @ matrix, documents).mean(), strength, matrix) for strength, matrix in candidates]
    return max(scored, key=lambda entry: entry[:2])[2]


def _interval(values: Array, seed: int) -> tuple[float, float]:
    draws = np.random.default_rng(seed).integers(0, len(values), (4000, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)


def maps(data: Path, seeds: Sequence[int]) -> None:
    """Print precision at 1 among 300 held-out sentences, for each language, number of pairs, seed and form."""
    encoder = Encoder(MODEL)
    for language, file in LANGUAGES.items():
        pairs = _read_pairs(data / "tatoeba" / file)
        sides = [np.asarray(encoder.encode([pair[side] for pair in pairs])) for side in (0, 1)]
        for seed in seeds:
            order = np.random.default_rng(seed).permutation(len(pairs))
            queries, documents = (side[order].astype(np.float64) for side in sides)
            for count in PAIRS:
                print(_row(language, seed, count, queries, documents), flush=True)


def _row(language: str, seed: int, count: int, queries: Array, documents: Array) -> str:
    test, dev, fit = slice(0, TEST), slice(TEST, TEST + count // 5), slice(TEST + count // 5, TEST + count)
    base = _first(queries[test], documents[test])
    cells = [f"{language} | {seed} | {count} | {base.mean():.1f}"]
    for name, candidates in FORMS.items():
        matrix = _choose(candidates(queries[fit], documents[fit]), queries[dev], documents[dev])
        after = _first(queries[test] @ matrix, documents[test])
        low, high = _interval(after - base, seed)
        cells.append(f"{name} {after.mean():.1f} ({(after - base).mean():+.1f}, 95% {low:+.1f} to {high:+.1f})")
    return " | ".join(cells)


def _translations(path: Path) -> TrainingData:
    pairs = _read_pairs(path)
    rows = Retrieval(
        {f"d{number}": pair[1] for number, pair in enumerate(pairs)},
        {f"q{number}": pair[0] for number, pair in enumerate(pairs)},
        {f"q{number}": {f"d{number}": 1} for number in range(len(pairs))},
    )
    return TrainingData(path.stem, rows)


def xquad(data: Path, seeds: Sequence[int]) -> None:
    """Print nDCG@10 of German and Spanish questions on English paragraphs, before and after a map from Tatoeba."""
    encoder = Encoder(MODEL)
    for language, file in LANGUAGES.items():
        folder = {"German": "de", "Spanish": "es"}[language]
        asked, english = (load_dataset(data / "xquad" / name).rows for name in (folder, "en"))
        assert isinstance(asked, Retrieval)
        assert isinstance(english, Retrieval)
        # Questions have the same ids in all languages; paragraphs have not.
        relevant = {key: english.relevant[key] for key in asked.queries if key in english.relevant}
        queries = {key: asked.queries[key] for key in relevant}
        test = Dataset(f"xquad {folder}-en", "retrieval", Retrieval(english.documents, queries, relevant))
        for seed in seeds:
            proof = fit_query_map(
                encoder, _translations(data / "tatoeba" / file), test=test, settings=MapSettings(seed=seed)
            )
            print(f"{language}, seed {seed}\n{proof.to_text()}", flush=True)


def bridge(data: Path, seeds: Sequence[int]) -> None:
    """Print what bridges keep between the model and a static distillation of it, on SQuAD."""
    with Encoder(MODEL) as model, tempfile.TemporaryDirectory() as place:
        distil(model).model.save_pretrained(Path(place) / "static")
        with Encoder(str(Path(place) / "static")) as static:
            _compare_bridges(model, static, data, seeds)


def tuned_bridge(tuned: Path, data: Path, seeds: Sequence[int]) -> None:
    """Print what bridges keep between the model and what `nearfield train` wrote, on SQuAD."""
    with Encoder(MODEL) as model, Encoder(str(tuned)) as other:
        _compare_bridges(model, other, data, seeds)


def _compare_bridges(one: Encoder, other: Encoder, data: Path, seeds: Sequence[int]) -> None:
    rows = load_dataset(data / "squad-dev").rows
    assert isinstance(rows, Retrieval)
    keys = list(rows.queries)
    for seed in seeds:
        order = [keys[number] for number in np.random.default_rng(seed).permutation(len(keys))]
        queries = {key: rows.queries[key] for key in order[:500]}
        relevant = {key: rows.relevant[key] for key in queries}
        test = Dataset("squad-dev", "retrieval", Retrieval(rows.documents, queries, relevant))
        texts = [*rows.documents.values(), *(rows.queries[key] for key in order[500:4500])]
        for old, new in ((one, other), (other, one)):
            print(f"seed {seed}\n{fit_bridge(old, new, texts, test=test, seed=seed).to_text()}", flush=True)


TASKS = {"maps": maps, "xquad": xquad, "bridge": bridge}


def main() -> None:
    """Run a task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tuned", type=Path, help="a folder of `nearfield train`: bridges to it, not to the table")
    options = parser.parse_args()
    task = TASKS[options.task] if options.tuned is None else partial(tuned_bridge, options.tuned)
    task(options.data, range(1, options.seeds + 1))


if __name__ == "__main__":
    main()
