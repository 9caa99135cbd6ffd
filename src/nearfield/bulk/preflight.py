"""Checks and plan before a folder of shards is written: inputs are read once, the schema compared with the folder's."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nearfield.bulk.input_table import RowSource
from nearfield.bulk.row_files.formats import OUTPUT_COLUMNS, ArrowType, deserialize_types, serialize_types, unify_types
from nearfield.bulk.row_files.vector_rows import EncodedRows, encode_nothing, encoding_options, stream_rows, text_facts
from nearfield.bulk.shard_encoder import ShardTask
from nearfield.bulk.shard_plan import RowSample, Shard, ShardPlan, plan_shards, shards_of_share
from nearfield.bulk.shard_writer import SHARD_FORMATS, VECTOR_COUNT, ShardLayout
from nearfield.bulk.storage.records import JsonObject
from nearfield.bulk.storage.shard_folder import ShardFolder, open_folder
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.fileio.s3.path import Location
from nearfield.fileio.tabular import require_parquet
from nearfield.inference.encode_options import EncodeKeywords
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from nearfield.progress import Progress, Shown

#: Texts whose tokens are counted to estimate the number of multi-vectors.
_MEASURED_TEXTS = 64
#: Pictures, sounds or videos that are encoded for the same.
_MEASURED_MEDIA = 2
#: A plan is stored if no input was written to in so many seconds before it was read: two versions of a file that were
#: written within one tick of a file system's clock have the same time.
_SETTLING_SECONDS = 2.0
#: Approximate bytes of a number in JSON, by the kind of its type.
_BYTES_PER_NUMBER = {"f": 12, "i": 4, "u": 4}


@dataclass(frozen=True)
class Sharding:
    """How a data set is divided: format and rows of a shard (None: as the folder has it), and the share (I, N)."""

    form: str | None = None
    rows: int | None = None
    share: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.form is not None and self.form not in SHARD_FORMATS:
            hint = nearest(self.form, SHARD_FORMATS)
            raise InputError(f"Unknown shard format {self.form!r}. {hint}", param="shard_format")
        if self.rows is not None and self.rows < 1:
            raise InputError(f"A shard has at least 1 row, not {self.rows}.", param="shard_rows")


def parse_share(text: str) -> tuple[int, int]:
    """Parse I/N.

    Raises:
        InputError: the text has another form, or there is no I-th of N.
    """
    index, _, processes = text.partition("/")
    numeric = all(number.isascii() and number.isdigit() for number in (index, processes))
    if not (numeric and 1 <= int(index) <= int(processes)):
        raise InputError(f"--shard is I/N, such as 1/4 for the first of four, not {text!r}.", param="shard")
    return int(index), int(processes)


@dataclass(frozen=True)
class ShardRequest:
    """An encoder and its options, a data set, the folder to write, and how the data set is divided."""

    encoder: Encoder
    source: RowSource
    home: Location
    sharding: Sharding
    options: EncodeKeywords


class Preflight:
    """The plan of a run.

    Attributes:
        schema: what all vectors of the folder have in common.
        column_types: the Arrow schema of the carried columns, serialized; None if there are none.
        layout: how the files of a shard are written.

    Raises:
        InputError: an input cannot be read, or the folder holds other vectors (unless ``restart``).

    A plan that the folder has for the same inputs saves reading them, unless ``restart`` or ``thorough``.
    """

    def __init__(self, request: ShardRequest, *, restart: bool, shown: Shown, thorough: bool = False) -> None:
        self.request = request
        # An empty list shows type and fingerprint before any work is done, and bad arguments are refused.
        self.blank: EncodedRows = encode_nothing(request.encoder, request.options)
        self.folder: ShardFolder = open_folder(request.home)
        self._settled = False
        stored = (None if restart else self.folder.schema()) or {}
        self.form = request.sharding.form or str(stored.get("format", "parquet"))
        self._shard_rows = request.sharding.rows or int(stored.get("shard_rows", request.source.usual_shard_rows))
        if self.form == "parquet":
            require_parquet()
        self._check_keep()
        # Everything that needs no reading is checked before all inputs are read, and the rest after that.
        self._check_schema(stored, self._vector_schema())
        stored_plan = None if restart or thorough else self.folder.plan(self._plan_key())
        self.plan: ShardPlan = stored_plan or self._read_inputs(shown)
        types = _widen_types(stored.get("schema"), self.plan.types)
        keep = {name: str(types[name]) if self._typed else "any" for name in request.source.keep}
        self.schema = {**self._vector_schema(), "keep": keep}
        self._check_schema(stored, self.schema)
        self.column_types = serialize_types(types) if types else None
        self.layout = ShardLayout(
            self.form,
            self.blank.rows,
            request.source.id_field is not None,
            types,
            self._metadata(),
            has_gaps=request.source.sets_aside,
        )

    def _read_inputs(self, shown: Shown) -> ShardPlan:
        """Read all inputs and plan the shards."""
        self._settled = self.request.source.newest_change() < time.time() - _SETTLING_SECONDS
        with Progress(None, label="reading", shown=shown) as progress:
            return plan_shards(
                self.request.source, self._shard_rows, typed=self._typed, on_rows=lambda rows: progress.advance(rows, 0)
            )

    def _plan_key(self) -> str:
        """Return what a stored plan belongs to: the inputs with their sizes and times, and how they are divided."""
        source = self.request.source
        return json.dumps([source.identity(), source.keep, self._shard_rows, self._typed])

    def store_plan(self) -> None:
        """Write the plan to the folder, where later runs and other processes find it, unless it was there."""
        if self._settled and self.request.source.plan_lasts:
            self.folder.write_plan(self._plan_key(), self.plan)

    def sample(self) -> list[Any]:
        """Return a sample of the inputs; the data set is read for it if it was not read for the plan."""
        source, rows = self.request.source, self.plan.sample
        if not rows and self.plan.rows:
            sample = RowSample(source.sample_size)
            for row in source.full_rows():
                sample.add(row)
            rows = sample.rows
        if not source.sets_aside:
            return rows
        return [row.to_input() for row in source.load(iter(rows)) if not row.problem]

    @property
    def _typed(self) -> bool:
        return self.form == "parquet"

    @property
    def task(self) -> ShardTask:
        """What all shards have in common."""
        request = self.request
        generation = self.folder.generation
        return ShardTask(request.source, request.home, self.layout, request.options, self.blank.fingerprint, generation)

    def shards(self) -> list[Shard]:
        """Return the shards of this process's share."""
        return list(shards_of_share(self.plan.shards, self.request.sharding.share))

    def surplus(self) -> list[int]:
        """Return the numbers of the shards of this process's share that have no rows any more."""
        index, processes = self.request.sharding.share
        numbers = self.folder.surplus(len(self.plan.shards))
        return [number for number in numbers if number % processes == index - 1]

    def estimated_bytes(self, rows: int) -> int:
        """Return the approximate size of the vectors of so many rows."""
        data = self.blank.rows.data
        per_number = _BYTES_PER_NUMBER[data.dtype.kind] if self.form == "jsonl" else data.itemsize
        return round(rows * self._vectors_per_row * int(data.shape[1])) * per_number

    @cached_property
    def _vectors_per_row(self) -> float:
        """The mean number of vectors of a row; of multi-vectors an estimate, of a few rows."""
        texts = self.sample()[:_MEASURED_TEXTS] if self.blank.rows.lengths is not None else []
        if not texts:
            return 1.0
        encoder = self.request.encoder
        if self.request.source.sets_aside:
            return _mean_vectors(self.request, texts[:_MEASURED_MEDIA])
        tokens = encoder.tokenize(texts, **encoding_options(encoder, self.request.options))
        return sum(len(item.ids) for item in tokens) / len(texts)

    def _check_schema(self, stored: JsonObject, schema: JsonObject) -> None:
        if stored:
            self.folder.check(schema)

    def _check_keep(self) -> None:
        reserved = OUTPUT_COLUMNS if self.form != "npy" else tuple(n for n in OUTPUT_COLUMNS if n != "embedding")
        if self.form == "npy" and self.blank.rows.lengths is not None:
            reserved = (*reserved, VECTOR_COUNT)
        clash = next((name for name in self.request.source.keep if name in reserved), None)
        if clash is not None:
            advice = "Name it with --id-field instead." if clash == "id" else "Rename it first."
            raise InputError(f"--keep {clash}: the output has a column of that name already. {advice}", param="keep")

    def _vector_schema(self) -> JsonObject:
        """Return the properties that must be equal for vectors to lie in one folder."""
        encoder, options = self.request.encoder, self.request.options
        return {
            **self.blank.facts,
            "fingerprint": self.blank.fingerprint,
            "dims": self.blank.dim,
            "dtype": self.blank.precision,
            "prompt": encoder.prompt_of(**encoding_options(encoder, options)),
            "truncate": options.get("truncate", "report"),
            "precision": encoder.precision,
            "max_length": encoder.max_length,
            "format": self.form,
            "shard_rows": self._shard_rows,
            "ids": "given" if self.request.source.id_field is not None else "row numbers",
            **self.request.source.facts,
        }

    def _metadata(self) -> dict[str, str]:
        """Return the key-value metadata of each Parquet file."""
        schema = self._vector_schema()
        values = {name: str(schema[name]) for name in ("fingerprint", "dims", "dtype", "prompt")}
        values |= text_facts(self.blank)
        values |= {"model": self.request.encoder.name, "role": str(self.request.options.get("role", ""))}
        if self.blank.ranges is not None:
            values["ranges"] = json.dumps(self.blank.ranges.tolist())
        return {f"nearfield.{name}": value for name, value in values.items()}


def _mean_vectors(request: ShardRequest, inputs: list[Any]) -> float:
    windows = stream_rows(request.encoder, inputs, request.options, UnreadInputs(), on_refused=lambda _, __: None)
    sizes = [(len(window.rows.data), len(window)) for window in windows]
    return sum(size for size, _ in sizes) / max(1, sum(count for _, count in sizes))


def _widen_types(stored: str | None, types: Mapping[str, ArrowType]) -> dict[str, ArrowType]:
    """Return the types of carried columns: those that the folder has, where they can hold the new values."""
    if stored is None:
        return dict(types)
    known = deserialize_types(stored)
    return {
        name: known[name] if unify_types(known.get(name), new) == known.get(name) else new
        for name, new in types.items()
    }
