"""Training of all-MiniLM-L6-v2 on public data: ``python -m benchmarks.training TASK``, minutes each on two cores.

Tasks: ``banking77`` (8-shot protocol of MTEB), ``trec-qc``, ``squad`` (a third of its questions, split by article),
``shuffled`` (labels of other texts: nothing may be written), ``cruel`` (rate 1e-3: the guard must trip), ``xquad``
(training on SQuAD, test on XQuAD: must be refused), ``kills`` (runs that are killed at random moments end as one that
was not), ``speed`` (the same steps by sentence-transformers' trainer alone).

``--data`` is the folder with the data sets, ``--seed`` the seed of everything, ``--out`` where results are written.
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
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Dataset, Labelled, Retrieval
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.message_text import to_json
from nearfield.training.data.loaders import load_training_data
from nearfield.training.fine_tuning.train import train
from nearfield.training.splitting import split_by_source
from nearfield.training.training_data import TrainingData

MODEL = "all-MiniLM-L6-v2"
#: Settings for labels: 16 pairs of each class, one of each in a batch of 64.
LABEL_SETTINGS: Mapping[str, Any] = {"rate": 5e-5, "pairs_per_class": 16, "batch": 64}


def _classes(folder: Path, name: str) -> tuple[TrainingData, Dataset]:
    data = load_training_data(folder / name / "train.tsv", shape="labels")
    return data, load_dataset(folder / name)


def _guard(folder: Path) -> tuple[str, ...]:
    return (str(folder / "stsb" / "test.tsv"),)


def banking77(folder: Path, out: Path, seed: int) -> Mapping[str, Any]:
    """Train on Banking77 and test by MTEB's 8-shot protocol."""
    data, test = _classes(folder, "banking77")
    options: dict[str, Any] = {**LABEL_SETTINGS, "guard": _guard(folder), "max_fall": 0.5, "seed": seed}
    return train(MODEL, data, out / f"banking77-{seed}", test=test, leaks="drop", report=_show, **options)


def trec(folder: Path, out: Path, seed: int) -> Mapping[str, Any]:
    """Train on TREC's types of questions and test by MTEB's 8-shot protocol."""
    data, test = _classes(folder, "trec-qc")
    options: dict[str, Any] = {
        **LABEL_SETTINGS,
        "pairs_per_class": 64,
        "guard": _guard(folder),
        "max_fall": 0.5,
        "seed": seed,
    }
    return train(MODEL, data, out / f"trec-qc-{seed}", test=test, leaks="drop", report=_show, **options)


def squad(folder: Path, out: Path, seed: int) -> Mapping[str, Any]:
    """Train on a third of SQuAD's questions, so that it takes minutes; articles are either trained on or tested."""
    options: dict[str, Any] = {
        "max_length": 160,
        "negatives": 1,
        "guard": _guard(folder),
        "max_fall": 0.5,
        "seed": seed,
        "test_share": 0.25,
    }
    data = _third_of_questions(load_training_data(folder / "squad-dev"), seed)
    return train(MODEL, data, out / f"squad-{seed}", leaks="drop", report=_show, **options)


def _third_of_questions(data: TrainingData, seed: int) -> TrainingData:
    rows = data.rows
    assert isinstance(rows, Retrieval)
    chosen = random.Random(seed).sample(sorted(rows.queries), len(rows.queries) // 3)
    queries = {key: rows.queries[key] for key in chosen}
    return replace(data, rows=replace(rows, queries=queries, relevant={key: rows.relevant[key] for key in chosen}))


def shuffled(folder: Path, out: Path, seed: int) -> Mapping[str, Any]:
    """Train on the labels of other texts; ``written`` must be None."""
    data, test = _classes(folder, "banking77")
    assert isinstance(data.rows, Labelled)
    labels = list(data.rows.labels)
    random.Random(seed).shuffle(labels)
    wrong = TrainingData("banking77, shuffled", Labelled(data.rows.texts, labels))
    options: dict[str, Any] = {**LABEL_SETTINGS, "seed": seed}
    return train(MODEL, wrong, out / f"shuffled-{seed}", test=test, leaks="drop", report=_show, **options)


def cruel(folder: Path, out: Path, seed: int) -> Mapping[str, Any]:
    """Train with a rate of 1e-3; the guard set must fall, or the dev set."""
    data, test = _classes(folder, "banking77")
    options: dict[str, Any] = {**LABEL_SETTINGS, "rate": 1e-3, "average": 1.0, "guard": _guard(folder), "seed": seed}
    return train(MODEL, data, out / f"cruel-{seed}", test=test, leaks="drop", report=_show, **options)


def xquad(folder: Path, out: Path, seed: int) -> Mapping[str, Any]:
    """Train on SQuAD with XQuAD's English side as the test, which has the same paragraphs: must be refused."""
    try:
        train(MODEL, folder / "squad-dev", out / "xquad", test=folder / "xquad" / "en", seed=seed)
    except InputError as error:
        return {"refused": str(error)[:600]}
    return {"refused": None}


# -- kills -------------------------------------------------------------------------------------------------------------

_KILLS = 30
_CHILD = "from benchmarks.training import small_run; import sys; small_run(sys.argv[1], sys.argv[2])"


def small_run(base: str, output: str) -> None:
    """Train a tiny model on a few rows: ``kills`` starts it in a new process."""
    from tests.support.tiny_training import labelled_rows

    options: dict[str, Any] = {"rate": 5e-3, "batch": 16, "epochs": 2, "patience": 20}
    train(base, labelled_rows(), output, **options)


def kills(_folder: Path, out: Path, seed: int) -> Mapping[str, Any]:
    """Kill a run at random moments until it is done; its weights must be those of a run that was not killed."""
    import numpy as np
    from safetensors.numpy import load_file

    from tests.support.tiny_training import tiny_base

    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=out) as place:
        base = tiny_base(Path(place) / "base")
        started = time.perf_counter()
        _start(base, Path(place) / "whole").wait()
        seconds = time.perf_counter() - started
        expected = load_file(Path(place) / "whole" / "model.safetensors")
        count = completed = 0
        largest = 0.0
        while count < _KILLS:
            target = Path(place) / f"killed-{completed}"
            count += _kill_until_done(base, target, draw, seconds)
            completed += 1
            tensors = load_file(target / "model.safetensors")
            largest = max(largest, *(float(np.abs(tensors[name] - expected[name]).max()) for name in expected))
    return {"kills": count, "runs": completed, "largest_difference_of_a_weight": largest}


def _start(base: Path, target: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _CHILD, str(base), str(target)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _kill_until_done(base: Path, target: Path, draw: random.Random, seconds: float) -> int:
    """Start a run again and again, each time killed at a random moment; return how often until it was done."""
    killed = 0
    while True:
        process = _start(base, target)
        try:
            _, errors = process.communicate(timeout=draw.uniform(0.3, 1.1) * seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            continue
        if process.returncode:
            raise RuntimeError(errors.decode()[-2000:])
        return killed


# -- speed -------------------------------------------------------------------------------------------------------------


def speed(folder: Path, out: Path, seed: int) -> Mapping[str, Any]:
    """Compare seconds of the same steps by sentence-transformers' trainer alone, in turns; without the dev set."""
    from nearfield.training.fine_tuning.base_model import open_base
    from nearfield.training.fine_tuning.batches import plan_batches
    from nearfield.training.fine_tuning.columns import build_columns
    from nearfield.training.fine_tuning.torch_training import models, trainer
    from nearfield.training.fine_tuning.torch_training.loss_functions import build_loss

    data, _ = _classes(folder, "banking77")
    small = split_by_source(data, 0.1, seed)[1]
    base = open_base(MODEL)
    columns = build_columns(small, "label", negatives=0, pairs_per_class=16, seed=seed)
    plan = plan_batches(columns, 64, 1, seed)[:10]

    def ours(place: Path) -> None:
        model = models.open_torch_model(base)
        loss = build_loss("label", model, base)
        trainer.train_steps(_job(trainer, model, loss, base, columns, plan, place))

    def theirs(place: Path) -> None:
        model = models.open_torch_model(base)
        trainer_class, arguments = models.trainer_classes("dense")
        options = {
            "output_dir": str(place),
            "max_steps": len(plan),
            "per_device_train_batch_size": 64,
            "learning_rate": 5e-5,
            "batch_sampler": partial(_planned, plan),
            "save_strategy": "steps",
            "save_steps": len(plan) // 4,
            "report_to": "none",
            "disable_tqdm": True,
        }
        rows = models.train_library("datasets").Dataset.from_dict(dict(columns.texts))
        with models.quiet():
            trainer_class(
                model=model, args=arguments(**options), train_dataset=rows, loss=build_loss("label", model, base)
            ).train()

    seconds: dict[str, list[float]] = {"nearfield": [], "sentence-transformers": []}
    with tempfile.TemporaryDirectory(dir=out) as place:
        for turn in range(3):
            for name, run in (("nearfield", ours), ("sentence-transformers", theirs)):
                started = time.perf_counter()
                run(Path(place) / f"{name}-{turn}")
                seconds[name].append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    return {"steps": len(plan), "seconds": seconds, "ratios": ratios, "ratio": sorted(ratios)[1]}


def _planned(plan: Any, *_: Any, **__: Any) -> Any:
    """Return the batches of a plan; the trainer stores its arguments, so that they must be picklable."""
    from nearfield.training.fine_tuning.batches import PlannedBatches

    return PlannedBatches(plan, 64)


def _job(trainer: Any, model: Any, loss: Any, base: Any, columns: Any, plan: Any, place: Path) -> Any:
    place.mkdir()
    return trainer.TrainingJob(
        model=model,
        loss=loss,
        base=base,
        columns=columns,
        plan=plan,
        rate=5e-5,
        warmup=0.1,
        batch=64,
        seed=1,
        measurements=4,
        patience=20,
        measure=lambda: 0.0,
        metric="none",
        folder=place,
    )


TASKS: Mapping[str, Callable[[Path, Path, int], Mapping[str, Any]]] = {
    "banking77": banking77,
    "trec-qc": trec,
    "squad": squad,
    "shuffled": shuffled,
    "cruel": cruel,
    "xquad": xquad,
    "kills": kills,
    "speed": speed,
}


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run one task, and print and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("training-results"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    result = dict(TASKS[arguments.task](arguments.data, arguments.out, arguments.seed))
    result["seconds_in_all"] = time.perf_counter() - started
    path = arguments.out / f"{arguments.task}-{arguments.seed}.json"
    path.write_text(json.dumps(result, indent=1), encoding="utf-8")
    shown = {name: value for name, value in result.items() if name not in ("curve", "versions", "base", "options")}
    print(to_json(shown))


if __name__ == "__main__":
    main()
