"""Attacks on a server with API keys, one at a time or together: ``python -m benchmarks.attacks [--before REV]``.

Every attack gets a fresh server: of the working tree, and with ``--before`` of another revision first. Beside the
attackers run a probe of ``/health`` and a client that sends single texts with a key; all are separate processes. The
table shows what they saw, the server's memory, and what the attackers got. With ``--together`` the attacks of the first
five kinds run at the same time, ten clients each, and requirements are checked: exit code 1 if one is not met.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import commits
from benchmarks.attacker_processes import create_keys, release, start_attackers, start_module
from benchmarks.attackers import ATTACKS, MODEL
from benchmarks.mixed import Requirement
from benchmarks.mixed import table as requirements_table
from nearfield.server.observability.live_stats import MetricsSnapshot, parse_metrics

#: Attacks that run together, with their clients: ten for each of the first five kinds, each kind in one process.
TOGETHER: Sequence[Mapping[str, int]] = (
    {"gzip-json": 5, "gzip-msgpack": 5},
    {"empty-lists": 4, "empty-objects": 3, "unknown-fields": 3},
    {"header-lines": 3, "header-value": 3, "url": 2, "trailers": 2},
    {"unfinished": 5, "unfinished-key": 5},
    {"slow-readers": 10},
)
#: What must be true while they run.
HEALTH_MS, MEMORY_MIB, BATCHES = 250.0, 512.0, 2
#: Texts of the bulk requests that the time of a batch is measured with, and the number of requests.
_BULK, _BULK_REQUESTS = 500, 3
_MIB = 2**20


@dataclass(frozen=True)
class Times:
    """Seconds of a phase: the clients alone, the attack, and after it."""

    idle: float
    attack: float
    settle: float


@dataclass
class Outcome:
    """What one attack did; times in milliseconds, memory in MiB."""

    attack: str
    tree: str
    #: p50, p99 and maximum of ``/health``, and the number of probes without a reply of 200.
    health: Mapping[str, float] = field(default_factory=dict)
    #: The same of the client with a key, alone and during the attack, and its replies of 429 and 503.
    polite_idle: Mapping[str, float] = field(default_factory=dict)
    polite: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    #: Mean time of a batch: of bulk requests alone, and during the attack.
    batch: float = 0.0
    batch_during: float = 0.0
    #: Replies by attack and status.
    replies: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    #: What the attackers sent, in MiB by attack.
    sent_mib: Mapping[str, float] = field(default_factory=dict)
    #: Share of one core that all attackers used together.
    attackers_cpu: float = 0.0
    seconds: float = 0.0
    #: The exit code, if the server ended.
    exit_code: int | None = None

    @property
    def polite_bound(self) -> float:
        """The time within which the client with a key must be answered: its own p99 alone, and two batches."""
        return self.polite_idle["p99"] + BATCHES * self.batch


class AttackedServer:
    """A server with four API keys, of the package in a tree."""

    def __init__(self, tree: Path, home: Path) -> None:
        self.port = commits.free_port()
        key_file = home / "keys.toml"
        self.keys = create_keys(key_file)
        command = [sys.executable, "-m", "nearfield.cli", "serve", MODEL, "--port", str(self.port)]
        command += ["--api-key-file", str(key_file), "--data-dir", str(home / "data"), "--log-level", "warning"]
        with (home / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=home, env=commits.environment(tree), stdout=log, stderr=subprocess.STDOUT
            )
        commits.await_ready(f"http://127.0.0.1:{self.port}/ready", self.process)

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def metrics(self) -> MetricsSnapshot:
        """Read the metrics."""
        return parse_metrics(self._fetch("/metrics", None), time.monotonic())

    def batch_seconds(self, since: MetricsSnapshot) -> float:
        """Return the mean seconds of a batch since a reading of the metrics; 0 without any."""
        now = self.metrics()
        names = ("nearfield_stage_seconds_sum", "nearfield_stage_seconds_count")
        total, count = ((now.total(x, stage="run") or 0.0) - (since.total(x, stage="run") or 0.0) for x in names)
        return total / count if count else 0.0

    def run_bulk(self) -> None:
        """Send bulk requests of new texts, one after the other."""
        for _ in range(_BULK_REQUESTS):
            texts = [f"{secrets.token_hex(4)} {at} river bank tree green sun " * 3 for at in range(_BULK)]
            self._fetch("/v1/embeddings", {"model": MODEL, "input": texts})

    def _fetch(self, path: str, body: Mapping[str, object] | None) -> str:
        headers = {"Authorization": f"Bearer {self.keys['polite']}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=120) as reply:
            text: str = reply.read().decode()
        return text

    def resident_mib(self) -> float:
        """Return the resident memory of the server's processes in MiB."""
        return sum(process.memory_info().rss for process in self._processes()) / _MIB

    def forget_peak(self) -> None:
        """Let the peak of memory begin at the present size."""
        for process in self._processes():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """Return the peak of resident memory since ``forget_peak``."""
        peaks = (Path(f"/proc/{process.pid}/status").read_text() for process in self._processes())
        return sum(int(text.split("VmHWM:")[1].split()[0]) for text in peaks) / 1024

    def _processes(self) -> list[Any]:
        if self.process.poll() is not None:
            return []
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]


class Bystander:
    """A process that measures until it is stopped (see ``bystanders``)."""

    def __init__(self, *words: str) -> None:
        self._process = start_module("benchmarks.bystanders", *words)
        self._samples: list[tuple[float, float, str, int]] = []

    def stop(self) -> None:
        """Stop it and read its samples."""
        out, _ = self._process.communicate(timeout=200)
        self._samples = [tuple(row) for row in json.loads(out)]

    def figures(self, start: float, end: float, *, within: bool = False) -> dict[str, float]:
        """Return quantiles in ms of the requests between two times, how many failed and how many were refused.

        With ``within`` they were sent and answered between the times, else in progress at some moment between them.
        """
        spans = [(row[0], row[0] + row[1], row) for row in self._samples]
        if within:
            rows = [row for sent, done, row in spans if start <= sent and done < end]
        else:
            rows = [row for sent, done, row in spans if sent < end and done > start]
        times = sorted(row[1] * 1000 for row in rows) or [float("nan")]
        return {
            "count": len(rows),
            "p50": round(times[len(times) // 2], 1),
            "p99": round(times[int(len(times) * 0.99)], 1),
            "max": round(times[-1], 1),
            "failed": sum(row[2] != "200" for row in rows),
            "refused": sum(row[3] for row in rows),
        }


@contextmanager
def _started(tree: Path) -> Iterator[AttackedServer]:
    with tempfile.TemporaryDirectory(prefix="nearfield-attacks-") as place:
        server = AttackedServer(tree, Path(place))
        try:
            yield server
        finally:
            server.close()


def measure(name: str, tree: Path, label: str, groups: Sequence[Mapping[str, int]], times: Times) -> Outcome:
    """Run attacks against a fresh server; each of ``groups`` is a process with attacks by name and their clients."""
    outcome = Outcome(name, label)
    with _started(tree) as server:
        server.run_bulk()
        begun = server.metrics()
        server.run_bulk()
        outcome.batch = round(server.batch_seconds(begun) * 1000, 1)
        attackers = [start_attackers(group, server.port, server.keys, times.attack) for group in groups]
        bystanders = Bystander("health", str(server.port)), Bystander("polite", str(server.port), server.keys["polite"])
        time.sleep(1.0 + times.idle)
        begun, before = server.metrics(), server.resident_mib()
        server.forget_peak()
        started = time.monotonic()
        for process in attackers:
            release(process)
        reports = [json.loads(process.communicate(timeout=times.attack + 200)[0]) for process in attackers]
        ended = time.monotonic()
        time.sleep(times.settle)
        outcome.exit_code = server.process.poll()
        outcome.memory = {
            "before": round(before),
            "peak": round(server.peak_mib()),
            "after": round(server.resident_mib()),
        }
        for bystander in bystanders:
            bystander.stop()
        if outcome.exit_code is None:
            outcome.batch_during = round(server.batch_seconds(begun) * 1000, 1)
    health, polite = bystanders
    outcome.health = health.figures(started, ended)
    outcome.polite_idle = polite.figures(started - times.idle, started, within=True)
    outcome.polite = polite.figures(started, ended)
    outcome.replies = {name: counts for report in reports for name, counts in report["counts"].items()}
    outcome.sent_mib = {
        name: round(size / _MIB, 1) for report in reports for name, size in report["sent_bytes"].items()
    }
    outcome.attackers_cpu = round(sum(report["cpu"] for report in reports), 2)
    outcome.seconds = round(ended - started, 1)
    return outcome


def requirements(outcome: Outcome) -> list[Requirement]:
    """Judge the attacks that ran together."""
    grown = outcome.memory["peak"] - outcome.memory["before"]
    health, polite, bound = outcome.health["p99"], outcome.polite["p99"], outcome.polite_bound
    failed = outcome.health["failed"] + outcome.polite["failed"]
    return [
        Requirement("p99 of /health", f"{health:.0f} ms", f"{HEALTH_MS:.0f} ms", health < HEALTH_MS),
        Requirement("memory above idle", f"{grown:.0f} MiB", f"{MEMORY_MIB:.0f} MiB", grown <= MEMORY_MIB),
        Requirement("p99 of the client with a key", f"{polite:.0f} ms", f"{bound:.0f} ms", polite <= bound),
        Requirement("requests that failed", f"{failed:.0f}", "0", failed == 0),
        Requirement("the server runs", str(outcome.exit_code is None), "True", outcome.exit_code is None),
    ]


def table(outcomes: Sequence[Outcome]) -> str:
    """Return outcomes as a Markdown table."""
    names = ["attack", "tree", "/health p50 / p99 / max, ms", "memory before / peak / after, MiB"]
    names += ["key's p99 idle / during (bound), ms", "refused", "attackers' replies", "attackers' CPU", "s"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in outcomes:
        health = " / ".join(f"{row.health[name]:.0f}" for name in ("p50", "p99", "max"))
        health += f", {row.health['failed']:.0f} failed" if row.health["failed"] else ""
        memory = " / ".join(f"{row.memory[name]:.0f}" for name in ("before", "peak", "after"))
        polite = f"{row.polite_idle['p99']:.0f} / {row.polite['p99']:.0f} ({row.polite_bound:.0f})"
        polite += f", {row.polite['failed']:.0f} failed" if row.polite["failed"] else ""
        replies = "; ".join(
            ("" if len(row.replies) == 1 else f"{name}: ") + ", ".join(f"{count} x {x}" for x, count in counts.items())
            for name, counts in row.replies.items()
        )
        lines.append(
            f"| {row.attack} | {row.tree} | {health} | {memory} | {polite} | {row.polite['refused']:.0f} | {replies} | "
            f"{row.attackers_cpu:.0%} | {row.seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Attack, and print the table; the last line is JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.attacks", description=__doc__)
    parser.add_argument("--before", help="git revision to attack first")
    parser.add_argument("--not-after", action="store_true", help="attack the revision of --before alone")
    parser.add_argument("--only", nargs="*", choices=list(ATTACKS), default=None)
    parser.add_argument("--together", action="store_true", help="all of the first five kinds at the same time")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each attack [15]")
    parser.add_argument("--idle", type=float, default=8.0, help="seconds of the clients alone before it [8]")
    parser.add_argument("--settle", type=float, default=20.0, help="seconds after it until memory is read [20]")
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    parser.add_argument("--table", type=Path, help="file for the Markdown table")
    options = parser.parse_args()
    # Without this, a run that is terminated would leave its servers and its checked-out revision behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    names = options.only if options.only is not None else [] if options.together else list(ATTACKS)
    runs = [(name, [{name: 0}]) for name in names] + [("together", TOGETHER)] * options.together
    times = Times(options.idle, options.seconds, options.settle)
    outcomes: list[Outcome] = []
    with _trees(options.before, after=not options.not_after) as trees:
        for name, groups in runs:
            for label, tree in trees:
                outcomes.append(measure(name, tree, label, groups, times))
                print(table(outcomes[-1:]).splitlines()[-1], flush=True)
                _store(options, outcomes, times)
    page = _page(outcomes)
    print(f"\n{page}\n")
    print(json.dumps(_results(outcomes, times)))
    last = [row for outcome in outcomes[-1:] if outcome.attack == "together" for row in requirements(outcome)]
    sys.exit(not all(row.met for row in last))


def _page(outcomes: Sequence[Outcome]) -> str:
    """Return the table, and that of the requirements if attacks ran together."""
    judged = [row for outcome in outcomes if outcome.attack == "together" for row in requirements(outcome)]
    return table(outcomes) + ("\n\n" + requirements_table([asdict(row) for row in judged]) if judged else "")


def _results(outcomes: Sequence[Outcome], times: Times) -> dict[str, Any]:
    return {"times": asdict(times), "outcomes": [asdict(outcome) for outcome in outcomes], "cores": os.cpu_count()}


def _store(options: argparse.Namespace, outcomes: Sequence[Outcome], times: Times) -> None:
    """Write the results so far: a run that is ended by hand keeps them."""
    if options.out:
        options.out.write_text(json.dumps(_results(outcomes, times), indent=1), encoding="utf-8")
    if options.table:
        options.table.write_text(_page(outcomes) + "\n", encoding="utf-8")


@contextmanager
def _trees(before: str | None, *, after: bool) -> Iterator[list[tuple[str, Path]]]:
    present = [("after" if before else "now", commits.ROOT)] if after else []
    if before is None:
        yield present
        return
    with commits.checkout(before) as tree:
        yield [("before", tree), *present]


if __name__ == "__main__":
    main()
