"""``nearfield dedupe`` and ``find_duplicate_files``: groups, what to keep, links, the cache, and files that are bad."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nearfield
from nearfield.bulk.media_files.duplicates import file_vectors, media_facts
from nearfield.bulk.media_files.duplicates.duplicate_report import DuplicateReport
from nearfield.bulk.media_files.duplicates.folder_listing import list_media_files
from nearfield.bulk.media_files.duplicates.hard_links import link_copies
from nearfield.bulk.media_files.duplicates.hash_cache import HashCache
from nearfield.errors import InputError, MissingExtra
from nearfield.media.copies.picture_hash import hash_picture
from nearfield.media.decoding import decode_file
from tests.support import bad_media, odd_pictures, tiny_pictures
from tests.support.cli_runner import Ran, run
from tests.support.picture_copies import COPIES, cropped, saved, scaled, scene

pytest.importorskip("imagehash")
Run = Callable[..., Ran]
PNG = saved(scene(1), "PNG")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dedupe" / "hashes.sqlite"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def dedupe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return lambda *words: run(capsys, monkeypatch, "dedupe", *words)


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, each a minute younger than the one before."""
    for number, (name, data) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_700_000_000 + 60 * number,) * 2)


def groups_of(report: DuplicateReport) -> dict[str, dict[str, str]]:
    """Return relations of copies by the names of best file and copy."""
    return {
        group.best.file.path.name: {copy.file.path.name: copy.relation for copy in group.copies}
        for group in report.groups
    }


def without_access() -> bool:
    return os.geteuid() == 0


# -- groups ------------------------------------------------------------------------------------------------------------


def test_copies_of_each_kind(folder: Path) -> None:
    copies = {
        f"copy{number}.img.{'webp' if 'WebP' in name else 'jpg'}": save(scene(1))
        for number, (name, save) in enumerate(COPIES.items())
    }
    others = {f"other{seed}.jpg": saved(scene(seed), quality=80) for seed in range(50, 60)}
    write(folder, {**copies, "best.png": saved(scaled(scene(1), 3), "PNG"), **others})
    (group,) = nearfield.find_duplicate_files(folder).groups
    assert (group.best.file.path.name, group.reason) == ("best.png", "largest resolution")
    assert {copy.file.path.name for copy in group.copies} == set(copies)
    assert {copy.relation for copy in group.copies} == {"near"}
    assert all(copy.value is not None and copy.value <= 40 and copy.original is None for copy in group.copies)


def test_which_file_is_kept_and_why(folder: Path) -> None:
    small, fine, coarse = (saved(scene(2), quality=quality) for quality in (80, 95, 60))
    write(folder, {"small.jpg": saved(scaled(scene(2), 0.5)), "coarse.jpg": coarse, "fine.jpg": fine, "mid.jpg": small})
    (group,) = nearfield.find_duplicate_files(folder).groups
    assert (group.best.file.path.name, group.reason) == ("fine.jpg", "largest file")
    assert [copy.file.path.name for copy in group.copies] == ["mid.jpg", "coarse.jpg", "small.jpg"]
    write(folder, {"b.png": PNG, "a.png": PNG})
    assert nearfield.find_duplicate_files(folder).groups[0].reason == "oldest"
    os.utime(folder / "a.png", (1_700_000_000,) * 2)
    first = nearfield.find_duplicate_files(folder).groups[0]
    assert (first.best.file.path.name, first.reason) == ("a.png", "first by name")


def test_equal_files_among_near_copies(folder: Path) -> None:
    half = saved(scaled(scene(1), 0.5))
    write(folder, {"half1.jpg": half, "whole1.png": PNG, "half2.jpg": half, "whole2.png": PNG})
    report = nearfield.find_duplicate_files(folder)
    assert groups_of(report) == {
        "whole1.png": {"whole2.png": "exact", "half1.jpg": "near", "half2.jpg": "near"},
    }
    linkable = {copy.file.path.name: copy.original and copy.original.path.name for copy in report.linkable()}
    assert linkable == {"whole2.png": "whole1.png", "half2.jpg": "half1.jpg"}


def test_the_distance_decides(folder: Path) -> None:
    write(folder, {"a.png": PNG, "b.jpg": saved(cropped(scene(1), 0.05, 0.05, 0, 0))})
    assert (
        groups_of(nearfield.find_duplicate_files(folder))
        and not nearfield.find_duplicate_files(folder, max_distance=0).groups
    )


def test_animations_are_compared_by_bytes(folder: Path) -> None:
    long, short = odd_pictures.animation("GIF", 3, 200), odd_pictures.animation("GIF", 2, 200)
    write(folder, {"long.gif": long, "short.gif": short, "long2.gif": long})
    assert groups_of(nearfield.find_duplicate_files(folder)) == {"long.gif": {"long2.gif": "exact"}}


def test_sounds_are_compared_by_bytes(folder: Path) -> None:
    one, other = (bad_media.wav(8000, 1, np.full(800, level)) for level in (0.1, 0.2))
    write(folder, {"a.wav": one, "b.wav": other, "c.wav": one})
    report = nearfield.find_duplicate_files(folder)
    assert groups_of(report) == {"a.wav": {"c.wav": "exact"}} and report.counts["audio"] == 3


@pytest.mark.slow
def test_videos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = pytest.importorskip("tests.support.films")

    def frames(film: Any) -> list[Any]:
        return [np.asarray(scene(100 * film.seed + number, *film.size)) for number in range(film.count)]

    monkeypatch.setattr(films, "_frames", frames)
    size, rate = (160, 120), films.Fraction(12)
    film = films.Film(count=24, size=size, rate=rate)
    shorter = films.Film(count=16, size=size, rate=rate)
    other = films.Film(count=24, size=size, rate=rate, seed=5)
    coded = films.Film(kind="webm vp9", count=24, size=size, rate=rate)
    files = {"a.mp4": film, "b.webm": coded, "c.mp4": shorter, "d.mp4": other}
    write(folder, {name: films.write_film(value) for name, value in files.items()} | {"e.mp4": b"\0\0\0\x18ftypmp42"})
    report = nearfield.find_duplicate_files(folder)
    (group,) = report.groups
    assert {group.best.file.path.name, group.copies[0].file.path.name} == {"a.mp4", "b.webm"} and len(group.copies) == 1
    assert [Path(path).name for path in report.unreadable] == ["e.mp4"]


def test_videos_without_pyav(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.bulk.media_files.duplicates.duplicate_search.find_spec", lambda name: None)
    write(folder, {"a.mp4": b"film", "b.mp4": b"film", "c.mp4": b"others"})
    warnings: list[str] = []
    report = nearfield.find_duplicate_files(folder, on_warning=warnings.append)
    assert groups_of(report) == {"a.mp4": {"b.mp4": "exact"}} and not report.unreadable
    assert "3 videos" not in warnings[0] and "2 videos are compared by bytes alone" in warnings[0]


@pytest.mark.slow
def test_with_a_model(folder: Path, tmp_path: Path, dedupe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tiny_pictures.write_clip(tmp_path / "clip")
    write(folder, {"a.png": PNG, "b.png": saved(scene(1).rotate(2), "PNG"), "c.png": saved(scene(7), "PNG")})
    (folder / "bad.jpg").write_bytes(bad_media.PICTURES["truncated.jpg"][0])
    assert not nearfield.find_duplicate_files(folder, max_distance=0).groups
    encoder = nearfield.Encoder(str(clip), precision="float32")
    vectors = np.asarray(encoder.encode([folder / f"{name}.png" for name in "abc"]), np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near, far = vectors[0] @ vectors[1], max(vectors[0] @ vectors[2], vectors[1] @ vectors[2])
    assert near > far
    threshold = (near + far) / 2
    encode, encoded = file_vectors._encode, []

    def record(*arguments: Any) -> Any:
        encoded.append(list(arguments[2]))
        return encode(*arguments)

    monkeypatch.setattr(file_vectors, "_encode", record)
    for _ in range(2):  # the second run reads the cache
        report = nearfield.find_duplicate_files(folder, model=encoder, threshold=threshold, max_distance=0)
        (group,) = report.groups
        (copy,) = group.copies
        assert copy.relation == "vectors" and copy.value == pytest.approx(near, abs=1e-5)
        assert [Path(path).name for path in report.unreadable] == ["bad.jpg"]
    assert encoded == [[0, 1, 2], []]
    ran = dedupe(folder, "--model", clip, "--threshold", threshold, "--distance", 0, "--format", "json")
    report = json.loads(ran.out)
    assert ran.code == 1 and report["model"] and len(report["groups"]) == 1
    assert report["groups"][0]["copies"][0]["similarity"] > threshold
    write(tmp_path / "sounds", {"a.wav": bad_media.wav(8000, 1, np.zeros(80))})
    with pytest.raises(InputError, match="does not read sounds"):
        nearfield.find_duplicate_files(tmp_path / "sounds", model=encoder)


# -- bad files ---------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_read_are_listed(folder: Path, dedupe: Run) -> None:
    bad = {name: data for name, (data, _, _) in bad_media.PICTURES.items() if Path(name).suffix in (".jpg", ".png")}
    write(folder, {**bad, "a.png": PNG, "b.jpg": saved(scene(1))})
    ran = dedupe(folder, "--format", "json")
    report = json.loads(ran.out)
    assert ran.code == 1 and {Path(row["path"]).name for row in report["unreadable"]} == set(bad)
    assert all(Path(row["path"]).name in row["problem"] for row in report["unreadable"])
    assert [Path(group["keep"]["path"]).name for group in report["groups"]] == ["a.png"]
    assert "Cannot be read:" in dedupe(folder).out


def test_odd_names_links_and_other_files(folder: Path, tmp_path: Path, dedupe: Run) -> None:
    odd = os.fsdecode(b"caf\xe9 \xff\n.png")
    write(folder, {odd: PNG, "b.png": PNG, ".hidden.png": PNG, "_draft.png": PNG, "notes.txt": PNG})
    write(tmp_path, {"outside/c.png": PNG})
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "link.png").symlink_to(folder / "b.png")
    (folder / "outside").symlink_to(tmp_path / "outside", target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    ran = dedupe(folder, "--format", "json")
    report = json.loads(ran.out)
    names = {copy["path"] for group in report["groups"] for copy in (group["keep"], *group["copies"])}
    assert {Path(name).name for name in names} == {"caf\\udce9 \\udcff\n.png", "b.png"}
    assert report["links_not_followed"] == 3 and ran.code == 1
    assert [(Path(row["path"]).name, row["problem"]) for row in report["unreadable"]] == [
        ("pipe.png", "It is no regular file.")
    ]
    assert "\\n.png" in dedupe(folder).out


@pytest.mark.parametrize("second", [-(2**33), 2**33 + 2**32, 2**38])
def test_dates_that_64_bits_of_nanoseconds_cannot_hold(folder: Path, dedupe: Run, second: int) -> None:
    write(folder, {"a.png": PNG, "b.png": PNG})
    for path in folder.iterdir():
        os.utime(path, ns=(second * 10**9, second * 10**9))
    for _ in range(2):  # the second time from the cache
        (group,) = json.loads(dedupe(folder, "--format", "json").out)["groups"]
        assert group["copies"][0]["relation"] == "exact"


@pytest.mark.slow
def test_a_video_with_an_odd_name(folder: Path) -> None:
    films = pytest.importorskip("tests.support.films")
    data = films.write_film(films.Film(count=12, size=(160, 120)))
    write(folder, {os.fsdecode(b"\xff.mp4"): data, os.fsdecode(b"\xfe.mp4"): data[:200]})
    report = nearfield.find_duplicate_files(folder)
    assert [path.rpartition("/")[2] for path in report.unreadable] == ["\\udcfe.mp4"]
    assert "\\udcfe.mp4" in next(iter(report.unreadable.values()))


def test_a_file_that_vanishes_or_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        folder, {"a.png": PNG, "b.jpg": saved(scene(1)), "c.jpg": saved(scene(2)), "d.jpg": saved(scene(2), quality=60)}
    )
    lock = threading.Lock()

    def disturb(picture: Any) -> Any:
        with lock:
            (folder / "c.jpg").unlink(missing_ok=True)
            (folder / "d.jpg").write_bytes(b"another content")
        return hash_picture(picture)

    monkeypatch.setattr(media_facts, "hash_picture", disturb)
    monkeypatch.setattr(media_facts, "_THREADS", 1)
    monkeypatch.setattr(
        "nearfield.bulk.media_files.duplicates.media_facts.read_ahead", lambda do, items, _: map(do, items)
    )
    report = nearfield.find_duplicate_files(folder)
    assert groups_of(report) == {"a.png": {"b.jpg": "near"}}
    assert {
        Path(path).name: problem.split(":")[0].rpartition(" ")[2] for path, problem in report.unreadable.items()
    } == {
        "c.jpg": "read",
        "d.jpg": "read",
    }
    assert "changed while it was read" in next(text for path, text in report.unreadable.items() if "d.jpg" in path)


@pytest.mark.skipif(without_access(), reason="root may read everything")
def test_folders_and_files_without_permission(folder: Path) -> None:
    write(folder, {"a.png": PNG, "secret.png": PNG, "closed/b.png": PNG})
    (folder / "secret.png").chmod(0)
    (folder / "closed").chmod(0)
    try:
        report = nearfield.find_duplicate_files(folder)
    finally:
        (folder / "closed").chmod(0o700)
    assert {Path(path).name for path in report.unreadable} == {"secret.png", "closed"}


def test_wrong_arguments(folder: Path, dedupe: Run) -> None:
    assert dedupe(folder / "missing").code == 2
    (folder / "file.png").write_bytes(PNG)
    for words in (
        (folder / "file.png",),
        (folder, "--format", "xml"),
        (folder, "--distance", 200),
        (folder, "--threshold", 0),
        (folder, "--dry-run"),
    ):
        ran = dedupe(*words)
        assert ran.code == 2 and ran.err, words


def test_an_empty_folder(folder: Path, dedupe: Run) -> None:
    ran = dedupe(folder)
    assert ran.code == 0 and "No files: 0 groups" in ran.out and "Nothing was changed" in ran.out


def test_without_the_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    with pytest.raises(MissingExtra, match=r"nearfield\[dedupe\]"):
        nearfield.find_duplicate_files(folder)


# -- the cache ---------------------------------------------------------------------------------------------------------


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the name of each picture is added when it is decoded."""
    reads: list[str] = []

    def record(data: bytes, limits: Any, name: str, min_side: int) -> Any:
        reads.append(Path(name).name)
        return decode_file(data, limits, name, min_side)

    monkeypatch.setattr(media_facts, "decode_file", record)
    return reads


def test_a_second_run_reads_only_what_changed(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = count_reads(monkeypatch)
    write(folder, {"a.png": PNG, "b.jpg": saved(scene(1)), "c.jpg": saved(scene(2))})
    first = nearfield.find_duplicate_files(folder)
    assert sorted(reads) == ["a.png", "b.jpg", "c.jpg"] and cache.is_file()
    reads.clear()
    assert nearfield.find_duplicate_files(folder).to_dict() == first.to_dict() and reads == []
    (folder / "c.jpg").write_bytes(saved(scene(1), quality=60))
    (folder / "b.jpg").rename(folder / "moved.jpg")
    assert groups_of(nearfield.find_duplicate_files(folder)) == {"a.png": {"moved.jpg": "near", "c.jpg": "near"}}
    assert sorted(reads) == ["c.jpg", "moved.jpg"]


def test_a_run_continues_after_an_interruption(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "nearfield.bulk.media_files.duplicates.media_facts.read_ahead", lambda do, items, _: map(do, items)
    )
    write(folder, {f"{seed}.jpg": saved(scene(seed)) for seed in range(8)})
    done = []

    def stop(picture: Any) -> Any:
        done.append(picture)
        if len(done) == 5:
            raise KeyboardInterrupt
        return hash_picture(picture)

    monkeypatch.setattr(media_facts, "hash_picture", stop)
    with pytest.raises(KeyboardInterrupt):
        nearfield.find_duplicate_files(folder)
    reads = count_reads(monkeypatch)
    nearfield.find_duplicate_files(folder)
    assert len(reads) == 4


def test_a_cache_that_is_damaged_or_cannot_be_written(folder: Path, cache: Path, tmp_path: Path) -> None:
    write(folder, {"a.png": PNG, "b.jpg": saved(scene(1))})
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"this is no database" * 100)
    expected = {"a.png": {"b.jpg": "near"}}
    warnings: list[str] = []
    assert groups_of(nearfield.find_duplicate_files(folder, on_warning=warnings.append)) == expected and not warnings
    assert sqlite3.connect(cache).execute("SELECT count(*) FROM hashes").fetchone() == (2,)
    os.environ["NEARFIELD_CACHE"] = str(folder / "a.png")  # set by the fixture, which restores it
    assert groups_of(nearfield.find_duplicate_files(folder, on_warning=warnings.append)) == expected
    assert "are not stored" in warnings[0]


def test_nothing_is_written_to_the_folder(folder: Path) -> None:
    write(folder, {"a.png": PNG, "b.png": PNG})
    folder.chmod(0o555)
    before = {path: path.stat() for path in folder.iterdir()}
    assert groups_of(nearfield.find_duplicate_files(folder))
    folder.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == {
        path: status.st_mtime_ns for path, status in before.items()
    }


# -- links -------------------------------------------------------------------------------------------------------------


def inodes(folder: Path) -> dict[str, int]:
    """Return the inodes of files, by name; links are not followed."""
    return {path.name: path.lstat().st_ino for path in sorted(folder.iterdir())}


def test_only_a_request_links_files_and_only_those_of_equal_bytes(folder: Path, dedupe: Run) -> None:
    near = saved(scene(1))
    write(folder, {"a.png": PNG, "b.png": PNG, "c.jpg": near, "d.jpg": near, "e.jpg": saved(scene(9))})
    contents, before = {path.name: path.read_bytes() for path in folder.iterdir()}, inodes(folder)
    ran = dedupe(folder)
    assert inodes(folder) == before and "Nothing was changed" in ran.out and "2 files" in ran.out
    ran = dedupe(folder, "--link", "--dry-run")
    assert (
        inodes(folder) == before and "2 files would become hard links" in ran.out and "Nothing was changed" in ran.out
    )
    ran = dedupe(folder, "--link", "--format", "json")
    report = json.loads(ran.out)["links"]
    assert ran.code == 0 and not report["dry_run"] and report["bytes"] == len(PNG) + len(near)
    after = inodes(folder)
    assert after["b.png"] == after["a.png"] == before["a.png"] and after["d.jpg"] == after["c.jpg"] == before["c.jpg"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
    again = json.loads(dedupe(folder, "--link", "--format", "json").out)
    assert again["links"]["linked"] == [] and again["linkable_bytes"] == 0
    assert "linked already" in dedupe(folder).out


def link(report: DuplicateReport) -> dict[str, str]:
    """Link copies and return the reasons of those that stay, by name."""
    skipped = link_copies(report, dry_run=False).skipped
    return {Path(path).name: problem for path, problem in skipped.items()}


def test_files_that_changed_since_they_were_listed_stay(folder: Path) -> None:
    write(folder, {"a.png": PNG, "b.png": PNG, "c.png": PNG, "d.png": PNG})
    report = nearfield.find_duplicate_files(folder)
    status = (folder / "b.png").stat()
    (folder / "b.png").write_bytes(PNG[:-1] + b"x")
    os.utime(folder / "b.png", ns=(status.st_atime_ns, status.st_mtime_ns))  # size and time as before
    (folder / "c.png").unlink()
    (folder / "d.png").unlink()
    (folder / "d.png").symlink_to(folder / "a.png")
    problems = link(report)
    assert set(problems) == {"b.png", "c.png", "d.png"} and "differs" in problems["b.png"]
    assert (folder / "b.png").read_bytes() == PNG[:-1] + b"x" and (folder / "d.png").is_symlink()
    assert sorted(inodes(folder)) == ["a.png", "b.png", "d.png"]


def test_other_permissions_and_file_systems_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"a.png": PNG, "b.png": PNG, "c.png": PNG})
    (folder / "b.png").chmod(0o600)
    report = nearfield.find_duplicate_files(folder)
    problems = link(report)
    assert "permissions" in problems["b.png"] and inodes(folder)["c.png"] == inodes(folder)["a.png"]
    (folder / "c.png").unlink()
    write(folder, {"a.png": PNG, "b.png": PNG, "c.png": PNG})
    report = nearfield.find_duplicate_files(folder)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert link(report)["c.png"] == "Invalid cross-device link."


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_no_link_crosses_a_file_system(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Path("/dev/shm", f"nearfield-{os.getpid()}")
    if other.parent.stat().st_dev == folder.stat().st_dev:
        pytest.skip("/dev/shm is on the same file system")
    write(folder, {"a.png": PNG})
    write(other, {"b.png": PNG})
    try:
        problems = link(nearfield.find_duplicate_files([folder, other]))
        assert len(problems) == 1 and "another file system" in next(iter(problems.values()))
    finally:
        (other / "b.png").unlink()
        other.rmdir()


def test_an_error_within_a_link_leaves_both_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"a.png": PNG, "b.png": PNG})
    report, before = nearfield.find_duplicate_files(folder), inodes(folder)

    def fail(self: Path, target: Path) -> None:
        assert inodes(folder)[self.name] == before["a.png"]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    assert link(report) == {"b.png": "No space left on device."}
    assert inodes(folder) == before


def test_two_runs_share_the_cache(folder: Path, cache: Path) -> None:
    write(folder, {"a.png": PNG, "b.jpg": saved(scene(1))})
    first = HashCache(cache)
    (listed, _) = list_media_files([folder]).files
    first.put(listed, "rule", b"value")
    first.flush()
    assert first.get(listed, "rule") == b"value"
    second = HashCache(cache)
    second.put(listed, "rule", b"other")
    second.close()  # it would wait for a transaction that the first one had open
    assert not second.problem and first.get(listed, "rule") == b"other"
    assert first.get(replace(listed, size=listed.size + 1), "rule") is None and first.get(listed, "rule 2") is None
    first.close()


def test_hashes_that_no_run_uses_are_removed(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"a.png": PNG, "b.png": saved(scene(2), "PNG")})
    nearfield.find_duplicate_files(folder)
    (folder / "b.png").rename(folder / "_b.png")

    def rows() -> int:
        return int(sqlite3.connect(cache).execute("SELECT count(*) FROM hashes").fetchone()[0])

    assert rows() == 2
    for days in (100, 200):
        now = time.time() + 86_400 * days
        monkeypatch.setattr("nearfield.bulk.media_files.duplicates.hash_cache.time.time", lambda now=now: now)
        nearfield.find_duplicate_files(folder)
    assert rows() == 1
