"""A short run of ``tools.fuzz_media``, and what it does with a file that a decoder fails on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from nearfield.errors import InputError
from nearfield.media.decoder_process.pool import DecoderPool
from tools.fuzz_media import decode_in_child, fuzz


@pytest.mark.process
def test_mutated_pictures_and_sounds() -> None:
    pool = DecoderPool(1)
    findings = fuzz(7, partial(decode_in_child, pool, 10), files=400, folder=None)
    pool.close()
    assert findings.errors == []
    assert findings.outcomes["read"] > 50 and findings.outcomes["refused 400"] > 100
    assert findings.slowest < 10


def test_a_file_on_which_a_decoder_fails_is_saved_and_named(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def fail(name: str, data: bytes) -> None:
        seen.append(data)
        if len(seen) == 1:
            raise InputError(f"{name} takes more than 10 seconds to decode.")
        if len(seen) == 2:
            raise InputError(f"{name} cannot be decoded: its decoder crashed (SIGSEGV).")
        if len(seen) == 3:
            raise RuntimeError("a decoder that raises")
        raise InputError(f"{name} cannot be decoded as PNG.")

    findings = fuzz(1, fail, files=5, folder=tmp_path / "failed")
    assert findings.outcomes == {"failed": 3, "refused 400": 2}
    saved = sorted(path.read_bytes() for path in (tmp_path / "failed").iterdir())
    assert saved == sorted(seen[:3])
    for error, words in zip(findings.errors, ("10 seconds", "SIGSEGV", "RuntimeError: a decoder"), strict=True):
        assert words in error and str(tmp_path) in error
