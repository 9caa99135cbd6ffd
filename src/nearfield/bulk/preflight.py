"""A survey before a folder of shards is made: the inputs are read once, the plan laid out, the terms compared."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.bulk.formats import OWN, joined
from nearfield.bulk.input_table import InputTable
from nearfield.bulk.shard_directory import ShardDirectory
from nearfield.bulk.shard_plan import Plan, Shard, mine, plan
from nearfield.bulk.shard_writer import FORMS, ShardLayout
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.fileio.tabular import require_parquet
from nearfield.progress import Progress
from nearfield.vectors.dense import Vectors

SHARD_ROWS = 100_000
#: Bytes of a number in JSON, about, by the kind of its type.
_DIGITS = {"f": 12, "i": 4, "u": 4}


@dataclass(frozen=True)
class Sharding:
    """How a data set is cut: format and rows of a shard (None: as the folder has it), and our share, the I-th of N."""

    form: str | None = None
    rows: int | None = None
    share: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.form is not None and self.form not in FORMS:
            raise InputError(f"Unknown shard format {self.form!r}. {nearest(self.form, FORMS)}", param="shard_format")
        if self.rows is not None and self.rows < 1:
            raise InputError(f"A shard has at least 1 row, not {self.rows}.", param="shard_rows")


def share_of(text: str) -> tuple[int, int]:
    """Read I/N.

    Raises:
        InputError: it is no such thing, or there is no I-th of N.
    """
    at, _, of = text.partition("/")
    if not (at.isascii() and at.isdigit() and of.isascii() and of.isdigit() and 1 <= int(at) <= int(of)):
        raise InputError(f"--shard is I/N, such as 1/4 for the first of four, not {text!r}.", param="shard")
    return int(at), int(of)


@dataclass(frozen=True)
class EmbedRequest:
    """What was asked for: an encoder and how it is to encode, a data set, a folder, and how it is cut."""

    encoder: Encoder
    source: InputTable
    home: Path
    sharding: Sharding
    wanted: Mapping[str, Any]


class Preflight:
    """What is to be made. ``terms`` are those of its vectors, ``schema`` the types of its kept columns, packed.

    Raises:
        InputError: an input cannot be read, or what the folder holds does not go with it (unless ``restart``).
    """

    def __init__(self, order: EmbedRequest, *, restart: bool, shown: bool) -> None:
        self.order = order
        # An empty list shows type and space before any work is done, and refuses bad arguments.
        self.blank: Vectors = order.encoder.encode([], **order.wanted)
        self.folder = ShardDirectory(order.home)
        stored = (None if restart else self.folder.terms()) or {}
        self.form = order.sharding.form or str(stored.get("format", "parquet"))
        self._size = order.sharding.rows or int(stored.get("shard_rows", SHARD_ROWS))
        if self.form == "parquet":
            require_parquet()
        self._check_kept()
        # What can be refused is refused before all inputs are read, and the rest after that.
        self._check(stored, self._space())
        with Progress(None, label="reading", shown=shown) as progress:
            self.plan: Plan = plan(
                order.source, self._size, typed=self._typed, seen=lambda rows: progress.advance(rows, 0)
            )
        types = _held(stored.get("schema"), self.plan.types)
        kept = {name: str(types[name]) if self._typed else "any" for name in order.source.keep}
        self.terms = {**self._space(), "keep": kept}
        self._check(stored, self.terms)
        self.schema = _packed(types) if types else None
        self.layout = ShardLayout(self.form, self.blank.data, order.source.id_field is not None, types, self._told())

    @property
    def _typed(self) -> bool:
        return self.form == "parquet"

    def ours(self) -> list[Shard]:
        """Return the shards that fall to this process."""
        return list(mine(self.plan.parts, self.order.sharding.share))

    def beyond(self) -> list[int]:
        """Return the numbers of shards that fall to this process and have no rows any more."""
        at, of = self.order.sharding.share
        return [number for number in self.folder.beyond(len(self.plan.parts)) if number % of == at - 1]

    def bytes_of(self, rows: int) -> int:
        """Return about how many bytes the vectors of so many rows take."""
        data = self.blank.data
        return rows * int(data.shape[1]) * (_DIGITS[data.dtype.kind] if self.form == "jsonl" else data.itemsize)

    def _check(self, stored: Mapping[str, Any], terms: Mapping[str, Any]) -> None:
        if stored:
            self.folder.check(terms)

    def _check_kept(self) -> None:
        own = OWN if self.form != "npy" else tuple(name for name in OWN if name != "embedding")
        taken = next((name for name in self.order.source.keep if name in own), None)
        if taken is not None:
            told = "Name it with --id-field instead." if taken == "id" else "Rename it first."
            raise InputError(f"--keep {taken}: the output has a column of that name already. {told}", param="keep")

    def _space(self) -> dict[str, Any]:
        """Return what tells vectors that may stand in one folder from others."""
        encoder, wanted = self.order.encoder, self.order.wanted
        return {
            "fingerprint": self.blank.fingerprint,
            "dims": self.blank.dim,
            "dtype": self.blank.precision,
            "prompt": encoder.prompt_of(**wanted),
            "truncate": wanted.get("truncate", "report"),
            "precision": encoder.precision,
            "max_length": encoder.max_length,
            "format": self.form,
            "shard_rows": self._size,
            "ids": "given" if self.order.source.id_field is not None else "row numbers",
        }

    def _told(self) -> dict[str, str]:
        """Return what each Parquet file says of its vectors."""
        told = {name: str(self._space()[name]) for name in ("fingerprint", "dims", "dtype", "prompt")}
        told |= {"model": self.order.encoder.name, "role": str(self.order.wanted.get("role", ""))}
        if self.blank.ranges is not None:
            told["ranges"] = json.dumps(self.blank.ranges.tolist())
        return {f"nearfield.{name}": value for name, value in told.items()}


def _packed(types: Mapping[str, Any]) -> str:
    import pyarrow as arrow

    return base64.b64encode(arrow.schema(list(types.items())).serialize().to_pybytes()).decode()


def _held(schema: str | None, types: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of kept columns: those that the folder has, where they hold what the new ones hold."""
    if schema is None:
        return dict(types)
    import pyarrow as arrow

    known = arrow.ipc.read_schema(arrow.BufferReader(base64.b64decode(schema)))
    before = {name: known.field(name).type for name in known.names}
    return {
        name: before[name] if joined(before.get(name), kind) == before.get(name) else kind
        for name, kind in types.items()
    }
