"""Thumbnails and clips: sides, places, formats, and documents that have none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.corpus.extractors.renderings import document_clip, document_thumbnail
from nearfield.errors import InputError, TooLarge
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from tests.support import films, recordings, sample_documents
from tests.support.films import Film
from tests.support.recordings import RATE, sound_of, write_recording, write_wav

pillow = pytest.importorskip("PIL.Image", reason="the extra media is not installed")
PAGES = [[(72, 700, 40, "First page")], [(72, 700, 40, "Second")]]
TONES = [("alpha", 1.0, 2.0), ("delta", 5.0, 6.0)]


def opened(data: bytes) -> Any:
    return pillow.open(io.BytesIO(data))


def picture_file(size: tuple[int, int], form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    pillow.new("RGB", size, (250, 120, 10)).save(file, form, **options)
    return file.getvalue()


# -- thumbnails --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_pictures_become_smaller_and_keep_their_proportions(form: Any) -> None:
    small = opened(document_thumbnail(picture_file((1000, 400)), "a.png", max_side=200, form=form))
    assert (small.format, small.size) == (form, (200, 80))
    assert np.abs(np.asarray(small.convert("RGB")).mean((0, 1)) - (250, 120, 10)).max() < 6


def test_small_and_narrow_pictures() -> None:
    assert opened(document_thumbnail(picture_file((30, 20)), "a.png")).size == (30, 20)
    assert opened(document_thumbnail(picture_file((2000, 3)), "a.png", max_side=100)).size == (100, 1)


def test_pictures_are_upright() -> None:
    exif = pillow.Exif()
    exif[0x0112] = 6
    turned = picture_file((400, 200), "JPEG", exif=exif)
    assert opened(document_thumbnail(turned, "a.jpg", max_side=100)).size == (50, 100)


def test_transparent_and_grey_pictures_are_shown_on_white() -> None:
    file = io.BytesIO()
    pillow.new("RGBA", (100, 100), (0, 0, 0, 0)).save(file, "PNG")
    assert np.asarray(opened(document_thumbnail(file.getvalue(), "a.png"))).min() > 250


def test_pages_of_a_pdf(tmp_path: Path) -> None:
    data = sample_documents.pdf(PAGES)
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    first, second = (
        opened(document_thumbnail(source, "a.pdf", page=page, max_side=300)) for source, page in ((data, 1), (path, 2))
    )
    assert max(first.size) == max(second.size) == 300
    ink = [int((np.asarray(page.convert("L")) < 128).sum()) for page in (first, second)]
    assert ink[0] > ink[1] > 0
    for page in (0, 3, "1"):
        with pytest.raises(InputError, match="2 pages"):
            document_thumbnail(data, "a.pdf", page=page)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"damaged, or not a PDF file"):
        document_thumbnail(b"%PDF-1.4 nothing", "a.pdf")


def test_frames_of_a_video_by_their_time() -> None:
    film = Film(count=24, size=(64, 48))
    data, expected = films.write_film(film), films.pictures(film)
    for at, number in ((0.0, 0), (0.5, 6), (0.55, 6), (1.99, 23)):
        small = np.asarray(opened(document_thumbnail(data, "a.mp4", at=at)).convert("RGB")).astype(float)
        differences = [np.abs(small - other).mean() for other in expected]
        assert int(np.argmin(differences)) == number
    assert opened(document_thumbnail(data, "a.mp4", at=1, max_side=32)).size == (32, 24)
    with pytest.raises(InputError, match="the video ends at 2 s"):
        document_thumbnail(data, "a.mp4", at=5)
    with pytest.raises(InputError, match="at"):
        Video(data).thumbnail(-1)


def test_what_has_no_thumbnail() -> None:
    for name in ("a.txt", "a.wav", "a"):
        with pytest.raises(InputError, match="thumbnails are of pictures, PDF files and videos"):
            document_thumbnail(b"x", name)
    with pytest.raises(InputError, match="max_side must be a whole number from 1 to 4,096"):
        Image(picture_file((9, 9))).thumbnail(0)
    with pytest.raises(InputError, match="JPEG or WEBP, not 'PNG'"):
        Image(picture_file((9, 9))).thumbnail(form="PNG")  # type: ignore[arg-type]


# -- clips -------------------------------------------------------------------------------------------------------------


def pitch(samples: Any, rate: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus", ".m4a", ".mp4"])
@pytest.mark.parametrize("form", ["WAV", "OGG"])
def test_clips_of_sounds_have_what_is_heard_then(suffix: str, form: Any) -> None:
    data = write_recording(sound_of(TONES, 8), suffix)
    clip = document_clip(data, f"a{suffix}", 5.1, 5.9, form)
    sound = Audio(clip.data).read(RATE)
    assert (sound.format, clip.media_type) == (form, f"audio/{form.lower()}")
    assert sound.seconds == pytest.approx(0.8, abs=0.05)
    assert pitch(sound.samples, RATE) == pytest.approx(recordings.PITCHES["delta"], abs=10)


def test_a_long_clip_is_written_in_pieces() -> None:
    samples = sound_of([("alpha", 0, 300)], 300)
    data = document_clip(write_wav(samples), "a.wav", 0, 300).data
    assert len(data) < len(samples)
    assert Audio(data).header().seconds == pytest.approx(300, abs=0.01)


def test_a_whole_sound_is_written_again_if_a_form_is_stated() -> None:
    data = write_wav(sound_of(TONES, 8))
    assert Audio(data).to_file() == data
    assert Audio(data).to_file(form="OGG").startswith(b"OggS")
    with pytest.raises(InputError, match="WAV or OGG, not 'MP3'"):
        Audio(data).to_file(form="MP3")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mp4 h264", "mov h264", "mkv hevc", "webm vp9", "avi mjpeg", "ts h264"])
def test_clips_of_videos_begin_at_the_keyframe_before(kind: str) -> None:
    data = films.write_film(Film(kind=kind, count=48, gop=8))
    clip = document_clip(data, "a.mp4", 1.5, 3.0)
    frames, times = films.decoded(clip.data)
    whole, _ = films.decoded(data)
    first = round(clip.start * 12)
    assert first <= 18
    assert first > 6
    assert times[-1] + clip.start == pytest.approx(3.0, abs=0.3)
    assert np.array_equal(frames[0], whole[first])
    assert clip.media_type.startswith("video/")


def test_clips_of_videos_have_their_sound() -> None:
    data = write_recording(sound_of(TONES, 8), ".mkv")
    clip = document_clip(data, "a.mkv", 4.0, 8.0)
    samples = np.concatenate(list(Video(clip.data).sound(RATE)))
    at = round((5.2 - clip.start) * RATE)
    assert pitch(samples[at : at + RATE // 2], RATE) == pytest.approx(recordings.PITCHES["delta"], abs=10)


def test_what_has_no_clip(tmp_path: Path) -> None:
    data = films.write_film(Film())
    with pytest.raises(InputError, match="clips are of sounds and videos"):
        document_clip(b"x", "a.txt", 0, 1)
    with pytest.raises(TooLarge, match="at most 600 seconds"):
        document_clip(data, "a.mp4", 0, 601)
    with pytest.raises(InputError):
        document_clip(data, "a.mp4", 3, 2)
    with pytest.raises(InputError, match="ends"):
        document_clip(data, "a.mp4", 50, 52)
    with pytest.raises(TooLarge, match="more than 1,000 bytes"):
        Video(data).clip(max_bytes=1000)
    with pytest.raises(InputError, match="cannot be read"):
        document_clip(tmp_path / "none.wav", "a.wav", 0, 1)
