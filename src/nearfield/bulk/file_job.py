"""A file of vectors, written window by window so that a run which was killed goes on where it stopped.

Beside the output lies ``<output>.partial/`` while the work lasts: raw rows, counts, and a state that is replaced in one
step after each window's bytes are on disk. A rerun cuts off whatever came after the last state. ``<output>.lock`` keeps
a second run away meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nearfield.bulk.formats import json_lines, npy_header, schema, table
from nearfield.bulk.report import EmbedReport
from nearfield.bulk.text_source import TextSource
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.fileio.atomic import write_atomic
from nearfield.fileio.locks import exclusive_lock
from nearfield.fileio.tabular import require_parquet
from nearfield.progress import Progress
from nearfield.vectors.dense import Vectors

Array = np.ndarray[Any, np.dtype[Any]]
_ROWS_AT_ONCE = 4096


def form_of(output: Path) -> str:
    """Return the output's format by its name.

    Raises:
        InputError: it is none of ours.
    """
    form = output.suffix.removeprefix(".").lower()
    if form not in _FINISHERS:
        raise InputError(
            f"{output}: cannot write {form or 'a file without suffix'!r}. {nearest(form, _FINISHERS)} "
            "For a folder of shards, end the name with a slash."
        )
    if form == "parquet":
        require_parquet()
    return form


def is_folder(output: str) -> bool:
    """Return whether an output is a folder of shards: its name ends in a slash, or it is one and named like no file."""
    path = Path(output)
    return output.endswith(("/", os.sep)) or (path.is_dir() and path.suffix.removeprefix(".").lower() not in _FINISHERS)


def check_output(output: Path, source: TextSource) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises:
        InputError: its format is unknown, or holds no ids where some are to be carried over, or it is an input.
    """
    if form_of(output) == "npy" and source.id_field is not None:
        raise InputError(f"{output}: NPY holds no ids. Write .jsonl or .parquet, or leave --id-field out.")
    inputs = [path.resolve() for path in source.paths]
    for written in (output, _sidecar(output)):
        if written.resolve() in inputs:
            raise InputError(f"{written} is an input and would be overwritten: write to another file.")
        if written.is_dir():
            raise InputError(f"{written} is a folder and would have to be replaced: write to another file.")


def _sidecar(output: Path) -> Path:
    return output.with_name(output.name + ".json")


def output_lock(output: Path) -> AbstractContextManager[None]:
    """Keep other runs from writing the same output during a block, also those of version 0.1.

    Raises:
        InputError: another run writes it.
    """

    def busy() -> InputError:
        return InputError(f"{output} is being written by another run: wait for its end, or write to another file.")

    path = output.with_name(output.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    return exclusive_lock(path, busy, required=False, remove=True)


class FileJob:
    """One source to one output."""

    def __init__(self, encoder: Encoder, source: TextSource, output: Path, wanted: Mapping[str, Any]) -> None:
        self.encoder = encoder
        self.source = source
        self.output = output
        self.wanted = dict(wanted)
        self._partial = output.with_name(output.name + ".partial")
        self._state = self._partial / "state.json"
        self._kept_ids = self._partial / "ids.jsonl"
        # An empty list shows shape, type and space before any work is done, and refuses bad arguments.
        self._blank = encoder.encode([], **self.wanted)
        # Told once: a file that changes on the way must not pass for the one that was begun.
        self._identity = self._tell()
        self._counts = {"rows": 0, "tokens": 0, "truncated_texts": 0, "truncated_tokens": 0}

    def run(self, *, restart: bool = False, shown: bool = False) -> EmbedReport:
        """Do the work, or what is left of it, and put the output in place.

        Raises:
            InputError: an input is wrong or changed on the way, or another run writes the same output.
        """
        with output_lock(self.output):
            return self._run(restart, shown)

    def _run(self, restart: bool, shown: bool) -> EmbedReport:
        total = self.source.count()
        begun = self._resume(restart)
        with Progress(total and total - begun, label=self.output.name, shown=shown) as progress:
            with (self._partial / "rows.bin").open("r+b") as rows, (self._partial / "counts.bin").open("r+b") as counts:
                rows.seek(0, os.SEEK_END), counts.seek(0, os.SEEK_END)
                for part in self.encoder.stream(self._texts(begun), **self.wanted):
                    self._append(part, rows, counts)
                    progress.advance(len(part), int(_column(part.tokens).sum()))
            report = self._report(begun, progress)
        if self._tell() != self._identity:
            raise InputError("An input changed while it was read: run the command again.", param="inputs")
        self._finish(report)
        return report

    def _texts(self, begun: int) -> Iterator[str]:
        """Yield the texts that are left. Stdin is read but once, so its ids are put aside on the way."""
        if self.source.resumable or self.source.id_field is None:
            yield from (text for _, text in islice(self.source.rows(), begun, None))
            return
        with self._kept_ids.open("w", encoding="utf-8") as file:
            for key, text in self.source.rows():
                file.write(json.dumps(key) + "\n")
                yield text

    def _resume(self, restart: bool) -> int:
        """Make the partial folder fit for appending; return how many texts it holds already."""
        state = self._load_state()
        usable = not restart and self.source.resumable and state is not None and state["identity"] == self._identity
        if not usable or not self._holds(int(state["counts"]["rows"])):
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)
            for name in self._widths:
                (self._partial / name).touch()
            self._save_state()
            return 0
        self._counts = state["counts"]
        done = int(self._counts["rows"])
        # What was written after the last state is not known to be whole.
        for name, width in self._widths.items():
            os.truncate(self._partial / name, done * width)
        return done

    @property
    def _widths(self) -> dict[str, int]:
        """Bytes that one text takes in each file."""
        return {"rows.bin": int(self._blank.data.shape[1] * self._blank.data.itemsize), "counts.bin": 16}

    def _holds(self, done: int) -> bool:
        """Return whether the partial files are as long as the state says: a disk may lose what it confirmed."""
        files = {self._partial / name: done * width for name, width in self._widths.items()}
        return all(file.is_file() and file.stat().st_size >= size for file, size in files.items())

    def _tell(self) -> str:
        """Tell this job from another: source, space and options."""
        told = [
            self.source.identity(),
            self._blank.fingerprint,
            self.wanted,
            self.encoder.precision,
            self.encoder.max_length,
        ]
        return json.dumps(told, sort_keys=True, default=str)

    def _load_state(self) -> Any:
        try:
            return json.loads(self._state.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # ValueError: not JSON, or not UTF-8
            return None

    def _save_state(self) -> None:
        write_atomic(self._state, json.dumps({"identity": self._identity, "counts": self._counts}))

    def _append(self, part: Vectors, rows: BinaryIO, counts: BinaryIO) -> None:
        tokens, dropped = _column(part.tokens), _column(part.dropped)
        rows.write(np.ascontiguousarray(part.data).tobytes())
        counts.write(np.stack([tokens, dropped], 1).astype("<i8").tobytes())
        for file in (rows, counts):
            file.flush()
            os.fsync(file.fileno())
        self._counts["rows"] += len(part)
        self._counts["tokens"] += int(tokens.sum())
        self._counts["truncated_texts"] += int((dropped > 0).sum())
        self._counts["truncated_tokens"] += int(dropped.sum())
        self._save_state()

    def _report(self, begun: int, progress: Progress) -> EmbedReport:
        seconds = max(progress.seconds, 1e-9)
        return EmbedReport(
            output=str(self.output),
            model=self.encoder.name,
            fingerprint=self._blank.fingerprint,
            texts=self._counts["rows"],
            tokens=self._counts["tokens"],
            truncated_texts=self._counts["truncated_texts"],
            truncated_tokens=self._counts["truncated_tokens"],
            resumed_at=begun,
            seconds=round(seconds, 3),
            texts_per_second=round(progress.texts / seconds, 1),
            tokens_per_second=round(progress.tokens / seconds, 1),
        )

    def _finish(self, report: EmbedReport) -> None:
        """Turn the raw rows into the output's format, put it in place in one step, and clear up."""
        fresh = self._partial / "output"
        _FINISHERS[form_of(self.output)](self, fresh)
        about = {**asdict(report), **{name: _told(value) for name, value in self.wanted.items()}}
        if self._blank.ranges is not None:
            about["ranges"] = self._blank.ranges.tolist()
        write_atomic(_sidecar(self.output), json.dumps(about, indent=1))
        fresh.replace(self.output)
        shutil.rmtree(self._partial)

    def blocks(self) -> Iterator[tuple[Array, Array]]:
        """Yield the rows and their (tokens, dropped) counts, a block at a time."""
        done, width = int(self._counts["rows"]), self._blank.data.shape[1]
        if not done:
            return
        rows = np.memmap(self._partial / "rows.bin", self._blank.data.dtype, "r", shape=(done, width))
        counts = np.memmap(self._partial / "counts.bin", "<i8", "r", shape=(done, 2))
        for start in range(0, done, _ROWS_AT_ONCE):
            yield rows[start : start + _ROWS_AT_ONCE], counts[start : start + _ROWS_AT_ONCE]

    def numbered(self) -> Iterator[tuple[list[Any], Array, Array]]:
        """Yield ids (or row numbers), rows and counts, a block at a time."""
        ids = self._ids()
        for rows, counts in self.blocks():
            yield list(islice(ids, len(rows))), rows, counts

    def _ids(self) -> Iterator[Any]:
        if self.source.id_field is None:
            yield from range(int(self._counts["rows"]))
        elif self.source.resumable:
            yield from (key for key, _ in self.source.rows())
        else:
            with self._kept_ids.open(encoding="utf-8") as file:
                yield from map(json.loads, file)

    @property
    def blank(self) -> Vectors:
        """No vectors, of the output's shape, type and space."""
        return self._blank


def _npy(job: FileJob, path: Path) -> None:
    count = sum(len(rows) for rows, _ in job.blocks())
    with path.open("wb") as file:
        file.write(npy_header(job.blank.data, count))
        for rows, _ in job.blocks():
            file.write(np.ascontiguousarray(rows).tobytes())


def _jsonl(job: FileJob, path: Path) -> None:
    with path.open("wb") as file:
        for ids, rows, counts in job.numbered():
            file.writelines(json_lines(ids, rows, counts))


def _parquet(job: FileJob, path: Path) -> None:
    told = {"nearfield.fingerprint": job.blank.fingerprint, "nearfield.model": job.encoder.name}
    shape = schema(job.blank.data, named=job.source.id_field is not None, told=told)
    with require_parquet().ParquetWriter(path, shape) as writer:
        for ids, rows, counts in job.numbered():
            writer.write_table(table(shape, ids, rows, counts))


_FINISHERS: dict[str, Callable[[FileJob, Path], None]] = {"npy": _npy, "jsonl": _jsonl, "parquet": _parquet}


def _column(values: Array | None) -> Array:
    return np.zeros(0, np.int64) if values is None else values


def _told(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) else str(value)
