"""Pictures to folders of shards: ``python -m benchmarks.bulk_pictures [--only kills|memory|speed ...]``.

``kills``: 2,000 pictures with 30 bad ones among them are embedded by runs of which ten are killed (SIGKILL) at random
moments; the folder must then be that of a run without kills, byte for byte, and each picture must have a row or be set
aside. ``memory``: that of a run and its child processes over 10,000 pictures, after a tenth of them and at its largest
later. ``speed``: pictures/s of ``nearfield embed``, from files, from a tar and from a Parquet file, as a share of those
of ``Encoder.stream`` in the same rounds, with a model of the shape of CLIP ViT-B/32.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.pictures import write_clip, write_photos
from benchmarks.process_memory import resident
from nearfield import Encoder
from nearfield.bulk.embed import EmbedRequest, embed
from nearfield.bulk.report import FolderReport
from nearfield.hardware import cpu_name
from tests.support import bad_media, odd_pictures, tiny_pictures

GOOD, BAD, KILLS = 2000, 30, 10
PHOTOS = 10_000
ROUNDS, TIMED = 3, 96
_SHARD_ROWS = 100


def _start(source: Path, output: Path, model: Path, rows: int = _SHARD_ROWS) -> subprocess.Popen[bytes]:
    words = ["embed", str(source), "-o", f"{output}/", "--model", str(model), "--shard-rows", str(rows), "--quiet"]
    command = [sys.executable, "-m", "nearfield.cli", *words, "--skip-unreadable"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _write_mixed(folder: Path) -> set[str]:
    """Write good pictures with bad ones among them; return the names of the good ones."""
    photos = [odd_pictures.encode(odd_pictures.smooth(160, 120, seed), "JPEG") for seed in range(20)]
    wrong = [data for data, _, _ in bad_media.PICTURES.values()]
    bad = set(random.Random(0).sample(range(GOOD + BAD), BAD))
    for number in range(GOOD + BAD):
        data = wrong[number % len(wrong)] if number in bad else photos[number % len(photos)]
        (folder / f"{number:05}.jpg").write_bytes(data)
    return {f"{number:05}.jpg" for number in range(GOOD + BAD) if number not in bad}


def _kill_runs(source: Path, output: Path, model: Path) -> int:
    """Start runs and kill each after some shards; return how many died."""
    chance, died = random.Random(time.time_ns()), 0
    for _ in range(3 * KILLS):
        if died == KILLS:
            break
        process, wanted = _start(source, output, model), _records(output) + chance.randrange(0, 3)
        while process.poll() is None and (_records(output) < wanted or not output.exists()):
            time.sleep(0.01)
        time.sleep(chance.random() * 0.5)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            died += 1
        process.wait()
    return died


def _records(output: Path) -> int:
    return len(list(output.glob("_shards/0*.json")))


def _contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def kills(place: Path) -> dict[str, Any]:
    """Return what became of the pictures after kills."""
    from pyarrow import dataset

    model, source = tiny_pictures.write_clip(place / "tiny"), place / "mixed"
    source.mkdir()
    good = _write_mixed(source)
    died = _kill_runs(source, place / "killed", model)
    codes = [_start(source, place / name, model).wait() for name in ("killed", "whole")]
    rows = dataset.dataset(place / "killed").to_table()["id"].to_pylist()
    lines = (place / "killed/_set_aside.jsonl").read_text().splitlines()
    aside = [json.loads(line)["id"] for line in lines]
    return {
        "kills": died,
        "exit codes": codes,
        "rows": len(rows),
        "set aside": len(aside),
        "lost": len(good - set(rows)) + GOOD + BAD - len({*rows, *aside}),
        "doubled": len(rows) + len(aside) - len({*rows, *aside}),
        "equal": _contents(place / "killed") == _contents(place / "whole"),
    }


def memory(place: Path) -> dict[str, Any]:
    """Return MiB of a run and its children, after a tenth of the pictures and at most later."""
    model, source, output = tiny_pictures.write_clip(place / "small"), place / "many", place / "vectors"
    source.mkdir()
    photos = write_photos(place, "web", quick=False)
    for number in range(PHOTOS):
        os.link(photos[number % len(photos)], source / f"{number:06}.jpg")
    process, sizes = _start(source, output, model, PHOTOS // 20), {"a tenth": 0.0, "later": 0.0}
    watched, started = psutil.Process(process.pid), time.monotonic()
    while process.poll() is None:
        part = "a tenth" if _records(output) <= 2 else "later"
        sizes[part] = max(sizes[part], resident(watched))
        time.sleep(0.2)
    seconds = time.monotonic() - started
    return {"pictures": PHOTOS, "seconds": round(seconds), **{name: round(size) for name, size in sizes.items()}}


def _write_tar(path: Path, photos: list[Path]) -> None:
    with tarfile.open(path, "w", dereference=True) as archive:
        for photo in photos:
            archive.add(photo, photo.name)


def _write_table(path: Path, photos: list[Path]) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    parquet.write_table(arrow.table({"image": [photo.read_bytes() for photo in photos]}), path)


def speed(place: Path) -> dict[str, Any]:
    """Return pictures/s of the engine, and the share of them of bulk runs: median of rounds, smallest and largest."""
    model, folder = write_clip(place / "ViT-B-32"), place / "timed"
    folder.mkdir()
    photos = write_photos(place, "web", quick=False)
    files = [folder / f"{number:04}.jpg" for number in range(TIMED)]
    for number, file in enumerate(files):
        os.link(photos[number % len(photos)], file)
    _write_tar(place / "timed.tar", files)
    _write_table(place / "timed.parquet", files)
    encoder = Encoder(str(model), modalities=("image",))
    works: dict[str, Callable[[int], float]] = {
        "engine": lambda _: _stream(encoder, files),
        "files": lambda at: _bulk(EmbedRequest([folder], f"{place}/files{at}/", str(model))),
        "tar": lambda at: _bulk(EmbedRequest([place / "timed.tar"], f"{place}/tar{at}/", str(model))),
        "parquet": lambda at: _bulk(
            EmbedRequest([place / "timed.parquet"], f"{place}/parquet{at}/", str(model), media="image")
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in works}
    for at in range(ROUNDS):
        for name, work in works.items():
            rates[name].append(work(at))
    shares = {
        name: sorted(rate / engine for rate, engine in zip(rates[name], rates["engine"], strict=True))
        for name in ("files", "tar", "parquet")
    }
    return {
        "engine pictures/s": [round(rate, 1) for rate in rates["engine"]],
        **{
            name: [round(statistics.median(part), 3), *(round(end, 3) for end in (part[0], part[-1]))]
            for name, part in shares.items()
        },
    }


def _stream(encoder: Encoder, files: list[Path]) -> float:
    started = time.perf_counter()
    count = sum(len(vectors) for vectors in encoder.stream(files))
    return count / (time.perf_counter() - started)


def _bulk(request: EmbedRequest) -> float:
    report = embed(request)
    if not isinstance(report, FolderReport) or report.set_aside or report.texts != TIMED:
        raise RuntimeError(report)
    return report.texts_per_second


_PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {"kills": kills, "memory": memory, "speed": speed}


def main() -> None:
    """Run the parts and print their results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=_PARTS, default=list(_PARTS))
    results: dict[str, Any] = {"cpu": cpu_name()}
    for name in parser.parse_args().only:
        with tempfile.TemporaryDirectory() as place:
            results[name] = _PARTS[name](Path(place))
        print(json.dumps({name: results[name]}), flush=True)
    done = results.get("kills", {"equal": True, "lost": 0, "doubled": 0, "kills": KILLS})
    print(results["cpu"])
    sys.exit(not done["equal"] or done["lost"] + done["doubled"] > 0 or done["kills"] < KILLS)


if __name__ == "__main__":
    main()
