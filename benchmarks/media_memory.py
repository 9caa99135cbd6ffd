"""Memory of indexing many pictures, a long PDF and a long video: it must not grow with them.

    python -m benchmarks.media_memory [--only pictures pages video] [--share 0.1]

indexes 50,000 JPEG files; one PDF of 3,000 scanned pages; and one video of ten hours, each with a tiny CLIP in a
process that is watched, with its children. It prints MiB in the second and in the last tenth of the run, and at most.
``--share`` takes a part of each. The exit status is 1 if memory grows by more than a tenth from the second to the last
tenth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.process_memory import watch_memory
from nearfield.hardware import cpu_name
from tests.support import media_files, scanned_pages, tiny_pictures
from tests.support.films import Film, write_film_file

#: Growth from the second to the last tenth of a run that counts as none.
GROWTH = 1.1
#: Pages that differ in the long PDF.
_UNLIKE = 20
_CHILD = "from benchmarks.media_memory import index; import sys; index(*sys.argv[1:])"


def write_pictures(folder: Path, count: int) -> None:
    """Write JPEG files, each unlike the others, in folders of a thousand."""
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(media_files.picture(number, "JPEG"))


def write_pages(folder: Path, count: int) -> None:
    """Write a PDF of pages that are pictures of text."""
    unlike = [scanned_pages.page(f"Page {number}. " + "All rights are reserved. " * 60) for number in range(_UNLIKE)]
    small = [page.convert("L").resize((620, 877)) for page in unlike]
    pages = [small[number % _UNLIKE] for number in range(count)]
    (folder / "scan.pdf").write_bytes(scanned_pages.pdf(pages, dots_per_inch=75))


def write_video(folder: Path, seconds: int) -> None:
    """Write a video of one small frame every five seconds."""
    write_film_file(Film(count=seconds // 5, rate=Fraction(1, 5), gop=12), folder / "long.mp4")


#: What writes the files, their number or their seconds, and the kind of chunks.
_PARTS: dict[str, tuple[Callable[[Path, int], None], int, str]] = {
    "pictures": (write_pictures, 50_000, "image"),
    "pages": (write_pages, 3_000, "page"),
    "video": (write_video, 36_000, "video"),
}


def index(kind: str, files: str, home: str, model: str) -> None:
    """Index a folder, as a child does, and print the number of chunks."""
    from nearfield import Collection
    from nearfield.corpus.sources.spec import parse_source

    config = {"features": {kind: {"model": model, "kind": kind}}}
    with Collection.create("memory", config, home=Path(home)) as collection:
        report = collection.index([parse_source(files)])
        if report.failures or report.partial:
            raise RuntimeError(report.to_text())
        print(report.chunks)


def measure(name: str, share: float, place: Path) -> dict[str, Any]:
    """Return the memory of indexing a part."""
    write, count, kind = _PARTS[name]
    (files := place / "files").mkdir()
    write(files, round(count * share))
    model = tiny_pictures.write_clip(place / "model")
    command = [sys.executable, "-c", _CHILD, kind, str(files), str(place / "home"), str(model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    levels = watch_memory(process)
    chunks = int(process.communicate()[0].split()[-1])
    return {"chunks": chunks, **asdict(levels), "flat": levels.growth <= GROWTH}


def main() -> int:
    """Run the parts and print their results; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--share", type=float, default=1.0, help="the part of the files, pages and seconds [1]")
    options, flat = parser.parse_args(), True
    for name in options.only:
        with tempfile.TemporaryDirectory() as place:
            result = measure(name, options.share, Path(place))
        flat = flat and result["flat"]
        print(json.dumps({name: result}), flush=True)
    print(cpu_name())
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
