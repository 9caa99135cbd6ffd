"""Fuzz the decoders of pictures with mutated files.

``python -m tools.fuzz_media --minutes 20 --seed 1`` prints what was read and refused, the slowest file and the growth
of memory. It ends with 1 if a file raised anything but ``InputError``, took longer than ``--slow`` seconds, or if
memory grew by more than 64 MiB after the first tenth of the time. A crash ends the process: ``--save FILE`` writes each
file before it is decoded.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nearfield.errors import InputError
from nearfield.media.image import read_picture
from tests.support import odd_pictures as odd

#: Numbers that formats have as sizes and offsets, and that overflow when they are added or multiplied.
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
#: MiB by which memory may grow.
_GROWTH = 64


@dataclass
class MediaFindings:
    """What happened to the files."""

    outcomes: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def add(self, name: str, data: bytes, decode: Callable[[bytes], object] = read_picture) -> None:
        """Decode a file and record the outcome."""
        started = time.perf_counter()
        try:
            decode(data)
            outcome = "read"
        except InputError as error:
            outcome = f"refused {error.status}"
        except Exception as error:  # noqa: BLE001 - this is what is searched for
            outcome = "error"
            self.errors.append(f"{name}: {type(error).__name__}: {error} ({data[:40].hex()}, {len(data)} bytes)")
        self.outcomes[outcome] += 1
        self.slowest = max(self.slowest, time.perf_counter() - started)


def mutate(data: bytes, random_source: random.Random) -> bytes:
    """Return a file with a few changes: bytes, numbers, parts removed, repeated or moved, and ends cut off."""
    content = bytearray(data)
    for _ in range(random_source.choice((1, 1, 1, 2, 4, 16))):
        position = _position(len(content), random_source)
        kind = random_source.randrange(6)
        if kind < 2:
            content[position : position + 1] = bytes([random_source.randrange(256)])
        elif kind == 2:
            width = random_source.choice((1, 2, 4))
            number = random_source.choice(_EXTREMES) & (256**width - 1)
            content[position : position + width] = number.to_bytes(width, random_source.choice(("big", "little")))
        elif kind == 3:
            del content[position : position + random_source.randrange(1, 64)]
        elif kind == 4:
            part = content[position : position + random_source.randrange(1, 64)]
            content[_position(len(content), random_source) : 0] = part
        elif len(content) > 16:
            del content[random_source.randrange(16, len(content)) :]
    return bytes(content)


def _position(size: int, random_source: random.Random) -> int:
    """Return a position; half of them are among the first 256 bytes, where headers are."""
    return random_source.randrange(max(1, min(size, 256) if random_source.random() < 0.5 else size))


def seed_files() -> list[tuple[str, bytes]]:
    """Return the names and bytes of the files that are mutated."""
    files = [*odd.odd_pictures(), *odd.transparent_pictures()]
    files += [(f"{kind} orientation", odd.with_orientation(6, kind)) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    files += [("16 bits", odd.encode(odd.ramp16().crop((0, 0, 40, 40)), "PNG"))]
    return [(name, data) for name, data in files if len(data) < 200_000]


def fuzz_pictures(seconds: float, seed: int, save: Path | None = None) -> MediaFindings:
    """Decode mutated files for some seconds, or until 20 have raised errors of other kinds."""
    files, random_source, findings = seed_files(), random.Random(seed), MediaFindings()
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(findings.errors) < 20:
        name, data = random_source.choice(files)
        data = mutate(data, random_source)
        if save is not None:
            save.write_bytes(data)
        findings.add(name, data)
    return findings


def main() -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz_media", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", type=float, default=10.0, help="seconds after which a file is too slow")
    parser.add_argument("--save", type=Path, help="write each file here before it is decoded")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    first = fuzz_pictures(options.minutes * 6, options.seed, options.save)
    memory = _resident()
    findings = fuzz_pictures(options.minutes * 54, options.seed + 1, options.save)
    growth = (_resident() - memory) / 2**20
    errors, slowest = first.errors + findings.errors, max(first.slowest, findings.slowest)
    for error in errors:
        print(error)
    counts = ", ".join(f"{count:,} {name}" for name, count in (first.outcomes + findings.outcomes).most_common())
    print(f"{counts}; slowest {slowest:.2f} s; memory {growth:+.0f} MiB")
    return 1 if errors or slowest > options.slow or growth > _GROWTH else 0


def _resident() -> int:
    """Return the resident memory of this process in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    sys.exit(main())
