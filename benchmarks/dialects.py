"""Speed of bulk requests of each HTTP API, compared with Infinity and the Python API, in one run."""

from __future__ import annotations

import random
import statistics
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forms import FORMS, PLAIN, Array
from benchmarks.servers import Server, _inside, _make_venv, _nearfield, _start_infinity
from benchmarks.throughput import ratio
from nearfield.evaluation.performance.workloads import texts

CLIENTS, BATCH = 4, 32


def measure(folder: Path, infinity_python: str | None, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return texts/s of each form, and its ratios to Infinity's OpenAI form and to ``Encoder.encode`` in process."""
    from nearfield import Encoder

    seconds = 1.0 if quick else 3.0
    theirs = _start_infinity(folder, infinity_python or _make_venv())
    ours = Server("nearfield", _nearfield(), "/v1/embeddings", "all-MiniLM-L6-v2")
    try:
        _require_same(ours)
        with Encoder("all-MiniLM-L6-v2") as encoder:
            rates = _rates(ours, theirs, encoder, rounds, seconds)
    finally:
        ours.close()
        theirs.close()
    others = {"infinity": rates.pop("infinity"), "in process": rates.pop("in process")}
    return {
        "ratios": {
            f"bulk of {BATCH}, {form} / infinity": ratio(row, others["infinity"]) for form, row in rates.items()
        },
        "shares": {
            f"bulk of {BATCH}, {form}: share of the in-process speed": ratio(row, others["in process"])
            for form, row in rates.items()
        },
        "texts_per_second": {name: _spread(row) for name, row in {**rates, **others}.items()},
    }


def _rates(ours: Server, theirs: Server, encoder: Any, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure all in each round, each time in another order, so that no one always follows the same."""
    runs: dict[str, Any] = {form: lambda form=form: _load(ours, form, seconds) for form in FORMS}
    runs |= {"infinity": lambda: _load(theirs, PLAIN, seconds), "in process": lambda: _inside(encoder, seconds)}
    names, chance = list(runs), random.Random(0)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in chance.sample(names, len(names)):
            rates[name].append(runs[name]())
    return rates


def _load(server: Server, form: str, seconds: float) -> float:
    return server.load("short", seconds, CLIENTS, BATCH, form=form)["texts_per_second"]


def _require_same(server: Server) -> None:
    """Refuse to compare forms that give other vectors: they would not do the same work."""
    batch = texts("short", seed=3)[:BATCH]
    wanted = _vectors(server, PLAIN, batch)
    for form in FORMS:
        found = _vectors(server, form, batch)
        if found.shape != wanted.shape or float(np.abs(found - wanted).max()) > 1e-2:
            raise RuntimeError(f"{form} gives other vectors than {PLAIN}")


def _vectors(server: Server, name: str, batch: list[str]) -> Array:
    form = FORMS[name]
    url = f"http://127.0.0.1:{server.port}{form.path}"
    request = urllib.request.Request(url, form.body(server.model, batch), dict(form.headers))
    with urllib.request.urlopen(request, timeout=60) as reply:
        return form.read(reply.read())


def _spread(values: list[float]) -> dict[str, float]:
    told = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, 1) for name, value in told.items()}
