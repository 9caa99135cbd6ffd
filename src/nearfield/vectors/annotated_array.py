"""Arrays that carry facts about their rows (`AnnotatedArray`), and drop them where an operation makes them false."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import DTypeLike

from nearfield.arrays import Array

#: Methods whose results are plain arrays: facts about rows say nothing about them.
_PLAIN_METHODS = (
    *("argmax", "argmin", "argpartition", "argsort", "choose", "compress", "conj", "conjugate", "cumprod", "cumsum"),
    *("diagonal", "dot", "flatten", "getfield", "ravel", "repeat", "reshape", "searchsorted", "squeeze", "swapaxes"),
    *("take", "trace", "transpose"),
)
#: Methods that write into the array, and functions that write into their first argument.
_WRITING_METHODS = ("byteswap", "fill", "partition", "put", "resize", "setfield", "sort")
_WRITING_FUNCTIONS = frozenset((np.copyto, np.fill_diagonal, np.place, np.put, np.put_along_axis, np.putmask))
_JOINING_FUNCTIONS = frozenset((np.concatenate, np.stack, np.vstack))
#: Facts with a number for each row.
_COUNTS = ("tokens", "dropped", "unknown")
_get_item = np.ndarray.__getitem__
#: Rows of an array that are compared to notice writes: some microseconds for each reading of the facts.
_SAMPLE_ROWS = 16


@dataclass(frozen=True, eq=False)
class RowCounts:
    """What is known of an array's rows: tokens of each input that were read, truncated, and read but not known.

    None stands for counts that are not there.
    """

    tokens: Array | None = None
    dropped: Array | None = None
    unknown: Array | None = None

    def select(self, rows: Any) -> RowCounts:
        """Return the facts about some rows; ``rows`` is an index of NumPy."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return replace(self, **{name: item if item is None else item[rows] for name, item in counts.items()})

    def join(self, others: Sequence[Any]) -> RowCounts | None:
        """Return the facts about these rows followed by those of others; None if nothing is true of all of them."""
        parts = (self, *others)
        return replace(self, **{name: _join_counts([getattr(part, name) for part in parts]) for name in _COUNTS})


class _RowSource:
    """The facts about a block of memory, shared by all arrays that are views of it; None once it was written to.

    Those of a copy of some rows are selected when they are first read: facts of more rows, and the numbers of these.
    Writes that do not pass through an annotated array (rows of an iteration, tensors, other libraries) are noticed by
    a checksum of some rows.
    """

    __slots__ = ("_checksum", "_sample", "count", "facts")

    def __init__(self, facts: RowCounts | tuple[RowCounts, Array], array: Array, count: int) -> None:
        self.facts: RowCounts | tuple[RowCounts, Array] | None = facts
        self.count = count
        self._sample = array[:: max(1, -(-count // _SAMPLE_ROWS))] if count > 1 else array
        self._checksum = _checksum(self._sample)

    def read(self) -> RowCounts | None:
        """Return the facts about all rows; None if they were written to."""
        if self.facts is not None and _checksum(self._sample) != self._checksum:
            self.facts = None
        if isinstance(self.facts, tuple):
            whole, rows = self.facts
            self.facts = whole.select(rows)
        return self.facts


class AnnotatedArray(Array):
    """A NumPy array whose rows are results of a model, with facts about them (`RowCounts`).

    Rows, slices, masks and lists of rows, copies, concatenations and pickles carry the facts that are still true.
    Results of all other operations are plain arrays. Writing into the array, or into rows of it, drops the facts.
    Writes by other means (through columns, rows of an iteration, ``numpy.asarray``, a tensor) are noticed when the
    facts are read: all of them in an array of up to 16 rows, in a larger one those that concern all rows.
    """

    __slots__ = ("_rows", "_source")

    _source: _RowSource
    #: The rows of the source that this array has; a number for one row as an array without an axis of rows.
    _rows: range | int
    #: Dimensions from which on the first axis is that of the rows.
    batch_ndim: ClassVar[int] = 1

    @classmethod
    def annotate(cls, array: Array, facts: RowCounts | None) -> Any:
        """Return an array as one with facts; it shares the memory. Without facts it is a plain array."""
        if facts is None:
            return to_plain(array)
        is_batch = array.ndim >= cls.batch_ndim
        count = len(array) if is_batch else 1
        source = _RowSource(facts, to_plain(array), count)
        return _attach(array.view(cls), source, range(count) if is_batch else 0)

    @property
    def facts(self) -> RowCounts | None:
        """What is known of the rows; None if nothing is."""
        source: _RowSource | None = getattr(self, "_source", None)
        facts = None if source is None else source.read()
        if source is None or facts is None:
            return None
        rows = self._rows
        if isinstance(rows, int):
            return facts if source.count == 1 else facts.select(slice(rows, rows + 1))
        whole = len(rows) == source.count and rows.step == 1
        return facts if whole else facts.select(_to_slice(rows))

    @property
    def has_rows(self) -> bool:
        """Whether the first axis is that of the rows; False for a single row, and where nothing is known."""
        return isinstance(getattr(self, "_rows", 0), range)

    def drop_facts(self) -> None:
        """Record that the memory was written to: nothing is known any more of it, nor of other views of it."""
        source: _RowSource | None = getattr(self, "_source", None)
        if source is not None:
            source.facts = None

    @property
    def tokens(self) -> Array | None:
        """Tokens read of each input; None if that is not known."""
        facts = self.facts
        return None if facts is None else facts.tokens

    @property
    def dropped(self) -> Array | None:
        """Tokens of each input that were truncated, of a very long text an estimate; None if that is not known."""
        facts = self.facts
        return None if facts is None else facts.dropped

    @property
    def unknown(self) -> Array | None:
        """Tokens read of each input that the model does not know; None if that is not known."""
        facts = self.facts
        return None if facts is None else facts.unknown

    # -- parts -------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        """Index like NumPy; rows and parts with whole rows carry their facts, everything else is plain."""
        if isinstance(key, (list, np.ndarray)) and self.has_rows:
            return self._select_rows(key)
        part = _get_item(self, key)
        if not isinstance(part, AnnotatedArray):
            return part  # a number
        rows = getattr(self, "_rows", 0)
        if isinstance(rows, int) or self._source.facts is None:
            return to_plain(part)
        kind = type(key)
        if kind is slice or kind is int or isinstance(key, np.integer):
            return _attach(part, self._source, rows[key])
        return to_plain(part)

    def _select_rows(self, key: list[Any] | Array) -> Any:
        """Return rows by number or mask; all other selections are plain."""
        facts, rows, plain = self.facts, np.asarray(key), to_plain(self)
        if facts is None or rows.ndim != 1 or rows.dtype.kind not in "iub" or not rows.size:
            part = _get_item(plain, key)
            is_empty = part.ndim == self.ndim and not len(part)
            return part if facts is None or not is_empty else type(self).annotate(part, facts.select(slice(0)))
        if rows.dtype.kind == "b" and len(rows) == len(plain):
            rows = np.flatnonzero(rows)
        part = _get_item(plain, rows)
        # The numbers are copied: the caller may change them before the facts are read.
        source = _RowSource((facts, rows.copy()), part, len(part))
        return _attach(part.view(type(self)), source, range(len(part)))

    def __iter__(self) -> Iterator[Any]:
        """Iterate over plain rows, as fast as NumPy does."""
        return iter(to_plain(self))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.drop_facts()
        to_plain(self)[key] = to_plain(value)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the array, such as ``shape`` or ``flat``; facts are dropped."""
        super().__setattr__(name, value)
        self.drop_facts()

    # -- copies ------------------------------------------------------------------------------------------------------

    def copy(self, order: Any = "C") -> Any:
        """Return a copy that carries the facts."""
        return type(self).annotate(to_plain(self).copy(order), self.facts)

    def __copy__(self) -> Any:
        return self.copy("K")

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy("K")

    def astype(self, dtype: Any, *args: Any, **options: Any) -> Any:
        """Return the values in another type, as a plain array; in the same type, with the facts."""
        result = to_plain(self).astype(dtype, *args, **options)
        return type(self).annotate(result, self.facts) if result.dtype == self.dtype else result

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The plain array is pickled by NumPy, without a copy where the protocol allows that.
        return _restore, (type(self), to_plain(self), self.facts)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    # -- NumPy's protocols -------------------------------------------------------------------------------------------

    def __array__(  # type: ignore[override]
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> Array:
        array = to_plain(self)
        return array.astype(array.dtype if dtype is None else dtype, copy=bool(copy))

    def __array_ufunc__(self, ufunc: np.ufunc, method: Any, *inputs: Any, **options: Any) -> Any:
        """Compute on plain arrays; an array that is written to loses its facts."""
        outputs: tuple[Any, ...] = options.get("out") or ()
        for target in (*outputs, *(inputs[:1] if method == "at" else ())):
            _drop(target)
        result = getattr(ufunc, method)(*map(to_plain, inputs), **_strip(options))
        return outputs[0] if len(outputs) == 1 else result

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, options: Mapping[str, Any]
    ) -> Any:
        """Run one of NumPy's functions: joined rows carry their facts, everything else is computed on plain arrays."""
        if function in _JOINING_FUNCTIONS and len(args) == 1:
            args = (_to_list(args[0]),)
            joined = _join(function, args, options)
            if joined is not None:
                return joined
        if function is np.swapaxes and args[1:] == (0, 0):
            return args[0][:]  # through this view ``Generator.shuffle`` writes
        for target in _written(function, args, options):
            _drop(target)
        result, out = _run(function, types, _strip(args), _strip(options)), options.get("out")
        return out if isinstance(out, AnnotatedArray) else to_plain(result)

    # -- other methods -----------------------------------------------------------------------------------------------

    @property
    def T(self) -> Array:  # noqa: N802
        """The transposed array, as a plain one."""
        return to_plain(self).T

    @property
    def mT(self) -> Array:  # noqa: N802
        """The transposed array, as a plain one."""
        return to_plain(self).mT

    def __repr__(self) -> str:
        name = type(self).__name__
        values = np.array2string(to_plain(self), separator=", ", prefix=f"{name}(")
        facts = "".join(f", {key}={value!r}" for key, value in self._repr_facts().items())
        return f"{name}({values}, shape={self.shape}, dtype={self.dtype}{facts})"

    def _repr_facts(self) -> Mapping[str, object]:
        return {}

    #: The same function as NumPy's: it is part of what a result offers.
    __len__ = np.ndarray.__len__


def _checksum(sample: Array) -> int:
    return zlib.crc32(sample.tobytes())


def to_plain(value: Any) -> Any:
    """Return an annotated array as a plain one that shares its memory; any other value unchanged."""
    return value.view(np.ndarray) if isinstance(value, AnnotatedArray) else value


def _plain_method(name: str) -> Callable[..., Any]:
    method = getattr(np.ndarray, name)

    def call(self: AnnotatedArray, *args: Any, **options: Any) -> Any:
        return method(to_plain(self), *args, **options)

    call.__name__ = name
    return call


def _writing_method(name: str) -> Callable[..., Any]:
    method = getattr(np.ndarray, name)

    def call(self: AnnotatedArray, *args: Any, **options: Any) -> Any:
        self.drop_facts()
        return method(self, *args, **options)

    call.__name__ = name
    return call


for _names, _wrapper in ((_PLAIN_METHODS, _plain_method), (_WRITING_METHODS, _writing_method)):
    for _name in _names:
        setattr(AnnotatedArray, _name, _wrapper(_name))


#: Assignment to the slots, without ``__setattr__``.
_set_source, _set_rows = (AnnotatedArray.__dict__[name].__set__ for name in ("_source", "_rows"))


def _attach(array: AnnotatedArray, source: _RowSource, rows: range | int) -> AnnotatedArray:
    _set_source(array, source)
    _set_rows(array, rows)
    return array


def _to_slice(rows: range) -> slice:
    """Return numbers of rows as an index, which copies no counts."""
    if not rows:
        return slice(0)
    return slice(rows.start, None if rows.stop < 0 else rows.stop, rows.step)


def _restore(kind: type[AnnotatedArray], array: Array, facts: RowCounts | None) -> Any:
    return kind.annotate(array, facts)


def _drop(value: object) -> None:
    if isinstance(value, AnnotatedArray):
        value.drop_facts()


def _strip(value: Any) -> Any:
    """Return arguments with plain arrays in place of annotated ones, in lists, tuples and dictionaries too."""
    if isinstance(value, AnnotatedArray):
        return to_plain(value)
    if type(value) in (list, tuple):
        return type(value)(map(_strip, value))
    return {name: _strip(item) for name, item in value.items()} if type(value) is dict else value


def _to_list(arrays: Any) -> Any:
    """Return the items of an object array, or of another collection such as a column of a table, as a list."""
    return arrays if isinstance(arrays, (list, tuple, AnnotatedArray)) else list(arrays)


def _run(function: Callable[..., Any], types: Any, args: Any, options: Any) -> Any:
    """Run a function of NumPy, without another call of ``__array_function__`` if all arrays are NumPy's.

    Object arrays and columns of tables may hold annotated arrays, so that the function itself would call it forever.
    """
    if all(issubclass(kind, np.ndarray) for kind in types):
        return np.ndarray.__array_function__(np.empty(0), function, (np.ndarray,), args, options)
    return function(*args, **options)


def _join_counts(parts: Sequence[Array | None]) -> Array | None:
    counts = [part for part in parts if part is not None]
    return np.concatenate(counts) if len(counts) == len(parts) else None


def _join(function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Return arrays below each other with their facts; None if they have none in common, or are joined otherwise."""
    if len(args) != 1 or options not in ({}, {"axis": 0}) or not isinstance(args[0], (list, tuple)):
        return None
    arrays, kind = args[0], type(args[0][0])
    if not issubclass(kind, AnnotatedArray):
        return None
    if any(type(array) is not kind or array.dtype != arrays[0].dtype for array in arrays):
        return None
    if not _joins_rows(function, kind, {array.has_rows for array in arrays}):
        return None
    facts = [array.facts for array in arrays]
    joined = None if any(item is None for item in facts) else cast(RowCounts, facts[0]).join(facts[1:])
    return None if joined is None else kind.annotate(function([to_plain(array) for array in arrays]), joined)


def _joins_rows(function: Callable[..., Any], kind: type[AnnotatedArray], has_rows: set[bool]) -> bool:
    """Return whether the rows of the result are those of the arrays; ``has_rows`` says which kinds there are."""
    if function is np.concatenate:
        return has_rows == {True}
    # Single vectors become rows; single scores have no row to become.
    return kind.batch_ndim == 2 and (function is np.vstack or has_rows == {False})


def _written(function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the arguments into which a function of NumPy writes."""
    yield options.get("out")
    place = _out_place(function)
    yield from args[place : place + 1] if place is not None else ()
    if function is np.nan_to_num and not (args[1] if len(args) > 1 else options.get("copy", True)):
        yield from args[:1]
    if function in _WRITING_FUNCTIONS:
        yield from (*args, *options.values())[:1]


@cache
def _out_place(function: Callable[..., Any]) -> int | None:
    """Return the position of the argument ``out``, or None if there is none."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # functions written in C that do not say it
        return 2 if function in (np.concatenate, np.dot) else None
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    return names.index("out") if "out" in names else None
