"""Embedding into one file, written window by window so that a killed run continues where it stopped.

During the work ``<output>.partial/`` holds raw rows, counts, and a state that is replaced atomically after the bytes of
each window are on the disk. The next run truncates everything that was written after the last state. ``<output>.lock``
excludes a second run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.bulk.media_files.picture_source import PictureSource
from nearfield.bulk.media_files.suffixes import SOUNDS, VIDEOS
from nearfield.bulk.repeated_ids import IdDigests
from nearfield.bulk.report import TOKEN_COUNTS, EmbedReport
from nearfield.bulk.row_files.formats import arrow_schema, arrow_table, arrow_types, json_lines, npy_header
from nearfield.bulk.row_files.vector_rows import EncodedRows, VectorRows, encode_nothing, stream_rows, text_facts
from nearfield.bulk.text_source import TextSource
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.fileio.atomic import write_atomic
from nearfield.fileio.locks import exclusive_lock
from nearfield.fileio.tabular import require_parquet
from nearfield.inference.encode_options import EncodeKeywords
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from nearfield.progress import Progress, Shown

#: Rows that are converted to the output's format together.
_BLOCK_ROWS = 4096
#: The same of multi-vectors, of which a page has some thousand.
_BLOCK_INPUTS = 256
#: Formats of the output.
OUTPUT_FORMATS = ("npy", "jsonl", "parquet")


def output_format(output: Path) -> str:
    """Return the format of the output by its name.

    Raises:
        InputError: the format is unknown.
    """
    form = output.suffix.removeprefix(".").lower()
    if form not in OUTPUT_FORMATS:
        raise InputError(
            f"{output}: cannot write {form or 'a file without suffix'!r}. {nearest(form, OUTPUT_FORMATS)} "
            "For a folder of shards, end the name with a slash."
        )
    if form == "parquet":
        require_parquet()
    return form


def check_output(output: Path, source: TextSource | PictureSource) -> None:
    """Raise an error for an output that cannot be written, before any work is done.

    Raises:
        InputError: the format is unknown or cannot hold ids, or the output is an input.
    """
    if output_format(output) == "npy" and source.id_field is not None:
        remedy = "." if source.unit != "text" else ", or leave --id-field out."
        raise InputError(f"{output}: NPY holds no ids. Write .jsonl or .parquet{remedy}")
    inputs = [path.resolve() for path in source.paths if isinstance(path, Path)]
    for written in (output, _sidecar(output)):
        if written.resolve() in inputs:
            raise InputError(f"{written} is an input and would be overwritten: write to another file.")
        if written.is_dir():
            raise InputError(f"{written} is a folder and would have to be replaced: write to another file.")


def _sidecar(output: Path) -> Path:
    return output.with_name(output.name + ".json")


def offsets_file(output: Path) -> Path:
    """Return the file with the places of multi-vectors in an NPY file: ``x.offsets.npy`` of ``x.npy``."""
    return output.with_suffix(".offsets.npy")


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
    """One source to one output file."""

    def __init__(
        self, encoder: Encoder, source: TextSource | PictureSource, output: Path, options: EncodeKeywords
    ) -> None:
        self.encoder = encoder
        self.source = source
        self.output = output
        self.options = options.copy()
        self._partial = output.with_name(output.name + ".partial")
        self._state = self._partial / "state.json"
        self._stdin_ids = self._partial / "ids.jsonl"
        # An empty list shows shape, type and fingerprint before any work is done, and bad arguments are refused.
        self._blank = encode_nothing(encoder, self.options)
        # Computed once: a file that changes during the run must not pass for the one at its start.
        self._identity = self._job_identity()
        several = ("vectors",) if self._blank.rows.lengths is not None else ()
        self._counts = dict.fromkeys(("rows", *several, "tokens", *TOKEN_COUNTS), 0)
        self._unread = UnreadInputs()
        self._digests = IdDigests()

    def run(
        self, *, restart: bool = False, shown: Shown = False, on_warning: Callable[[str], None] = lambda _: None
    ) -> EmbedReport:
        """Encode all texts, or those that an interrupted run left, and write the output.

        ``on_warning`` is called with a warning of ids that occur more than once.

        Raises:
            InputError: an input is wrong or changed during the run, or another run writes the same output.
        """
        with output_lock(self.output):
            return self._run(restart, shown, on_warning)

    def _run(self, restart: bool, shown: Shown, on_warning: Callable[[str], None]) -> EmbedReport:
        total = self.source.count(self._digests.add)
        self._files = self.source.digest(total or 0)
        if self.source.resumable:
            self._warn_of_repeated(on_warning)
        done = self._resume(restart)
        unit = f"{self.source.unit}s"
        with Progress(total and total - done, label=self.output.name, unit=unit, shown=shown) as progress:
            with ExitStack() as stack:
                files = {name: stack.enter_context((self._partial / name).open("ab")) for name in self._file_sizes()}
                for window in stream_rows(self.encoder, self._texts(done), self.options, self._unread):
                    start = int(self._counts["rows"])
                    self._append(window, files)
                    megapixels = self.source.megapixels(start, start + len(window))
                    progress.advance(len(window), int(window.counts[:, 0].sum()), megapixels)
            report = self._report(done, progress)
        if self._job_identity() != self._identity or self.source.digest(total or 0) != self._files:
            raise InputError("An input changed while it was read: run the command again.", param="inputs")
        if not self.source.resumable:
            self._warn_of_repeated(on_warning)
        self._finish(report)
        return report

    def _warn_of_repeated(self, on_warning: Callable[[str], None]) -> None:
        warning = self._digests.warning(self._ids()) if self.source.id_field is not None else None
        if warning is not None:
            on_warning(warning)

    def _texts(self, done: int) -> Iterator[str | Image | Video | Audio]:
        """Yield the remaining inputs. Stdin can be read only once, so its ids are saved on the way."""
        if self.source.resumable or self.source.id_field is None:
            yield from (cast("str | Image | Video | Audio", item) for _, item in islice(self.source.rows(), done, None))
            return
        with self._stdin_ids.open("w", encoding="utf-8") as file:
            for key, text in cast(TextSource, self.source).rows():
                self._digests.add(key)
                file.write(json.dumps(key) + "\n")
                yield text

    def _resume(self, restart: bool) -> int:
        """Prepare the partial folder for appending; return how many texts it holds already."""
        state = self._load_state()
        usable = not restart and self.source.resumable and state is not None and state["identity"] == self._identity
        if not usable or not self._is_intact(state["counts"], state.get("files", "")):
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)
            for name in self._file_sizes():
                (self._partial / name).touch()
            self._save_state()
            return 0
        self._counts |= state["counts"]  # version 0.1 counted less
        self._unread.unknown, self._unread.count = self._counts["unknown_tokens"], self._counts["unread_texts"]
        done = int(self._counts["rows"])
        # What was written after the last state may be incomplete.
        for name, size in self._file_sizes().items():
            os.truncate(self._partial / name, size)
        return done

    def _file_sizes(self, counts: Mapping[str, int] | None = None) -> dict[str, int]:
        """Bytes of each file with the rows of a state; None stands for those of this run."""
        counts = self._counts if counts is None else counts
        rows, blank = int(counts["rows"]), self._blank.rows
        if blank.lengths is None:
            return {"rows.bin": rows * blank.width * blank.data.itemsize, "counts.bin": rows * 16}
        vectors = int(counts["vectors"]) * blank.width * blank.data.itemsize
        return {"rows.bin": vectors, "counts.bin": rows * 16, "lengths.bin": rows * 8}

    def _is_intact(self, counts: Mapping[str, int], digest: str) -> bool:
        """Return whether the rows are those of the inputs, and the partial files are as long as the state says.

        A disk may lose what it confirmed.
        """
        if self.source.digest(int(counts["rows"])) != digest:
            return False
        files = {self._partial / name: size for name, size in self._file_sizes(counts).items()}
        return all(file.is_file() and file.stat().st_size >= size for file, size in files.items())

    def _job_identity(self) -> str:
        """Return what distinguishes this job from another: source, fingerprint and options."""
        encoder = self.encoder
        parts = [
            self.source.identity(),
            self._blank.fingerprint,
            self.options,
            encoder.precision,
            encoder.max_length,
        ]
        return json.dumps(parts, sort_keys=True, default=str)

    def _load_state(self) -> Any:
        try:
            return json.loads(self._state.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # ValueError: not JSON, or not UTF-8
            return None

    def _save_state(self) -> None:
        state: dict[str, Any] = {"identity": self._identity, "counts": self._counts}
        if digest := self.source.digest(int(self._counts["rows"])):
            state["files"] = digest
        write_atomic(self._state, json.dumps(state))

    def _append(self, window: EncodedRows, files: Mapping[str, BinaryIO]) -> None:
        tokens, dropped = window.counts.T
        files["rows.bin"].write(np.ascontiguousarray(window.rows.data).tobytes())
        files["counts.bin"].write(window.counts.astype("<i8").tobytes())
        if window.rows.lengths is not None:
            files["lengths.bin"].write(window.rows.lengths.astype("<i8").tobytes())
            self._counts["vectors"] += len(window.rows.data)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
        self._counts["rows"] += len(window)
        self._counts["tokens"] += int(tokens.sum())
        self._counts["truncated_texts"] += int((dropped > 0).sum())
        self._counts["truncated_tokens"] += int(dropped.sum())
        self._counts |= {"unknown_tokens": self._unread.unknown, "unread_texts": self._unread.count}
        self._save_state()

    def _report(self, resumed_at: int, progress: Progress) -> EmbedReport:
        seconds = max(progress.seconds, 1e-9)
        return EmbedReport(
            output=str(self.output),
            model=self.encoder.name,
            fingerprint=self._blank.fingerprint,
            texts=self._counts["rows"],
            tokens=self._counts["tokens"],
            **{name: self._counts[name] for name in TOKEN_COUNTS},
            resumed_at=resumed_at,
            seconds=round(seconds, 3),
            texts_per_second=round(progress.texts / seconds, 1),
            tokens_per_second=round(progress.tokens / seconds, 1),
            unit=self.source.unit,
            megapixels=round(self.source.megapixels(0, self._counts["rows"]), 3),
            video_seconds=self._seconds_of(VIDEOS),
            audio_seconds=self._seconds_of(SOUNDS),
            skipped_files=self.source.skipped,
            vectors=self._counts.get("vectors", 0),
        )

    def _seconds_of(self, form: str) -> float:
        """Return the seconds of all rows if the source is one of this format."""
        return round(self.source.seconds(self._counts["rows"]), 3) if self.source.form == form else 0.0

    def _finish(self, report: EmbedReport) -> None:
        """Convert the raw rows to the output's format, rename the result to the output, and clean up."""
        complete = self._partial / "output"
        _CONVERTERS[output_format(self.output)](self, complete)
        sidecar = {**asdict(report), **{name: _json_value(value) for name, value in self.options.items()}}
        if self._blank.ranges is not None:
            sidecar["ranges"] = self._blank.ranges.tolist()
        if self._blank.facts:
            sidecar |= {**self._blank.facts, "dims": self._blank.dim, "dtype": self._blank.precision}
            self._write_offsets()
        write_atomic(_sidecar(self.output), json.dumps(sidecar, indent=1))
        complete.replace(self.output)
        shutil.rmtree(self._partial)

    def _write_offsets(self) -> None:
        """Write where the multi-vectors of each input begin, for NPY, whose rows are vectors."""
        if output_format(self.output) == "npy":
            offsets = VectorRows(self._blank.rows.data, self._lengths()).offsets
            data = npy_header(offsets, len(offsets)) + offsets.tobytes()
            write_atomic(offsets_file(self.output), data)

    def _lengths(self) -> Array | None:
        """Return the numbers of multi-vectors of all inputs; None of dense vectors."""
        if self._blank.rows.lengths is None:
            return None
        return np.fromfile(self._partial / "lengths.bin", "<i8")

    def blocks(self) -> Iterator[tuple[VectorRows, Array]]:
        """Yield the rows and their (tokens, dropped) counts, a block at a time."""
        done, lengths = int(self._counts["rows"]), self._lengths()
        if not done:
            return
        size = self._counts.get("vectors", done)
        shape = (size, self._blank.rows.width)
        dtype = self._blank.rows.data.dtype
        data = np.memmap(self._partial / "rows.bin", dtype, "r", shape=shape) if size else np.empty(shape, dtype)
        counts = np.memmap(self._partial / "counts.bin", "<i8", "r", shape=(done, 2))
        for block, places in _blocks(done, lengths):
            yield VectorRows(data[places], None if lengths is None else lengths[block]), counts[block]

    def blocks_with_ids(self) -> Iterator[tuple[list[object], VectorRows, Array, Mapping[str, list[float]]]]:
        """Yield ids (or row numbers), rows, counts and columns of seconds, a block at a time."""
        ids, start = self._ids(), 0
        for rows, counts in self.blocks():
            stop = start + len(rows)
            yield list(islice(ids, len(rows))), rows, counts, self.source.times(start, stop)
            start = stop

    def _ids(self) -> Iterator[object]:
        if self.source.id_field is None:
            yield from range(int(self._counts["rows"]))
        elif self.source.resumable:
            yield from (key for key, _ in self.source.rows())
        else:
            with self._stdin_ids.open(encoding="utf-8") as file:
                yield from map(json.loads, file)

    @property
    def blank(self) -> EncodedRows:
        """The rows of no inputs, with the shape, type and fingerprint of the output."""
        return self._blank


def _to_npy(job: FileJob, path: Path) -> None:
    count = sum(len(rows.data) for rows, _ in job.blocks())
    with path.open("wb") as file:
        file.write(npy_header(job.blank.rows.data, count))
        for rows, _ in job.blocks():
            file.write(np.ascontiguousarray(rows.data).tobytes())


def _to_jsonl(job: FileJob, path: Path) -> None:
    with path.open("wb") as file:
        for ids, rows, counts, times in job.blocks_with_ids():
            file.writelines(json_lines(ids, rows, counts, times))


def _to_parquet(job: FileJob, path: Path) -> None:
    facts = {"fingerprint": job.blank.fingerprint, "model": job.encoder.name, **text_facts(job.blank)}
    metadata = {f"nearfield.{name}": value for name, value in facts.items()}
    types = dict.fromkeys(job.source.times(0, 0), np.float64)
    has_ids = job.source.id_field is not None
    schema = arrow_schema(job.blank.rows, string_ids=has_ids, metadata=metadata, types=arrow_types(types))
    with require_parquet().ParquetWriter(path, schema) as writer:
        for ids, rows, counts, times in job.blocks_with_ids():
            writer.write_table(arrow_table(schema, ids, rows, counts, times))


_CONVERTERS: dict[str, Callable[[FileJob, Path], None]] = dict(
    zip(OUTPUT_FORMATS, (_to_npy, _to_jsonl, _to_parquet), strict=True)
)


def _blocks(count: int, lengths: Array | None) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of inputs, and where their vectors are."""
    rows = _BLOCK_ROWS if lengths is None else _BLOCK_INPUTS
    ends = np.arange(count + 1) if lengths is None else np.concatenate([[0], np.cumsum(lengths)])
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        yield slice(start, stop), slice(int(ends[start]), int(ends[stop]))


def _json_value(value: object) -> object:
    return value if isinstance(value, (str, int, float, bool)) else str(value)
