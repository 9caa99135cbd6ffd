"""Results as NumPy arrays: which operations carry space and counts, which drop them, and what other libraries take."""

from __future__ import annotations

import copy
import io
import json
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nearfield.errors import InputError
from nearfield.inference.postprocess import ResultCollector
from nearfield.reranker import Scores
from nearfield.vectors.annotated_array import AnnotatedArray
from nearfield.vectors.dense import Vectors, quantize

RANDOM = np.random.default_rng(5)
ROWS = RANDOM.standard_normal((6, 8)).astype(np.float32)
TOKENS = np.arange(10, 16, dtype=np.int32)
DROPPED = np.array([0, 0, 3, 0, 0, 7], np.int32)
SPACE = "space:8:float32"
MASK = np.array([True, False, True, False, False, True])


def vectors(space: str = SPACE) -> Vectors:
    return Vectors(ROWS.copy(), space, 8, tokens=TOKENS, dropped=DROPPED)


def scores() -> Scores:
    return Scores(ROWS[:, 0].copy(), TOKENS, DROPPED)


def test_a_result_is_an_array() -> None:
    array = vectors()
    assert isinstance(array, np.ndarray)
    assert (array.shape, str(array.dtype), len(array), array.ndim) == ((6, 8), "float32", 6, 2)
    assert array.flags.c_contiguous
    assert json.loads(json.dumps(array.tolist())) == ROWS.tolist()
    np.testing.assert_array_equal(array @ ROWS[0], ROWS @ ROWS[0])
    np.testing.assert_array_equal(array, ROWS)
    assert type(np.asarray(array)) is np.ndarray
    assert np.shares_memory(np.asarray(array), array)
    assert np.array(array, np.float64).dtype == np.float64


def test_one_text_has_one_dimension() -> None:
    one = Vectors(ROWS[:1], SPACE, 8, tokens=TOKENS[:1], dropped=DROPPED[:1], single=True)
    assert (one.shape, len(one), one.single) == ((8,), 8, True)
    assert one.data.shape == (1, 8)
    assert one.tokens is not None and one.tokens.tolist() == [10]
    assert one.fingerprint == SPACE
    assert one.decode().shape == (8,)
    coded = quantize(one, "uint8")
    assert (coded.shape, coded.clipped) == ((8,), int((np.abs(ROWS[0]) > 1).sum()))
    assert type(one[2]) is np.float32
    assert type(one[:4]) is np.ndarray


CARRYING: dict[str, tuple[Callable[[Vectors], Any], list[int]]] = {
    "slice": (lambda a: a[1:4], [1, 2, 3]),
    "steps": (lambda a: a[::-2], [5, 3, 1]),
    "all backwards": (lambda a: a[::-1], [5, 4, 3, 2, 1, 0]),
    "no rows backwards": (lambda a: a[0:0][::-1], []),
    "rows backwards": (lambda a: a[4:1:-1], [4, 3, 2]),
    "slice of a slice": (lambda a: a[1:][::2][1:], [3, 5]),
    "row": (lambda a: a[-1], [5]),
    "row by a number of NumPy": (lambda a: a[np.int64(2)], [2]),
    "row of a slice": (lambda a: a[2:][1], [3]),
    "list": (lambda a: a[[4, 0]], [4, 0]),
    "integers": (lambda a: a[np.array([4, 4])], [4, 4]),
    "mask": (lambda a: a[MASK], [0, 2, 5]),
    "list of booleans": (lambda a: a[MASK.tolist()], [0, 2, 5]),
    "no rows": (lambda a: a[[]], []),
    "mask of a slice": (lambda a: a[3:][[True, False, True]], [3, 5]),
    "copy": (lambda a: a.copy(), [0, 1, 2, 3, 4, 5]),
    "copy of a slice": (lambda a: a[4:].copy(), [4, 5]),
    "copy.copy": (lambda a: copy.copy(a[1:3]), [1, 2]),
    "copy.deepcopy": (lambda a: copy.deepcopy(a[1:3]), [1, 2]),
    "same type": (lambda a: a.astype(np.float32), [0, 1, 2, 3, 4, 5]),
    "concatenate": (lambda a: np.concatenate([a[3:], a[:1]]), [3, 4, 5, 0]),
    "concatenate, axis 0": (lambda a: np.concatenate((a[3:], a[:1]), axis=0), [3, 4, 5, 0]),
    "vstack": (lambda a: np.vstack([a[5], a[1:3], a[0]]), [5, 1, 2, 0]),
    "stack": (lambda a: np.stack([a[5], a[2]]), [5, 2]),
}


@pytest.mark.parametrize("name", CARRYING)
def test_facts_stay_with_rows(name: str) -> None:
    operation, rows = CARRYING[name]
    result = operation(vectors())
    assert isinstance(result, Vectors)
    assert (result.fingerprint, result.dim, result.precision) == (SPACE, 8, "float32")
    assert result.tokens is not None and result.tokens.tolist() == TOKENS[rows].tolist()
    assert result.dropped is not None and result.dropped.tolist() == DROPPED[rows].tolist()
    np.testing.assert_array_equal(result.data, ROWS[rows].reshape(-1, 8))


def test_an_index_that_changes_later_does_not_change_the_facts() -> None:
    rows = np.array([4, 1])
    part = vectors()[rows]
    rows[:] = 0
    assert part.tokens is not None and part.tokens.tolist() == TOKENS[[4, 1]].tolist()


def test_a_wrong_mask_is_numpy_s_error() -> None:
    for wrong in ([True, False], np.array([9]), [0.5]):
        with pytest.raises(IndexError):
            vectors()[wrong]


PLAIN: dict[str, Callable[[Any], Any]] = {
    "product": lambda a: a * 2,
    "product from the left": lambda a: 2 * a,
    "sum of two": lambda a: a + a,
    "matmul": lambda a: a @ a.T,
    "np.matmul": lambda a: np.matmul(a, ROWS.T),
    "comparison": lambda a: a == ROWS,
    "columns": lambda a: a[:, :4],
    "rows and columns": lambda a: a[1:3, 2],
    "new axis": lambda a: a[None],
    "mask of values": lambda a: a[a > 0],
    "pairs of rows": lambda a: a[np.array([[0, 1], [2, 3]])],
    "transposed": lambda a: a.T,
    "transpose()": lambda a: a.transpose(),
    "reshape": lambda a: a.reshape(3, 16),
    "np.reshape": lambda a: np.reshape(a, (3, 16)),
    "ravel": lambda a: a.ravel(),
    "flatten": lambda a: a.flatten(),
    "take": lambda a: a.take([0, 1], axis=1),
    "norm": lambda a: np.linalg.norm(a, axis=1),
    "mean": lambda a: a.mean(0),
    "np.dot": lambda a: np.dot(a, ROWS[0]),
    "argsort": lambda a: a.argsort(1),
    "np.argsort": lambda a: np.argsort(-a, axis=1),
    "argmax": lambda a: a.argmax(1),
    "other type": lambda a: a.astype(np.float16),
    "concatenate columns": lambda a: np.concatenate([a, a], axis=1),
    "hstack": lambda a: np.hstack([a, a]),
    "stack of batches": lambda a: np.stack([a, a]),
    "concatenate with an array": lambda a: np.concatenate([a, ROWS]),
    "concatenate with another space": lambda a: np.concatenate([a, vectors("other:8:float32")]),
    "concatenate rows to one": lambda a: np.concatenate([a[0], a[1]]),
    "np.copy": np.copy,
    "einsum": lambda a: np.einsum("ij,ij->i", a, a),
    "where": lambda a: np.where(a > 0, a, 0),
    "split": lambda a: np.split(a, 2)[0],
    "np.array of rows": lambda a: np.array([a[0], a[1]]),
    "iterated": lambda a: next(iter(a)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_other_results_are_plain_and_those_of_numpy(name: str) -> None:
    result, expected = PLAIN[name](vectors()), PLAIN[name](ROWS)
    assert type(result) is np.ndarray
    assert result.dtype == expected.dtype
    if "with another space" not in name:
        np.testing.assert_array_equal(result, expected)


def _sort(array: Any) -> None:
    array.sort(axis=0)


def _set_shape(array: Any) -> None:
    array.shape = (8, 6)


def _write_flat(array: Any) -> None:
    array.flat = 0


WRITING: dict[str, Callable[[Any], Any]] = {
    "in-place product": lambda a: a.__imul__(2),
    "in-place division": lambda a: a.__itruediv__(np.linalg.norm(a, axis=1, keepdims=True)),
    "assignment to a row": lambda a: a.__setitem__(0, 0),
    "assignment to all": lambda a: a.__setitem__(Ellipsis, vectors()),
    "out of a function of NumPy": lambda a: np.add(a, 1, out=a),
    "out of np.clip": lambda a: np.clip(a, -1, 1, out=a),
    "out of np.clip, by position": lambda a: np.clip(a, -1, 1, a),
    "out of np.multiply, by position": lambda a: np.multiply(ROWS, 2, a),
    "ufunc.at": lambda a: np.add.at(a, [0], 1),
    "np.copyto": lambda a: np.copyto(a, 0),
    "np.put": lambda a: np.put(a, [0], 1),
    "np.fill_diagonal": lambda a: np.fill_diagonal(a, 1),
    "np.nan_to_num in place": lambda a: np.nan_to_num(a, copy=False),
    "fill": lambda a: a.fill(0),
    "sort": _sort,
    "shape": _set_shape,
    "flat": _write_flat,
    "writing into a slice": lambda a: a[1:3].fill(0),
    "writing into a row": lambda a: a[1].__imul__(2),
    "shuffle": lambda a: np.random.default_rng(0).shuffle(a),
}


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
@pytest.mark.parametrize("name", WRITING)
def test_vectors_that_were_written_to_have_no_facts(name: str) -> None:
    array = vectors()
    view, before = array[:2], array.copy()
    WRITING[name](array)
    assert (array.fingerprint, array.tokens, array.dropped, array.facts) == ("", None, None, None)
    assert view.fingerprint == "", "a view of memory that was written to"
    assert before.fingerprint == SPACE, "a copy"
    assert type(array[0]) is np.ndarray or array.ndim == 1


def _scale_rows(array: Any) -> None:
    for row in array:
        row *= 3


#: Writes that pass through no annotated array.
OTHER_WRITES: dict[str, Callable[[Any], Any]] = {
    "rows of a loop": _scale_rows,
    "columns": lambda array: np.multiply(array[:, :3], 2, out=array[:, :3]),
    "the transposed array": lambda array: np.multiply(array.T, 2, out=array.T),
    "a plain view": lambda array: np.asarray(array).fill(1),
    "flat": lambda array: array.flat.__setitem__(slice(None), 7),
    "a median in place": lambda array: np.median(array, axis=1, overwrite_input=True),
    "random numbers": lambda array: RANDOM.standard_normal(out=array, dtype="f"),
    "an output of a method": lambda array: array.copy().take(np.arange(len(array))[::-1], 0, out=array),
    "keywords in another order": lambda array: np.copyto(src=0, dst=array),
}


@pytest.mark.parametrize("count", [6, 16, 1000])
@pytest.mark.parametrize("name", OTHER_WRITES)
def test_writes_by_other_means_are_noticed(name: str, count: int) -> None:
    array = Vectors(RANDOM.standard_normal((count, 8)).astype(np.float32), SPACE, 8)
    part = array[1:]
    assert array.fingerprint == part.fingerprint == SPACE
    OTHER_WRITES[name](array)
    assert array.fingerprint == part.fingerprint == ""


@pytest.mark.parametrize("row", range(16))
def test_writes_into_one_row_of_a_small_array_are_noticed(row: int) -> None:
    array = Vectors(np.ones((16, 8), np.float32), SPACE, 8)
    np.asarray(array)[row, 7] = 2
    assert array.fingerprint == ""


def test_decoded_vectors_share_memory_and_what_is_known_of_it() -> None:
    array = vectors()
    decoded = array.decode()
    decoded *= 3
    assert array.fingerprint == decoded.fingerprint == ""


def test_functions_that_only_read_keep_the_facts() -> None:
    array = vectors()
    for result in (np.einsum("ij,kj->ik", array, array), np.einsum("ij,ij->i", ROWS, array)):
        assert type(result) is np.ndarray
    assert array.fingerprint == SPACE


def test_an_in_place_operation_gives_the_array_itself() -> None:
    array = same = vectors()
    array *= 2
    assert array is same
    np.testing.assert_array_equal(array, ROWS * 2)
    assert array.dim == 8


def test_quantised_vectors_that_were_changed_are_not_decoded() -> None:
    coded = quantize(vectors(), "int8")
    coded[0] = 0
    with pytest.raises(InputError, match="before changing"):
        coded.decode()
    changed = vectors()
    changed *= 2
    np.testing.assert_array_equal(changed.decode(), ROWS * 2)


def test_clipped_values_of_a_part_are_known_only_if_there_are_none() -> None:
    coded = quantize(vectors(), "int8")
    assert coded.clipped == int((np.abs(ROWS) > 1).sum()) > 0
    assert coded[:2].clipped is None
    assert np.concatenate([coded, coded]).clipped == 2 * coded.clipped  # type: ignore[attr-defined]
    assert vectors()[:2].clipped == 0


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_carry_the_facts(protocol: int) -> None:
    for array in (vectors(), vectors()[1:3], vectors()[4], quantize(vectors(), "int8"), scores()):
        again = pickle.loads(pickle.dumps(array, protocol))
        assert type(again) is type(array)
        np.testing.assert_array_equal(again, array)
        assert again.tokens.tolist() == array.tokens.tolist()  # type: ignore[union-attr]
        assert getattr(again, "fingerprint", None) == getattr(array, "fingerprint", None)
    changed = vectors()
    changed += 1
    assert type(pickle.loads(pickle.dumps(changed, protocol))) is np.ndarray


def test_pickles_with_buffers_outside_have_no_copy_of_the_numbers() -> None:
    buffers: list[pickle.PickleBuffer] = []
    packed = pickle.dumps(vectors(), 5, buffer_callback=buffers.append)
    assert len(packed) < 1000 + ROWS.nbytes // 100
    again = pickle.loads(packed, buffers=buffers)
    assert again.fingerprint == SPACE


def test_saved_arrays_are_numpy_s() -> None:
    file = io.BytesIO()
    np.save(file, vectors())
    file.seek(0)
    again = np.load(file)
    assert type(again) is np.ndarray
    np.testing.assert_array_equal(again, ROWS)


def test_the_counts_of_a_result_are_a_small_part_of_it() -> None:
    array = Vectors(np.zeros((1000, 384), np.float32), SPACE, 384, tokens=TOKENS, dropped=DROPPED)
    assert isinstance(array.facts.tokens, np.ndarray)  # type: ignore[union-attr]
    assert 2 * TOKENS.itemsize <= 0.02 * array.nbytes / len(array)


def test_a_result_prints_as_an_array_with_its_space() -> None:
    text = repr(vectors()[:1])
    assert text.startswith("Vectors([[") and text.endswith(f"shape=(1, 8), dtype=float32, fingerprint={SPACE!r})")
    assert str(vectors()) == str(ROWS)
    assert "fingerprint" not in repr(vectors().view())


def test_scores_are_an_array_with_counts() -> None:
    array = scores()
    assert isinstance(array, np.ndarray) and isinstance(array, AnnotatedArray)
    assert type(array[2]) is np.float32
    best = array[array.argsort()[::-1][:2]]
    assert isinstance(best, Scores)
    order = np.argsort(-ROWS[:, 0], kind="stable")[:2]
    assert best.tokens is not None and best.tokens.tolist() == TOKENS[order].tolist()
    assert type(array * 2) is np.ndarray
    assert type(array.data) is np.ndarray and array.data.shape == (6,)
    assert np.concatenate([array, array]).tokens.shape == (12,)  # type: ignore[attr-defined]
    table = Scores(ROWS, TOKENS, DROPPED)
    assert table.column(3).tokens is not None and table.column(3).shape == (6,)
    assert type(np.vstack([array, array])) is np.ndarray


def test_vectors_of_three_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        Vectors(np.zeros((1, 2, 3), np.float32), SPACE, 3)


def test_a_long_result_is_in_memory_once() -> None:
    count, rows, width = 20, 200, 384
    collector = ResultCollector(count * rows)
    tracemalloc.start()
    try:
        for number in range(count):
            part = np.full((rows, width), number, np.float32)
            counts = np.full(rows, number, np.int32)
            collector.add(Vectors(part, "space:384:float32", width, tokens=counts, dropped=counts))
            del part, counts
        result = collector.result(lambda: pytest.fail("there are parts"), single=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * result.nbytes
    assert isinstance(result, Vectors) and result.shape == (count * rows, width)
    assert result.fingerprint == "space:384:float32"
    assert result.tokens is not None and result.tokens.tolist() == np.repeat(range(count), rows).tolist()
    np.testing.assert_array_equal(result[:, 0], np.repeat(range(count), rows))


def test_inputs_that_grow_while_they_are_encoded_are_refused() -> None:
    collector = ResultCollector(7)
    collector.add(vectors())
    with pytest.raises(InputError, match="grew"):
        collector.add(vectors())


# -- other libraries ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_torch_takes_results() -> None:
    torch = pytest.importorskip("torch")
    array = vectors()
    rows = torch.stack([torch.tensor(row) for row in array])
    for tensor in (torch.from_numpy(array), torch.as_tensor(array), torch.tensor(array), rows):
        assert tensor.shape == (6, 8)
        np.testing.assert_array_equal(tensor.numpy(), ROWS)
    assert torch.from_numpy(array).data_ptr() == array.ctypes.data


@pytest.mark.slow
def test_scikit_learn_takes_results() -> None:
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    linear = pytest.importorskip("sklearn.linear_model")
    array = vectors()
    cosines = pairwise.cosine_similarity(array[:1], array)
    np.testing.assert_array_equal(cosines, pairwise.cosine_similarity(ROWS[:1], ROWS))
    labels = [0, 1, 0, 1, 0, 1]
    expected = linear.LogisticRegression().fit(ROWS, labels).predict(ROWS)
    np.testing.assert_array_equal(linear.LogisticRegression().fit(array, labels).predict(array), expected)


@pytest.mark.slow
def test_pandas_takes_results() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(vectors(), columns=[f"f{n}" for n in range(8)])
    np.testing.assert_array_equal(frame.to_numpy(), ROWS)
    column = pandas.Series(list(vectors()))
    np.testing.assert_array_equal(np.stack(column.to_list()), ROWS)


def test_arrow_takes_results() -> None:
    arrow = pytest.importorskip("pyarrow")
    flat = arrow.array(vectors().reshape(-1))
    np.testing.assert_array_equal(flat.to_numpy().reshape(6, 8), ROWS)
    rows = arrow.array(list(vectors()))
    assert rows.to_pylist() == ROWS.tolist()


def _column(rows: Any) -> Any:
    column = np.empty(len(rows), object)
    column[:] = list(rows)
    return column


#: NumPy's functions without its types, which do not know object arrays of arrays.
STACK: Any = np.stack
VSTACK: Any = np.vstack
#: Functions of NumPy on an object array of vectors.
ON_COLUMNS: dict[str, Callable[[Any], Any]] = {
    "stack": np.stack,
    "stack axis": lambda column: STACK(column, axis=1),
    "stack out": lambda column: STACK(column, out=np.empty((3, 8), np.float32)),
    "vstack": np.vstack,
    "hstack": np.hstack,
    "dstack": np.dstack,
    "column_stack": np.column_stack,
    "concatenate": np.concatenate,
    "array": lambda column: np.array(list(column)),
    "array of objects": lambda column: np.array(column.tolist(), dtype=object).astype(float),
    "block": lambda column: np.block(list(column)),
    "mean": np.mean,
    "sum": np.sum,
    "ufunc": lambda column: STACK(np.add(column, 1)),
    "reduce": np.add.reduce,
    "with a vector": lambda column: STACK(np.multiply(column, np.float32(2)) + column),
    "dot": lambda column: np.dot(column[0], column[1]),
    "where": lambda column: STACK(np.where([True, False, True], column, column[::-1])),
    "append": lambda column: STACK(np.append(column, column)),
    "split": lambda column: STACK(np.split(column, 3)[1]),
    "take": lambda column: STACK(np.take(column, [2, 0])),
    "average": lambda column: np.average(column, weights=[1, 2, 3]),
    "cosines": lambda column: STACK(column) @ column[0],
}


@pytest.mark.parametrize("name", ON_COLUMNS)
def test_columns_of_vectors_are_columns_of_arrays(name: str) -> None:
    function, results = ON_COLUMNS[name], vectors()
    expected = function(_column(np.asarray(results)[:3]))
    result = function(_column([results[number] for number in range(3)]))
    assert np.array_equal(np.asarray(result), np.asarray(expected))


def test_joined_columns_have_the_facts_of_their_rows() -> None:
    joined: Any
    results: Any = vectors()
    for joined in (STACK(_column([results[0], results[1]])), VSTACK(_column([results[0], results[1]]))):
        assert joined.fingerprint == SPACE and np.array_equal(joined.tokens, results.tokens[:2])
    other = STACK(_column([results[0], vectors("other:8:float32")[1]]))
    assert type(other) is np.ndarray


def test_functions_write_into_columns_of_vectors() -> None:
    results = vectors()
    column = _column([results[0], results[1]])
    np.copyto(column[:1], _column([results[2]]))
    np.put(column, [1], _column([results[2]]))
    assert np.array_equal(STACK(column), np.asarray(results)[[2, 2]])


def test_columns_of_pandas_hold_vectors() -> None:
    pandas = pytest.importorskip("pandas")
    results = vectors()
    table = pandas.DataFrame({"group": ["a", "b", "a"]})
    table["vector"] = [results[number] for number in range(3)]
    table = pickle.loads(pickle.dumps(table))
    plain = np.asarray(results)[:3]
    for join in (np.stack, np.vstack, np.concatenate, np.hstack):
        for column in (table["vector"], table["vector"].values, table["vector"].tolist()):
            assert np.array_equal(join(column), join(list(plain)))
    groups = table.groupby("group")["vector"]
    assert np.array_equal(STACK(groups.apply(lambda rows: np.vstack(rows).mean(0))), [plain[::2].mean(0), plain[1]])
    assert np.array_equal(groups.agg(np.sum)["a"], plain[0] + plain[2])
    assert STACK(table["vector"]).fingerprint == SPACE
