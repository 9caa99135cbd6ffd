"""Near-copies of pictures: which copies are recognised, and which different pictures are taken for copies.

``python -m benchmarks.near_copies`` needs ``nearfield[dedupe]``; with scikit-image and scikit-learn it measures their
photos too. ``--speed N`` compares N hashes with each other, ``--run N WIDTH HEIGHT`` searches N files. Figures are in
``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nearfield import find_duplicate_files
from nearfield.media.copies.hash_index import PictureHashIndex
from nearfield.media.copies.picture_hash import MIN_SIDE, PARTS, WORDS, PictureHash, hash_picture
from nearfield.media.decoding import decode_file
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS
from tests.support.picture_copies import COPIES, saved, scene

#: Photos are cut into parts of this side too, which do not overlap.
_TILE = 320
_SERIES = 8
Pictures = dict[str, Any]


def real_photos() -> Pictures:
    """Return photos of scikit-image and scikit-learn, as far as these are installed, by name."""
    places = {"skimage": "data", "sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}
    photos: Pictures = {}
    for package, folder in places.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        for path in sorted(Path(spec.origin).parent.joinpath(folder).glob("*")):
            if path.suffix in (".jpg", ".png") and path.stat().st_size > 30_000 and path.stem != "motorcycle_right":
                photos[path.stem] = Image.open(path).convert("RGB")
    return photos


def tiles(photos: Pictures) -> Pictures:
    """Return the parts of photos."""
    parts: Pictures = {}
    for name, photo in photos.items():
        rows, columns = range(0, photo.height - _TILE + 1, _TILE), range(0, photo.width - _TILE + 1, _TILE)
        for top, left in itertools.product(rows, columns):
            parts[f"{name}@{left},{top}"] = photo.crop((left, top, left + _TILE, top + _TILE))
    return parts


def generated() -> Pictures:
    """Return pictures of random shapes and gradients."""
    return {f"generated{seed}": scene(seed) for seed in range(40)}


def _moved_scene(seed: int, moved: int) -> Any:
    image = scene(seed)
    ImageDraw.Draw(image).ellipse((40 + moved, 120, 140 + moved, 220), fill=(250, 240, 20))
    return image


# -- different pictures of one series ----------------------------------------------------------------------------------


def _windows(photos: Pictures) -> Iterator[list[Any]]:
    """Yield views of one scene, each a quarter further, as a camera that turns takes them."""
    for photo in photos.values():
        width = round(photo.width * 0.6)
        yield [photo.crop((left, 0, left + width, photo.height)) for left in range(0, photo.width - width, width // 4)]


def _moved() -> Iterator[list[Any]]:
    """Yield frames in which one shape moves by an eighth of the width."""
    for seed in range(_SERIES):
        yield [_moved_scene(seed, 60 * step) for step in range(4)]


def _recoloured(photos: Pictures) -> Iterator[list[Any]]:
    """Yield one motif in several colours."""
    for photo in photos.values():
        hue, saturation, value = photo.convert("HSV").split()
        if np.asarray(saturation).mean() > 40:
            turned = [hue.point(lambda tone, shift=shift: (tone + shift) % 256) for shift in (0, 64, 128)]
            yield [Image.merge("HSV", (tone, saturation, value)).convert("RGB") for tone in turned]


def _pages(paragraphs: bool) -> Iterator[list[Any]]:
    """Yield pages of one template: other words, or forms that differ in numbers alone."""
    font = ImageFont.load_default(20)
    for series in range(_SERIES):
        pages = []
        for number in range(4):
            random = np.random.default_rng(100 * series + number)
            page = Image.new("L", (620, 877), 255)
            draw = ImageDraw.Draw(page)
            draw.text((60, 60), f"INVOICE {series} / {random.integers(1000, 9999)}", 0, font)
            for line in range(24):
                words = " ".join("abcdefghijklmnop"[: random.integers(2, 12)] for _ in range(random.integers(3, 8)))
                amount = f"{random.integers(1, 9999)}.00"
                text = words if paragraphs else f"position {line} {'.' * 40} {amount}"
                draw.text((60, 140 + 26 * line), text, 0, font)
            pages.append(page.convert("RGB"))
        yield pages


def _stereo() -> Iterator[list[Any]]:
    """Yield two photos of one scene from places some centimetres apart."""
    spec = find_spec("skimage")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "data"
        yield [Image.open(folder / f"motorcycle_{side}.png").convert("RGB") for side in ("left", "right")]


def series(photos: Pictures) -> dict[str, list[list[Any]]]:
    """Return series of different pictures, by their kind."""
    return {
        "views of one scene": list(_windows(photos)),
        "two eyes": list(_stereo()),
        "one shape moved": list(_moved()),
        "other colours": list(_recoloured(photos)),
        "pages of other words": list(_pages(True)),
        "forms with other numbers": list(_pages(False)),
    }


# -- measures ----------------------------------------------------------------------------------------------------------


def _hash(data: bytes) -> PictureHash:
    return hash_picture(decode_file(data, DEFAULT_PICTURE_LIMITS, "The picture", MIN_SIDE))


def _distance(first: PictureHash, second: PictureHash, thresholds: Sequence[int]) -> int:
    """Return the smallest of some distances within which two pictures are copies; 256 if they are at none."""
    for limit in thresholds:
        index = PictureHashIndex(limit)
        index.add(first)
        if index.nearest(second) is not None:
            return limit
    return 256


def measure(thresholds: list[int]) -> dict[str, Any]:
    """Return the share of copies that are recognised, and of other pairs that are taken for copies, by distance."""
    photos = real_photos()
    originals = {**photos, **tiles(photos), **generated()}
    hashes = {name: _hash(saved(image, "PNG")) for name, image in originals.items()}
    blank = [name for name, value in hashes.items() if value.is_flat]
    copies = {
        name: [
            _distance(hashes[key], _hash(save(image)), thresholds)
            for key, image in originals.items()
            if key not in blank
        ]
        for name, save in COPIES.items()
    }
    others: dict[str, list[int]] = {
        "unlike": [
            _distance(hashes[one], hashes[other], thresholds)
            for one, other in itertools.combinations(hashes, 2)
            if _source(one) != _source(other)  # a photo and its tile overlap
        ]
    }
    for name, groups in series(photos).items():
        others[name] = []
        for group in groups:
            values = [_hash(saved(image, "PNG")) for image in group]
            others[name] += [_distance(one, other, thresholds) for one, other in itertools.combinations(values, 2)]
    return {
        "originals": len(originals),
        "blank": blank,
        "recall": {name: _shares(values, thresholds) for name, values in copies.items()},
        "recall of all": _shares([value for values in copies.values() for value in values], thresholds),
        "false": {name: {"pairs": len(values), **_counts(values, thresholds)} for name, values in others.items()},
    }


def _source(name: str) -> str:
    return name.partition("@")[0]


def _shares(values: list[int], thresholds: list[int]) -> dict[str, float]:
    return {str(limit): round(sum(value <= limit for value in values) / len(values), 4) for limit in thresholds}


def _counts(values: list[int], thresholds: list[int]) -> dict[str, int]:
    return {str(limit): sum(value <= limit for value in values) for limit in thresholds}


def speed(count: int) -> dict[str, float]:
    """Return seconds and memory of the comparison of random hashes with each other."""
    random = np.random.default_rng(0)
    index = PictureHashIndex()
    for _ in range(count):
        words = np.broadcast_to(random.integers(0, 2**64, WORDS, np.uint64), (PARTS, WORDS))
        index.add(PictureHash(words, np.full((8, 8, 3), 128, np.uint8), False))
    started, cpu = time.perf_counter(), time.process_time()
    everything = np.arange(count)
    for start in range(0, count, 64):
        for _ in index.search(everything[start : start + 64], everything[start:]):
            pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "pictures": count,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu": round(time.process_time() - cpu, 1),
        "peak MiB": peak // 1024,
    }


def whole_run(count: int, width: int, height: int) -> dict[str, float]:
    """Return seconds of a run over JPEG files, each of them twice, and of a second run; and memory."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["NEARFIELD_CACHE"] = str(Path(place, "cache"))
        folder = Path(place, "photos")
        folder.mkdir()
        for seed in range(count // 2):
            image = scene(seed, width, height)
            for quality in (90, 60):
                folder.joinpath(f"{seed}-{quality}.jpg").write_bytes(saved(image, quality=quality))
        results: dict[str, float] = {"pictures": count, "megapixels of each": width * height / 1e6}
        for name in ("first run", "second run"):
            started, cpu = time.perf_counter(), time.process_time()
            groups = find_duplicate_files(folder).groups
            results[f"{name}, seconds"] = round(time.perf_counter() - started, 1)
            results[f"{name}, cpu seconds"] = round(time.process_time() - cpu, 1)
        results["groups"] = len(groups)
        results["groups of one picture"] = sum(
            {copy.file.path.name.partition("-")[0] for copy in (group.best, *group.copies)}
            == {group.best.file.path.name.partition("-")[0]}
            for group in groups
        )
    return {**results, "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", type=int, default=0, help="compare so many hashes")
    parser.add_argument("--run", type=int, nargs=3, metavar=("COUNT", "WIDTH", "HEIGHT"), help="search so many files")
    parser.add_argument("--distances", type=int, nargs="*", default=[16, 32, 40, 48, 56, 64, 80])
    options = parser.parse_args()
    if options.run:
        results: dict[str, Any] = whole_run(*options.run)
    else:
        results = speed(options.speed) if options.speed else measure(options.distances)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
