"""Fuzz all HTTP routes from the OpenAPI document, for a given time.

``python -m tools.fuzz --minutes 20`` serves one tiny model of each kind and sends bodies that hypothesis makes from the
document, most of them naming a model that is there. It prints what was answered, and ends with 1 if any answer was a
server error, came late, or had another shape than the document says.
"""

from __future__ import annotations

import argparse
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
from tests.support.serving import serving

#: Seconds after which an answer is late: no request here has work for so long.
LATE = 10.0
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
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        write_tiny_model(home / "tiny")
        classifier("bert", 1)(home / "one").rename(home / "tiny-reranker")
        classifier("bert", 3)(home / "three").rename(home / "tiny-classifier")
        folders = (home / "tiny", write_m3(home), home / "tiny-reranker", home / "tiny-classifier")
        models = [load(str(folder), compile_cache=False) for folder in folders]
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
