"""Maps between vector spaces: their rules against numpy written out, folders, damage, and encoders that apply them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nearfield
from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError, SpaceMismatch
from nearfield.fileio.atomic import write_atomic
from nearfield.testing import tiny_encoder, write_tiny_model
from nearfield.vectors.dense import normalize
from nearfield.vectors.fingerprint import require_same_space
from nearfield.vectors.vector_map import VectorMap, load_map

SOURCE, TARGET = "aaaa:6:float32", "bbbb:4:float32"
RANDOM = np.random.default_rng(3)


def numbers(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


TENSORS: dict[str, dict[str, Array]] = {
    "linear": {"matrix": numbers(6, 4), "offset": numbers(4)},
    "low-rank": {"down": numbers(6, 2), "up": numbers(2, 4), "offset": numbers(4)},
    "residual": {
        "matrix": numbers(6, 4),
        "hidden": numbers(6, 9),
        "hidden_offset": numbers(9),
        "outer": numbers(9, 4),
    },
    "local": {"centroids": numbers(3, 6), "local": numbers(3, 6, 4), "local_offset": numbers(3, 4)},
}


def expected(form: str, row: Array) -> Array:
    parts = TENSORS[form]
    if form == "linear":
        return np.asarray(row @ parts["matrix"] + parts["offset"])
    if form == "low-rank":
        return np.asarray((row @ parts["down"]) @ parts["up"] + parts["offset"])
    if form == "residual":
        hidden = np.maximum(row @ parts["hidden"] + parts["hidden_offset"], 0)
        return np.asarray(row @ parts["matrix"] + hidden @ parts["outer"])
    near = int(np.argmin(np.linalg.norm(parts["centroids"] - row, axis=1)))
    return np.asarray(row @ parts["local"][near] + parts["local_offset"][near])


def bridge(form: str = "linear", **changes: Any) -> VectorMap:
    parts = {"kind": "bridge", "form": form, "source": SOURCE, "target": TARGET, "tensors": TENSORS.get(form, {})}
    return VectorMap(**{**parts, **changes})


@pytest.mark.parametrize("form", TENSORS)
@pytest.mark.parametrize("unit", [True, False])
def test_each_form_computes_its_rule_and_survives_its_folder(form: str, unit: bool, tmp_path: Path) -> None:
    rows = numbers(5000, 6)  # more than a block
    bridge(form, unit=unit, facts={"kept": 0.9}).save(tmp_path / "map")
    loaded = load_map(tmp_path / "map", "bridge")
    wanted = np.stack([expected(form, row) for row in rows])
    np.testing.assert_allclose(loaded.apply(rows), normalize(wanted) if unit else wanted, rtol=1e-4, atol=1e-5)
    assert loaded.digest == bridge(form, unit=unit).digest
    assert loaded.facts == {"kept": 0.9}
    assert loaded.apply(rows[:0]).shape == (0, 4)


def test_a_digest_changes_with_each_number_and_each_space() -> None:
    changed = {**TENSORS["linear"], "offset": TENSORS["linear"]["offset"] + np.float32(1e-6)}
    maps = [bridge(), bridge(tensors=changed), bridge(source="cccc:6:float32"), bridge(unit=False), bridge("low-rank")]
    assert len({item.digest for item in maps}) == len(maps)


def test_results_of_a_bridge_have_a_space_of_their_own_that_compares_with_the_target_alone() -> None:
    mine = bridge().fingerprint
    assert mine == f"bbbb~{bridge().digest[:8]}:4:float32"
    require_same_space(mine, TARGET)
    require_same_space(TARGET, mine)
    require_same_space(mine, mine)
    for other in (SOURCE, bridge("low-rank").fingerprint, "bbbb:3:float32", "bbbb:4:int8"):
        with pytest.raises(SpaceMismatch):
            require_same_space(mine, other)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tensors": {"matrix": np.full((6, 4), np.nan, np.float32)}}, "no numbers"),
        ({"tensors": {"matrix": numbers(6, 5)}}, "dimensions"),
        ({"tensors": {"matrix": numbers(5, 4)}}, "dimensions"),
        ({"tensors": {"matrix": numbers(6, 4), "offset": numbers(3)}}, "do not fit"),
        ({"tensors": {"down": numbers(6, 4)}}, "not known"),
        ({"form": "cubic"}, "not known"),
        ({"target": "bbbb"}, "no fingerprint"),
    ],
)
def test_maps_that_cannot_be_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        bridge(**changes)


def test_rows_of_other_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="6 dimensions"):
        bridge().apply(numbers(2, 5))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def _edit(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        facts = path.with_name("map.json")
        facts.write_text(json.dumps({**json.loads(facts.read_text()), **changes}))

    return edit


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut, "damaged"),
        (_change, "not those of its digest"),
        (lambda path: path.unlink(), "is needed"),
        (lambda path: path.with_name("map.json").unlink(), "damaged"),
        (lambda path: path.with_name("map.json").write_text("[1]"), "damaged"),
        (lambda path: path.with_name("map.json").write_text("{"), "damaged"),
        (_edit(format=2), "newer version"),
        (_edit(kind="stone"), "damaged"),
        (_edit(target="eeee:4:float32"), "not those of its digest"),
        (_edit(target=4), "damaged"),
        (_edit(form=["linear"]), "damaged"),
        (_edit(facts=3), "facts is 3, and no object"),
    ],
)
def test_damaged_folders_are_refused_in_words(damage: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    save_as_before(bridge(), tmp_path / "map")
    damage(tmp_path / "map" / "adapter.safetensors")
    with pytest.raises(InputError, match=reason):
        load_map(tmp_path / "map", "bridge")


def save_as_before(vector_map: VectorMap, folder: Path) -> None:
    """Write a folder as versions did that had the facts in ``map.json`` alone."""
    from safetensors.numpy import save_file

    vector_map.save(folder)
    save_file(dict(vector_map.tensors), folder / "adapter.safetensors")


def test_a_folder_with_the_facts_in_one_file_alone_is_read(tmp_path: Path) -> None:
    save_as_before(bridge(facts={"kept": 0.9}), tmp_path / "before")
    bridge(facts={"kept": 0.9}).save(tmp_path / "now")
    (tmp_path / "now" / "map.json").unlink()
    for folder in ("before", "now"):
        loaded = load_map(tmp_path / folder, "bridge")
        assert (loaded.digest, loaded.facts) == (bridge().digest, {"kept": 0.9})


@pytest.mark.parametrize("damage", [_cut, _change], ids=["shorter", "other-byte"])
def test_a_damaged_file_of_numbers_is_refused(damage: Callable[[Path], None], tmp_path: Path) -> None:
    bridge().save(tmp_path)
    damage(tmp_path / "adapter.safetensors")
    with pytest.raises(InputError, match="damaged"):
        load_map(tmp_path, "bridge")


@pytest.mark.parametrize("writes", [0, 1])
def test_a_write_in_the_place_of_another_map_that_ends_early_leaves_the_old_one_or_the_new_one(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = bridge(), bridge("low-rank")
    old.save(tmp_path)
    calls: list[Path] = []

    def write(path: Path, data: bytes | str, **options: Any) -> None:
        if len(calls) == writes:
            raise KeyboardInterrupt
        calls.append(path)
        write_atomic(path, data, **options)

    monkeypatch.setattr("nearfield.vectors.vector_map.write_atomic", write)
    with pytest.raises(KeyboardInterrupt):
        new.save(tmp_path)
    assert load_map(tmp_path, "bridge").digest == (new if writes else old).digest


def test_a_bridge_is_no_query_map(tmp_path: Path) -> None:
    bridge().save(tmp_path)
    with pytest.raises(InputError, match="is a bridge, not a query map"):
        load_map(tmp_path, "query")


# -- encoders ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("model"), prompts={"query": "query ", "document": ""})


def query_map(encoder: Encoder, seed: int = 1) -> VectorMap:
    matrix = np.eye(32) + 0.2 * np.random.default_rng(seed).standard_normal((32, 32))
    space = encoder.fingerprint
    return VectorMap("query", "linear", space, space, {"matrix": matrix.astype(np.float32)})


@pytest.fixture(scope="module")
def mapped(plain: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("maps") / "map"
    query_map(plain).save(folder)
    return Encoder(str(plain.recipe.folder), query_map=folder, compile_cache=False)


def test_queries_are_mapped_and_documents_are_not(plain: Encoder, mapped: Encoder) -> None:
    texts = ["hello world", "the cat sat"]
    wanted = query_map(plain).apply(np.asarray(plain.encode_query(texts)))
    np.testing.assert_allclose(np.asarray(mapped.encode_query(texts)), wanted, atol=1e-5)
    np.testing.assert_array_equal(mapped.encode(texts, role="query"), mapped.encode_query(texts))
    for call in ("encode", "encode_document"):
        np.testing.assert_array_equal(getattr(mapped, call)(texts), getattr(plain, call)(texts))
    assert mapped.fingerprint == plain.fingerprint == mapped.encode_document("a").fingerprint


def test_mapped_queries_compare_with_documents_and_not_with_those_of_another_map(
    plain: Encoder, mapped: Encoder
) -> None:
    queries, documents = mapped.encode_query(["hello"]), plain.encode_document(["world", "cat"])
    assert queries.fingerprint != documents.fingerprint
    scores = mapped.similarity(queries, documents)
    np.testing.assert_allclose(scores, np.asarray(queries) @ np.asarray(documents).T, atol=1e-5)
    other = nearfield.load(str(plain.recipe.folder), query_map=query_map(plain, seed=2), compile_cache=False)
    assert isinstance(other, Encoder)
    with pytest.raises(SpaceMismatch):
        mapped.similarity(queries, other.encode_query(["hello"]))


def test_a_mapped_query_is_truncated_after_the_map(plain: Encoder, mapped: Encoder) -> None:
    short = mapped.encode_query(["hello world"], truncate_dim=8, force_truncate_dim=True)
    whole = query_map(plain).apply(np.asarray(plain.encode_query(["hello world"])))
    np.testing.assert_allclose(short, normalize(whole[:, :8]), atol=1e-5)


def test_pieces_streams_and_pickles_of_an_encoder_use_its_map(mapped: Encoder) -> None:
    text = " ".join(["hello world the cat sat"] * 40)
    pieces = mapped.encode_query([text], truncate="chunk")
    assert "~" in pieces.fingerprint
    streamed = next(iter(mapped.stream(["hello world"], role="query")))
    again = pickle.loads(pickle.dumps(mapped))
    for vectors in (streamed, again.encode_query(["hello world"])):
        np.testing.assert_allclose(vectors, mapped.encode_query(["hello world"]), atol=1e-6)
        assert vectors.fingerprint == mapped.encode_query(["hello world"]).fingerprint
    assert mapped.encode_query([]).fingerprint == pieces.fingerprint


def test_a_map_of_another_model_is_refused_when_the_model_is_loaded(plain: Encoder, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", layers=1)
    with pytest.raises(SpaceMismatch, match="fitted for vectors of the space"):
        Encoder(str(other), query_map=query_map(plain), compile_cache=False)


@pytest.mark.parametrize("value", [3, ["map"], bridge(), "no-such-folder"])
def test_what_is_no_query_map_is_refused_before_the_model_is_loaded(value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"query map"):
        Encoder(str(tmp_path), query_map=value)
