"""Base64 in texts: both alphabets, whitespace, percent-encoding, wrong characters, and other threads beside it."""

from __future__ import annotations

import base64
import random
import threading
import time
from urllib.parse import quote

import pytest

from nearfield.errors import InputError, TooLarge
from nearfield.media.data_uri import decode_base64, decode_data_uri

DATA = random.Random(0).randbytes(200_001)
STANDARD = base64.b64encode(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        STANDARD,
        URL_SAFE,
        STANDARD.rstrip("="),
        "\n".join(STANDARD[at : at + 76] for at in range(0, len(STANDARD), 76)) + "\r\n",
        " \t" + " ".join(STANDARD),
        STANDARD[:70_001] + "\f" * 65_537 + STANDARD[70_001:],
    ],
    ids=["standard", "URL-safe", "no padding", "lines", "spaces", "a gap of more than a step"],
)
def test_spellings(text: str) -> None:
    assert decode_base64(text, len(DATA)) == DATA
    assert decode_data_uri(f"data:image/png;base64,{text}", len(DATA)) == DATA


@pytest.mark.parametrize("size", range(8))
def test_sizes(size: int) -> None:
    for encoded in (base64.b64encode(DATA[:size]), base64.urlsafe_b64encode(DATA[:size])):
        assert decode_base64(encoded.decode(), size) == DATA[:size]


def test_percent_encoding_of_a_data_uri() -> None:
    assert decode_data_uri("data:;base64," + quote(STANDARD, safe=""), len(DATA)) == DATA


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STANDARD[:100_000] + "?" + STANDARD[100_000:], r"character '\?' at position 100,000"),
        (STANDARD[:100_000] + "é" + STANDARD[100_000:], "character 'é' at position 100,000"),
        (STANDARD[:65_536] + "====" + STANDARD[65_536:], "character '=' at position 65,536"),
        ("QUI=QUI=", "character '=' at position 3"),
        ("\ud800AAA", r"position 0"),
        ("AAAAA" + " " * 70_000, r"ends within a byte \(5 characters\)"),
    ],
)
def test_what_is_not_base64(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_base64(text, 2 * len(DATA))


def test_whitespace_and_padding_are_not_counted() -> None:
    with pytest.raises(TooLarge, match=r"has 200,001 bytes\. At most 200,000"):
        decode_base64(" ".join(STANDARD), len(DATA) - 1)


def test_other_threads_run_between_steps() -> None:
    text = STANDARD.rstrip("=")[: len(STANDARD) // 4 * 4 - 4] * 60  # 16 MB
    waits, done = [], threading.Event()

    def watch() -> None:
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.001)
            now = time.perf_counter()
            waits.append(now - last)
            last = now

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    decode_base64(text, 10**9)
    seconds = time.perf_counter() - started
    done.set()
    thread.join()
    # Decoded at once, the other thread would have run before and after, and not between.
    assert len(waits) > max(5, seconds / 0.05)
