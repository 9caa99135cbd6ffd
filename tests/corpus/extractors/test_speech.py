"""Speech: formats, times, blocks in bounded memory, the cache, guards, limits, and the model where it is here."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.corpus.document import Document, StoredFile
from nearfield.corpus.extractors import REGISTRY, recording, speech
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.reader import DocumentReader, uses_speech
from nearfield.corpus.extractors.reader import kind_of as kind_by_content
from nearfield.corpus.extractors.speech import transcriber
from nearfield.corpus.extractors.speech.guards import SpeechGuard
from nearfield.corpus.extractors.speech.sound_blocks import BLOCK_SECONDS, RATE, cut_blocks
from nearfield.corpus.extractors.speech.speech_model import locate_speech_model, model_identity
from nearfield.corpus.extractors.speech.transcriber import SpeechSegment
from nearfield.errors import InputError, MissingExtra, ModelNotFound, SourceUnavailable
from tests.support import recordings
from tests.support.recordings import FORMATS, ToneTranscriber, sound_of, write_recording, write_wav

av = pytest.importorskip("av", reason="the extra speech is not installed")
TONES = [("alpha", 1.0, 2.0), ("bravo", 2.5, 3.5), ("delta", 8.0, 9.0)]
ON = ExtractionOptions(speech="tones")


@pytest.fixture
def tones(monkeypatch: pytest.MonkeyPatch) -> ToneTranscriber:
    """Let tones be read in place of speech."""
    stand_in = ToneTranscriber()
    monkeypatch.setattr(transcriber, "open_transcriber", lambda _: stand_in)
    monkeypatch.setattr(speech, "find_spec", lambda _: True)
    return stand_in


def extract(data: bytes, name: str, options: ExtractionOptions = ON) -> Document:
    extractor = REGISTRY.load(kind_by_content(data, name))()
    extractor.options = options
    return extractor.extract(data, name)


def times(document: Document) -> list[tuple[float, float]]:
    return [(block.start_time or 0.0, block.end_time or 0.0) for block in document.blocks]


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_said_in_each_format_has_its_times(tones: ToneTranscriber, suffix: str) -> None:
    document = extract(write_recording(sound_of(TONES, 10), suffix), f"talk{suffix}")
    assert document.text == "[0:01] Alpha. Bravo.\n\n[0:08] Delta." or document.text.startswith("[0:00] Alpha. Bravo.")
    (first, second), tolerance = times(document), 0.25
    assert first == pytest.approx((1.0, 3.5), abs=tolerance)
    assert second == pytest.approx((8.0, 9.0), abs=tolerance)
    assert document.title == "talk"
    assert document.meta["language"] == "en"
    assert document.meta["duration"] == pytest.approx(10, abs=0.3)
    assert not document.losses


def test_the_type_is_that_of_the_content_by_name(tones: ToneTranscriber) -> None:
    data = write_wav(sound_of(TONES, 10))
    assert kind_by_content(data, "a.wav") == "sound"
    assert kind_by_content(data, "a.mp4") == "video"
    assert extract(data, "a.mp4").text == extract(data, "a.wav").text
    assert uses_speech(data, "a.MP3")
    assert not uses_speech(data, "a.txt")


def test_a_delayed_sound_track_keeps_the_times_of_the_video(tones: ToneTranscriber) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        video = recordings.add_video(container)
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        recordings.write_pictures(container, video, 6)
        samples = (sound_of([("echo", 0.0, 1.0)], 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 4 * RATE
        for part in (frame, None):
            container.mux(stream.encode(part))
    assert times(extract(file.getvalue(), "late.mkv"))[0] == pytest.approx((4.0, 5.0), abs=0.15)


def test_further_sound_tracks_are_declared(tones: ToneTranscriber) -> None:
    document = extract(write_recording(sound_of(TONES, 10), ".mkv", tracks=2), "dubbed.mkv")
    assert [loss.reason for loss in document.losses] == ["1 further sound track (track 1)"]


def test_a_file_that_is_cut_off_is_read_and_declared(tones: ToneTranscriber) -> None:
    whole = write_wav(sound_of([*TONES, ("echo", 15.0, 16.0)], 20))
    document = extract(whole[: len(whole) // 2], "half.wav")
    assert "Delta" in document.text
    assert "Echo" not in document.text
    assert [loss.reason for loss in document.losses] == [
        "what follows 0:10: the file ends before the 0:20 that its header states"
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RIFF" + bytes(40), "damaged, or no sound"),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "cannot be read as WAV"),
        (b"\0\0\0\x20ftypisom" + bytes(200), "cannot be read as MP4"),
        (b"\x1aE\xdf\xa3" + bytes(200), "cannot be read as Matroska"),
        (b"#EXTM3U\nhttp://127.0.0.1/a.ts\n", "damaged, or no sound"),
        (b"just a text", "damaged, or no sound"),
    ],
)
def test_what_is_no_sound_is_refused(tones: ToneTranscriber, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        extract(data, "a.wav")
    assert not tones.calls


def test_silence_and_videos_without_sound_say_so(tones: ToneTranscriber) -> None:
    with pytest.raises(InputError, match=r"^a.wav: no speech was recognised in it\.$"):
        extract(write_wav(sound_of([], 3)), "a.wav")
    with pytest.raises(InputError, match=r"^a.mp4: a video without sound"):
        extract(write_recording(sound_of([], 3), ".mp4", tracks=0), "a.mp4")


@pytest.mark.parametrize(("name", "noun"), [("a.wav", "a sound"), ("a.mp4", "a video")])
def test_without_the_option_or_the_packages_the_error_says_what_to_do(
    name: str, noun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=rf"^{name}: {noun}\. .*nearfield\[speech\].*speech = true.*--speech"):
        extract(b"RIFF", name, ExtractionOptions())
    monkeypatch.setattr(speech, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=rf"^{name}: a transcript needs 'faster_whisper': pip install"):
        extract(b"RIFF", name)


# -- blocks ------------------------------------------------------------------------------------------------------------


def test_blocks_join_to_the_whole_and_are_cut_in_pauses() -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 0.1, 300 * RATE).astype(np.float32)
    pauses = [(113.0, 113.5), (228.0, 228.5)]
    for start, end in pauses:
        samples[round(start * RATE) : round(end * RATE)] = 0
    blocks = list(cut_blocks(np.array_split(samples, 77)))
    assert np.array_equal(np.concatenate([block.samples for block in blocks]), samples)
    assert [block.start for block in blocks] == [0.0, *(block.end for block in blocks[:-1])]
    for block, (start, end) in zip(blocks[1:], pauses, strict=True):
        assert start <= block.start <= end


def test_a_sound_without_pauses_is_cut_too() -> None:
    blocks = list(cut_blocks([np.ones(500 * RATE, np.float32)]))
    assert sum(len(block.samples) for block in blocks) == 500 * RATE
    assert all(BLOCK_SECONDS - 20 <= len(block.samples) / RATE <= BLOCK_SECONDS for block in blocks[:-1])


def test_one_block_is_in_memory_at_a_time() -> None:
    made = 0

    def hours() -> Any:
        nonlocal made
        for _ in range(10 * 3600 // 10):
            made += 10
            yield np.zeros(10 * RATE, np.float32)

    ends = []
    for block in itertools.islice(cut_blocks(hours()), 5):
        ends.append(block.end)
        assert made - block.end <= BLOCK_SECONDS + 10
    assert ends == sorted(ends)


def test_long_recordings_have_times_across_blocks(tones: ToneTranscriber, tmp_path: Path) -> None:
    said = [("alpha", 100.0, 101.0), ("bravo", 250.0, 251.0), ("charlie", 399.0, 399.5)]
    pages = 0

    def on_page() -> None:
        nonlocal pages
        pages += 1

    extractor = recording.SoundExtractor()
    extractor.options = ExtractionOptions(speech="tones", speech_cache=str(tmp_path / "blocks.db"))
    extractor.on_page = on_page
    document = extractor.extract(write_wav(sound_of(said, 400)), "long.wav")
    for found, (_, start, end) in zip(times(document), said, strict=True):
        assert found == pytest.approx((start, end), abs=0.1)
    assert document.text.replace("6:38", "6:39") == "[1:40] Alpha.\n\n[4:10] Bravo.\n\n[6:39] Charlie."
    assert len(tones.calls) == 4
    assert pages >= 2 * len(tones.calls)
    assert all(seconds <= BLOCK_SECONDS for seconds, _ in tones.calls)


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_blocks_are_recognised_once_by_samples_model_and_language(tones: ToneTranscriber, tmp_path: Path) -> None:
    data, path = write_wav(sound_of(TONES, 200)), tmp_path / "blocks.db"

    def read(language: str = "", data: bytes = data) -> str:
        return extract(data, "a.wav", ExtractionOptions(speech="x", speech_cache=str(path), language=language)).text

    first = read()
    assert len(tones.calls) == 2
    assert read() == first
    assert len(tones.calls) == 2, "the cache has both blocks"
    read("de")
    assert len(tones.calls) == 4
    assert tones.calls[-1][1] == "de"
    tones.identity = "other tones"
    read()
    assert len(tones.calls) == 6
    read(data=write_wav(sound_of([*TONES, ("echo", 190.0, 191.0)], 200)))
    assert len(tones.calls) == 7, "its first block is the same"
    path.write_bytes(b"no database")
    assert read() == first


# -- guards ------------------------------------------------------------------------------------------------------------


def said(text: str, start: float = 0.0, **numbers: float) -> SpeechSegment:
    return SpeechSegment(start, start + 1, text, **numbers)


def test_improbable_text_in_what_may_be_noise_is_left_out_and_declared() -> None:
    guard = SpeechGuard()
    kept = guard.choose(
        [
            said("Welcome.", 0.0, log_probability=-0.2, no_speech=0.9),
            said("Thanks for watching!", 61.0, log_probability=-1.4, no_speech=0.8),
            said("Mumbled.", 70.0, log_probability=-1.4, no_speech=0.1),
            said(" ... ", 80.0),
        ]
    )
    assert [segment.text for segment in kept] == ["Welcome.", "Mumbled."]
    assert [loss.reason for loss in guard.losses()] == [
        "1 passage (at 1:01) in which probably nothing is said",
        "1 passage (at 1:10) hard to hear, with text that may be wrong",
    ]
    assert all("larger model" in loss.advice for loss in guard.losses())


def test_repeated_text_is_left_out_from_the_third_time_on_also_across_blocks() -> None:
    guard = SpeechGuard()
    first = guard.choose([said("No, no!", 0.0), said("no no", 1.0), said("No, no.", 2.0)])
    second = guard.choose([said("No no.", 4.0), said("Go.", 121.0), said("No, no!", 122.0)])
    assert [segment.start for segment in (*first, *second)] == [0.0, 1.0, 121.0, 122.0]
    guard.choose(
        [said("ha " * 60, 130.0, compression=9.0), said("Bye.", 140.0), *(said("x", 150.0 + n) for n in range(4))]
    )
    (loss,) = guard.losses()
    assert loss.reason == "5 passages (at 0:02, 0:04, 2:10 and 2 more) with repeated words that were probably not said"


def test_what_is_said_again_later_is_no_repetition() -> None:
    guard = SpeechGuard()
    assert len(guard.choose([said("Next slide.", 60.0 * minute) for minute in range(9)])) == 9
    assert not guard.losses()


# -- files that are not read into memory -------------------------------------------------------------------------------


def test_a_stored_file_is_read_from_its_place(tones: ToneTranscriber, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(write_wav(sound_of(TONES, 10)))
    stored = StoredFile.from_path(path)
    assert len(stored) == 32
    assert extract(stored, "a.wav").text.startswith("[0:01] Alpha.")
    assert pickle.loads(pickle.dumps(stored)).path == path
    assert stored.is_there()
    path.write_bytes(path.read_bytes() + b"more")
    assert not stored.is_there()
    assert StoredFile.from_path(path) != stored
    with pytest.raises(InputError, match=r"^a.wav: cannot be read \(it has changed while it was indexed\)\.$"):
        extract(stored, "a.wav")
    path.write_bytes(b"")
    assert not StoredFile.from_path(path)


def test_the_worker_process_reads_stored_files_and_reports_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(100))
    path = tmp_path / "a.wav"
    path.write_bytes(write_recording(sound_of([], 1), ".mp4", tracks=0))
    with DocumentReader(options=ExtractionOptions(speech=str(tmp_path))) as reader:
        is_installed = find_spec("faster_whisper") is not None
        expected = (InputError, "without sound") if is_installed else (MissingExtra, "speech")
        with pytest.raises(expected[0], match=expected[1]):
            reader.document(StoredFile.from_path(path), "a.mp4")
    assert path.exists()


# -- the model ---------------------------------------------------------------------------------------------------------


def test_names_of_models_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(InputError, match=r"no speech model 'smal'.*small"):
        locate_speech_model("smal")
    with pytest.raises(InputError, match=r"^There is no folder './nowhere'"):
        locate_speech_model("./nowhere")
    with pytest.raises(InputError, match=r"no model.bin and no config.json and no tokenizer.json"):
        locate_speech_model(str(tmp_path))
    with pytest.raises((ModelNotFound, SourceUnavailable), match="offline"):
        locate_speech_model(True)


def test_the_identity_of_a_model_is_that_of_its_files(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"x" * 10)
    assert locate_speech_model(str(tmp_path)) == tmp_path.resolve()
    first = model_identity(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"x" * 9 + b"y")
    assert model_identity(tmp_path) != first


@pytest.fixture(scope="module")
def whisper() -> Path:
    pytest.importorskip("faster_whisper", reason="the extra speech is not installed")
    folder = os.environ.get("NEARFIELD_TEST_SPEECH_MODEL")
    if not folder:
        pytest.skip("NEARFIELD_TEST_SPEECH_MODEL names no folder of a Whisper model")
    return Path(folder)


@pytest.mark.slow
def test_whisper_reads_a_known_sentence(whisper: Path, tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng, which speaks the sentence, is not installed")
    sentence = "The committee will meet on Monday to discuss the new bridge over the river."
    path = tmp_path / "said.wav"
    subprocess.run(["espeak-ng", "-s", "140", "-w", str(path), sentence], check=True)
    with DocumentReader(options=ExtractionOptions(speech=str(whisper))) as reader:
        document, kind = reader.document(StoredFile.from_path(path), "said.wav")
    words = set(document.text.lower().replace(".", "").split())
    assert kind == "sound"
    assert len(words & set(sentence.lower().replace(".", "").split())) >= 9
    ((start, end),) = times(document)
    assert 0 <= start < 1
    assert 3 < end < 8


@pytest.mark.slow
def test_whisper_says_nothing_about_silence_and_noise(whisper: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 20 * RATE).astype(np.float32)
    for samples in (np.zeros(20 * RATE, np.float32), noise):
        with pytest.raises(InputError, match="no speech was recognised"):
            extract(write_wav(samples), "a.wav", ExtractionOptions(speech=str(whisper)))
