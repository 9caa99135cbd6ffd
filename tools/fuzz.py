"""Fuzz all HTTP routes from the OpenAPI document, for a given time.

``python -m tools.fuzz --minutes 20`` serves one tiny model of each kind and sends bodies that hypothesis makes from the
document, most of them naming a model that is there. It prints what was answered, and ends with 1 if any answer was a
server error, came late, or had another shape than the document says.

``python -m tools.fuzz --raw --minutes 20 --seed 1`` sends raw bytes instead (see ``tools.raw_fuzz``) to a server in a
separate process. It ends with 1 if a reply was not HTTP or was a server error, if ``/health`` was ever slower than 250
ms, or if the server's memory grew. With ``--router`` the bytes go to ``nearfield route`` before that server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from nearfield.auto import load
from nearfield.testing import write_tiny_model
from tests.parity.m3 import write as write_m3
from tests.parity.scores import classifier
from tests.support.serving import Process, RouterProcess, serving
from tools.raw_fuzz import RawFuzz

#: Seconds after which an answer is late: no request here has work for so long.
LATE = 10.0
#: The same for /health under --raw; and MiB by which memory may grow after the first tenth of the time.
LATE_HEALTH, GROWTH = 0.25, 64
#: Bodies of each operation in one round.
ROUND = 25
COLLECTION = "fuzzed"
NAMES = ("tiny", "m3", "tiny-reranker", "tiny-classifier")
CALM = settings(
    max_examples=ROUND,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


class Findings:
    """What was answered, and what should not have been."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0

    def note(self, operation: str, case: Any, url: str) -> None:
        """Send a case and judge its answer."""
        started = time.perf_counter()
        try:
            reply = case.call(base_url=url, timeout=60)
        except Exception as error:  # noqa: BLE001 - no answer at all is a finding, too
            self.wrong.append(f"{operation}: no answer ({type(error).__name__}: {error})")
            return
        seconds = time.perf_counter() - started
        self.slowest = max(self.slowest, seconds)
        self.statuses[f"{operation} {reply.status_code}"] += 1
        told = f"{operation} {reply.status_code}: {str(case.body)[:300]} -> {reply.text[:300]}"
        # 501, 503 and 507 are proper answers: not supported, or not available now.
        if reply.status_code == 500 or seconds > LATE:
            self.wrong.append(f"{seconds:.1f} s, {told}")
            return
        try:
            case.operation.validate_response(reply)
        except Exception as error:  # noqa: BLE001 - schemathesis raises exception groups
            self.wrong.append(f"{str(error)[:300]}: {told}")


def run(url: str, minutes: float) -> Findings:
    """Send rounds of cases until the time is up."""
    findings = Findings()
    operations = [found.ok() for found in schemathesis.openapi.from_url(url + "/openapi.json").get_all_operations()]
    until, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < until:
        _collection(url)
        for operation in operations:
            if time.monotonic() < until:
                _round(operation, url, number, findings)
        number += 1
    return findings


def _collection(url: str) -> None:
    """Have a collection there; the last round may have removed it."""
    made = {"name": COLLECTION, "features": {"dense": {"model": "tiny"}}}
    httpx.post(f"{url}/collections", json=made, timeout=60)
    told = [{"id": "one", "text": "The cat sat on the mat."}, {"id": "two", "text": "A blue dog."}]
    httpx.post(f"{url}/collections/{COLLECTION}/documents", json={"documents": told}, timeout=60).raise_for_status()


def _round(operation: Any, url: str, number: int, findings: Findings) -> None:
    @seed(number)
    @CALM
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        if isinstance(case.body, dict) and "model" in case.body and number % 4:
            case.body["model"] = NAMES[number % len(NAMES)]
        if "name" in (case.path_parameters or {}) and case.method != "DELETE":
            case.path_parameters["name"] = COLLECTION
        findings.note(operation.label, case, url)

    check()


def main() -> int:
    """Serve, fuzz, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--raw", action="store_true", help="mutate requests at the level of bytes")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations of --raw")
    parser.add_argument("--router", action="store_true", help="send what --raw sends to a router before the server")
    options = parser.parse_args()
    return (
        run_raw(options.minutes, options.seed, router=options.router)
        if options.raw
        else run_documented(options.minutes)
    )


def run_raw(minutes: float, seed: int, *, router: bool = False) -> int:
    """Fuzz with raw bytes, a server or a router before it, and report."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        folders = _write_models(home)
        flags = [*map(str, folders[1:]), "--collections", "all", "--collections-dir", str(home / "collections")]
        server = Process(folders[0], *flags, "--data-dir", str(home / "data"))
        process = RouterProcess("--to", server.url) if router else server
        document = httpx.get(process.url + "/openapi.json").json()
        memory, findings, wrong = [], Counter[str](), []
        slowest = 0.0
        for part in range(10):  # the first tenth warms the server up
            fuzz = RawFuzz("127.0.0.1", process.port, document, 10 * seed + part)
            result = asyncio.run(fuzz.run(6 * minutes))
            memory.append(process.process.memory_info().rss >> 20)
            findings.update({str(status): count for status, count in result.replies.items()})
            findings["connections"] += result.sent
            slowest = max(slowest, result.slowest_health)
            wrong += result.wrong
        running = process.running and server.running
        for ending in dict.fromkeys((process, server)):
            ending.terminate()
            try:
                ending.wait()
            except AssertionError as error:  # what it logged; the report is printed all the same
                wrong.append(f"the server ended with an error: {error}")
    if router:  # models, and what it is not named a home for, are changed at the server
        wrong = [finding for finding in wrong if not finding.startswith("status 501")]
    if slowest > LATE_HEALTH:
        wrong.append(f"/health took {slowest:.3f} s")
    if memory[-1] > memory[0] + GROWTH:
        wrong.append(f"the memory grew: {memory} MiB")
    if not running:
        wrong.append("the server ended")
    report = {"seed": seed, **findings, "slowest health": round(slowest, 3), "MiB": memory, "wrong": len(wrong)}
    print(json.dumps(report, indent=2))
    print("\n".join(wrong[:20]), file=sys.stderr)
    return bool(wrong)


def _write_models(home: Path) -> list[Path]:
    """Write a tiny model of each kind, and return their folders."""
    write_tiny_model(home / "tiny")
    classifier("bert", 1)(home / "one").rename(home / "tiny-reranker")
    classifier("bert", 3)(home / "three").rename(home / "tiny-classifier")
    return [home / "tiny", write_m3(home), home / "tiny-reranker", home / "tiny-classifier"]


def run_documented(minutes: float) -> int:
    """Fuzz from the document, and report."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        models = [load(str(folder), compile_cache=False) for folder in _write_models(home)]
        more = {"cache_memory": "64MiB", "served_collections": "all", "collections_dir": home / "collections"}
        with serving(models, **more) as url:
            findings = run(url, minutes)
    report = {
        "answers": sum(findings.statuses.values()),
        "by status": dict(Counter(name.rpartition(" ")[2] for name in findings.statuses.elements())),
        "operations": len({name.rpartition(" ")[0] for name in findings.statuses}),
        "slowest seconds": round(findings.slowest, 2),
        "wrong": len(findings.wrong),
    }
    print(json.dumps(report, indent=2))
    print("\n".join(findings.wrong[:20]), file=sys.stderr)
    return bool(findings.wrong)


if __name__ == "__main__":
    sys.exit(main())
