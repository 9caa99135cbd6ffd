"""Where time goes, by model and stage, and the share of the matrix peak: ``python -m benchmarks.stages``.

Models have the shapes of well-known ones, random weights and four layers; all cores compute one batch after another.
The table has the shares of a call's time that tokenising takes, matrix products, attention, the other nodes of the
graph (norms, additions, activations, look-ups), and the rest of the call (queue, packing, results). Of the matrix peak
it has the share that the products reach, and the one that the whole call reaches with the tokens that count. Times of
nodes are OpenVINO's own counters.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.model_shapes import SHAPES, write_model
from benchmarks.peak import precision_peak
from nearfield import Encoder, hardware
from nearfield.arrays import Array
from nearfield.backends import Inputs, openvino
from nearfield.engine.engine import Engine
from nearfield.evaluation.performance.workloads import SIZES, texts

#: Texts of a call.
_TEXTS = 32
STAGES = ("tokenise", "products", "attention", "other nodes", "rest")
#: The stage of a node by OpenVINO's type of it; all others are "other nodes". A "Subgraph" is fused: attention, and at
#: times what surrounds it.
_KINDS = {
    "FullyConnected": "products",
    **dict.fromkeys(("Subgraph", "MatMul", "Softmax", "GatherElements"), "attention"),
}


@dataclass
class StageProfile:
    """Seconds by stage, and tokens that were computed, padding included."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    types: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    tokens: int = 0

    def add_nodes(self, nodes: Sequence[Any]) -> None:
        """Add the counters of one inference."""
        for node in nodes:
            self.types[node.node_type] += node.real_time.total_seconds()
            self.seconds[_KINDS.get(node.node_type, "other nodes")] += node.real_time.total_seconds()


PROFILES = [StageProfile()]


class ProfiledLane(openvino.OpenVinoLane):
    """A lane that adds its counters to the last profile."""

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        results = super().run(inputs, outputs)
        PROFILES[-1].tokens += inputs["segments"].size
        PROFILES[-1].add_nodes(self._request.get_profiling_info())
        return results


class ProfiledBackend(openvino.OpenVinoBackend):
    """OpenVINO with counters of nodes."""

    def _config(self) -> dict[str, str | int]:
        return {**super()._config(), "PERF_COUNT": "YES"}


def product_flops(folder: Path) -> int:
    """Return the operations of a token in matrix products with weights."""
    from safetensors.numpy import load_file

    weights = load_file(folder / "model.safetensors")
    return 2 * sum(w.size for name, w in weights.items() if w.ndim == 2 and "embed" not in name)


def profile(encoder: Encoder, batch: Sequence[str], rounds: int) -> tuple[StageProfile, int]:
    """Encode a batch some times; return where the time went, and the tokens that count."""
    encoder.encode(batch)  # the kernels are compiled
    PROFILES.append(StageProfile())
    seconds, tokens = PROFILES[-1].seconds, 0
    for _ in range(rounds):
        started = time.perf_counter()
        tokens += sum(len(item.ids) for item in encoder.tokenize(batch))
        seconds["tokenise"] += time.perf_counter() - started
        encoder.encode(batch)
        seconds["rest"] += time.perf_counter() - started
    # Tokenising is in both.
    seconds["rest"] -= sum(seconds[stage] for stage in STAGES if stage != "rest") + seconds["tokenise"]
    return PROFILES[-1], tokens


def row(shape: str, workload: str, peak: float, options: argparse.Namespace) -> str:
    """Measure a shape; return its row of the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = write_model(shape, Path(place))
        cores, engine = hardware.usable_cores(), Engine(lanes=1)
        loading: Any = {"threads": cores, "streams": 1, "compile_cache": False, "precision": options.precision}
        with Encoder(str(folder), engine=engine, **loading) as encoder:
            batch = texts(workload, quick=True)[: 1 if options.single else _TEXTS]
            measured, tokens = profile(encoder, batch, options.rounds)
        flops = product_flops(folder) / 1e9
    total = sum(measured.seconds.values())
    shares = " | ".join(f"{measured.seconds[stage] / total:.1%}" for stage in STAGES)
    products, call = measured.tokens / measured.seconds["products"], tokens / total
    if options.nodes:
        print({name: f"{value / total:.1%}" for name, value in measured.types.items() if value > 0.01 * total})
    return (
        f"| {shape} | {workload} | {call:,.0f} | {shares} | {products * flops / peak:.0%} | {call * flops / peak:.0%} |"
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.stages", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--workloads", nargs="*", choices=SIZES, default=["short", "mixed", "long"])
    parser.add_argument("--single", action="store_true", help="one text in place of a batch")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", action="store_true", help="also print the shares of OpenVINO's types of nodes")
    options = parser.parse_args()
    openvino.OpenVinoLane = ProfiledLane  # type: ignore[misc]
    openvino.OpenVinoBackend = ProfiledBackend  # type: ignore[misc]
    peak = precision_peak("bf16" if hardware.auto_precision() == "bf16" else "f32", quick=options.rounds < 3)
    print(f"Peak: {peak} GFLOP/s", flush=True)
    print(f"| shape | texts | tokens/s | {' | '.join(STAGES)} | products of peak | call of peak |")
    print("|---|---|---|" + "---|" * (len(STAGES) + 2))
    for shape in options.only:
        for workload in options.workloads:
            print(row(shape, workload, peak, options), flush=True)


if __name__ == "__main__":
    main()
