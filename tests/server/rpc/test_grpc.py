"""TEI's gRPC API over a real socket: messages of our own proto file, which a test compiles again."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, format_trace_id

from nearfield import settings
from nearfield.auto import load
from nearfield.encoder import Encoder
from nearfield.engine.engine import Engine, EngineLimits
from nearfield.errors import MissingExtra, SettingsError
from nearfield.inference.compiled_model import CompiledModel
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server import rpc
from nearfield.server.app import create_app
from nearfield.server.auth.key_file import create_key
from nearfield.server.lifecycle import serve as run
from nearfield.server.observability.traces import Traces
from nearfield.server.rpc import tei_pb2 as pb
from nearfield.server.rpc.listener import GrpcListener
from nearfield.server.rpc.request_reader import RequestReader
from nearfield.server.server_state import ServerState
from nearfield.testing import tiny_encoder, write_tiny_model
from tests.parity.multivector import own
from tests.support.cli_runner import python
from tests.support.paths import ROOT
from tests.support.requirements import missing
from tests.support.serving import Process

pytestmark = pytest.mark.network

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]
LONG = "the cat sat on the mat " * 40
Code = grpc.StatusCode
Fleet = dict[str, LoadedModel]


@dataclass
class Served:
    """A gRPC server in a thread of this process."""

    address: str
    server: ServerState
    port: GrpcListener
    loop: asyncio.AbstractEventLoop

    def stop(self, seconds: float = 10) -> Any:
        """Begin to stop, as a signal does."""
        self.server.stop()
        return asyncio.run_coroutine_threadsafe(self.port.stop(seconds), self.loop)


@contextmanager
def calling(models: Sequence[LoadedModel], *, traces: Any = None, **given: Any) -> Iterator[Served]:
    """Serve models over gRPC alone."""
    with tempfile.TemporaryDirectory(prefix="nearfield-data-") as home:
        chosen = settings.load(**{"cache_memory": 0, "data_dir": home, "grpc_port": 0, **given})
        server: ServerState = create_app(chosen, models, traces=traces).state.server
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        port = asyncio.run_coroutine_threadsafe(_made(server, chosen), loop).result(20)
        address = asyncio.run_coroutine_threadsafe(port.start("127.0.0.1"), loop).result(20)
        served = Served(address, server, port, loop)
        try:
            yield served
        finally:
            served.stop().result(20)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(20)
            loop.close()


async def _made(server: ServerState, chosen: Any) -> GrpcListener:
    return GrpcListener(server, chosen)


def method(channel: Any, path: str) -> Any:
    """Return what calls a method such as ``Embed/EmbedStream``."""
    service, _, name = path.partition("/")
    told = pb.DESCRIPTOR.services_by_name[service].methods_by_name[name]
    kinds = ("stream" if streams else "unary" for streams in (told.client_streaming, told.server_streaming))
    return getattr(channel, "_".join(kinds))(
        f"/tei.v1.{path}",
        request_serializer=getattr(pb, told.input_type.name).SerializeToString,
        response_deserializer=getattr(pb, told.output_type.name).FromString,
    )


class Client:
    """Calls methods by their paths; ``key`` and ``model`` go into the metadata."""

    def __init__(self, address: str, key: str | None = None, model: str | None = None) -> None:
        self.channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
        given = {"authorization": f"Bearer {key}" if key else None, "x-model": model}
        self.metadata = [(name, value) for name, value in given.items() if value]

    def __call__(self, path: str, asked: Any, **options: Any) -> Any:
        return method(self.channel, path)(asked, metadata=self.metadata, timeout=60, **options)

    def refused(self, path: str, asked: Any, **options: Any) -> Any:
        """Return the error that a call ends with."""
        with pytest.raises(grpc.RpcError) as caught:
            _all(self(path, asked, **options))
        return caught.value

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()


@pytest.fixture(scope="module")
def served(fleet: Fleet) -> Iterator[Served]:
    with calling(list(fleet.values()), max_body_bytes=200_000) as served:
        yield served


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    with Client(served.address) as client:
        yield client


def _all(answer: Any) -> list[Any]:
    return [answer] if hasattr(answer, "DESCRIPTOR") else list(answer)


def _floats(values: Any) -> Any:
    return np.array(values, np.float32)


# -- vectors -----------------------------------------------------------------------------------------------------


def test_embed_gives_python_s_vectors_to_the_bit(client: Client, tiny: Encoder) -> None:
    for text in TEXTS:
        found = client("Embed/Embed", pb.EmbedRequest(inputs=text))
        np.testing.assert_array_equal(_floats(found.embeddings), tiny.encode([text]).data[0])
        prompted = client("Embed/Embed", pb.EmbedRequest(inputs=text, prompt_name="query"))
        np.testing.assert_array_equal(_floats(prompted.embeddings), tiny.encode([text], prompt_name="query").data[0])
    cut = client("Embed/Embed", pb.EmbedRequest(inputs=TEXTS[0], dimensions=32))
    assert len(cut.embeddings) == 32


@pytest.mark.parametrize(("side", "truncate"), [(0, "report"), (1, "left")], ids=["right", "left"])
def test_the_side_that_is_cut(client: Client, tiny: Encoder, side: int, truncate: Any) -> None:
    asked = pb.EmbedRequest(inputs=LONG, truncate=True, truncation_direction=side)
    found, call = method(client.channel, "Embed/Embed").with_call(asked)
    expected = tiny.encode([LONG], truncate=truncate)
    np.testing.assert_array_equal(_floats(found.embeddings), expected.data[0])
    told = dict(call.initial_metadata())
    assert told["x-nearfield-truncated-tokens"] == str(int(expected.dropped.sum()))
    assert told["x-nearfield-fingerprint"] == expected.fingerprint


def test_metadata_says_what_it_cost(client: Client, tiny: Encoder) -> None:
    found, call = method(client.channel, "Embed/Embed").with_call(
        pb.EmbedRequest(inputs=TEXTS[0]), metadata=[("x-request-id", "mine-1")]
    )
    told = found.metadata
    assert told.compute_chars == len(TEXTS[0])
    assert told.compute_tokens == int(tiny.encode(TEXTS[0]).tokens.sum())
    assert 0 < told.inference_time_ns <= told.total_time_ns < 60_000_000_000
    assert told.tokenization_time_ns > 0 and told.queue_time_ns > 0
    headers = dict(call.initial_metadata())
    assert headers["x-request-id"] == "mine-1"
    assert headers["x-compute-tokens"] == str(told.compute_tokens)


def test_sparse(client: Client, fleet: Fleet) -> None:
    m3: Any = fleet["m3"]
    for text in TEXTS:
        indices, values = m3.encode([text], outputs="sparse").sparse[0]
        found = client("Embed/EmbedSparse", pb.EmbedSparseRequest(inputs=text)).sparse_embeddings
        assert [each.index for each in found] == indices.tolist()
        np.testing.assert_array_equal(_floats([each.value for each in found]), values)
    streamed = client("Embed/EmbedSparseStream", (pb.EmbedSparseRequest(inputs=text) for text in TEXTS))
    sizes = [len(each.sparse_embeddings) for each in streamed]
    assert sizes == [len(indices) for indices, _ in m3.encode(TEXTS, outputs="sparse").sparse]


def test_vectors_of_all_tokens(client: Client, tmp_path: Path) -> None:
    refused = client.refused("Embed/EmbedAll", pb.EmbedAllRequest(inputs="cat"))
    assert refused.code() == Code.FAILED_PRECONDITION
    late: Any = load(str(own("bert", document_length=32)(tmp_path)), precision="float32", compile_cache=False)
    with late, calling([late]) as served, Client(served.address) as own_client:
        expected = [late.encode([text], outputs="multivector").multivector[0] for text in TEXTS]
        for text, rows in zip(TEXTS, expected, strict=True):
            found = own_client("Embed/EmbedAll", pb.EmbedAllRequest(inputs=text)).token_embeddings
            np.testing.assert_array_equal(_floats([each.embeddings for each in found]), rows)
        streamed = own_client("Embed/EmbedAllStream", (pb.EmbedAllRequest(inputs=text) for text in TEXTS))
        assert [len(each.token_embeddings) for each in streamed] == [len(rows) for rows in expected]
        # Late interaction ranks, too: by sums, which a sigmoid would all map to 1.
        ranks = own_client("Rerank/Rerank", pb.RerankRequest(query="a cat", texts=TEXTS)).ranks
        asked = (pb.RerankStreamRequest(query="a cat", text=text) for text in TEXTS)
        streamed_ranks = own_client("Rerank/RerankStream", asked).ranks
        assert [each.index for each in streamed_ranks] == [each.index for each in ranks]
        np.testing.assert_allclose([each.score for each in streamed_ranks], [each.score for each in ranks], atol=1e-5)
        assert ranks[0].score > 1


# -- streams -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stream_answers_in_order(client: Client, tiny: Encoder) -> None:
    """How texts are batched may move the last bits, and nothing else."""
    texts = [f"{TEXTS[n % 3]} {n} " + "cat " * (n % 40) for n in range(1000)]
    found = list(client("Embed/EmbedStream", (pb.EmbedRequest(inputs=text, truncate=True) for text in texts)))
    assert len(found) == len(texts)
    assert [each.metadata.compute_chars for each in found] == list(map(len, texts))
    np.testing.assert_allclose(_floats([each.embeddings for each in found]), tiny.encode(texts).data, atol=2e-6, rtol=0)
    assert list(client("Embed/EmbedStream", iter(()))) == []


def test_one_bad_message_ends_its_stream_and_those_before_it_are_answered(client: Client) -> None:
    answers = client("Embed/EmbedStream", (pb.EmbedRequest(inputs="" if n == 5 else "cat") for n in range(300)))
    found = []
    with pytest.raises(grpc.RpcError) as caught:
        found.extend(iter(answers))
    refused: Any = caught.value
    assert (len(found), refused.code()) == (0, Code.INVALID_ARGUMENT) or len(found) == 5
    assert refused.code() == Code.INVALID_ARGUMENT
    assert len(client("Embed/Embed", pb.EmbedRequest(inputs="cat")).embeddings)


@pytest.mark.slow
def test_a_stream_is_not_read_ahead_of_its_client(tiny: Encoder) -> None:
    """A client that takes no answers is not read without end: what it sends waits with it."""
    sent, enough = 0, threading.Event()

    def asked() -> Iterator[Any]:
        nonlocal sent
        while sent < 20_000 and not enough.is_set():
            sent += 1
            yield pb.EncodeRequest(inputs="cat " * 2000)  # answered with thrice as many bytes

    with calling([tiny]) as served, Client(served.address) as client, Client(served.address) as other:
        answers = client("Tokenize/TokenizeStream", asked())
        next(answers)
        (turn,) = served.port._service.open

        def stuck() -> bool:
            before = turn.messages
            for _ in range(30):
                other("Info/Info", pb.InfoRequest())
            return turn.messages == before > 1

        _until(stuck, 60)
        assert turn.reader._bytes < 300_000
        enough.set()
        assert len(list(answers)) + 1 == sent


class Endless:
    """Stands for a client that sends the same message over and over."""

    def __init__(self, message: bytes) -> None:
        self.message = message

    async def read(self) -> bytes:
        return self.message


async def test_an_inbox_holds_so_much_and_no_more() -> None:
    for message, most in ((b"x" * 1000, 256), (b"x" * 100_000, 3)):
        inbox, held = RequestReader(Endless(message)), 0
        while held < most:
            assert await inbox.read() == message
            inbox.start_work(message)
            held += 1
        waiting = asyncio.ensure_future(inbox.read())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        inbox.end_work(message)
        assert await waiting == message


# -- scores ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True])
def test_rerank(client: Client, fleet: Fleet, raw: bool) -> None:
    reranker: Any = fleet["reranker"]
    told = {"query": "a cat", "truncate": True, "raw_scores": raw, "return_text": True}
    expected = reranker.rank("a cat", TEXTS, activation="identity" if raw else "sigmoid")
    found = client("Rerank/Rerank", pb.RerankRequest(texts=TEXTS, **told))
    assert [(each.index, each.text) for each in found.ranks] == [(each.index, TEXTS[each.index]) for each in expected]
    np.testing.assert_allclose([each.score for each in found.ranks], [each.score for each in expected], atol=1e-6)
    assert found.metadata.compute_chars == 3 * len("a cat") + sum(map(len, TEXTS))
    streamed = client("Rerank/RerankStream", (pb.RerankStreamRequest(text=text, **told) for text in TEXTS))
    assert [each.index for each in streamed.ranks] == [each.index for each in found.ranks]
    np.testing.assert_allclose([each.score for each in streamed.ranks], [each.score for each in found.ranks], atol=1e-6)
    assert streamed.metadata.compute_tokens == found.metadata.compute_tokens
    bare = client("Rerank/Rerank", pb.RerankRequest(query="a cat", texts=TEXTS)).ranks
    assert not any(each.HasField("text") for each in bare)


def test_a_rerank_stream_may_have_several_queries(client: Client, fleet: Fleet) -> None:
    reranker: Any = fleet["reranker"]
    queries = ["a cat", "hello", "a cat"]
    pairs = list(zip(queries, TEXTS, strict=True))
    found = client("Rerank/RerankStream", (pb.RerankStreamRequest(query=query, text=text) for query, text in pairs))
    scores = reranker.score(queries, TEXTS, activation="sigmoid").data
    assert [each.index for each in found.ranks] == np.argsort(-scores, kind="stable").tolist()
    np.testing.assert_allclose([each.score for each in found.ranks], np.sort(scores)[::-1], atol=1e-6)
    refused = client.refused("Rerank/RerankStream", iter(()))
    assert refused.code() == Code.INVALID_ARGUMENT


def test_predict(client: Client, fleet: Fleet) -> None:
    model: Any = fleet["classifier"]
    for raw in (False, True):
        activation = {"activation": "identity"} if raw else {}
        for text in TEXTS:
            (expected,) = model.predict([text], **activation)
            found = client("Predict/Predict", pb.PredictRequest(inputs=text, raw_scores=raw)).predictions
            assert found[0].label == expected.label
            assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
            np.testing.assert_allclose(
                {each.label: each.score for each in found}[expected.label], expected.score, atol=1e-6
            )
    (pair,) = model.predict([(TEXTS[0], TEXTS[1])])
    found = client("Predict/PredictPair", pb.PredictPairRequest(inputs=TEXTS[:2])).predictions
    assert (found[0].label, len(found)) == (pair.label, 3)
    np.testing.assert_allclose(found[0].score, pair.score, atol=1e-6)
    alone = client("Predict/PredictPair", pb.PredictPairRequest(inputs=TEXTS[:1])).predictions
    assert alone == client("Predict/Predict", pb.PredictRequest(inputs=TEXTS[0])).predictions
    streamed = list(client("Predict/PredictStream", (pb.PredictRequest(inputs=text) for text in TEXTS)))
    assert [each.predictions[0].label for each in streamed] == [each.label for each in model.predict(TEXTS)]
    pairs = list(client("Predict/PredictPairStream", (pb.PredictPairRequest(inputs=TEXTS[:2]) for _ in range(3))))
    assert [each.predictions[0].label for each in pairs] == [pair.label] * 3
    for inputs in ([], TEXTS):
        refused = client.refused("Predict/PredictPair", pb.PredictPairRequest(inputs=inputs))
        assert refused.code() == Code.INVALID_ARGUMENT


# -- tokens and facts ----------------------------------------------------------------------------------------------


def test_tokens_and_back(client: Client, tiny: Encoder) -> None:
    text = "hello wörld cat"
    asked = pb.EncodeRequest(inputs=text, add_special_tokens=True)
    tokens = client("Tokenize/Tokenize", asked).tokens
    assert [each.id for each in tokens] == tiny.tokenizer.backend.encode(text).ids
    assert [each.special for each in tokens] == [True, *[False] * (len(tokens) - 2), True]
    assert not tokens[0].HasField("start")
    data = text.encode()
    assert all(data[each.start : each.stop].decode() == each.text for each in tokens if not each.special)
    assert [each.id for each in client("Tokenize/Tokenize", pb.EncodeRequest(inputs=text)).tokens] == [
        each.id for each in tokens if not each.special
    ]
    prompted = client("Tokenize/Tokenize", pb.EncodeRequest(inputs=text, prompt_name="query")).tokens
    assert len(prompted) > len(tokens) - 2
    ids = [each.id for each in tokens]
    for skip in (True, False):
        decoded = client("Tokenize/Decode", pb.DecodeRequest(ids=ids, skip_special_tokens=skip)).text
        assert decoded == tiny.tokenizer.backend.decode(ids, skip_special_tokens=skip)
    assert [len(each.tokens) for each in client("Tokenize/TokenizeStream", iter([asked] * 3))] == [len(tokens)] * 3
    back = client("Tokenize/DecodeStream", (pb.DecodeRequest(ids=ids[: n + 1]) for n in range(len(ids))))
    assert len({each.text for each in back}) == len(ids)
    assert client.refused("Tokenize/Decode", pb.DecodeRequest(ids=[10**6])).code() == Code.INVALID_ARGUMENT
    assert client.refused("Tokenize/Decode", pb.DecodeRequest()).code() == Code.INVALID_ARGUMENT


def test_info(served: Served, client: Client, tiny: Encoder) -> None:
    told = client("Info/Info", pb.InfoRequest())
    assert (told.model_id, told.model_dtype, told.max_input_length) == ("tiny", "float32", tiny.max_length)
    assert (told.model_type, told.max_client_batch_size) == (pb.MODEL_TYPE_EMBEDDING, served.server.limits.items)
    for name, kind in (("tiny-reranker", pb.MODEL_TYPE_RERANKER), ("tiny-classifier", pb.MODEL_TYPE_CLASSIFIER)):
        with Client(served.address, model=name) as other:
            told = other("Info/Info", pb.InfoRequest())
        assert (told.model_id, told.model_type) == (name, kind)


def test_the_model_is_chosen_by_metadata(served: Served, fleet: Fleet) -> None:
    m3: Any = fleet["m3"]
    with Client(served.address, model="m3") as client:
        found = client("Embed/Embed", pb.EmbedRequest(inputs="cat")).embeddings
        np.testing.assert_array_equal(_floats(found), m3.encode(["cat"], outputs="dense").dense.data[0])
    with Client(served.address, model="tiny-reranker") as client:
        refused = client.refused("Embed/Embed", pb.EmbedRequest(inputs="cat"))
        assert refused.code() == Code.FAILED_PRECONDITION
        assert refused.details().startswith("Backend error: tiny-reranker")
    for name in ("nobody", "x" * 2000):
        with Client(served.address, model=name) as client:
            refused = client.refused("Embed/Embed", pb.EmbedRequest(inputs="cat"))
            expected = Code.NOT_FOUND if name == "nobody" else Code.INVALID_ARGUMENT
            assert refused.code() == expected


# -- errors ------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_said_with_tei_s_codes(client: Client) -> None:
    wrong: list[tuple[str, Any, str]] = [
        ("Embed/Embed", pb.EmbedRequest(inputs=""), "cannot be empty"),
        ("Embed/Embed", pb.EmbedRequest(inputs=LONG), "reads at most"),
        ("Embed/Embed", pb.EmbedRequest(inputs="cat", prompt_name="x"), "prompt"),
        ("Embed/Embed", pb.EmbedRequest(inputs="cat", prompt_name="x" * 1000), "prompt_name"),
        ("Embed/Embed", pb.EmbedRequest(inputs="cat", dimensions=0), "dim"),
        ("Embed/Embed", pb.EmbedRequest(inputs="cat", truncation_direction=7), "truncation_direction"),
        ("Rerank/Rerank", pb.RerankRequest(query="cat"), "texts"),
        ("Rerank/Rerank", pb.RerankRequest(query="c", texts=["a"], truncate=True, truncation_direction=1), "direction"),
        ("Tokenize/Tokenize", pb.EncodeRequest(), "cannot be empty"),
    ]
    for path, asked, told in wrong:
        refused = client.refused(path, asked)
        assert refused.code() == Code.INVALID_ARGUMENT, path
        assert refused.details().startswith("Input validation error: ") and told in refused.details()
    assert dict(refused.trailing_metadata())["x-nearfield-code"] == "empty_input"
    raw = client.channel.unary_unary("/tei.v1.Embed/Embed")
    with pytest.raises(grpc.RpcError) as caught:
        raw(b"\xff\xff\xff", timeout=20)
    assert caught.value.code() == Code.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        raw(b"\x0a\x02\xff\xfe", timeout=20)  # no UTF-8
    assert caught.value.code() == Code.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary("/tei.v1.Embed/Nothing")(b"", timeout=20)
    assert caught.value.code() == Code.UNIMPLEMENTED


def test_messages_larger_than_the_limit_are_refused(client: Client) -> None:
    """Compressed ones are measured by what they hold."""
    large = pb.EmbedRequest(inputs="a" * 300_000, truncate=True)
    for options in ({}, {"compression": grpc.Compression.Gzip}):
        assert client.refused("Embed/Embed", large, **options).code() == Code.RESOURCE_EXHAUSTED
        assert client.refused("Embed/EmbedStream", iter([large]), **options).code() == Code.RESOURCE_EXHAUSTED
    asked = (pb.RerankStreamRequest(query="cat", text="a" * 1000, truncate=True) for _ in range(1000))
    refused = client.refused("Rerank/RerankStream", asked)
    assert refused.code() == Code.INVALID_ARGUMENT
    assert "200000 bytes" in refused.details()
    assert len(client("Embed/Embed", pb.EmbedRequest(inputs="cat")).embeddings)


def test_messages_with_too_many_values_are_refused(tiny: Encoder) -> None:
    ids = pb.DecodeRequest(ids=[1] * 1_200_000).SerializeToString()
    unknown = b"\xf8\x01\x01" * 1_200_000
    truncated = b"\x12\xff" * 50_000
    with calling([tiny]) as served, Client(served.address) as client:
        for path, data in (("Rerank/Rerank", b"\x12\x00" * 1_200_000), ("Tokenize/Decode", ids)):
            call = client.channel.stream_stream(f"/tei.v1.{path}")
            for message, refused in ((data, True), (unknown, True), (truncated, False)):
                with pytest.raises(grpc.RpcError) as caught:
                    list(call(iter([message]), timeout=60))
                assert ("values" in caught.value.details()) == refused
        assert client("Tokenize/Decode", pb.DecodeRequest(ids=[6] * 100_000)).text


def test_as_many_items_as_over_http(tiny: Encoder, fleet: Fleet) -> None:
    with calling([fleet["reranker"]], max_items=4) as served, Client(served.address) as client:
        assert len(client("Rerank/Rerank", pb.RerankRequest(query="cat", texts=["a"] * 4)).ranks) == 4
        assert client.refused("Rerank/Rerank", pb.RerankRequest(query="cat", texts=["a"] * 5)).code() == (
            Code.INVALID_ARGUMENT
        )
        asked = (pb.RerankStreamRequest(query="cat", text="a") for _ in range(5))
        assert client.refused("Rerank/RerankStream", asked).code() == Code.INVALID_ARGUMENT
        assert client.refused("Embed/Embed", pb.EmbedRequest(inputs="cat")).code() == Code.FAILED_PRECONDITION


def test_errors_that_nobody_foresaw_say_nothing_of_themselves(
    client: Client, tiny: Encoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ValueError("secretword")

    monkeypatch.setattr(tiny, "run_encode", broken)
    refused = client.refused("Embed/Embed", pb.EmbedRequest(inputs="cat"))
    assert refused.code() == Code.INTERNAL
    assert "secretword" not in refused.details()
    assert client.refused("Embed/EmbedStream", iter([pb.EmbedRequest(inputs="cat")] * 3)).code() == Code.INTERNAL


# -- keys --------------------------------------------------------------------------------------------------------


def test_keys_scopes_models_and_rates(tmp_path: Path, fleet: Fleet) -> None:
    (good, kept), (owner, owner_kept), (slow, slow_kept) = create_key(), create_key(), create_key()
    file = tmp_path / "keys.toml"
    file.write_text(
        f'[[keys]]\nname = "good"\nhash = "{kept}"\nmodels = ["tiny"]\n'
        f'[[keys]]\nname = "owner"\nhash = "{owner_kept}"\nscopes = ["manage"]\n'
        f'[[keys]]\nname = "slow"\nhash = "{slow_kept}"\ntokens_per_minute = 5\n',
        encoding="utf-8",
    )
    asked = pb.EmbedRequest(inputs="the cat sat on the mat")
    with calling([fleet["tiny"], fleet["m3"]], api_key_file=file) as served:
        for key, code in (
            (None, Code.UNAUTHENTICATED),
            ("nf-wrong", Code.UNAUTHENTICATED),
            (owner, Code.PERMISSION_DENIED),
        ):
            with Client(served.address, key) as client:
                for path, given in (("Embed/Embed", asked), ("Embed/EmbedStream", iter([asked]))):
                    assert client.refused(path, given).code() == code
                assert client.refused("Info/Info", pb.InfoRequest()).code() == code
                assert _health(client) == health_pb2.HealthCheckResponse.SERVING  # probes have no keys
        with Client(served.address, good) as client:
            assert len(client("Embed/Embed", asked).embeddings)
            # Of the key's models none gives sparse vectors; that another model does is not said.
            refused = client.refused("Embed/EmbedSparse", pb.EmbedSparseRequest(inputs="cat"))
            assert refused.code() == Code.FAILED_PRECONDITION
            assert "tiny gives no 'sparse' output" in refused.details() and "m3" not in refused.details()
        with Client(served.address, slow) as client:
            assert len(client("Embed/Embed", asked).embeddings)
            refused = client.refused("Embed/Embed", asked)
            assert refused.code() == Code.RESOURCE_EXHAUSTED
            assert int(dict(refused.trailing_metadata())["grpc-retry-pushback-ms"]) > 1000
            assert client.refused("Embed/EmbedStream", iter([asked])).code() == Code.RESOURCE_EXHAUSTED


def test_a_large_message_without_a_key_is_not_read(fleet: Fleet) -> None:
    with calling([fleet["tiny"]], api_keys=("nf-x",)) as served, Client(served.address) as client:
        refused = client.refused("Embed/Embed", pb.EmbedRequest(inputs="a" * 40_000_000))
        assert refused.code() == Code.UNAUTHENTICATED


# -- beside the methods --------------------------------------------------------------------------------------------


def _health(client: Client, service: str = "") -> int:
    check = client.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return int(check(health_pb2.HealthCheckRequest(service=service), timeout=20).status)


def _watch(client: Client, service: str = "") -> Any:
    watch = client.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return watch(health_pb2.HealthCheckRequest(service=service), timeout=60)


def test_health_of_each_service(client: Client, fleet: Fleet) -> None:
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    names = ("Info", "Embed", "Predict", "Rerank", "Tokenize")
    assert [_health(client, f"tei.v1.{name}") for name in names] == [serving] * 5
    with pytest.raises(grpc.RpcError) as caught:
        _health(client, "tei.v1.Nothing")
    assert caught.value.code() == Code.NOT_FOUND
    with calling([fleet["tiny"]]) as served, Client(served.address) as other:
        expected = [serving, serving, not_serving, not_serving, serving]
        assert [_health(other, f"tei.v1.{name}") for name in names] == expected


def test_reflection_lists_the_services_and_gives_their_file(client: Client) -> None:
    told = ProtoReflectionDescriptorDatabase(client.channel)
    names = {f"tei.v1.{name}" for name in ("Info", "Embed", "Predict", "Rerank", "Tokenize")}
    assert names < set(told.get_services())
    assert told.FindFileContainingSymbol("tei.v1.Embed").package == "tei.v1"


def test_calls_are_counted_and_logged(served: Served, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="nearfield.access"):
        client("Embed/Embed", pb.EmbedRequest(inputs="secretword"))
        client.refused("Embed/Embed", pb.EmbedRequest())
        list(client("Embed/EmbedStream", iter([pb.EmbedRequest(inputs="cat")] * 3)))
    lines = [record for record in caplog.records if record.name == "nearfield.access"]
    told = [record.getMessage() for record in lines]
    assert told == [
        "GRPC /tei.v1.Embed/Embed OK",
        "GRPC /tei.v1.Embed/Embed INVALID_ARGUMENT",
        "GRPC /tei.v1.Embed/EmbedStream OK",
    ]
    last: Any = lines[2]
    assert (last.model, last.messages, last.inputs) == ("tiny", 3, 3)
    assert last.tokens > 3
    assert not any("secretword" in str(vars(record)) for record in lines)
    page = served.server.prometheus.page().decode()
    assert 'nearfield_requests_total{route="/tei.v1.Embed/Embed",status="400"}' in page
    assert 'nearfield_requests_total{route="/tei.v1.Embed/EmbedStream",status="200"}' in page


def test_a_call_is_traced_as_a_part_of_its_client_s_trace(tiny: Encoder) -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    trace = "0af7651916cd43dd8448eb211c80319c"
    with calling([tiny], traces=traces) as served, Client(served.address) as client:
        client.metadata.append(("traceparent", f"00-{trace}-b7ad6b7169203331-01"))
        client("Embed/Embed", pb.EmbedRequest(inputs="cat"))
    traces.close()
    (span,) = (each for each in exporter.get_finished_spans() if each.kind is SpanKind.SERVER)
    assert (span.name, span.context and format_trace_id(span.context.trace_id)) == ("POST /tei.v1.Embed/Embed", trace)
    assert (span.attributes or {})["gen_ai.response.model"] == "tiny"


# -- clients that leave, and servers that stop -----------------------------------------------------------------------


class Gate:
    """Lets batches run, or keeps them until it is opened."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    def wrap(self, run: Any) -> Any:
        def slow(batch: Any) -> Any:
            assert self.go.wait(30)
            return run(batch)

        return slow


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    lane = CompiledModel.create_lane_function
    monkeypatch.setattr(CompiledModel, "create_lane_function", lambda self: gate.wrap(lane(self)))
    yield gate
    gate.go.set()


@pytest.fixture
def small(tmp_path: Path, gate: Gate) -> Iterator[Encoder]:
    """A model on a separate engine, with a short queue, that starts nothing."""
    engine = Engine(1, EngineLimits(max_queued_tokens=400))
    with tiny_encoder(tmp_path / "tiny", engine=engine) as encoder:
        gate.go.clear()
        yield encoder
        gate.go.set()
    engine.close(drain=False)


def _until(true: Any, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("streamed", [False, True], ids=["one", "a stream"])
def test_a_client_that_leaves_frees_what_was_waiting(small: Encoder, gate: Gate, streamed: bool) -> None:
    asked = pb.EmbedRequest(inputs="cat")
    with calling([small]) as served, Client(served.address) as client:
        first = method(client.channel, "Embed/Embed").future(asked)
        _until(lambda: small.engine.stats().running_batches == 1)
        if streamed:
            second = client("Embed/EmbedStream", iter([asked] * 20))
        else:
            second = method(client.channel, "Embed/Embed").future(asked)
        _until(lambda: small.engine.stats().queued_jobs == (20 if streamed else 1))
        second.cancel()
        _until(lambda: small.engine.stats().queued_jobs == 0)
        gate.go.set()
        assert len(first.result(20).embeddings)
        assert len(client("Embed/Embed", asked).embeddings)
        _until(lambda: served.server.body_budget.used_bytes == 0)


@pytest.mark.slow
def test_many_calls_at_once_on_one_connection_all_have_their_answers(client: Client) -> None:
    """gRPC by itself refuses some from a thousand on; a client that disconnects in between costs no other an answer."""
    embed = method(client.channel, "Embed/Embed")
    for _ in range(200):
        embed.future(pb.EmbedRequest(inputs="cat")).cancel()
    calls = [embed.future(pb.EmbedRequest(inputs=f"cat {n}")) for n in range(1500)]
    assert all(len(call.result(60).embeddings) for call in calls)


def test_a_message_that_does_not_come_is_not_waited_for_without_end(tiny: Encoder) -> None:
    with calling([tiny], request_timeout=0.5) as served, Client(served.address) as client:
        never = threading.Event()
        for path in ("/tei.v1.Embed/Embed", "/tei.v1.Rerank/RerankStream"):
            answer = client.channel.stream_unary(path)
            with pytest.raises(grpc.RpcError) as caught:
                answer(iter(lambda: never.wait(60), True), timeout=50)
            assert caught.value.code() == Code.DEADLINE_EXCEEDED
            assert "did not arrive" in caught.value.details()
        never.set()


def test_a_call_ends_with_its_client_s_deadline_and_its_work_is_freed(small: Encoder, gate: Gate) -> None:
    asked = pb.EmbedRequest(inputs="cat")
    with calling([small]) as served, Client(served.address) as client:
        with pytest.raises(grpc.RpcError) as caught:
            method(client.channel, "Embed/Embed")(asked, timeout=0.5)
        assert caught.value.code() in (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED)
        _until(lambda: small.engine.stats().queued_jobs == 0)


def test_the_messages_of_a_stream_run_together(small: Encoder, gate: Gate) -> None:
    sizes: list[int] = []
    small.engine.observers.append(lambda report: sizes.append(len(report.queue_seconds)))
    with calling([small]) as served, Client(served.address) as client:
        answers = client("Embed/EmbedStream", iter([pb.EmbedRequest(inputs="cat")] * 60))
        _until(lambda: small.engine.stats().queued_jobs > 50)
        gate.go.set()
        assert len(list(answers)) == 60
    assert max(sizes) > 30


@pytest.mark.slow
def test_a_stream_waits_for_room_where_a_single_call_is_refused(small: Encoder, gate: Gate) -> None:
    asked = pb.EmbedRequest(inputs="the cat sat on the mat")
    with calling([small]) as served, Client(served.address) as client:
        answers = client("Embed/EmbedStream", iter([asked] * 200))
        _until(lambda: small.engine.stats().queued_tokens > 380)
        refused = client.refused("Embed/Embed", asked)
        assert refused.code() == Code.RESOURCE_EXHAUSTED
        assert "grpc-retry-pushback-ms" in dict(refused.trailing_metadata())
        gate.go.set()
        assert len(list(answers)) == 200


def test_a_request_s_time_bounds_each_message(small: Encoder) -> None:
    with calling([small], request_timeout=0.5) as served, Client(served.address) as client:
        refused = client.refused("Embed/Embed", pb.EmbedRequest(inputs="cat"))
        assert refused.code() == Code.RESOURCE_EXHAUSTED
        assert dict(refused.trailing_metadata())["x-nearfield-code"] == "deadline_exceeded"


@pytest.mark.slow
def test_stopping_finishes_what_was_accepted(small: Encoder, gate: Gate) -> None:
    asked, more = pb.EmbedRequest(inputs="cat"), threading.Event()

    def some() -> Iterator[Any]:
        yield from [asked] * 3
        more.wait(30)  # the client keeps its stream open

    with calling([small]) as served, Client(served.address) as client, Client(served.address) as other:
        watching = _watch(other)
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        one = method(client.channel, "Embed/Embed").future(asked)
        # The only lane is taken before the stream begins, or a batch of both would count as one.
        _until(lambda: small.engine.stats().running_batches == 1)
        stream = client("Embed/EmbedStream", some())
        _until(lambda: small.engine.stats().queued_jobs == 3)
        done = served.stop()
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
        _until(lambda: served.port._service.closed)
        assert not done.done()
        assert client.refused("Embed/Embed", asked).code() == Code.UNAVAILABLE
        gate.go.set()
        assert len(one.result(20).embeddings)
        found = []
        with pytest.raises(grpc.RpcError) as caught:
            found.extend(iter(stream))
        assert caught.value.code() == Code.UNAVAILABLE
        done.result(20)
        more.set()


@pytest.mark.process
@pytest.mark.slow
def test_sigterm_under_load_loses_no_call(tmp_path: Path) -> None:
    """Each call ends with its answer, or is refused as unavailable, which clients try elsewhere."""
    write_tiny_model(tmp_path / "tiny")
    process = Process(tmp_path / "tiny", "--grpc-port", "0")
    codes: list[grpc.StatusCode] = []
    begun = threading.Event()

    def load() -> None:
        with Client(process.grpc) as client:
            while True:
                try:
                    client("Embed/Embed", pb.EmbedRequest(inputs="cat"))
                except grpc.RpcError as error:
                    codes.append(error.code())
                    return
                codes.append(Code.OK)
                begun.set()

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    process.terminate()
    assert process.wait() == 0
    for thread in threads:
        thread.join(20)
    assert set(codes) == {Code.OK, Code.UNAVAILABLE}
    assert codes.count(Code.UNAVAILABLE) == len(threads)


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.slow
def test_nearfield_serve_speaks_both_on_their_ports(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    process = Process(tmp_path / "tiny", "--grpc-port", "0", "--precision", "float32", "--api-key", "nf-x")
    with Client(process.grpc, key="nf-x") as client:
        found = client("Embed/Embed", pb.EmbedRequest(inputs="cat")).embeddings
    headers = {"authorization": "Bearer nf-x"}
    (row,) = httpx.post(process.url + "/embed", json={"inputs": "cat"}, headers=headers).json()
    page = httpx.get(process.url + "/metrics", headers=headers).text
    process.terminate()
    assert process.wait() == 0
    np.testing.assert_array_equal(_floats(row), _floats(found))
    assert 'route="/tei.v1.Embed/Embed",status="200"' in page


@pytest.mark.process
@pytest.mark.slow
def test_tls_is_that_of_http(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    process = Process(tmp_path / "tiny", "--grpc-port", "0", "--tls-cert", str(cert), "--tls-key", str(key))
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    with grpc.secure_channel(process.grpc, credentials) as channel:
        assert len(method(channel, "Embed/Embed")(pb.EmbedRequest(inputs="cat"), timeout=20).embeddings)
    process.terminate()
    assert process.wait() == 0


def test_a_port_that_is_taken_is_said_before_models_are_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"{port}.*--grpc-port"):
            run.serve(settings.load(port=0, grpc_port=port, models=("no-such-model",)))


def test_without_its_libraries_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nearfield.server.rpc.listener")
    monkeypatch.setitem(sys.modules, "grpc_health", None)
    monkeypatch.setitem(sys.modules, "grpc_health.v1", None)
    with pytest.raises(MissingExtra, match=r"pip install 'nearfield\[grpc\]'"):
        rpc.load()


@pytest.mark.process
@pytest.mark.slow
def test_a_server_without_it_loads_none_of_it() -> None:
    names = "[name for name in ('grpc', 'google.protobuf') if name in sys.modules]"
    code = f"import sys, nearfield.server.lifecycle.serve; print({names})"
    assert python(code) == "[]"


def test_the_messages_are_those_of_the_proto_file() -> None:
    from tools import proto

    try:
        made = dict(proto.modules())
    except ModuleNotFoundError:
        missing("grpcio-tools is not installed")
    for path, content in made.items():
        assert path.read_text(encoding="utf-8") == content, "stale: run python -m tools.proto"


@pytest.mark.process
def test_the_example_of_the_page(served: Served, tmp_path: Path, tiny: Encoder) -> None:
    """As a user would: with what grpcio-tools makes of the file, in a separate process."""
    try:
        from grpc_tools import protoc
    except ModuleNotFoundError:
        missing("grpcio-tools is not installed")
    source = Path(pb.__file__).parent
    made = protoc.main(
        ["protoc", f"-I{source}", f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", "tei.proto"]
    )
    assert made == 0
    page = (ROOT / "docs" / "guides" / "serve.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```py\n(.*?)```", page, re.S) if "import grpc" in block)
    for theirs, ours in (("127.0.0.1:9090", served.address), ("all-MiniLM-L6-v2", tiny.name)):
        assert theirs in code
        code = code.replace(theirs, ours)
    printed = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}\nprint(list(one.embeddings))")
    first, _, vector = printed.partition("\n")
    texts = ["the cat sat on the mat", "hello world"]
    expected = tiny.encode([texts[0]])
    assert first == f"{tiny.dimensions} {len(texts)} {int(expected.tokens.sum())}"
    np.testing.assert_array_equal(_floats(json.loads(vector)), expected.data[0])
