"""Kill runs to S3 at random moments while half of the requests fail; check that no row is lost or doubled.

``python -m benchmarks.s3_kills --kills 20`` embeds the same texts from and to a server of S3 on this machine (moto's)
in processes that are killed (SIGKILL) at random moments until so many have died, then once more to the end. Half of the
requests are answered with 503, a third of those after they were done, and a tenth wait. The rows that the manifest
names must be those of a folder on disk, byte for byte, and nothing else may be in the bucket. The exit status is 1
otherwise. With ``--together 2``, two such commands write to the same folder all the time, and one of them is killed.
With ``--ray``, each command starts a Ray cluster with two workers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.fileio.s3.client import S3Client, client_of
from nearfield.hardware import cpu_name
from nearfield.testing import WORDS, write_tiny_model
from tests.support.s3_server import BUCKET, Faults, environment, s3_server

_ROWS_PER_SHARD = 50


def _write_texts(client: S3Client, local: Path, count: int) -> None:
    chance = random.Random(3)
    lines = [json.dumps({"id": f"n{at}", "text": " ".join(chance.choices(WORDS, k=9))}) for at in range(count)]
    data = "".join(f"{line}\n" for line in lines).encode()
    local.write_bytes(data)
    client.put("data/texts.jsonl", data)


@dataclass(frozen=True)
class Command:
    """A command of ``nearfield embed``, whose temporary files are in a folder of the check."""

    source: str
    output: str
    model: Path
    folder: Path
    more: tuple[str, ...] = ()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it."""
        words = ["embed", self.source, "-o", self.output, "--model", str(self.model), "--precision", "float32"]
        rows = ["--id-field", "id", "--shard-rows", str(_ROWS_PER_SHARD), "--quiet"]
        command = [sys.executable, "-m", "nearfield.cli", *words, *rows, *self.more]
        return subprocess.Popen(command, env={**os.environ, "TMPDIR": str(self.folder)}, stdout=subprocess.DEVNULL)


def _kill_runs(kills: int, command: Command, faults: Faults, together: int) -> int:
    """Keep so many runs going, kill one after another after some uploads, and return how many died."""
    chance, died, running = random.Random(time.time_ns()), 0, list[subprocess.Popen[bytes]]()
    for _ in range(4 * kills):
        if died == kills:
            break
        running = [process for process in running if process.poll() is None]
        running += [command.start() for _ in range(together - len(running))]
        wanted, victim = faults.uploads + chance.randrange(0, 4), chance.choice(running)
        while victim.poll() is None and faults.uploads < wanted:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.3)
        if victim.poll() is None:
            victim.send_signal(signal.SIGKILL)
            died += 1
        victim.wait()
    for process in running:
        process.wait()
    return died


def _differences(client: S3Client, disk: Path) -> list[str]:
    """Compare what the manifest names with the folder on disk, and look for objects that it does not name."""
    found = client.get("out/_manifest.json")
    manifest: Any = json.loads(found.data) if found is not None else {"state": "missing", "shards": []}
    named = [name for shard in manifest["shards"] for name in shard["files"]]
    listed = [item.key.removeprefix("out/") for item in client.list("out") if "/part-" in item.key]
    objects = [client.get(f"out/{name}") for name in named]
    there = [item.data if item is not None else b"" for item in objects]
    problems = [] if manifest["state"] == "complete" else [f"the manifest is {manifest['state']}"]
    problems += [] if sorted(named) == sorted(listed) else ["objects are listed that the manifest does not name"]
    same = there == [path.read_bytes() for path in sorted(disk.glob("part-*"))]
    return problems + ([] if same else ["the shards differ from those of a run to the disk"])


def main() -> None:
    """Run the check and print its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    faults, started = Faults(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name, s3_server(faults) as url:
        folder = Path(name)
        os.environ.update(environment(url))
        client, model, drafts = client_of(BUCKET), write_tiny_model(folder / "model"), folder / "drafts"
        drafts.mkdir()
        _write_texts(client, folder / "texts.jsonl", options.rows)
        Command(str(folder / "texts.jsonl"), f"{folder}/disk/", model, drafts).start().wait()
        faults.refused, faults.delay = 0.5, 0.3
        more = ("--ray", "local", "--workers", "2") if options.ray else ()
        command = Command(f"s3://{BUCKET}/data/texts.jsonl", f"s3://{BUCKET}/out/", model, drafts, more)
        died = _kill_runs(options.kills, command, faults, options.together)
        code = command.start().wait()
        faults.refused = faults.delay = 0.0
        problems = [*([f"the last run ended with {code}"] if code else []), *_differences(client, folder / "disk")]
        left = [path.name for path in drafts.glob("nearfield-shards-*")]
        problems += [f"drafts are left: {left}"] if left else []
    seconds = time.perf_counter() - started
    refused = f"{faults.failures:,} of {faults.requests:,} requests refused"
    print(f"{died} kills, {options.together} at once, {options.rows:,} rows, {refused}")
    print(f"{seconds:.0f} s on {cpu_name()}: {'; '.join(problems) or '0 lost, 0 doubled, no drafts left'}")
    sys.exit(bool(problems or died < options.kills))


if __name__ == "__main__":
    main()
