"""Speed of indexing pictures and videos, in turn with the bare engine.

    python -m benchmarks.media_speed [--only pictures video]

``pictures``: pictures/s of ``Collection.index`` over 480 JPEG files of 640 x 427 pixels, and their share of those of
``Encoder.stream`` on the same files. ``video``: how many times as fast as it lasts a video of 1,280 x 720 pixels and 25
frames a second is indexed, of which one frame of each second is read. Both are given by the clock and by CPU time, as
other programs disturb that less. The model has the shape of CLIP ViT-B/32, with random weights. The exit status is 1 if
by the clock the median share is below 0.8, or the median of the video below 10.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.media_engines import cpu_time
from benchmarks.pictures import write_clip, write_photos
from nearfield import Collection, Encoder
from nearfield.corpus.sources.spec import parse_source
from nearfield.hardware import cpu_name
from nearfield.media.video.video import Video
from tests.support.odd_pictures import smooth

#: Pictures: so many that starting a worker process and a store is a small part of the time.
PICTURES = 480
#: Seconds, sides, and frames a second of the video.
SECONDS, SIZE, RATE = 60, (1280, 720), 25
#: What is required: the share of the engine's pictures/s, and seconds of video in a second.
SHARE, TIMES = 0.8, 10.0


def write_video(path: Path, seconds: int = SECONDS) -> None:
    """Write H.264 as a camera that moves over a scene sees it, with the noise of its sensor."""
    import av

    width, height = SIZE
    scene = np.asarray(smooth(2 * width, 2 * height), np.int16)
    noise = np.random.default_rng(0).integers(-6, 7, (4, height, width, 3), np.int16)
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * RATE):
            left, top = (2 * number) % width, number % height
            pixels = scene[top : top + height, left : left + width] + noise[number % len(noise)]
            frame = av.VideoFrame.from_ndarray(np.clip(pixels, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@dataclass(frozen=True)
class Turn:
    """One round: seconds by the clock and of CPU time, of the engine and of indexing."""

    engine: float
    engine_cpu: float
    index: float
    index_cpu: float


def _engine(encoder: Encoder, inputs: Iterable[Any]) -> None:
    for _ in encoder.stream(inputs):
        pass


def _index(encoder: Encoder, kind: str, files: Path, home: Path) -> None:
    config = {"features": {kind: {"model": encoder.name, "kind": kind}}}
    with Collection.create("speed", config, home=home, encoder_of=lambda _: encoder) as collection:
        report = collection.index([parse_source(str(files))])
    if report.failures or report.partial:
        raise RuntimeError(report.to_text())


def _seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of some work by the clock, and those of CPU time, decoders included."""
    started, cpu = time.perf_counter(), cpu_time()
    work()
    return time.perf_counter() - started, cpu_time() - cpu


def _turns(encoder: Encoder, kind: str, inputs: Sequence[Any], files: Path, rounds: int) -> list[Turn]:
    """Return the rounds of the engine and of indexing; the first to run changes from round to round."""
    turns = []
    for number in range(rounds):
        works = (
            partial(_engine, encoder, inputs),
            partial(_index, encoder, kind, files, files.parent / f"home{number}"),
        )
        seconds = {at: _seconds(works[at]) for at in ((0, 1) if number % 2 else (1, 0))}
        turns.append(Turn(*seconds[0], *seconds[1]))
    return turns


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 2)


def pictures(place: Path, encoder: Encoder, rounds: int) -> dict[str, Any]:
    """Return pictures/s of the engine and of indexing, and its share by the clock and by CPU time."""
    (folder := place / "photos").mkdir()
    files = write_photos(folder, "web", count=PICTURES)
    turns = _turns(encoder, "image", files, folder, rounds)
    share = _median(turn.engine / turn.index for turn in turns)
    return {
        "engine pictures/s": _median(len(files) / turn.engine for turn in turns),
        "pictures/s": _median(len(files) / turn.index for turn in turns),
        "share": share,
        "share of CPU time": _median(turn.engine_cpu / turn.index_cpu for turn in turns),
        "good": share >= SHARE,
    }


def video(place: Path, encoder: Encoder, rounds: int) -> dict[str, Any]:
    """Return how many times as fast as it lasts a video is embedded and indexed, and by the CPU time of all cores."""
    (folder := place / "videos").mkdir()
    write_video(folder / "scene.mp4")
    turns = _turns(encoder, "video", Video(folder / "scene.mp4").segments(), folder, rounds)
    times = _median(SECONDS / turn.index for turn in turns)
    return {
        "engine": _median(SECONDS / turn.engine for turn in turns),
        "times real time": times,
        "by CPU time": _median(SECONDS * (os.cpu_count() or 1) / turn.index_cpu for turn in turns),
        "good": times >= TIMES,
    }


_PARTS: dict[str, Callable[[Path, Encoder, int], dict[str, Any]]] = {"pictures": pictures, "video": video}


def main() -> int:
    """Run the parts and print their results; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="rounds, whose medians are printed [3]")
    options, results = parser.parse_args(), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with Encoder(str(write_clip(place / "ViT-B-32")), modalities=("image",)) as encoder:
            for name in options.only:
                (place / name).mkdir()
                results.append(_PARTS[name](place / name, encoder, options.rounds))
                print(json.dumps({name: results[-1]}), flush=True)
    print(cpu_name())
    return 0 if all(result["good"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
