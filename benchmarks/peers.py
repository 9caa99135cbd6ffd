"""Speed, memory and STS-B of Nearfield and other engines on one model: ``python -m benchmarks.peers``.

Each engine has its own process, in the virtual environment where it is installed, and gets the same texts in turn.
Environments are folders in ``--environments``; an engine without one is left out, with a line that says how to
create it. The table has texts/s (medians of rounds), and how many times as fast Nearfield is (medians of the ratios
within a round).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commits import ROOT
from benchmarks.peer_engines import ENGINES
from nearfield import catalog, hub
from nearfield.arrays import Array
from nearfield.evaluation import metrics
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.performance.workloads import texts
from nearfield.hardware import has_int8

MODEL = "all-MiniLM-L6-v2"
STSB = ROOT.parent / "shared" / "data" / "stsb" / "test.tsv"
#: Workloads, and how many of the short texts are encoded one at a time.
WORKLOADS, SINGLE = ("short", "mixed", "long", "single"), 50


@dataclass(frozen=True)
class Environment:
    """A virtual environment: the name of its folder, and the packages that it needs."""

    folder: str
    packages: str

    def python(self, home: Path) -> Path:
        """Return its interpreter."""
        return home / self.folder / "bin" / "python"

    def remedy(self, home: Path) -> str:
        """Say how it is created."""
        place = home / self.folder
        return f"python -m venv {place} && {place}/bin/pip install {self.packages}"


#: Where engines are installed that Nearfield's own environment lacks.
ENVIRONMENTS = {
    "sentence-transformers ONNX int8": Environment("st-onnx", "'sentence-transformers[onnx]' datasets"),
    "sentence-transformers OpenVINO int8": Environment("st-openvino", "'sentence-transformers[openvino]' datasets"),
    "EmbedAnything": Environment("embed-anything", "embed-anything numpy"),
    "llama.cpp Q8_0": Environment("llama", "llama-cpp-python numpy"),
}


class EngineMissing(Exception):
    """An engine cannot run here."""


class PeerProcess:
    """An engine's process."""

    def __init__(self, name: str, python: Path, folder: Path, exports: Path) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.peer_engines", name, folder, exports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(exports / f"{name}.log").open("w"),
            text=True,
            cwd=ROOT,
        )
        self._log = exports / f"{name}.log"
        self.loaded: float = self._read()["loaded"]
        self.rounds: dict[str, list[dict[str, float]]] = {work: [] for work in WORKLOADS}

    def encode(self, batch: Sequence[str], **options: Any) -> dict[str, float]:
        """Encode texts; return wall-clock and CPU seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"texts": list(batch), **options}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def vectors(self, batch: Sequence[str]) -> Array:
        """Return the vectors of texts."""
        with tempfile.TemporaryDirectory() as place:
            self.encode(batch, out=f"{place}/vectors.npy")
            return np.asarray(np.load(f"{place}/vectors.npy"))

    @property
    def memory(self) -> float:
        """Its largest resident memory so far, in MB."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1000

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineMissing(f"it died, and {self._log} says why.")
        return dict(json.loads(line))


def start(names: Sequence[str], folder: Path, home: Path) -> list[PeerProcess]:
    """Start the engines that are installed, and say why others are left out."""
    exports = prepare(folder, home)
    started = []
    for name in names:
        try:
            started.append(PeerProcess(name, _python(name, home), folder, exports))
        except EngineMissing as missing:
            print(f"{name} is left out: {missing}", flush=True)
    return started


def _python(name: str, home: Path) -> Path:
    """Return the interpreter of an engine.

    Raises:
        EngineMissing: it is not installed, or this CPU cannot run it.
    """
    if name == "nearfield int8-dynamic" and not has_int8():
        raise EngineMissing("this CPU does not multiply int8 natively.")
    environment = ENVIRONMENTS.get(name)
    if environment is None:
        return Path(sys.executable)
    python = environment.python(home)
    if not python.exists():
        raise EngineMissing(environment.remedy(home))
    return python


def prepare(folder: Path, home: Path) -> Path:
    """Write what engines need and cannot write themselves: texts for calibration, and a GGUF file."""
    exports = home / "exports"
    texts_file = exports / "calibration" / "train.jsonl"
    if not texts_file.exists():
        texts_file.parent.mkdir(parents=True)
        texts_file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts("mixed", seed=1)[:300]))
    if not (exports / "gguf").is_dir():
        import shutil

        from tests.support import gguf_files

        shutil.copytree(folder, exports / "gguf")
        gguf_files.convert(exports / "gguf", "bert", "Q8_0")
    return exports


def batches(seed: int, *, quick: bool) -> dict[str, list[str]]:
    """Return the texts of a round by workload, as many as slow engines take seconds for; each round has others."""
    found = {work: texts(work, quick=True, seed=seed) for work in WORKLOADS if work != "single"}
    found["single"] = texts("short", quick=True, seed=seed + 2**16)[:SINGLE]
    return {work: batch[:5] if quick else batch for work, batch in found.items()}


def compare(peers: Sequence[PeerProcess], rounds: int, *, quick: bool) -> list[PeerProcess]:
    """Measure all workloads in turns, in the other order every second round; the first round warms up.

    Returns the engines that lived to the end.
    """
    alive = list(peers)
    for number in range(rounds + 1):
        for work, batch in batches(number, quick=quick).items():
            for peer in alive if number % 2 else reversed(alive):
                alive = alive if _measure(peer, work, batch, keep=number > 0) else [one for one in alive if one != peer]
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return alive


def _measure(peer: PeerProcess, work: str, batch: Sequence[str], *, keep: bool) -> bool:
    """Encode a batch; say so, and return False, when the engine died of it."""
    try:
        figures = peer.encode(batch, single=work == "single")
    except (EngineMissing, BrokenPipeError) as error:
        print(f"{peer.name} is left out: {error}", flush=True)
        return False
    if keep:
        peer.rounds[work].append({name: len(batch) / value for name, value in figures.items()})
    return True


def quality(peer: PeerProcess) -> float:
    """Return the Spearman correlation of STS-B, in points of 100."""
    rows: Any = load_dataset(STSB).rows
    first, second = (peer.vectors(column) for column in (rows.first, rows.second))
    near = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return metrics.spearman(near, np.asarray(rows.gold, np.float64))


def table(peers: Sequence[PeerProcess], scores: dict[str, float]) -> str:
    """Return Markdown: a row for each engine, texts/s and the first engine's multiple of them."""
    first = peers[0].rounds
    lines = [
        f"| engine | STS-B | {' | '.join(WORKLOADS)} | CPU | memory | load |",
        "|---|" + "---|" * (len(WORKLOADS) + 4),
    ]
    for peer in peers:
        speeds = [_cell(first[work], peer.rounds[work]) for work in WORKLOADS]
        cpu = statistics.median(_ratios(first["mixed"], peer.rounds["mixed"], "cpu"))
        score = f"{scores[peer.name]:.2f}" if scores else ""
        lines.append(
            f"| {peer.name} | {score} | {' | '.join(speeds)} | {cpu:.2f} | {peer.memory:.0f} MB | {peer.loaded:.1f} s |"
        )
    return "\n".join(lines)


def _cell(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> str:
    speed = statistics.median(row["seconds"] for row in theirs)
    ratios = _ratios(ours, theirs, "seconds")
    return f"{speed:,.0f} ({statistics.median(ratios):.2f}: {min(ratios):.2f} to {max(ratios):.2f})"


def _ratios(ours: list[dict[str, float]], theirs: list[dict[str, float]], name: str) -> list[float]:
    return [one[name] / two[name] for one, two in zip(ours, theirs, strict=True)]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--environments", type=Path, default=ROOT / ".peers", help="folder of virtual environments")
    parser.add_argument("--only", nargs="*", choices=ENGINES, default=list(ENGINES), help="the first is compared with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few texts: shows that everything runs")
    parser.add_argument("--no-quality", dest="quality", action="store_false")
    options = parser.parse_args()
    entry = catalog.find(MODEL)
    folder = hub.locate(MODEL, pin=entry.pin if entry else None).folder
    peers = start(options.only, folder, options.environments.absolute())
    scores = {peer.name: quality(peer) for peer in peers} if options.quality else {}
    print(table(compare(peers, options.rounds, quick=options.quick), scores))
    for peer in peers:
        peer.close()


if __name__ == "__main__":
    main()
