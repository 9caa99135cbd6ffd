"""Pictures from files, bytes, data URIs, Pillow and arrays: pixels, digests, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from nearfield.errors import InputError, TooLarge
from nearfield.media.formats import count_frames
from nearfield.media.image import Image, is_image, read_picture
from nearfield.media.limits import ByteSemaphore, PictureLimits, decode_memory
from tests.support import odd_pictures as odd

ODD, TRANSPARENT = dict(odd.odd_pictures()), dict(odd.transparent_pictures())


def opened(data: bytes) -> Pillow.Image:
    """Return a file as Pillow opens it."""
    return Pillow.open(io.BytesIO(data))


@pytest.mark.parametrize("name", ODD)
def test_pixels_are_those_of_pillow(name: str) -> None:
    picture = read_picture(ODD[name])
    expected = np.asarray(opened(ODD[name]).convert("RGB"))
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.pixels.dtype == np.uint8 and (picture.height, picture.width) == expected.shape[:2]
    assert picture.content == hashlib.sha256(ODD[name]).digest()


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparent_parts_are_white(name: str) -> None:
    """Composited in floating point: ``alpha * colour + (1 - alpha) * 255``."""
    rgba = np.asarray(opened(TRANSPARENT[name]).convert("RGBA")).astype(float)
    assert rgba[..., 3].min() < 255
    alpha = rgba[..., 3:] / 255
    expected = alpha * rgba[..., :3] + (1 - alpha) * 255
    np.testing.assert_allclose(read_picture(TRANSPARENT[name]).pixels, expected, atol=1)


@pytest.mark.parametrize("mode", ["LA", "La", "RGBa", "PA", "RGBA"])
def test_pillow_modes_with_transparency(mode: str) -> None:
    rgba = odd.translucent()
    image = rgba.convert("LA").convert(mode) if mode == "La" else rgba.convert(mode)
    assert (read_picture(image).pixels[:, 0] == 255).all()


def test_palette_with_alpha() -> None:
    """A palette that has the transparency itself, as Pillow's quantisation of RGBA makes it."""
    image = odd.translucent().quantize(8, method=Pillow.Quantize.FASTOCTREE)
    assert image.palette is not None and image.palette.mode == "RGBA"
    assert read_picture(image).pixels[:, 0].min() > 200


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation: int, kind: str) -> None:
    data = odd.with_orientation(orientation, kind)
    expected = np.asarray(ImageOps.exif_transpose(opened(data)))
    assert expected.shape[0] == (97 if orientation > 4 else 61)
    assert Image(data).header().upright_size == expected.shape[1::-1]
    np.testing.assert_array_equal(read_picture(data).pixels, expected)
    np.testing.assert_array_equal(read_picture(opened(data)).pixels, expected)


def test_orientation_of_transparent_and_grey_pictures() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    for image in (odd.translucent(), odd.smooth(30, 20).convert("L"), odd.ramp16().crop((0, 0, 30, 20))):
        data = odd.encode(image, "PNG", exif=exif)
        upright = odd.encode(image, "PNG")
        np.testing.assert_array_equal(read_picture(data).pixels, np.rot90(read_picture(upright).pixels, -1))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_unknown_orientation_is_ignored(value: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = value
    data = odd.encode(odd.smooth(30, 20), "JPEG", exif=exif)
    assert read_picture(data).pixels.shape == (20, 30, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("big", [False, True])
def test_16_bits_are_divided(kind: str, big: bool) -> None:
    """The values 0 to 65,535 become 0 to 255, 256 of each. Pillow's conversion would clip nearly all to 255."""
    image = odd.ramp16(big and kind == "TIFF")
    for source in (odd.encode(image, kind), image):
        pixels = read_picture(source).pixels
        np.testing.assert_array_equal(pixels[..., 1].ravel(), np.arange(65536) // 256)


def test_16_bits_with_a_transparent_value() -> None:
    data = odd.encode(odd.ramp16(), "PNG", transparency=512)
    pixels = read_picture(data).pixels
    assert pixels[2, 0].tolist() == [255] * 3 and pixels[2, 1].tolist() == [2] * 3


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused(mode: str) -> None:
    image = odd.smooth(4, 4).convert("L").convert(mode)
    for source in (image, odd.encode(image, "TIFF")):
        with pytest.raises(InputError, match=r"32 bits a pixel \(mode '"):
            read_picture(source)


def test_largest() -> None:
    data = odd.encode(odd.smooth(*odd.LARGE).convert("L"), "JPEG")
    picture = read_picture(data)
    assert picture.pixels.shape == (6000, 8000, 3)


def test_warnings() -> None:
    assert read_picture(odd.animation("GIF", 3)).warnings == ("only the first of 3 frames was read",)
    assert read_picture(odd.animation("WEBP", 4)).warnings == ("only the first of 4 frames was read",)
    assert read_picture(ODD["TIFF pages"]).warnings == ("only the first of 2 pages was read",)
    assert read_picture(ODD["JPEG RGB"]).warnings == ()


def test_multi_picture_jpeg() -> None:
    """Phones put a preview or a depth map after the picture (MPO): that is no animation."""
    first, second = odd.smooth(40, 30), odd.smooth(40, 30, 1)
    data = odd.encode(first, "MPO", save_all=True, append_images=[second])
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, np.asarray(opened(data).convert("RGB")))
    assert picture.format == "JPEG" and picture.warnings == ()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_damaged_exif_is_ignored() -> None:
    data = odd.encode(odd.smooth(30, 20), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    assert read_picture(data).pixels.shape == (20, 30, 3)


# -- sources


def test_all_sources_agree(tmp_path: Path) -> None:
    image = odd.smooth(31, 17)
    data = odd.encode(image, "PNG")
    path = tmp_path / "a photo é.txt"
    path.write_bytes(data)
    uri = "data:text/plain;charset=x;base64," + base64.b64encode(data).decode()
    pixels = np.asarray(image)
    files: list[Any] = [
        Image(path),
        Image(path=str(path)),
        Image(data),
        Image(bytearray(data)),
        Image(memoryview(data)),
        path,
        data,
    ]
    pictures = [read_picture(source) for source in [*files, Image(uri=uri), Image(Image(data))]]
    assert {picture.content for picture in pictures} == {hashlib.sha256(data).digest()}
    others = [Image(source).read() for source in (image, pixels)]
    assert len({picture.content for picture in others}) == 1 and others[0].content != pictures[0].content
    for picture in pictures + others:
        np.testing.assert_array_equal(picture.pixels, pixels)


def test_digest_has_the_shape() -> None:
    pixels = np.zeros((2, 8, 3), np.uint8)
    assert read_picture(pixels).content != read_picture(pixels.reshape(8, 2, 3)).content


def test_grey_array_and_views() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (read_picture(grey).pixels == grey[..., None]).all()
    turned = np.asarray(odd.smooth(9, 5))[::-1, ::2]
    np.testing.assert_array_equal(read_picture(turned).pixels, turned)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3)), "float64.*Multiply values from 0 to 1 by 255"),
        (np.zeros((4, 4, 3), np.int64), "int64: convert it to numpy.uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"shape \[3, 4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), r"PIL.Image.fromarray"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \[0, 4, 3\]"),
        (np.zeros(5, np.uint8), r"shape \[5\]"),
    ],
)
def test_other_arrays_are_refused(array: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_picture(array)


def test_a_string_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(ODD["1x1"])
    with pytest.raises(InputError, match="A string is a text"):
        Image(str(path))  # type: ignore[arg-type]
    for value in (None, 3, [b""], {"a": 1}):
        with pytest.raises(InputError):
            Image(value)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one of"):
        Image(b"", path="x")
    with pytest.raises(InputError, match="no path"):
        Image(path=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be a string"):
        Image(uri=b"data:")  # type: ignore[arg-type]


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.png").write_bytes(ODD["1x1"])
    image = Image(path="photo.png")
    monkeypatch.chdir("/")
    assert image.read().width == 1
    os.mkfifo(tmp_path / "pipe")
    for path, reason in {
        "missing.png": "No such file",
        "pipe": "no regular file",
        ".": "no regular file|Is a directory",
        "a" * 300: "File name too long",
    }.items():
        with pytest.raises(InputError, match=reason):
            read_picture(tmp_path / path)
    with pytest.raises(InputError, match="no regular file"):
        read_picture(Path("/dev/zero"))
    with pytest.raises(InputError, match="null"):
        Image(path="a\0b").read()
    with pytest.raises(TooLarge, match=r"photo\.png has"):
        read_picture(tmp_path / "photo.png", PictureLimits(max_bytes=20))


def test_pickle(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(ODD["2x3"])
    image = odd.smooth(2, 3)
    for source in (path, ODD["2x3"], image, np.asarray(image)):
        copy = pickle.loads(pickle.dumps(Image(source)))
        np.testing.assert_array_equal(copy.read().pixels, np.asarray(image))


def test_names_and_repr(tmp_path: Path) -> None:
    assert repr(Image(path="/a/b.png")) == "Image(path='/a/b.png')"
    assert repr(Image(b"1234")) == "Image(<bytes 4>)"
    assert repr(Image(np.zeros((2, 3, 3), np.uint8))) == "Image(<ndarray [2, 3, 3]>)"
    path = tmp_path / "bad.jpg"
    path.write_bytes(b"hello")
    with pytest.raises(InputError, match=r"bad\.jpg is a text"):
        read_picture(path)


def test_is_image() -> None:
    assert is_image(odd.smooth(1, 1)) and is_image(opened(ODD["AVIF"])) and is_image(Image(b""))
    assert not any(map(is_image, ("text", b"", np.zeros((1, 1, 3), np.uint8), Path("x"))))


# -- data URIs


def test_data_uri_forms() -> None:
    data = ODD["2x3"]
    digits = base64.b64encode(data).decode()
    for text in (digits.rstrip("="), digits[:10] + "\r\n " + digits[10:], digits):
        assert Image(uri=f"DATA:image/png;BASE64,{text}").read().width == 2


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:image/png;base64,!!!!", "character '!' at position 0"),
        ("data:image/png;base64,AAAAA", "ends within a byte"),
        ("data:image/png;base64,AA=A", "character '=' at position 2"),
        ("data:image/svg+xml,%3Csvg/%3E", "not in base64"),
        ("https://example.com/a.png", "must start with 'data:'"),
        ("data:image/png;base64", "must start with 'data:'"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png;base64,aGVsbG8gd29ybGQ=", "is a text"),
    ],
)
def test_bad_data_uris(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Image(uri=uri).read()


def test_data_uri_is_measured_before_it_is_decoded() -> None:
    with pytest.raises(TooLarge, match=r"750 bytes\. At most 700"):
        read_picture(Image(uri="data:;base64," + "A" * 1000), PictureLimits(max_bytes=700))


# -- bad files

BAD = {
    "truncated JPEG": (ODD["JPEG RGB"][:-800], "cannot be decoded as JPEG: image file is truncated"),
    "truncated PNG": (ODD["PNG RGB"][:-800], "cannot be decoded as PNG"),
    "truncated GIF": (ODD["GIF"][:-800], "cannot be decoded as GIF"),
    "truncated WEBP": (ODD["WEBP lossy"][:-800], "cannot be decoded as WEBP"),
    "truncated AVIF": (ODD["AVIF"][:-800], "cannot be decoded as AVIF"),
    "truncated BMP": (ODD["BMP RGB"][:-800], "cannot be decoded as BMP"),
    "truncated TIFF": (ODD["TIFF RGB"][:-20000], "cannot be decoded as TIFF"),
    "JPEG header only": (ODD["JPEG RGB"][:12], "cannot be decoded as JPEG"),
    "SVG": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
    "text": (b"This is a text, not a picture.", "is a text, no picture"),
    "HTML": (b"<!DOCTYPE html><html></html>", "is HTML or XML"),
    "nothing": (b"", r"is empty \(0 bytes\)"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is a PostScript"),
    "PSD": (b"8BPS\0\x01" + bytes(40), "is a Photoshop"),
    "PDF": (b"%PDF-1.7\n", "is a PDF file"),
    "JPEG 2000": (odd.encode(odd.smooth(9, 9), "JPEG2000"), "is a JPEG 2000"),
    "ICO": (odd.encode(odd.smooth(32, 32), "ICO"), "is an icon"),
    "PPM": (odd.encode(odd.smooth(9, 9), "PPM"), "is a Netpbm"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture"),
    "MP4": (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "is a video or sound"),
    "WAV": (b"RIFF\x24\0\0\0WAVEfmt ", r"is a sound \(WAV\)"),
    "bytes": (bytes(range(128, 255)), r"no known picture \(it starts with 80 81"),
    "no pixels": (b"GIF89a" + bytes(7) + b";", "cannot be decoded as GIF|no pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        read_picture(data)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (odd.png_header(60_000, 60_000), "3,600,000,000 pixels"),
        (odd.png_header(8_001, 8_000), "8,001 x 8,000 pixels"),
        (odd.png_header(40_000, 10), "40,000 x 10 pixels"),
        (odd.png_header(12_000, 12_000), "pixels"),
        (odd.gif_of(10_000), "more than 1,000 frames"),
        (odd.animation("PNG", 2).replace(b"acTL\0\0\0\x02", b"acTL\xff\xff\xff\x02"), "frames|decoded"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_large(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_picture(data)
    assert caught.value.status == 413 or "decoded" in str(caught.value)


def test_limits_of_pillow_and_arrays() -> None:
    limits = PictureLimits(max_pixels=100)
    for source in (odd.smooth(11, 10), np.zeros((11, 10, 3), np.uint8)):
        with pytest.raises(TooLarge, match="At most 100 pixels"):
            read_picture(source, limits)
    with pytest.raises(TooLarge, match="bytes"):
        read_picture(ODD["PNG RGB"], PictureLimits(max_bytes=100))
    for value in (0, -1, True, 1.5):
        with pytest.raises(InputError, match="max_pixels"):
            PictureLimits(max_pixels=value)  # type: ignore[arg-type]


def test_frames_are_counted_without_decoding() -> None:
    assert count_frames(odd.gif_of(10_000), "GIF", 10**6) == 10_000
    assert count_frames(odd.animation("GIF", 7), "GIF", 100) == 7
    assert count_frames(ODD["TIFF pages"], "TIFF", 100) == 2
    assert count_frames(odd.gif_of(10_000)[:2000], "GIF", 10**6) < 100
    pages = odd.encode(odd.smooth(3, 3), "TIFF", save_all=True, append_images=[odd.smooth(3, 3)] * 4, big_tiff=True)
    assert count_frames(pages, "TIFF", 100) == 5 and count_frames(pages, "TIFF", 3) == 4
    loop = bytearray(ODD["TIFF pages"])
    first = int.from_bytes(loop[4:8], "little")
    entries = int.from_bytes(loop[first : first + 2], "little")
    loop[first + 2 + 12 * entries : first + 6 + 12 * entries] = loop[4:8]
    assert count_frames(bytes(loop), "TIFF", 100) == 1


# -- memory and threads


def test_reservations_never_exceed_the_capacity() -> None:
    memory, lock = ByteSemaphore(100), threading.Lock()
    running, highest = 0, 0

    def work(size: int) -> None:
        nonlocal running, highest
        with memory.reserve(size):
            with lock:
                running += min(size, 100)
                highest = max(highest, running)
            threading.Event().wait(0.002)
            with lock:
                running -= min(size, 100)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, [10, 30, 60, 99, 1000] * 20))
    assert 60 < highest <= 100 and running == 0


@pytest.mark.parametrize(
    ("data", "pixel_bytes"),
    [
        (ODD["JPEG RGB"], 8),
        (ODD["JPEG progressive"], 12),
        (ODD["JPEG CMYK"], 12),
        (odd.with_orientation(1), 8),
        (odd.with_orientation(6), 12),
        (TRANSPARENT["PNG RGBA"], 17),
        (ODD["WEBP lossy"], 17),
    ],
)
def test_memory_is_reserved_before_pixels_are_decoded(
    data: bytes, pixel_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of a pixel, as the peaks of memory of 6 Mpx pictures show them (7.9, 8.3, 12.1, 7.9, 11.6, 16.0, 16.6)."""
    sizes: list[int] = []

    class Recorder(ByteSemaphore):
        @contextmanager
        def reserve(self, size: int) -> Iterator[None]:
            sizes.append(size)
            with super().reserve(size):
                yield

    monkeypatch.setattr("nearfield.media.decoding.decode_memory", lambda: Recorder(10**9))
    picture = read_picture(data)
    assert sizes == [picture.width * picture.height * pixel_bytes]


def test_a_large_picture_is_not_overtaken_for_ever() -> None:
    memory, order = ByteSemaphore(100), []
    first, entered = threading.Event(), threading.Event()

    def work(name: str, size: int) -> None:
        with memory.reserve(size):
            order.append(name)
            entered.set()
            if name == "first":
                first.wait(10)

    threads = [threading.Thread(target=work, args=row) for row in (("first", 50), ("large", 100), ("small", 10))]
    for thread in threads:
        thread.start()
        entered.wait(10)
        threading.Event().wait(0.05)
    first.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "large", "small"]


def test_threads_share_one_image() -> None:
    """A list with the same picture of Pillow many times, not decoded yet."""
    image = opened(ODD["JPEG RGB"])
    expected = np.asarray(opened(ODD["JPEG RGB"]))
    with ThreadPoolExecutor(8) as pool:
        for picture in pool.map(read_picture, [image] * 40):
            np.testing.assert_array_equal(picture.pixels, expected)


def test_many_threads_and_bad_files() -> None:
    sources = [*ODD.values(), *TRANSPARENT.values(), *(data for data, _ in BAD.values())]
    alone = [outcome(source) for source in sources]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, sources * 3)) == alone * 3
    assert decode_memory()._reserved == 0


def outcome(source: bytes) -> tuple[bytes, str]:
    """Return the pixels of a picture, or the message of its error."""
    try:
        return read_picture(source).pixels.tobytes(), ""
    except InputError as error:
        return b"", str(error)


@pytest.mark.process
def test_pillow_is_imported_when_a_picture_is_read() -> None:
    code = "import sys, nearfield.media.image as m; m.Image(b'x'); assert 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys; sys.modules['PIL.Image'] = None; sys.modules['PIL'] = None\n"
        "from nearfield.media.image import read_picture\n"
        "try: read_picture(b'\\xff\\xd8\\xff\\xda\\0\\0')\n"
        "except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "Pictures need Pillow: pip install 'nearfield[media]'"
