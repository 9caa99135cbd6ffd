"""Faults of pictures: 500 bad files among 10,000, uploads that end in the middle, and 50 clients with 20 MB pictures.

``python -m benchmarks.media_faults [--quick]`` prints what was served, refused and lost, and the memory of the server
before and after, as JSON. It ends with 1 if something was lost, a reply had a status of 5xx, or memory did not return.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from PIL import Image

from benchmarks.process_memory import resident
from tests.support import bad_media, odd_pictures, tiny_pictures
from tests.support.serving import Process

#: Files, and how many of them are bad; clients, and the sides of their pictures; uploads that end in the middle.
FULL, QUICK = (10_000, 500, 50, 2600, 300), (200, 13, 8, 400, 30)
#: MiB by which the memory of the server may grow.
GROWTH = 150
#: Seconds after which the memory that is not used is that of an idle server: child processes have ended then.
IDLE_SECONDS = 75.0


def embed_folder(model: Path, folder: Path, count: int, bad: int) -> dict[str, Any]:
    """Embed a folder with bad files; return how many rows there are, and how many files were named."""
    from pyarrow import parquet

    photos = [odd_pictures.encode(odd_pictures.smooth(320, 240, seed), "JPEG") for seed in range(20)]
    wrong = [data for data, _, _ in bad_media.PICTURES.values()]
    numbers = set(random.Random(0).sample(range(count), bad))
    for number in range(count):
        data = wrong[number % len(wrong)] if number in numbers else photos[number % len(photos)]
        (folder / f"{number:05}.jpg").write_bytes(data)
    target = folder.parent / "photos.parquet"
    command = [sys.executable, "-m", "nearfield.cli", "embed", folder, "-o", target, "--model", model]
    started = time.monotonic()
    ran = subprocess.run(list(map(str, [*command, "--skip-unreadable"])), capture_output=True, text=True)
    seconds = time.monotonic() - started
    rows = set(parquet.read_table(target)["id"].to_pylist()) if ran.returncode == 0 else set()
    named = {number for number in numbers if f"{number:05}.jpg" in ran.stderr}
    good = {f"{number:05}.jpg" for number in range(count) if number not in numbers}
    return {"seconds": round(seconds), "lost": len(good - rows), "rows": len(rows), "named": len(named), "bad": bad}


def large_pictures(url: str, clients: int, side: int) -> dict[str, Any]:
    """Send a large picture from each of many clients at once, again after 429; return the counts of statuses."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    data = odd_pictures.encode(Image.fromarray(pixels), "PNG")
    body = json.dumps({"input": {"image": base64.b64encode(data).decode()}}).encode()
    outcomes: Counter[int] = Counter()
    vectors: set[str] = set()

    def send(_: int) -> None:
        with httpx.Client(timeout=600) as client:
            status = 429
            while status == 429:
                reply = client.post(url + "/encode", content=body, headers={"Content-Type": "application/json"})
                status = reply.status_code
                outcomes[status] += 1
                time.sleep(float(reply.headers.get("retry-after", 0)))
            vectors.add(json.dumps(reply.json().get("dense")))

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(send, range(clients)))
    return {"megabytes": round(len(data) / 1e6, 1), "statuses": dict(outcomes), "different vectors": len(vectors)}


def broken_uploads(port: int, count: int) -> int:
    """Begin uploads of all forms, and disconnect; return their number."""
    data = odd_pictures.encode(odd_pictures.smooth(800, 600), "BMP")
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    bodies = {
        "application/json": json.dumps({"input": {"image": base64.b64encode(data).decode()}}).encode(),
        "application/msgpack": msgspec.msgpack.encode({"input": [{"image": data}]}),
        "multipart/form-data; boundary=x": part + data + b"\r\n--x--\r\n",
    }
    source = random.Random(0)
    for number in range(count):
        kind, body = list(bodies.items())[number % len(bodies)]
        head = (
            f"POST /encode HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.sendall(head.encode() + body[: source.randrange(len(body) + 1)])
    return count


def measure(*, quick: bool) -> dict[str, Any]:
    """Run everything; return the report."""
    count, bad, clients, side, uploads = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as place:
        model = tiny_pictures.write_clip(Path(place) / "clip")
        (folder := Path(place) / "photos").mkdir()
        report: dict[str, Any] = {"folder": embed_folder(model, folder, count, bad)}
        server = Process(model, "--precision", "float32")
        try:
            # What the first requests load, they do not return.
            large_pictures(server.url, 4, side)
            broken_uploads(server.port, 12)
            before = resident(server.process)
            send = partial(large_pictures, server.url, clients, side)
            report["large"] = send()
            report["uploads"] = broken_uploads(server.port, uploads)
            report["after"] = large_pictures(server.url, 1, side)
            at_once = resident(server.process)
            time.sleep(0 if quick else IDLE_SECONDS)
            report["memory"] = {
                "before": round(before),
                "after": round(at_once),
                "idle": round(resident(server.process)),
            }
        finally:
            server.terminate()
            server.wait()
    return report


def failures(report: dict[str, Any]) -> list[str]:
    """Return what is not as it should be."""
    folder, memory = report["folder"], report["memory"]
    statuses = {**report["large"]["statuses"], **report["after"]["statuses"]}
    return [
        *(["files were lost"] if folder["lost"] else []),
        *(["bad files were not named"] if folder["named"] != folder["bad"] else []),
        *(f"a reply with {status}" for status in statuses if status not in (200, 429)),
        *(["replies differ"] if report["large"]["different vectors"] != 1 else []),
        *(["memory did not return"] if memory["idle"] - memory["before"] > GROWTH else []),
    ]


def main() -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.media_faults")
    parser.add_argument("--quick", action="store_true", help="few files and clients")
    report = measure(quick=parser.parse_args().quick)
    problems = failures(report)
    print(json.dumps({**report, "failures": problems}, indent=2))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
