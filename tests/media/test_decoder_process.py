"""Decoders in child processes: crashes, hangs and lack of memory cost the file alone, and the next one is decoded."""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from PIL import Image as Pillow

from nearfield.errors import InputError, TooLarge
from nearfield.media import decoding
from nearfield.media.audio import Audio
from nearfield.media.decoder_process import pool as pools
from nearfield.media.decoder_process.pool import DecoderJob, DecoderPool, run_decoder
from nearfield.media.formats import is_bounded
from nearfield.media.image import Image, read_picture
from nearfield.media.limits import decode_memory
from nearfield.media.sound import sound_decoding
from tests.support import odd_pictures as odd

pytestmark = pytest.mark.process

TIFF = odd.encode(odd.smooth(50, 40), "TIFF")
TIFF_PIXELS = np.asarray(odd.smooth(50, 40))
JPEG = odd.encode(odd.smooth(50, 40), "JPEG")
COMMENT = b"\xff\xfe" + struct.pack(">H", 6) + b"text"
#: Files that are decoded in a child process: their formats, or a header that a thread could take very long for.
IN_CHILD = {
    "TIFF": TIFF,
    "AVIF": odd.encode(odd.smooth(50, 40), "AVIF"),
    "GIF": odd.encode(odd.smooth(50, 40), "GIF"),
    "BMP": odd.encode(odd.smooth(50, 40), "BMP"),
    "JPEG of many segments": JPEG[:2] + 400 * COMMENT + JPEG[2:],
    "JPEG with bytes between segments": JPEG[:20] + bytes(100) + JPEG[20:],
    "JPEG of many scans": JPEG[:2] + COMMENT.replace(b"text", b"\xff\xda\xff\xda") * 20 + JPEG[2:],
}
#: Files that are not.
IN_THREAD = {
    "JPEG": JPEG,
    "JPEG progressive": odd.encode(odd.smooth(50, 40), "JPEG", progressive=True),
    "JPEG with EXIF data": odd.with_orientation(6),
    "PNG": odd.encode(odd.smooth(50, 40), "PNG"),
    "PNG interlaced": odd.interlaced_png(),
    "WEBP": odd.encode(odd.smooth(50, 40), "WEBP"),
}


@pytest.fixture(scope="module", autouse=True)
def processes() -> Iterator[None]:
    """End the processes of other tests first, so that each process here is one of these tests."""
    close()
    yield
    close()


def close() -> None:
    """End the processes that are idle."""
    pool = pools._pool.peek()
    if pool is not None:
        pool.close()


def children() -> list[psutil.Process]:
    """Return the processes of this one that decode."""
    module = "nearfield.media.decoder_process.worker"
    return [one for one in psutil.Process().children() if module in one.cmdline()]


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition and return its value."""
    end = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)
    return value


@contextmanager
def waiting(read: Callable[[], Any]) -> Iterator[tuple[psutil.Process, Future[Any]]]:
    """Yield the process that decodes, in which a file waits for memory, and its result; then the memory is free."""
    close()
    memory = decode_memory()
    with ThreadPoolExecutor(1) as thread:
        with memory.reserve(memory.capacity):
            future = thread.submit(read)
            until(lambda: memory._queue)
            (child,) = children()
            yield child, future
        future.exception()


@pytest.mark.parametrize("name", IN_CHILD)
def test_what_is_decoded_in_a_child(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.asarray(Pillow.open(io.BytesIO(IN_CHILD[name])).convert("RGB"))
    monkeypatch.setattr(decoding, "decode_here", None)
    picture = read_picture(IN_CHILD[name])
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.pixels.flags.writeable and (picture.width, picture.height) == (50, 40)


@pytest.mark.parametrize("name", IN_THREAD)
def test_what_is_decoded_in_a_thread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "run_decoder", None)
    read_picture(IN_THREAD[name])


def test_chunks_of_a_png() -> None:
    png = IN_THREAD["PNG"]
    chunk = b"\0\0\0\0" + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    assert is_bounded(png[:33] + 9000 * chunk + png[33:], "PNG")
    assert not is_bounded(png[:33] + 10_000 * chunk + png[33:], "PNG")
    assert not is_bounded(png[:-12] + 10_000 * chunk + png[-12:], "PNG"), "chunks after the pixels are read too"


def test_headers() -> None:
    for name, data in {**IN_CHILD, **IN_THREAD}.items():
        header = Image(data).header()
        opened = Pillow.open(io.BytesIO(data))
        assert (header.width, header.height) == opened.size, name
        image = Image(data)
        picture = image.read()
        assert image.header() == header, name
        assert header.upright_size == (picture.width, picture.height), name


def test_a_killed_process_costs_its_file_alone() -> None:
    image = Image(TIFF)
    with waiting(image.read) as (child, future):
        child.kill()
        until(lambda: child.status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(InputError, match=r"The picture cannot be decoded: its decoder crashed \(SIGKILL\)"):
        future.result()
    assert decode_memory()._reserved == 0
    np.testing.assert_array_equal(image.read().pixels, TIFF_PIXELS)


def test_a_hanging_process_is_killed_at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.tiff"
    path.write_bytes(TIFF)
    monkeypatch.setattr(decoding, "DECODE_SECONDS", 1.0)
    with waiting(Image(path=path).read) as (child, future):
        child.send_signal(signal.SIGSTOP)
    with pytest.raises(InputError, match=f"{path} takes more than 1 seconds to decode"):
        future.result()
    assert not child.is_running() and decode_memory()._reserved == 0
    np.testing.assert_array_equal(read_picture(path).pixels, TIFF_PIXELS)


def test_the_wait_for_memory_does_not_count_towards_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "DECODE_SECONDS", 0.5)
    read_picture(TIFF)
    with waiting(Image(TIFF).read) as (_, future):
        threading.Event().wait(0.7)
    assert future.result().width == 50


def test_a_process_that_was_killed_between_files_costs_none() -> None:
    for _ in range(2):
        np.testing.assert_array_equal(read_picture(TIFF).pixels, TIFF_PIXELS)
        for child in children():
            child.kill()
            # A zombie or gone; other processes of the tests run on.
            until(partial(has_ended, child))


def test_a_lack_of_memory_costs_its_file_alone() -> None:
    large = odd.encode(Pillow.new("RGB", (3000, 3000)), "TIFF", compression="tiff_deflate")
    options = {"limits": {}, "name": "photo.tiff"}
    close()
    read_picture(TIFF)  # the process has loaded its libraries
    with pytest.raises(TooLarge, match=r"photo\.tiff needs more memory to decode than there is"):
        run_decoder(DecoderJob("picture", "photo.tiff", options, 2**24, 30), large)
    assert read_picture(large).pixels.shape == (3000, 3000, 3)


def test_a_reply_cannot_have_more_than_the_memory_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a decoder that was taken over may send: another type, or more than fits."""
    for head in ({"dtype": "|u1", "shape": [2**40]}, {"dtype": "|O", "shape": [1]}, {"dtype": "|u1", "shape": [-1]}):
        pool = DecoderPool()
        monkeypatch.setattr(pool, "_start", partial(Impostor.start, head))
        with pytest.raises(InputError, match=r"photo cannot be decoded: its decoder crashed"):
            pool.run(DecoderJob("picture", "photo", {}, 2**20, 5), b"")


class Impostor(pools.DecoderProcess):
    """A process whose reply is any."""

    def __init__(self, head: dict[str, Any]) -> None:
        self._link, child = socket.socketpair()
        self._seconds = 5.0
        self.process = subprocess.Popen([sys.executable, "-c", ""])
        data = msgspec.msgpack.encode({"type": "ReplyMessage", "arrays": [head]})
        child.sendall(len(data).to_bytes(4, "big") + data)
        child.close()

    @classmethod
    def start(cls, head: dict[str, Any], job: DecoderJob, source: bytes) -> Impostor:
        """Return one that has begun the job."""
        return cls(head)


def test_sounds_are_decoded_in_a_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples = np.linspace(-0.5, 0.5, 4000, dtype=np.float32)
    path = tmp_path / "dog.wav"
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    monkeypatch.setattr(sound_decoding, "decode_sound_here", None)
    np.testing.assert_array_equal(Audio(path).read(8000).samples, samples)
    np.testing.assert_array_equal(Audio(path.read_bytes()).read(8000).samples, samples)
    monkeypatch.setattr(sound_decoding, "_SECONDS", 1.0)
    with waiting(lambda: Audio(path).read(8000)) as (child, future):
        child.send_signal(signal.SIGSTOP)
    with pytest.raises(InputError, match=f"{path} takes more than 1 seconds to decode"):
        future.result()
    with waiting(lambda: Audio(path).read(8000)) as (child, future):
        child.send_signal(signal.SIGSEGV)
        until(lambda: child.status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(InputError, match=r"cannot be decoded: its decoder crashed \(SIGSEGV\)"):
        future.result()
    np.testing.assert_array_equal(Audio(path).read(8000).samples, samples)


#: A module of the child: it adds a task that yields several results.
FILM = """
import numpy as np
from nearfield.errors import InputError
from nearfield.media.decoder_process import messages

messages.TASKS["test"] = "sitecustomize:decode"

def decode(file, options):
    assert file.read(2) == b"II"
    if options["count"] < 0:
        raise InputError(f"there is no number {options['count']}")
    for number in range(options["count"]):
        yield {"number": number}, [np.full(3, number, np.uint8)]
"""


def test_several_results_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the frames of a film. A process whose results are not read to their end is killed."""
    (tmp_path / "sitecustomize.py").write_text(FILM)
    monkeypatch.syspath_prepend(tmp_path)
    job = DecoderJob("test", "film", {"count": 5}, 2**26, 30)
    pool = DecoderPool(1)
    for _ in range(2):
        results = list(pool.stream(job, TIFF))
        assert [result.values for result in results] == [{"number": number} for number in range(5)]
        assert [result.arrays[0].tolist() for result in results] == [[number] * 3 for number in range(5)]
    (process,) = pool._idle
    with closing(pool.stream(job, TIFF)) as some:
        assert next(some).values == {"number": 0}
    assert not pool._idle and process.process.poll() is not None
    with pytest.raises(InputError, match=r"there is no number -1"):
        list(pool.stream(DecoderJob("test", "film", {"count": -1}, 2**26, 30), TIFF))
    assert pool.run(DecoderJob("test", "film", {"count": 1}, 2**26, 30), TIFF).values == {"number": 0}
    pool.close()


def test_threads_share_the_processes() -> None:
    with ThreadPoolExecutor(8) as threads:
        for picture in threads.map(read_picture, [TIFF] * 60):
            np.testing.assert_array_equal(picture.pixels, TIFF_PIXELS)
    assert 1 <= len(children()) <= pools.MAX_PROCESSES


def test_the_process_ends_with_its_parent() -> None:
    code = (
        "import os, sys, psutil, signal\n"
        "from nearfield.media.image import read_picture\n"
        "read_picture(bytes.fromhex(sys.stdin.read()))\n"
        "print(*(one.pid for one in psutil.Process().children()), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], input=TIFF.hex(), capture_output=True, text=True)
    (pid,) = map(int, result.stdout.split())
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_forked_process_has_other_processes() -> None:
    read_picture(TIFF)
    before = {child.pid for child in children()}
    pid = os.fork()
    if not pid:
        same = np.array_equal(read_picture(TIFF).pixels, TIFF_PIXELS)
        close()
        os._exit(0 if same else 1)
    assert os.waitpid(pid, 0)[1] == 0
    np.testing.assert_array_equal(read_picture(TIFF).pixels, TIFF_PIXELS)
    assert {child.pid for child in children()} == before
