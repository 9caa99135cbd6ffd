"""Fuzz the decoders of pictures and sounds with mutated files, in a child process with a deadline for each file.

``python -m tools.fuzz_media --minutes 20 --seed 1`` prints what was read and refused, the slowest file and the growth
of memory. It ends with 1 if a file crashed the process, took longer than ``--slow`` seconds or raised anything but an
``InputError``, or if memory grew by more than 64 MiB after the first tenth of the time. Such files are saved in
``--save``, and named.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from nearfield.errors import InputError
from nearfield.media.decoder_process.pool import DecoderJob, DecoderPool
from tests.support import odd_pictures as odd

#: Numbers that formats have as sizes and offsets, and that overflow when they are added or multiplied.
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
#: MiB by which memory may grow, and findings after which the search ends.
_GROWTH, _MAX_FINDINGS = 64, 20
#: Bytes that the child process may take for a file.
_MEMORY = 2**31
#: What the errors of a child process say that has crashed, or that was killed.
_FATAL = re.compile(r"its decoder crashed|takes more than [\d.]+ seconds|needs more memory")
_SOUNDS = (
    *(("WAV", kind) for kind in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")),
    *(("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")),
    *(("AU", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("RF64", "PCM_16"), ("W64", "PCM_16")),
)

Decode = Callable[[str, bytes], object]


@dataclass
class MediaFindings:
    """What happened to the files. Those that a decoder failed on are saved in ``folder``, if that is not None."""

    folder: Path | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def add(self, name: str, data: bytes, decode: Decode) -> None:
        """Decode a file and record the outcome; ``name`` starts with ``picture`` or ``sound``."""
        started = time.perf_counter()
        try:
            decode(name, data)
            outcome = "read"
        except InputError as error:
            outcome = f"refused {error.status}"
            if _FATAL.search(str(error)):
                outcome = self._fail(name, data, str(error))
        except Exception as error:  # noqa: BLE001 - this is what is searched for
            outcome = self._fail(name, data, f"{type(error).__name__}: {error}")
        self.outcomes[outcome] += 1
        self.slowest = max(self.slowest, time.perf_counter() - started)

    def _fail(self, name: str, data: bytes, message: str) -> str:
        path = ""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"{name.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}"
            file.write_bytes(data)
            path = f" ({file})"
        self.errors.append(f"{name}, {len(data)} bytes{path}: {message}")
        return "failed"


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
    pictures = [(f"picture {name}", data) for name, data in files if len(data) < 200_000]
    return pictures + [(f"sound {kind} {subtype}", _sound(kind, subtype)) for kind, subtype in _SOUNDS]


def _sound(kind: str, subtype: str) -> bytes:
    """Return a tone of a tenth of a second as a file."""
    import soundfile  # type: ignore[import-untyped]

    samples = 0.5 * np.sin(np.arange(4800)[:, None] * np.array([[0.05, 0.07]]))
    file = io.BytesIO()
    rate = 8000 if subtype == "GSM610" else 48_000
    soundfile.write(file, samples[:, : 1 if rate == 8000 else 2], rate, format=kind, subtype=subtype)
    return file.getvalue()


def decode_in_child(pool: DecoderPool, seconds: float, name: str, data: bytes) -> None:
    """Decode a file of any format in the pool's process. Raises InputError as the decoders and the pool do."""
    task = name.partition(" ")[0]
    options = {"limits": {}, "name": name, "rate": 48_000, "part": [0.0, None]}
    pool.run(DecoderJob(task, name, options, _MEMORY, seconds), data)


def fuzz(seed: int, decode: Decode, *, seconds: float = 1e9, files: int = 10**9, folder: Path | None) -> MediaFindings:
    """Decode mutated files for some seconds, or so many, or until 20 have failed; failed ones are saved in a folder."""
    originals, random_source, findings = seed_files(), random.Random(seed), MediaFindings(folder)
    end = time.monotonic() + seconds
    while files and time.monotonic() < end and len(findings.errors) < _MAX_FINDINGS:
        name, data = random_source.choice(originals)
        findings.add(name, mutate(data, random_source), decode)
        files -= 1
    return findings


def main() -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz_media", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", type=float, default=10.0, help="seconds after which a file is too slow")
    default = Path(tempfile.gettempdir(), "nearfield-fuzz-media")
    parser.add_argument("--save", type=Path, default=default, help="folder for the files that decoders fail on")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    pool = DecoderPool(1)
    decode = partial(decode_in_child, pool, options.slow)
    first = fuzz(options.seed, decode, seconds=options.minutes * 6, folder=options.save)
    memory = _resident()
    findings = fuzz(options.seed + 1, decode, seconds=options.minutes * 54, folder=options.save)
    growth = (_resident() - memory) / 2**20
    pool.close()
    errors, slowest = first.errors + findings.errors, max(first.slowest, findings.slowest)
    for error in errors:
        print(error)
    counts = ", ".join(f"{count:,} {name}" for name, count in (first.outcomes + findings.outcomes).most_common())
    print(f"{counts}; slowest {slowest:.2f} s; memory {growth:+.0f} MiB")
    return 1 if errors or growth > _GROWTH else 0


def _resident() -> int:
    """Return the resident memory of this process and its children in bytes."""
    import psutil

    process = psutil.Process()
    return sum(int(one.memory_info().rss) for one in (process, *process.children()))


if __name__ == "__main__":
    sys.exit(main())
