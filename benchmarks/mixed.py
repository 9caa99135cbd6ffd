"""Half an hour of mixed traffic against ``nearfield serve``, with requirements that are checked afterwards.

Three models of which the memory budget holds two: all-MiniLM-L6-v2 stays, an encoder and a reranker take turns. With
attackers, one of each kind runs beside the honest traffic, of which nothing may be lost.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

from benchmarks import fleet, traffic
from benchmarks.attacker_processes import create_keys, release, start_attackers
from benchmarks.attackers import ATTACKS
from benchmarks.servers import Server
from benchmarks.traffic import Plan
from nearfield.server.observability.live_stats import parse_metrics

MAIN = "sentence-transformers/all-MiniLM-L6-v2"
#: Of the run, after which memory must be flat; and by how much it may vary from then on.
WARM, FLAT = 0.1, 0.1
#: Requirements that only hold without attackers: they too have replies, and queue work.
BEYOND, BESIDE_BULK = "replies sent beyond those read", "p99 of singles beside bulk"
HONEST_ONLY = (BEYOND, BESIDE_BULK)
_SAMPLE_SECONDS = 2.0
#: Seconds that the clients need, beside the measurement alone, until their traffic begins.
_BEFORE_SECONDS = 15.0
_MIB = 2**20


@dataclass(frozen=True)
class Requirement:
    """What was measured, and whether it is what must be."""

    name: str
    measured: str
    bound: str
    met: bool


def measure(folder: Path, minutes: float, *, deadline: float = 30.0, attackers: bool = False) -> dict[str, Any]:
    """Run the traffic; returns all counts, and under ``requirements`` whether each is met.

    With ``attackers`` one client of each attack runs beside it, from the end of the idle measurement on.
    """
    with tempfile.TemporaryDirectory(prefix="nearfield-mixed-") as place:
        home = Path(place)
        second, reranker = fleet.write(folder, home)
        sizes = _sizes(second, reranker, home)
        budget = round(sizes[MAIN] + 1.25 * max(sizes[second.name], sizes[reranker.name]))
        if budget >= sum(sizes.values()):
            raise RuntimeError(f"a budget for two models holds all three: {sizes}")
        log = home / "server.log"
        keys = create_keys(home / "keys.toml") if attackers else {}
        server = _serve(second, reranker, log, budget=budget, deadline=deadline, keys=keys)
        try:
            told, memory = _run(server, _plan(server, second, reranker, minutes, deadline), keys)
        finally:
            server.close()
        told |= {
            "cycles": _cycles(minutes),
            "budget_mib": round(budget / _MIB),
            "model_mib": {name: round(n / _MIB) for name, n in sizes.items()},
        }
        told |= {"rss_mib": flatness(memory, told["started"], told["ended"]), **_logged(log), "exit": server.exit_code}
    told["requirements"] = [asdict(each) for each in requirements(told)]
    return told


def _plan(server: Server, second: Path, reranker: Path, minutes: float, deadline: float) -> Plan:
    return Plan(
        url=server.url.removesuffix("/v1/embeddings"),
        main=MAIN,
        second=str(second),
        reranker=str(reranker),
        seconds=minutes * 60,
        idle_seconds=max(20.0, minutes * 2),
        deadline=deadline,
        cycles=_cycles(minutes),
        key=server.key,
    )


def _cycles(minutes: float) -> int:
    return max(1, round(minutes / 2))


def _serve(
    second: Path,
    reranker: Path,
    log: Path,
    *,
    deadline: float,
    budget: int | None = None,
    keys: Mapping[str, str] | None = None,
) -> Server:
    command = [sys.executable, "-m", "nearfield.cli", "serve", "all-MiniLM-L6-v2", "--port", "PORT"]
    command += ["--on-demand", str(second), "--on-demand", str(reranker), "--cache-memory", "0"]
    command += ["--request-timeout", str(deadline), "--log-format", "json"]
    if budget is not None:
        command += ["--memory-budget", str(budget)]
    if keys:
        command += ["--api-key-file", str(log.parent / "keys.toml"), "--data-dir", str(log.parent / "data")]
    return Server("nearfield", command, "/v1/embeddings", MAIN, log=log, key=(keys or {}).get("polite", ""))


def _sizes(second: Path, reranker: Path, home: Path) -> dict[str, int]:
    """Load all three without a budget, each alone, and return the memory that the server says they take."""
    import httpx

    server = _serve(second, reranker, home / "sizes.log", deadline=120)
    try:
        with httpx.Client(base_url=server.url.removesuffix("/v1/embeddings"), timeout=120) as client:
            client.post("/v1/embeddings", json={"model": str(second), "input": "x"}).raise_for_status()
            client.post("/rank", json={"model": str(reranker), "query": "x", "documents": ["y"]}).raise_for_status()
            samples = parse_metrics(client.get("/metrics").text, 0.0).samples["nearfield_model_bytes"]
    finally:
        server.close()
    return {dict(labels)["model"]: int(value) for labels, value in samples.items()}


def _run(server: Server, plan: Plan, keys: Mapping[str, str]) -> tuple[dict[str, Any], list[tuple[float, int]]]:
    """Run the clients in a separate process, and record the server's resident memory while they run."""
    process, memory = psutil.Process(server.pid), []
    command = [sys.executable, "-m", "benchmarks.traffic", traffic.told(plan)]
    # The traffic itself begins after the measurement alone, and ends with it again.
    begin = time.monotonic() + plan.idle_seconds + _BEFORE_SECONDS
    attackers = start_attackers(dict.fromkeys(ATTACKS, 1), server.port, keys, plan.seconds) if keys else None
    clients = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    waiting = attackers
    try:
        while True:
            memory.append((time.time(), process.memory_info().rss))
            if waiting is not None and time.monotonic() > begin:
                release(waiting)
                waiting = None
            try:
                out, _ = clients.communicate(timeout=_SAMPLE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        attacked = json.loads(attackers.communicate(timeout=60)[0]) if attackers is not None else None
    finally:
        clients.kill()
        if attackers is not None:
            attackers.kill()
    if clients.returncode:
        raise RuntimeError(f"the clients ended with {clients.returncode}: see above")
    told: dict[str, Any] = json.loads(out)
    return told | ({"attackers": attacked} if attacked is not None else {}), memory


def flatness(memory: Sequence[tuple[float, int]], started: float, ended: float) -> dict[str, float]:
    """Return MiB of resident memory after warm-up, at most, and at the end, and by how many percent it varied.

    Models come and go within seconds, so the level at a time is the median of a tenth of the run; ``peak`` is the
    largest sample. ``growth_percent`` compares the highest level with the first, ``spread_percent`` with the lowest,
    ``peak_percent`` the largest sample with that of the first tenth after warm-up.
    """
    parts: list[list[int]] = [[] for _ in range(10)]
    for when, size in memory:
        if started <= when <= ended:
            parts[min(9, int((when - started) / (ended - started) * 10))].append(size)
    warm = [part for part in parts[round(WARM * 10) :] if part]
    levels = [float(np.median(part)) / _MIB for part in warm]
    peaks = [max(part) / _MIB for part in warm]
    told = {
        "after_warm_up": levels[0],
        "end": levels[-1],
        "highest": max(levels),
        "peak": max(peaks),
        "growth_percent": (max(levels) / levels[0] - 1) * 100,
        "spread_percent": (max(levels) / min(levels) - 1) * 100,
        "peak_percent": (max(peaks) / peaks[0] - 1) * 100,
    }
    return {name: round(value, 1) for name, value in told.items()}


def _logged(log: Path) -> dict[str, Any]:
    """Count what the server's log says of models, and its errors."""
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    other = [line for line in log.read_text().splitlines() if not line.startswith("{") and " serves " not in line]
    messages = [str(line["message"]) for line in lines]
    errors = [line for line in lines if line["level"] in ("error", "critical")]
    seconds = [line["seconds"] for line in lines if str(line["message"]).startswith("loaded ")]
    return {
        "loads": len(seconds),
        "load_seconds": {"median": float(np.median(seconds or [0])), "max": max(seconds, default=0.0)},
        "evictions": sum(text.startswith("unloaded ") for text in messages),
        "logged_errors": [str(line)[:500] for line in errors][:5] + other[:5],
    }


def requirements(told: dict[str, Any]) -> list[Requirement]:
    """Judge a run; beside attackers, the requirements that only honest traffic can meet are left out."""
    rows = _all_requirements(told)
    return [row for row in rows if row.name not in HONEST_ONLY] if "attackers" in told else rows


def _all_requirements(told: dict[str, Any]) -> list[Requirement]:
    counts = {name: sum(told[name].values()) for name in ("sent", "answered", "lost", "wrong", "late")}
    bad, told_why = told["sent"].get("bad", 0), told["answered"].get("bad", 0)
    total = counts["sent"] + told["left"]
    beyond = told["server_replies"] - told["replies"]
    idle, beside = told["idle_ms"]["p99"], told["singles_ms"].get("beside bulk", {}).get("p99", float("inf"))
    bound = 3 * idle + told["batch_seconds"] * 1e3
    growth = max(told["rss_mib"]["growth_percent"], told["rss_mib"]["spread_percent"])
    unanswered = counts["sent"] - counts["answered"]
    return [
        Requirement("requests lost", f"{counts['lost']} of {counts['sent']}", "0", counts["lost"] == 0),
        Requirement("sent and not answered rightly", str(unanswered), "0", unanswered == 0),
        Requirement("wrong answers, bad requests' included", str(counts["wrong"]), "0", counts["wrong"] == 0),
        Requirement("replies after the deadline", str(counts["late"]), "0", counts["late"] == 0),
        # Clients that disconnected may have been answered, or not have sent enough for a reply.
        Requirement(
            BEYOND,
            str(beyond),
            f"0 to {told['left']} (who left)",
            0 <= beyond <= told["left"],
        ),
        Requirement(
            f"bad requests ({bad / total:.1%}) told what was wrong", f"{told_why} of {bad}", "all", 0 < bad == told_why
        ),
        Requirement(
            f"clients that left ({told['left'] / total:.1%})", str(told["left"]), "at least 1", told["left"] > 0
        ),
        Requirement(
            "models unloaded for want of room",
            str(told["evictions"]),
            f"at least {told['cycles']}",
            told["evictions"] >= told["cycles"],
        ),
        Requirement("errors in the server's log", str(len(told["logged_errors"])), "0", not told["logged_errors"]),
        Requirement("the server's exit code", str(told["exit"]), "0", told["exit"] == 0),
        Requirement("memory, highest to lowest after warm-up", f"{growth:.1f}%", f"{FLAT:.0%}", growth <= FLAT * 100),
        Requirement(BESIDE_BULK, f"{beside:.0f} ms", f"{bound:.0f} ms", beside <= bound),
    ]


def table(requirements: Sequence[dict[str, Any]]) -> str:
    """Return what must be true as a Markdown table."""
    lines = ["| requirement | measured | bound | met |", "|---|---|---|---|"]
    for row in requirements:
        lines.append(f"| {row['name']} | {row['measured']} | {row['bound']} | {'yes' if row['met'] else 'NO'} |")
    return "\n".join(lines)
