"""Reading by processes of ``nearfield embed --shard I/N``, of two commits: ``python -m benchmarks.shares BEFORE``.

One data set is divided into shards, and the last of N processes is timed with an encoder that costs nothing, so that
the time is that of planning, reading and writing. The first process has planned the shards before, as on a cluster.
The table shows the median of seconds of the processor, to which other programs add little, and the ratio before /
after: above 1 the working tree needs less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.commits import ROOT, checkout

FORMS = ("jsonl", "csv", "txt", "parquet")

#: Writes the shards of one process with an encoder whose vectors cost nothing; prints the seconds.
_SHARE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pyarrow.parquet
from nearfield.bulk.input_table import InputTable
from nearfield.bulk.preflight import ShardRequest, Sharding
from nearfield.bulk.shard_job import ShardJob
from nearfield.vectors.dense import Vectors

class Free:
    name, precision, max_length = "free", "float32", 64
    recipe = SimpleNamespace(outputs=("dense",))
    def encode(self, texts, **_):
        counts = {"tokens": np.ones(len(texts), int), "dropped": np.zeros(len(texts), int)}
        return Vectors(np.zeros((len(texts), 4), np.float32), "free:4:float32", 4, **counts)
    def stream(self, texts, **_):
        window = []
        for text in texts:
            window.append(text)
            if len(window) == 4096:
                yield self.encode(window)
                window = []
        if window:
            yield self.encode(window)
    def prompt_of(self, **_):
        return ""

path, home, index, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
started = time.process_time()
request = ShardRequest(Free(), InputTable((Path(path),)), Path(home), Sharding("parquet", 10_000, (index, count)), {})
ShardJob(request).run()
print(time.process_time() - started)
"""


def main() -> None:
    """Measure and print the table; the last line is JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.shares", description=__doc__)
    parser.add_argument("before", help="git revision to compare with")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=FORMS, default=FORMS)
    options = parser.parse_args()
    with checkout(options.before) as before:
        print(json.dumps({form: measure(form, before, options) for form in options.only}))


def measure(form: str, before: Path, options: argparse.Namespace) -> dict[str, float]:
    """Time the first and the last process in both trees, in turns; return the medians and their ratios."""
    seconds: dict[str, list[tuple[float, float]]] = {"before": [], "after": []}
    trees = [("before", before), ("after", ROOT)]
    with tempfile.TemporaryDirectory() as place:
        path = write_rows(Path(place), form, options.rows)
        for number in range(options.rounds):
            for label, tree in trees if number % 2 == 0 else reversed(trees):
                home = Path(place, f"{label}-{number}")
                pair = [share(tree, path, home, index, options.processes) for index in (1, options.processes)]
                seconds[label].append((pair[0], pair[1]))
    first, last = (
        {label: statistics.median(pair[at] for pair in pairs) for label, pairs in seconds.items()} for at in (0, 1)
    )
    ratios = {"first": first["before"] / first["after"], "last": last["before"] / last["after"]}
    print(
        f"{form:8} first process {first['before']:6.2f} s before {first['after']:6.2f} s after ({ratios['first']:.2f}x)"
        f"  last process {last['before']:6.2f} s before {last['after']:6.2f} s after ({ratios['last']:.2f}x)",
        flush=True,
    )
    return ratios


def write_rows(place: Path, form: str, count: int) -> Path:
    """Write texts of 10 to 29 words, last written to a minute ago."""
    path, words = place / f"rows.{form}", (ROOT / "LICENSE").read_text(encoding="utf-8").split()
    texts = [" ".join(words[(at * 7) % 1000 : (at * 7) % 1000 + 10 + at % 20]) for at in range(count)]
    if form == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=50_000)
    else:
        lines: dict[str, Callable[[str], str]] = {
            "jsonl": lambda text: json.dumps({"text": text}), "csv": quoted, "txt": str
        }  # fmt: skip
        header = "text\n" if form == "csv" else ""
        path.write_text(header + "".join(f"{lines[form](text)}\n" for text in texts), encoding="utf-8")
    os.utime(path, (path.stat().st_mtime - 60,) * 2)
    return path


def quoted(text: str) -> str:
    """Return a text as a cell of CSV."""
    return '"{}"'.format(text.replace('"', '""'))


def share(tree: Path, path: Path, home: Path, index: int, processes: int) -> float:
    """Run one process of a tree; return its seconds."""
    command = [sys.executable, "-c", _SHARE, str(path), str(home), str(index), str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
