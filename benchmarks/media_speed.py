"""Speed of indexing pictures and videos, in turn with the bare engine.

    python -m benchmarks.media_speed [--only pictures video]

``pictures``: pictures/s of ``Collection.index`` over JPEG files of 640 x 427 pixels, and their share of those of
``Encoder.stream`` on the same files. ``video``: how many times as fast as it lasts a video of 1,280 x 720 pixels and 25
frames a second is indexed, of which one frame of each second is read. The model has the shape of CLIP ViT-B/32 with
random weights. The exit status is 1 if the median share is below 0.8, or the median of the video below 10.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures import write_clip, write_photos
from nearfield import Collection, Encoder
from nearfield.corpus.sources.spec import parse_source
from nearfield.hardware import cpu_name
from nearfield.media.video.video import Video
from tests.support.odd_pictures import smooth

ROUNDS = 3
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


def _engine(encoder: Encoder, inputs: Iterable[Any]) -> float:
    """Return the seconds in which the engine embeds inputs."""
    started = time.perf_counter()
    for _ in encoder.stream(inputs):
        pass
    return time.perf_counter() - started


def _index(encoder: Encoder, kind: str, files: Path, home: Path) -> float:
    """Return the seconds in which a new collection indexes a folder."""
    config = {"features": {kind: {"model": encoder.name, "kind": kind}}}
    with Collection.create("speed", config, home=home, encoder_of=lambda _: encoder) as collection:
        started = time.perf_counter()
        report = collection.index([parse_source(str(files))])
        seconds = time.perf_counter() - started
    if report.failures or report.partial:
        raise RuntimeError(report.to_text())
    return seconds


def _turns(engine: Callable[[], float], index: Callable[[Path], float], place: Path) -> list[tuple[float, float]]:
    """Return the seconds of the engine and of indexing in each round; the first to run changes from round to round."""
    rounds = []
    for number in range(ROUNDS):
        works = (engine, partial(index, place / f"home{number}"))
        order = (0, 1) if number % 2 else (1, 0)
        seconds = {at: works[at]() for at in order}
        rounds.append((seconds[0], seconds[1]))
    return rounds


def pictures(place: Path, encoder: Encoder) -> dict[str, Any]:
    """Return pictures/s of the engine and of indexing, and the share of each round."""
    (folder := place / "photos").mkdir()
    files = write_photos(folder, "web", quick=False)
    rounds = _turns(lambda: _engine(encoder, files), lambda home: _index(encoder, "image", folder, home), place)
    shares = [engine / index for engine, index in rounds]
    return {
        "engine pictures/s": [round(len(files) / engine, 1) for engine, _ in rounds],
        "pictures/s": [round(len(files) / index, 1) for _, index in rounds],
        "share": round(statistics.median(shares), 3),
        "shares": [round(share, 3) for share in shares],
        "good": statistics.median(shares) >= SHARE,
    }


def video(place: Path, encoder: Encoder) -> dict[str, Any]:
    """Return seconds of video in a second, of the engine and of indexing."""
    (folder := place / "videos").mkdir()
    write_video(folder / "scene.mp4")
    parts = Video(folder / "scene.mp4").segments()
    rounds = _turns(lambda: _engine(encoder, parts), lambda home: _index(encoder, "video", folder, home), place)
    times = [SECONDS / index for _, index in rounds]
    return {
        "engine": [round(SECONDS / engine, 1) for engine, _ in rounds],
        "times real time": round(statistics.median(times), 1),
        "rounds": [round(one, 1) for one in times],
        "good": statistics.median(times) >= TIMES,
    }


_PARTS: dict[str, Callable[[Path, Encoder], dict[str, Any]]] = {"pictures": pictures, "video": video}


def main() -> int:
    """Run the parts and print their results; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=_PARTS, default=list(_PARTS))
    names, results = parser.parse_args().only, []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with Encoder(str(write_clip(place / "ViT-B-32")), modalities=("image",)) as encoder:
            for name in names:
                (place / name).mkdir()
                results.append(_PARTS[name](place / name, encoder))
                print(json.dumps({name: results[-1]}), flush=True)
    print(cpu_name())
    return 0 if all(result["good"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
