"""Tokens per second of each encoder architecture relative to BERT, with BERT-base's width and four layers."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.model_shapes import BASE

#: Fields that keep an architecture's own traits at this shape.
OWN: dict[str, dict[str, Any]] = {
    "modernbert": {
        "local_attention": 128,
        "layer_types": ["full_attention", *["sliding_attention"] * 2, "full_attention"],
    },
    "albert": {"embedding_size": 128, "num_hidden_groups": 1},
    "deberta-v2": {"position_buckets": 256, "max_relative_positions": 512},
}
#: Matrix products of a layer in units of H x H: four of attention, and two or (gated) three of 4 H x H.
GATED = frozenset({"modernbert", "nomic_bert", "gte"})
PLAIN_COST, GATED_COST = 12, 16


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return each family's share of BERT's tokens/s, by precision and shape, and by work done."""
    from nearfield.checkpoint import model_folder as reader
    from nearfield.hardware import plan_cpu
    from nearfield.inference.compiled_model import CompiledModel
    from tests.support import tiny_models

    kinds = [kind for kind in tiny_models.TINY if kind not in ("electra", "camembert")]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folders = {kind: tiny_models.TINY[kind](Path(place) / kind, **{**BASE, **OWN.get(kind, {})}) for kind in kinds}
        for precision in ("auto", "float32"):
            for rows, length in ((8, 128),) if quick else ((8, 128), (2, 512)):
                lanes = {}
                for kind, folder in folders.items():
                    model = CompiledModel(
                        reader.read_model_folder(folder),
                        precision,
                        streams=1,
                        threads=plan_cpu().threads,
                        max_length=512,
                    )
                    lanes[kind] = (model, model.create_lane_function())
                found[f"{precision}, {rows} x {length}"] = _shares(lanes, rows, length, 2 if quick else rounds)
    return found


def _shares(lanes: dict[str, Any], rows: int, length: int, rounds: int) -> dict[str, Any]:
    from nearfield.engine.engine import Batch, Ticket

    ids = np.random.default_rng(0).integers(10, 200, (rows, length)).tolist()
    times: dict[str, list[float]] = {kind: [] for kind in lanes}
    for turn in range(rounds + 1):
        for kind, (model, lane) in lanes.items():
            batch = Batch(model, Ticket.from_ids(model, ids).jobs)
            started = time.perf_counter()
            lane(batch)
            if turn:  # the first makes the kernels
                times[kind].append(time.perf_counter() - started)
    base = float(np.median(times["bert"]))
    shares = {kind: base / float(np.median(passed)) for kind, passed in times.items()}
    return {
        kind: {"share": round(share, 2), "per work": round(share * _cost(kind) / PLAIN_COST, 2)}
        for kind, share in shares.items()
    }


def _cost(kind: str) -> int:
    return GATED_COST if kind in GATED else PLAIN_COST
