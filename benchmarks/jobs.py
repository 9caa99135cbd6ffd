"""Jobs on public data: classification, topics and recommendations, each beside what it is compared with.

``python -m benchmarks.jobs`` prints one line of JSON for each job; ``--only NAME`` runs one of them.

- ``banking77``: accuracy on the test of Banking77, with 8 examples of each label (the mean of ten draws,
  those of MTEB), and with all.
- ``trec``: accuracy of labels by descriptions on the test of TREC-QC, without examples.
- ``topics``: v-measure of topics of Banking77's test, beside MTEB's mini-batch k-means on the same vectors.
- ``duplicates``: precision and recall of copies that were planted among ``--rows`` generated texts, time and memory.
- ``recommend``: recall@20 of what users read next in generated histories, beside the most popular items.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score, v_measure_score

from nearfield import Encoder, Recommender, Taste, find_duplicate_texts, find_topics
from nearfield.arrays import Array
from nearfield.evaluation.tasks.classification import draw
from nearfield.evaluation.tasks.clustering import cluster_vectors
from nearfield.jobs.classification.examples import LabelExamples
from nearfield.jobs.classification.linear_head import fit_head
from nearfield.jobs.classification.validation import SURE_ACCURACY, measure, validate_head
from nearfield.jobs.classification.zero_shot_texts import classify_by_names
from nearfield.jobs.job_vectors import encode_texts
from nearfield.training.overlap.near_copies import THRESHOLD, grams, jaccard

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MODEL = "all-MiniLM-L6-v2"
#: The coarse labels of TREC-QC in words.
QUESTIONS = {
    "ABBR": "what does the abbreviation stand for",
    "DESC": "what is the definition, manner or reason: what is, how does, why",
    "ENTY": "which thing, animal, food, colour, word, sport or product",
    "HUM": "who, which person, group or company",
    "LOC": "where, which city, country, state or place",
    "NUM": "how many, how much, when, what year, date, distance or number",
}


def banking77(encoder: Encoder, draws: int = 10) -> dict[str, Any]:
    """Return accuracies with few and with all examples."""
    train, test = (_read("banking77", split) for split in ("train", "test"))
    started = time.perf_counter()
    learnt, judged = (encode_texts(encoder, part.texts, "classification") for part in (train, test))
    encoded = time.perf_counter() - started
    few = [_accuracy(learnt[rows], train.targets[rows], judged, test, seed=1) for rows in _draws(train)[:draws]]
    started = time.perf_counter()
    full = _accuracy(learnt, train.targets, judged, test, seed=1)
    return {
        "encode_seconds": encoded,
        "few_shot": {"accuracy": float(np.mean([row["accuracy"] for row in few])), "draws": len(few)},
        "few_shot_calibration_error": float(np.mean([row["calibration_error"] for row in few])),
        "full": {name: full[name] for name in ("accuracy", "interval", "macro_f1", "calibration_error", "sure")},
        "full_seconds": time.perf_counter() - started,
    }


def _draws(train: LabelExamples) -> list[list[int]]:
    return draw([labels[0] for labels in train.labels_of], 42)


def _accuracy(learnt: Array, targets: Array, judged: Array, test: LabelExamples, seed: int) -> dict[str, Any]:
    validation = validate_head(learnt, targets, test.labels, False, sure=SURE_ACCURACY, seed=seed)
    assert validation is not None
    head = fit_head(learnt, targets, test.labels, False, validation.strength).tempered(validation.temperature)
    probabilities = head.probabilities(judged)
    sure = probabilities.max(1) >= validation.threshold
    right = test.targets[np.arange(len(sure)), probabilities.argmax(1)]
    band = {"share": float(sure.mean()), "accuracy": float(right[sure].mean()), "aim": SURE_ACCURACY}
    return {**measure(probabilities, test.targets, test.labels, False), "sure": band}


def trec(encoder: Encoder) -> dict[str, Any]:
    """Return the accuracy of labels by descriptions, and by the names that the data set has for them."""
    test = _read("trec-qc", "test")
    gold = [labels[0].partition(":")[0] for labels in test.labels_of]
    described = classify_by_names(encoder, test.texts, QUESTIONS)
    right = np.array([row.label == label for row, label in zip(described, gold, strict=True)])
    sure = np.array([not row.unsure for row in described])
    largest = Counter(gold).most_common(1)[0][1] / len(gold)
    sure_row = {"share": float(sure.mean()), "accuracy": 100 * float(right[sure].mean())}
    return {"accuracy": 100 * float(right.mean()), "largest_label": 100 * largest, "sure": sure_row}


def topics(encoder: Encoder) -> dict[str, Any]:
    """Return v-measures of Banking77's test."""
    test = _read("banking77", "test")
    gold, vectors = test.targets.argmax(1), encode_texts(encoder, test.texts, "clustering")
    rows: dict[str, Any] = {"mteb": 100 * v_measure_score(gold, cluster_vectors(vectors, len(test.labels), 42))}
    choices: Mapping[str, dict[str, Any]] = {
        "count_77": {"count": 77},
        "count_chosen": {},
        "density": {"method": "density", "min_size": 10},
    }
    for name, options in choices.items():
        started = time.perf_counter()
        result = find_topics(test.texts, vectors=vectors, **options)
        rows[name] = {
            "v_measure": 100 * v_measure_score(gold, result.assignments),
            "rand": adjusted_rand_score(gold, result.assignments),
            "topics": len(result.topics),
            "apart": int((result.assignments < 0).sum()),
            "stability": result.stability,
            "seconds": time.perf_counter() - started,
        }
    return rows


def recommendations(encoder: Encoder, users: int = 500, cutoff: int = 20) -> dict[str, Any]:
    """Return recall of the last five of 25 items, of users who like three subjects of Banking77's test."""
    items = _read("banking77", "test")
    vectors, subjects = encode_texts(encoder, items.texts, "clustering"), items.targets.argmax(1)
    random = np.random.default_rng(1)
    popularity = 1 / random.permutation(np.arange(1, len(items.texts) + 1)) ** 0.5  # a few items are read by many
    histories = [_history(random, popularity, subjects) for _ in range(users)]
    counts = Counter(item for history in histories for item in history[:-5].tolist())
    popular = [item for item, _ in counts.most_common()]
    recommender = Recommender(range(len(items.texts)), vectors)
    recalls: dict[str, list[float]] = {"vectors": [], "diverse": [], "popular": []}
    for history in histories:
        read, later = history[:-5].tolist(), set(history[-5:].tolist())
        for name, diversity in (("vectors", 0.0), ("diverse", 0.3)):
            results = recommender.recommend(Taste(read), cutoff, diversity=diversity)
            recalls[name].append(len(later & {result.number for result in results}) / 5)
        unread = [item for item in popular if item not in set(read)][:cutoff]
        recalls["popular"].append(len(later & set(unread)) / 5)
    return {name: 100 * float(np.mean(values)) for name, values in recalls.items()} | {"users": users}


def _history(random: np.random.Generator, popularity: Array, subjects: Array) -> Array:
    """Return 25 different items, nine in ten of three subjects and the others of any; popular ones more often."""
    liked = random.choice(subjects.max() + 1, 3, replace=False)
    weights = popularity * np.where(np.isin(subjects, liked), 9 / np.isin(subjects, liked).mean(), 1)
    return random.choice(len(weights), 25, replace=False, p=weights / weights.sum())


def duplicates(rows: int) -> dict[str, Any]:
    """Return how well planted copies are found: one in ten texts, of which half are equal but for case."""
    random = np.random.default_rng(1)
    words = np.array(["".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(20_000)])
    originals = [" ".join(words[chosen]) for chosen in random.integers(0, len(words), (rows * 9 // 10, 24))]
    sources = random.integers(0, len(originals), rows - len(originals)).tolist()
    copies = [_edit(originals[source], number) for number, source in enumerate(sources)]
    before, started = _peak(), time.perf_counter()
    report = find_duplicate_texts([*originals, *copies], keep="first")
    seconds, planted = time.perf_counter() - started, dict(enumerate(sources, len(originals)))
    right = sum(planted.get(copy) == link.original for copy, link in report.links.items())
    similar = [
        number
        for number, source in planted.items()
        if jaccard(grams(copies[number - len(originals)]), grams(originals[source])) >= THRESHOLD
    ]
    return {
        "rows": rows,
        "precision": 100 * right / max(1, len(report.links)),
        "recall": 100 * sum(number in report.links for number in similar) / max(1, len(similar)),
        "copies": len(similar),
        "seconds": seconds,
        "texts_mb": before,
        "peak_mb": _peak(),
    }


def _edit(text: str, number: int) -> str:
    """Return an equal text, or a near copy in which a word is another one."""
    if number % 2:
        return text.title() + "."
    words = text.split()
    words[number % len(words)] = "edited"
    return " ".join(words)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def _read(name: str, split: str) -> LabelExamples:
    lines = (DATA / name / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t", 1) for line in lines if line]
    return LabelExamples([text for _, text in rows], [(label,) for label, _ in rows])


JOBS: Mapping[str, Callable[[Encoder], dict[str, Any]]] = {
    "banking77": banking77,
    "trec": trec,
    "topics": topics,
    "recommend": recommendations,
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.jobs", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[*JOBS, "duplicates"], default=list(JOBS))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--draws", type=int, default=10, help="draws of few examples")
    parser.add_argument("--rows", type=int, default=1_000_000, help="texts of duplicates, which runs when it is named")
    options = parser.parse_args()
    if options.only == ["duplicates"]:  # alone, so that memory is that of the job
        print(json.dumps({"duplicates": duplicates(options.rows)}))
        return
    with Encoder(options.model) as encoder:
        for name in options.only:
            result = banking77(encoder, options.draws) if name == "banking77" else JOBS[name](encoder)
            print(json.dumps({name: result}), flush=True)


if __name__ == "__main__":
    main()
