"""The Python API: prompts, truncation, dimensions, precision, ids, streams, and every kind of bad input."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.engine.engine import Engine
from nearfield.errors import InputError, InputTooLong, ModelRefused, SpaceMismatch
from nearfield.testing import tiny_encoder, write_tiny_model
from nearfield.vectors.dense import Vectors
from nearfield.vectors.quantization import calibrate

PROMPTS = {"query": "search: ", "passage": "hello ", "clustering": "red "}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    with tiny_encoder(tmp_path_factory.mktemp("model") / "tiny", prompts=PROMPTS, precision="float32") as encoder:
        yield encoder


def _close(a: Any, b: Any) -> bool:
    return bool(np.allclose(np.asarray(a), np.asarray(b), atol=2e-6))


def test_a_list_gives_rows_and_a_text_gives_one_vector(encoder: Encoder) -> None:
    many = encoder.encode(["the cat", "a dog"])
    assert np.asarray(many).shape == (2, 32)
    assert np.asarray(many).dtype == np.float32
    one = np.asarray(encoder.encode("the cat"))
    assert one.shape == (32,)
    assert _close(one, many[0])


def test_an_empty_list_gives_no_vectors(encoder: Encoder) -> None:
    empty = encoder.encode([])
    assert np.asarray(empty).shape == (0, 32)
    assert empty.fingerprint == encoder.encode("x").fingerprint


@pytest.mark.parametrize("text", ["", "   ", "\x00", "\n\t"])
def test_texts_without_words_are_encoded_as_special_tokens(encoder: Encoder, text: str) -> None:
    result = encoder.encode([text])
    assert result.tokens is not None and result.tokens[0] >= 2
    assert np.isfinite(np.asarray(result)).all()


def test_a_batch_does_not_change_a_vector(encoder: Encoder) -> None:
    texts = ["cat " * n for n in range(1, 60)]
    together = np.asarray(encoder.encode(texts))
    for n in (0, 17, 58):
        assert _close(together[n], encoder.encode(texts[n]))


def test_roles_apply_the_model_s_prompts(encoder: Encoder) -> None:
    plain, text = encoder.encode("search: cat"), "cat"
    assert _close(encoder.encode_query(text), plain)
    assert _close(encoder.encode(text, prompt_name="query"), plain)
    assert _close(encoder.encode(text, prompt="search: "), plain)
    assert _close(encoder.encode_document(text), encoder.encode("hello cat"))  # passage serves the role document
    assert _close(encoder.encode(text, prompt_name="clustering"), encoder.encode("red cat"))
    assert not _close(encoder.encode(text), plain)
    assert _close(encoder.encode(text, prompt=""), encoder.encode(text))


def test_query_and_document_may_be_compared(encoder: Encoder) -> None:
    query, documents = encoder.encode_query("cat"), encoder.encode_document(["cat", "dog"])
    assert encoder.similarity(query, documents).shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_name": "quary"}, "Did you mean 'query'"),
        ({"role": "doc"}, "Did you mean 'document'"),
        ({"prompt_name": "query", "prompt": "x"}, "not both"),
        ({"truncate": "middle"}, "Unknown truncate"),
        ({"truncate": True}, "Unknown truncate True"),
        ({"precision": "int4"}, "Unknown precision"),
        ({"truncate_dim": 16}, "was not trained"),
        ({"truncate_dim": 0}, "from 1 to 32"),
        ({"truncate_dim": -5}, "from 1 to 32"),
        ({"truncate_dim": 10**9}, "from 1 to 32"),
        ({"truncate_dim": 2.5}, "from 1 to 32"),
        ({"ranges": [[0], [1]]}, "apply to int8"),
    ],
)
def test_bad_arguments_say_what_to_do(encoder: Encoder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.encode(["cat"], **options)


def test_an_unknown_keyword_is_an_error(encoder: Encoder) -> None:
    with pytest.raises(TypeError, match="promt_name"):
        encoder.encode(["cat"], promt_name="query")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "texts", [None, 5, b"bytes", {"a": 1}, [None], ["a", 5.0], [["a"]], [[1, -1]], [[10**6]], [[True]]]
)
def test_what_is_not_text_is_refused(encoder: Encoder, texts: Any) -> None:
    with pytest.raises(InputError):
        encoder.encode(texts)
    assert len(encoder.encode(["the next call works"])) == 1


def test_a_lone_surrogate_is_refused(encoder: Encoder) -> None:
    with pytest.raises(InputError):
        encoder.encode(["fine", "\ud800"])


def test_truncation_is_reported(encoder: Encoder) -> None:
    result = encoder.encode(["cat " * 100, "cat"])
    assert result.tokens is not None and result.dropped is not None
    assert result.tokens.tolist() == [64, 3]
    assert result.dropped.tolist() == [38, 0]


def test_truncation_policies(encoder: Encoder) -> None:
    text = "dog " * 40 + "cat " * 40
    right, left = encoder.encode(text), encoder.encode(text, truncate="left")
    assert _close(right, encoder.encode("dog " * 40 + "cat " * 22))
    assert _close(left, encoder.encode("dog " * 22 + "cat " * 40))
    with pytest.raises(InputTooLong, match="82"):
        encoder.encode(text, truncate="error")


def test_a_megabyte_of_text(encoder: Encoder) -> None:
    result = encoder.encode("the cat sat on the mat. " * 45_000)
    assert result.tokens is not None and result.dropped is not None
    assert result.tokens[0] == 64
    assert result.dropped[0] == pytest.approx(45_000 * 7 + 2 - 64, rel=0.001)


def test_token_ids(encoder: Encoder) -> None:
    ids = encoder.tokenize("the cat")[0].ids
    assert _close(encoder.encode(ids), encoder.encode("the cat"))
    assert _close(encoder.encode([ids, ids[1:-1]])[1], encoder.encode("the cat"))
    with pytest.raises(InputError, match="prompt"):
        encoder.encode([ids], role="query")


def test_matryoshka_cuts_and_rescales(tmp_path: Path, encoder: Encoder) -> None:
    forced = encoder.encode(["cat", "dog"], truncate_dim=8, force_truncate_dim=True)
    assert np.asarray(forced).shape == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(forced), axis=1), 1, atol=1e-6)
    with pytest.raises(SpaceMismatch):
        encoder.similarity(forced, encoder.encode("cat"))


@pytest.mark.parametrize(
    ("precision", "dtype", "width"),
    [
        ("float16", np.float16, 32),
        ("int8", np.int8, 32),
        ("uint8", np.uint8, 32),
        ("binary", np.int8, 4),
        ("ubinary", np.uint8, 4),
    ],
)
def test_precisions(encoder: Encoder, precision: str, dtype: Any, width: int) -> None:
    result = encoder.encode(["cat", "dog"], precision=precision)
    assert (result.data.dtype, result.data.shape) == (dtype, (2, width))
    assert result.fingerprint != encoder.encode("cat").fingerprint
    if precision == "uint8":
        ranges = calibrate(encoder.encode(["cat", "dog", "mat"]))
        assert encoder.encode(["cat"], precision="uint8", ranges=ranges).ranges is not None


def test_streams_are_bounded_ordered_and_lazy(encoder: Encoder) -> None:
    pulled = []

    def texts() -> Iterator[str]:
        for n in range(100_000):
            pulled.append(n)
            yield f"cat {n}"

    stream = encoder.stream(texts(), window=50)
    first = next(stream)
    assert isinstance(first, Vectors)
    assert len(first) == 50
    assert len(pulled) < 400
    assert _close(first[3], encoder.encode("cat 3"))
    del stream


def test_an_iterable_of_any_size(encoder: Encoder) -> None:
    result = encoder.encode(f"cat {n}" for n in range(1000))
    assert np.asarray(result).shape == (1000, 32)
    assert _close(result[999], encoder.encode("cat 999"))


def test_a_bad_input_late_in_a_list_leaves_no_jobs_behind(encoder: Encoder) -> None:
    with pytest.raises(InputError):
        encoder.encode(["cat"] * 5000 + [None])
    assert encoder.engine.drain.__self__.stats().queued_jobs == 0  # type: ignore[attr-defined]


@pytest.mark.slow
def test_async(encoder: Encoder) -> None:
    async def scenario() -> list[Vectors]:
        return await asyncio.gather(*(encoder.aencode([f"cat {n}", "dog"], role="query") for n in range(50)))

    results = asyncio.run(scenario())
    assert _close(results[7][0], encoder.encode_query("cat 7"))


def test_auto_is_near_float32(tmp_path: Path, encoder: Encoder) -> None:
    with tiny_encoder(tmp_path / "tiny", prompts=PROMPTS) as auto:
        texts = ["the cat sat", "a dog", "search the blue mat " * 9]
        cosines = (np.asarray(auto.encode(texts)) * np.asarray(encoder.encode(texts))).sum(1)
        assert cosines.min() > 0.998
        assert auto.fingerprint == encoder.fingerprint  # precision of the arithmetic is not another space


def test_the_fingerprint_names_the_space(tmp_path: Path, encoder: Encoder) -> None:
    with (
        tiny_encoder(tmp_path / "copy", prompts=PROMPTS) as copy,
        tiny_encoder(tmp_path / "other", prompts={}) as other,
    ):
        assert copy.fingerprint == encoder.fingerprint
        assert other.fingerprint != encoder.fingerprint
        with pytest.raises(SpaceMismatch):
            encoder.similarity(encoder.encode("cat"), other.encode("cat"))


def test_the_second_start_uses_the_compiled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    folder = str(write_tiny_model(tmp_path / "tiny"))
    first = np.asarray(Encoder(folder).encode("cat"))
    (blob,) = (tmp_path / "cache" / "compiled").glob("*.ov")
    monkeypatch.setattr("nearfield.backends.openvino._model", lambda graph: pytest.fail("compiled again"))
    assert _close(Encoder(folder).encode("cat"), first)
    monkeypatch.undo()
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    blob.write_bytes(b"damaged")
    assert _close(Encoder(folder).encode("cat"), first)


def test_an_encoder_with_a_private_engine(tmp_path: Path) -> None:
    engine = Engine(lanes=2)
    with tiny_encoder(tmp_path / "tiny", engine=engine) as encoder:
        assert encoder.engine is engine
        assert len(encoder.encode(["cat"] * 10)) == 10
    engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_a_collected_encoder_releases_its_model(tmp_path: Path, own: bool) -> None:
    encoder = tiny_encoder(tmp_path / "tiny", threads=1 if own else None)
    encoder.encode(["cat"] * 10)
    ticket = encoder.submit(["dog"])
    model, threads = weakref.ref(encoder._model), {lane for lane in threading.enumerate() if "lane" in lane.name}
    del encoder
    assert ticket.result(5)[0].shape == (32,), "a queued ticket ends although the encoder was collected"
    del ticket
    end = time.monotonic() + 10
    while model() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
    assert model() is None
    assert own == any(not lane.is_alive() for lane in threads)


def test_max_length_is_checked(tmp_path: Path) -> None:
    folder = str(write_tiny_model(tmp_path / "tiny"))
    with Encoder(folder, max_length=8, compile_cache=False) as short:
        result = short.encode("cat " * 20)
        assert result.tokens is not None and result.tokens[0] == 8
    with pytest.raises(InputError, match="from 1 to 64"):
        Encoder(folder, max_length=65)


def test_a_model_whose_weights_are_damaged_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = write_tiny_model(tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][:] = np.nan
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelRefused, match="damaged"):
        Encoder(str(folder), compile_cache=False)
