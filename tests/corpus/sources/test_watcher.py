"""Watching: files that change while ``nearfield index --watch`` runs, with a real process and real files."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.sources import watcher
from nearfield.corpus.sources.watcher import watch_paths
from nearfield.errors import InputError
from nearfield.testing import write_tiny_model

pytest.importorskip("watchfiles")
SECONDS = 60


class Watch:
    """``nearfield index --watch --json`` in a separate process."""

    def __init__(self, home: Path, *words: object, model: Path) -> None:
        words = ("index", "notes", *words, "--model", model, "--watch", "--json")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nearfield.cli", *map(str, words)],
            env={**os.environ, "NEARFIELD_COLLECTIONS": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background jobs ignore it, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self.errors: queue.Queue[str] = queue.Queue()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read, self._hear)]
        for each in self._threads:
            each.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.reports.put(json.loads(line))

    def _hear(self) -> None:
        for line in self.process.stderr or ():
            self.errors.put(line)

    def end(self) -> None:
        self.process.kill()
        for each in self._threads:
            each.join(SECONDS)
        self.process.communicate()

    def report(self) -> dict[str, Any]:
        """Return the next report."""
        try:
            return self.reports.get(timeout=SECONDS)
        except queue.Empty:
            pytest.fail(f"no report; ended: {self.process.poll()}; said: {[*self.errors.queue]}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model" / "tiny")


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Iterator[Any]:
    begun: list[Watch] = []

    def start(*words: object, home: Path = tmp_path / "home") -> Watch:
        begun.append(Watch(home, *words, model=model))
        return begun[-1]

    yield start
    for each in begun:
        each.end()


@pytest.mark.process
@pytest.mark.slow
def test_a_folder_is_indexed_again_whenever_its_files_change(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "one.txt").write_text("The cat sat on the mat.")
    # What indexing itself writes is no change, and no document.
    watch = run(folder, "--store", f"lancedb://{folder / 'vectors'}", home=folder / "collections")
    assert watch.report()["new"] == 1
    while "Watching" not in watch.errors.get(timeout=SECONDS):
        pass
    (folder / "two.txt").write_text("A dog by the river.")
    assert watch.report()["new"] == 1
    (folder / "one.txt").write_text("The cat is gone.")
    assert watch.report()["changed"] == 1
    (folder / "two.txt").unlink()
    told = watch.report()
    assert told["removed"] == 1 and told["skipped"] == 0
    with pytest.raises(queue.Empty):
        watch.reports.get(timeout=4)
    watch.process.send_signal(signal.SIGINT)
    assert watch.process.wait(SECONDS) in (0, 130)


@pytest.mark.process
@pytest.mark.slow
def test_a_file_that_is_replaced_is_still_watched(run: Any, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("The cat sat on the mat.")
    watch = run(note)
    assert watch.report()["new"] == 1
    for text in ("A dog by the river.", "A bird on the roof."):  # as editors save
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(note)
        assert watch.report()["changed"] == 1


@pytest.mark.process
@pytest.mark.slow
def test_a_folder_that_goes_and_comes_back_is_watched_again(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "one.txt").write_text("The cat sat on the mat.")
    watch = run(folder)
    assert watch.report()["new"] == 1
    (folder / "two.txt").write_text("A dog by the river.")
    assert watch.report()["new"] == 1
    shutil.rmtree(folder)
    told = watch.report()
    assert told["unlisted"] and not told["removed"], "a folder that cannot be listed loses nothing"
    back = tmp_path / "back"
    back.mkdir()
    for name, text in (("one", "The cat sat on the mat."), ("two", "A dog by the river."), ("three", "A bird.")):
        (back / f"{name}.txt").write_text(text)
    back.rename(folder)  # in one step: what is not there yet would be taken for gone
    while watch.report()["new"] != 1:
        pass
    (folder / "three.txt").unlink()
    while watch.report()["removed"] != 1:
        pass


def test_the_first_set_has_all_paths(tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    (tmp_path / "folder").mkdir()
    told = watch_paths([str(tmp_path / "note.txt"), str(tmp_path / "folder"), str(tmp_path / "none")])
    assert next(told) == {str(tmp_path / "note.txt"), str(tmp_path / "folder")}


@pytest.mark.slow
def test_changes_in_what_is_left_out_do_not_count(tmp_path: Path) -> None:
    inner = tmp_path / "folder" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    told = watch_paths([str(tmp_path / "link")], ignore=[inner.resolve()])
    next(told)
    (inner / "mine.txt").write_text("x")
    time.sleep(0.5)
    (tmp_path / "folder" / "yours.txt").write_text("x")
    assert {Path(path).name for path in next(told)} == {"yours.txt"}


def test_nothing_to_watch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can be watched"):
        next(watch_paths([str(tmp_path / "none")]))


def test_changes_wait_for_a_video_that_is_being_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    film, text = tmp_path / "film.mp4", str(tmp_path / "a.txt")
    growing = watcher._GrowingFiles()
    assert growing.add({text}) == {text}
    film.write_bytes(b"half")
    assert growing.add({str(film)}) == set()
    clock[0] += 1.5
    film.write_bytes(b"half and more")
    assert growing.add({str(film), text}) == set()
    clock[0] += 1.5
    assert growing.add(set()) == set()  # it grew 1.5 seconds ago
    clock[0] += 1.0
    assert growing.add(set()) == {str(film), text}
    assert growing.add(set()) == set()


def test_a_file_that_never_ends_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    growing, film = watcher._GrowingFiles(), tmp_path / "film.mp4"
    for size in range(1000):
        film.write_bytes(b"x" * size)
        if growing.add({str(film)}):
            break
        clock[0] += 1.0
    assert 590 <= clock[0] <= 610
