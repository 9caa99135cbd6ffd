"""Run all benchmarks but ``mixed``: ``python -m benchmarks [--quick] [--only NAME ...] [--infinity-python PATH]``.

``--only mixed`` runs half an hour of mixed traffic, or ``--minutes`` of it; it exits with 1 where a requirement is not
met.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    advise,
    array_type,
    cache,
    chunking,
    dialects,
    families,
    first_use,
    frontends,
    indexing,
    memory,
    mixed,
    outputs,
    picture,
    pictures,
    quality,
    reproducible,
    retrieval,
    servers,
    sounds,
    throughput,
)
from benchmarks.peak import matrix_peak
from nearfield import catalog, hub
from nearfield.evaluation.performance import environment

RESULTS = Path(__file__).parent / "results"
#: Long benchmarks without a competitor: they run only when they are named.
ON_REQUEST = ("advise", "array_type", "mixed", "retrieval", "chunking", "indexing", "quality")
PACKAGES = (
    "nearfield",
    "openvino",
    "torch",
    "sentence-transformers",
    "transformers",
    "fastembed",
    "onnxruntime",
    "numpy",
)


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small workloads: shows that everything runs, measures little"
    )
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        help="peak, throughput, bert_base, http, frontends, dialects, cache, families, outputs, reproducible, memory, "
        "pictures, sounds, cold_start, first_use, advise, array_type, indexing, chunking, retrieval, quality, mixed",
    )
    parser.add_argument("--minutes", type=float, help="of mixed traffic [30; with --quick 2]")
    parser.add_argument(
        "--attackers", action="store_true", help="one attacker of each kind beside the mixed traffic (see attacks)"
    )
    parser.add_argument("--infinity-python", help="Python of a venv with infinity_emb; made when left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of results: one of its own for each kind of machine"
    )
    asked = parser.parse_args()
    entry = catalog.find("all-MiniLM-L6-v2")
    folder = hub.locate("all-MiniLM-L6-v2", pin=entry.pin if entry else None).folder
    rounds = 1 if asked.quick else asked.rounds
    parts: dict[str, Callable[[], Any]] = {
        "peak": lambda: matrix_peak(quick=asked.quick),
        "throughput": lambda: throughput.minilm(folder, rounds, quick=asked.quick),
        "bert_base": lambda: throughput.bert_base(folder, rounds, quick=asked.quick),
        "http": lambda: servers.measure(folder, asked.infinity_python, rounds, quick=asked.quick),
        "frontends": lambda: frontends.measure(rounds, quick=asked.quick),
        "dialects": lambda: dialects.measure(folder, asked.infinity_python, rounds, quick=asked.quick),
        "cache": lambda: cache.measure(rounds, quick=asked.quick),
        "families": lambda: families.measure(rounds, quick=asked.quick),
        "outputs": lambda: outputs.measure(rounds, quick=asked.quick),
        "reproducible": lambda: reproducible.measure(folder, rounds, quick=asked.quick),
        "memory": lambda: memory.serving(quick=asked.quick),
        "pictures": lambda: pictures.measure(rounds, quick=asked.quick),
        "sounds": lambda: sounds.measure(rounds, quick=asked.quick),
        "cold_start": lambda: memory.cold_start(folder),
        "first_use": lambda: first_use.measure(folder, rounds),
        "chunking": lambda: chunking.measure(quick=asked.quick),
        "advise": lambda: advise.measure(rounds, quick=asked.quick),
        "array_type": lambda: array_type.measure(rounds, quick=asked.quick),
        "retrieval": lambda: retrieval.measure(quick=asked.quick),
        "quality": lambda: quality.measure(quick=asked.quick),
        "indexing": lambda: indexing.measure(rounds, quick=asked.quick),
        "mixed": lambda: mixed.measure(
            folder, asked.minutes or (2.0 if asked.quick else 30.0), attackers=asked.attackers
        ),
    }
    latest = asked.out / "latest.json"
    results: dict[str, Any] = json.loads(latest.read_text()) if asked.only and latest.exists() else {}
    results["machine"] = environment.describe_environment(PACKAGES)
    for name, run in parts.items():
        if name in asked.only or (not asked.only and name not in ON_REQUEST):
            print(f"# {name}", flush=True)
            results[name] = run()
            print(json.dumps(results[name], indent=1), flush=True)
    print(table(results))
    if not asked.quick:
        asked.out.mkdir(parents=True, exist_ok=True)
        latest.write_text(json.dumps(results, indent=1))
        picture.draw(results, asked.out / "latest.png")
    judged = results.get("mixed", {}).get("requirements", []) if "mixed" in asked.only else []
    found = all(results[name]["met"] for name in ("retrieval", "quality", "advise", "array_type") if name in asked.only)
    if not (found and all(row["met"] for row in judged)):
        sys.exit(1)


def table(results: dict[str, Any]) -> str:
    """Return the ratios as a Markdown table, how many times faster Nearfield is, and what else is judged."""
    lines = ["| workload | against | times faster | range over rounds |", "|---|---|---|---|"]
    for part in picture.COMPARED:
        for name, row in results.get(part, {}).get("ratios", {}).items():
            workload, _, other = name.partition(" / ")
            lines.append(f"| {workload} | {other} | {row['median']:.1f} | {row['low']:.1f} to {row['high']:.1f} |")
    for part in ("http", "dialects"):
        for name, share in results.get(part, {}).get("shares", {}).items():
            lines.append(f"\n{name}: {share}")
    for scene, row in results.get("cache", {}).items():
        told = {name: row[name] for name in ("times the texts/s", "times as soon", "met")}
        lines.append(f"\ncache, {scene}: {told}")
    for part_table in (first_use, chunking, advise, array_type, retrieval):
        name = part_table.__name__.rpartition(".")[2]
        lines += ["", part_table.table(results[name])] if name in results else []
    if "quality" in results:
        lines += ["", quality.table(results["quality"]["rows"])]
    if "mixed" in results:
        lines += ["", mixed.table(results["mixed"]["requirements"])]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
