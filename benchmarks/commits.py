"""Speed of two commits, in turns in one run: ``python -m benchmarks.commits BEFORE [--rounds 5] [--only NAME ...]``.

BEFORE is any git revision; it is checked out beside the working tree, which is the commit after. Each workload runs in
a fresh process, before and after in turns, and in the other order every second round. The table shows the median of
each and the ratio after / before: above 1 the working tree is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.forms import FORMS

ROOT = Path(__file__).resolve().parents[1]
MODEL = "all-MiniLM-L6-v2"

#: Uses public names alone, so that it runs in both trees; prints texts per second, the best of four passes.
_ENCODE = """
import random, sys, time
from nearfield import Encoder
rng = random.Random(0)
words = [word.strip('.,') for word in open(sys.argv[1], encoding='utf-8').read().split()]
low, high, count = map(int, sys.argv[2:5])
texts = [' '.join(rng.choices(words, k=rng.randint(low, high))) for _ in range(count)]
encoder = Encoder('all-MiniLM-L6-v2')
encoder.encode(texts[:64], show_progress_bar=False)
best = 0.0
for _ in range(4):
    started = time.perf_counter()
    encoder.encode(texts, show_progress_bar=False)
    best = max(best, count / (time.perf_counter() - started))
print(best)
"""


def encode(low: int, high: int, count: int) -> Callable[[Path], float]:
    """Return a workload: texts of ``low`` to ``high`` words through ``Encoder.encode``, in texts/s."""

    def run(tree: Path) -> float:
        corpus = ROOT / "LICENSE"
        return float(_python(tree, "-c", _ENCODE, str(corpus), str(low), str(high), str(count)).split()[-1])

    return run


def http_singles(tree: Path, seconds: float = 8.0) -> float:
    """Return requests/s of one text each, 32 clients at once."""
    with _server(tree) as url:
        order = {"url": url, "model": MODEL, "kind": "short", "clients": 32, "batch": 1}
        _load({**order, "seconds": 2.0})
        return float(_load({**order, "seconds": seconds})["requests_per_second"])


def http_form(form: str, seconds: float = 5.0) -> Callable[[Path], float]:
    """Return a workload: bulk requests of one HTTP API, 32 texts each, in texts/s."""

    def run(tree: Path) -> float:
        with _server(tree) as url:
            order = {"url": url, "model": MODEL, "kind": "short", "clients": 4, "batch": 32, "form": form}
            _load({**order, "seconds": 1.0})
            return float(_load({**order, "seconds": seconds})["texts_per_second"])

    return run


def bulk(tree: Path) -> float:
    """Return texts/s of ``nearfield embed`` into shards, without the time of an empty run (start and loading)."""
    with tempfile.TemporaryDirectory() as place:
        seconds = [_embed(tree, Path(place), count) for count in (10, 8000)]
        return 7990 / (seconds[1] - seconds[0])


def indexing(tree: Path) -> float:
    """Return documents/s of ``nearfield index`` into LanceDB, without the time of a run over one document."""
    with tempfile.TemporaryDirectory() as place:
        seconds = [_index(tree, Path(place), count) for count in (1, 400)]
        return 399 / (seconds[1] - seconds[0])


WORKLOADS: dict[str, Callable[[Path], float]] = {
    "short": encode(6, 14, 3000),
    "mixed": encode(5, 250, 300),
    "http singles": http_singles,
    "bulk": bulk,
    "indexing": indexing,
    **{f"http {form}": http_form(form) for form in FORMS},
}


def main() -> None:
    """Measure and print the table; the last line is JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.commits", description=__doc__)
    parser.add_argument("before", help="git revision to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(WORKLOADS), default=list(WORKLOADS))
    options = parser.parse_args()
    with checkout(options.before) as before:
        results = {name: measure(name, before, options.rounds) for name in options.only}
    print(json.dumps(results))


def measure(name: str, before: Path, rounds: int) -> dict[str, float]:
    """Run one workload in both trees, in turns; return medians, their ratio and the range of the rounds' ratios."""
    figures: dict[str, list[float]] = {"before": [], "after": []}
    trees = [("before", before), ("after", ROOT)]
    for number in range(rounds):
        for label, tree in trees if number % 2 == 0 else reversed(trees):
            figures[label].append(WORKLOADS[name](tree))
    medians = {label: statistics.median(values) for label, values in figures.items()}
    ratios = [after / old for old, after in zip(figures["before"], figures["after"], strict=True)]
    result = {**medians, "ratio": medians["after"] / medians["before"], "lowest": min(ratios), "highest": max(ratios)}
    print(
        f"{name:14} before {result['before']:9.1f}  after {result['after']:9.1f}  ratio {result['ratio']:.3f} "
        f"({result['lowest']:.3f} to {result['highest']:.3f})",
        flush=True,
    )
    return result


def _embed(tree: Path, place: Path, count: int) -> float:
    source = place / f"{count}.jsonl"
    words = (ROOT / "LICENSE").read_text(encoding="utf-8").split()
    with source.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(words[(number * 7) % 1000 : (number * 7) % 1000 + 10 + number % 20])
            file.write(json.dumps({"id": number, "text": f"{number} {text}"}) + "\n")
    return _timed(tree, "embed", str(source), "-m", MODEL, "--field", "text", "-o", str(place / f"out-{count}") + "/")


def _index(tree: Path, place: Path, count: int) -> float:
    folder = place / f"docs-{count}"
    folder.mkdir()
    words = (ROOT / "LICENSE").read_text(encoding="utf-8").split()
    for number in range(count):
        text = " ".join(words[(number * 13) % 1000 : (number * 13) % 1000 + 150])
        (folder / f"{number}.md").write_text(f"# Document {number}\n\n{number} {text}\n", encoding="utf-8")
    return _timed(tree, "index", f"docs{count}", str(folder), home=place / "home")


def _timed(tree: Path, *words: str, home: Path | None = None) -> float:
    started = time.perf_counter()
    _python(tree, "-m", "nearfield.cli", *words, home=home)
    return time.perf_counter() - started


def _python(tree: Path, *words: str, home: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *words], env=environment(tree, home), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{tree}: {' '.join(words)[:200]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def environment(tree: Path, home: Path | None = None) -> dict[str, str]:
    """Return the environment of a process that runs the package of a tree."""
    collections = {"NEARFIELD_COLLECTIONS": str(home)} if home else {}
    return {**os.environ, **collections, "PYTHONPATH": str(tree / "src")}


def free_port() -> int:
    """Return a port of loopback that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(tree: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "nearfield.cli", "serve", MODEL, "--port", str(port), "--cache-memory", "0"]
    process = subprocess.Popen(command, env=environment(tree), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_ready(f"http://127.0.0.1:{port}/ready", process)
        yield f"http://127.0.0.1:{port}/v1/embeddings"
    finally:
        process.terminate()
        process.wait(30)


def await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers; end the program if it does not."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{url} did not answer within 60 s")


def _load(order: dict[str, object]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(order)],
        cwd=ROOT,
        env=environment(ROOT),
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Check a revision out beside the working tree, and remove it afterwards."""
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "before"
        command = ["git", "worktree", "add", "-q", "--detach", str(tree), revision]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{revision!r} cannot be checked out: {done.stderr.strip()}")
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
