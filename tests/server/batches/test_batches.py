"""OpenAI's Files and Batch API: the official client over a real socket, and what may go wrong on the way."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import ModelUnavailable, Overloaded, TooLarge, UnsupportedMedia
from nearfield.server.batches import batch_lines, batch_runner, batch_store, line_runner
from nearfield.server.files import file_store, upload
from nearfield.server.files.file_store import FileStore
from nearfield.testing import write_tiny_model
from tests.support.serving import Process, serving

pytestmark = pytest.mark.network

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]
ENDPOINT: Any = "/v1/embeddings"
ENDED = ("completed", "failed", "expired", "cancelled")


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with _client(url) as client:
        yield client


def _client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0)


def _line(custom_id: str, given: Any = "cat", **body: Any) -> dict[str, Any]:
    whole = {"model": "tiny", "input": given, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": whole}


def _jsonl(*lines: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _upload(client: openai.OpenAI, *lines: Any) -> str:
    return client.files.create(file=("batch.jsonl", _jsonl(*lines)), purpose="batch").id


def _create(client: openai.OpenAI, *lines: Any, **more: Any) -> Any:
    name = _upload(client, *lines)
    return client.batches.create(input_file_id=name, endpoint=ENDPOINT, completion_window="24h", **more)


def _until(client: openai.OpenAI, name: str, wanted: Callable[[Any], bool]) -> Any:
    until = time.monotonic() + 60
    while not wanted(batch := client.batches.retrieve(name)):
        assert time.monotonic() < until, batch
        time.sleep(0.02)
    return batch


def _end(client: openai.OpenAI, name: str) -> Any:
    return _until(client, name, lambda batch: batch.status in ENDED)


def _read(client: openai.OpenAI, name: str | None) -> dict[str, Any]:
    assert name is not None
    return {(line := json.loads(text))["custom_id"]: line for text in client.files.content(name).text.splitlines()}


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_file_is_kept_described_read_and_deleted(client: openai.OpenAI) -> None:
    content = os.urandom(700_000) + b"\r\n--not-the-boundary\r\n"
    file = client.files.create(file=("täglich.jsonl", content), purpose="batch")
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(content), "täglich.jsonl", "batch")
    assert file.id.startswith("file-")
    assert file.expires_at is None
    assert client.files.retrieve(file.id) == file
    reply = client.files.content(file.id)
    assert reply.content == content
    assert reply.response.headers["content-length"] == str(len(content))
    gone = client.files.delete(file.id)
    assert (gone.id, gone.object, gone.deleted) == (file.id, "file", True)
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as refused:
            call(file.id)
        assert refused.value.type == "invalid_request_error"


def test_files_come_in_pages(tiny: Encoder) -> None:
    with serving([tiny]) as url, _client(url) as client:
        assert list(client.files.list()) == []
        made = [_upload(client, _line(str(number))) for number in range(5)]
        page = client.files.list(limit=2)
        assert ([file.id for file in page.data], page.has_more) == (made[:-3:-1], True)
        assert [file.id for file in client.files.list(limit=2)] == made[::-1]
        assert [file.id for file in client.files.list(limit=2, order="asc")] == made
        assert list(client.files.list(purpose="batch_output")) == []
        for file in client.files.list(limit=2):  # what a page ended with is gone when the next is asked for
            client.files.delete(file.id)
        assert client.files.list().data == []
        for query in ("limit=0", "limit=10001", "limit=x", "order=up", "after=file-none"):
            assert httpx.get(f"{url}/v1/files?{query}").status_code == 400, query


def test_a_file_expires(tiny: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving([tiny], data_dir=tmp_path) as url, _client(url) as client:
        file = client.files.create(
            file=("a.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        assert file.expires_at == file.created_at + 3600
        monkeypatch.setattr(FileStore, "clock", staticmethod(lambda: time.time() + 3601))
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file.id)
        assert client.files.list().data == []
        _upload(client, _line("a"))  # the next one clears up
        assert not (tmp_path / "files" / file.id).exists()


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({}, "purpose"),
        ({"purpose": "batch", "expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at"}, "expires_after"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "9"}, "expires_after"),
    ],
)
def test_a_wrong_form_is_refused(url: str, form: dict[str, str], param: str) -> None:
    reply = httpx.post(url + "/v1/files", data=form, files={"file": ("a", b"{}")})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_what_is_no_form_is_refused(url: str) -> None:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    whole = b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--b--\r\n'
    cases: list[tuple[bytes, dict[str, str], int]] = [
        (b"{}", {"content-type": "application/json"}, 415),
        (b"", {"content-type": "multipart/form-data"}, 415),
        (whole, {**kind, "content-encoding": "gzip"}, 415),
        (whole[:-8], kind, 400),
        (b"nonsense", kind, 400),
        (b"", kind, 400),
        (whole.replace(b'"file"', b'"other"'), kind, 400),
        (whole[:-4] + b"\r\n" + whole, kind, 400),
        (whole.replace(b'"file"', b'"purpose"').replace(b"x", b"x" * 70_000), kind, 413),
        (b"--b\r\n\r\n\r\n" * 100 + whole, kind, 400),  # many parts without a name
        (whole.replace(b"form-data;", b"form-data;" + b" " * 70_000), kind, 400),
    ]
    for body, headers, status in cases:
        assert httpx.post(url + "/v1/files", content=body, headers=headers).status_code == status, body[:80]
    assert UnsupportedMedia.status == 415 and TooLarge.status == 413


def test_a_file_has_a_largest_size_whatever_bodies_may_have(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from nearfield.server.dialects.openai import batches as openai_batches

    monkeypatch.setattr(openai_batches, "MAX_BYTES", 500_000)
    with serving([tiny], max_body_bytes=1024, data_dir=tmp_path) as url, _client(url) as client:
        assert client.files.create(file=("a", b"x" * 500_000), purpose="batch").bytes == 500_000
        with pytest.raises(openai.APIStatusError) as refused:
            client.files.create(file=("a", b"x" * 500_001), purpose="batch")
        assert refused.value.status_code == 413

        def endless() -> Iterator[bytes]:
            yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'
            for _ in range(8):
                yield b"x" * 100_000

        headers = {"content-type": "multipart/form-data; boundary=b"}
        try:
            assert httpx.post(url + "/v1/files", content=endless(), headers=headers).status_code == 413
        except httpx.TransportError:
            pass  # refused before it had sent all
        assert len(client.files.list().data) == 1
    assert len(list((tmp_path / "files").iterdir())) == 1  # nothing is left of what was refused


def test_a_file_is_never_held_whole() -> None:
    """However it is cut, the reader hands on what it got; no piece waits for the next beyond a boundary's length."""
    body = b'--b\r\ncontent-disposition: form-data; name="file"\r\n\r\n' + b"xy\r\n-" * 1000 + b"\r\n--b--\r\n"
    for step in (1, 7, 1000):
        got = bytearray()
        writes = iter([got.extend])
        reader = upload._MultipartReader(b"b", lambda _: next(writes), 10_000, "file", max_files=1)  # noqa: B023
        for at in range(0, len(body), step):
            reader.feed(body[at : at + step])
        reader.end()
        assert bytes(got) == b"xy\r\n-" * 1000


# -- batches -------------------------------------------------------------------------------------------------------


def test_there_and_back(client: openai.OpenAI, tiny: Encoder) -> None:
    lines = [_line(f"line {number}", text) for number, text in enumerate(TEXTS)]
    lines += [
        _line("many", TEXTS),
        _line("whole", "cat", dimensions=32),
        _line("coded", "cat", encoding_format="base64"),
    ]
    lines += [_line("bad", "cat", dimensions=10_000), _line("ünknown", "cat", model="none"), _line("null", user=None)]
    made = _create(client, *lines, metadata={"a": "b"})
    assert (made.object, made.status, made.endpoint, made.metadata) == ("batch", "validating", ENDPOINT, {"a": "b"})
    assert made.expires_at == made.created_at + 86_400
    batch = _end(client, made.id)
    assert batch.status == "completed", batch
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (9, 7, 2), _read(client, batch.error_file_id)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    found = _read(client, batch.output_file_id)
    for line in lines[:7]:
        if line["custom_id"] == "bad":
            continue
        reply = found[line["custom_id"]]
        assert reply["id"].startswith("batch_req_")
        assert (reply["error"], reply["response"]["status_code"]) == (None, 200)
        same = client.embeddings.create(**{"encoding_format": "float", **line["body"]})
        body = reply["response"]["body"]
        assert body["usage"] == same.usage.model_dump(exclude_unset=True)
        if line["custom_id"] != "coded":
            got = np.array([item["embedding"] for item in body["data"]], np.float32)
            wanted = np.array([item.embedding for item in same.data], np.float32)
            np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert isinstance(found["coded"]["response"]["body"]["data"][0]["embedding"], str)
    refused = _read(client, batch.error_file_id)
    assert set(refused) == {"bad", "ünknown"}
    assert refused["bad"]["response"]["status_code"] == 400
    assert refused["bad"]["response"]["body"]["error"]["param"] == "dimensions"
    assert refused["ünknown"]["response"]["status_code"] == 404
    assert batch.usage.total_tokens == sum(each["response"]["body"]["usage"]["total_tokens"] for each in found.values())
    output = client.files.retrieve(batch.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")


def test_one_line_gives_the_same_vector_to_the_bit(client: openai.OpenAI, tiny: Encoder) -> None:
    batch = _end(client, _create(client, _line("only", TEXTS[0]), output_expires_after=_hour()).id)
    reply = _read(client, batch.output_file_id)["only"]["response"]["body"]
    np.testing.assert_array_equal(np.array(reply["data"][0]["embedding"], np.float32), tiny.encode(TEXTS[0]))
    assert batch.error_file_id is None
    assert batch.model == "tiny"
    output = client.files.retrieve(batch.output_file_id)
    assert output.expires_at == output.created_at + 3600


def _hour() -> Any:
    return {"anchor": "created_at", "seconds": 3600}


def test_it_runs_in_the_bulk_class(client: openai.OpenAI, tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    real = tiny.run_encode

    async def spy(texts: Any, options: Any, limits: Any) -> Any:
        seen.append(limits.bulk)
        return await real(texts, options, limits)

    monkeypatch.setattr(tiny, "run_encode", spy)
    _end(client, _create(client, _line("a"), _line("b")).id)
    assert seen == [True, True]


def test_it_waits_for_room(client: openai.OpenAI, tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = tiny.run_encode, iter(range(100))

    async def full(*given: Any, **options: Any) -> Any:
        if next(tries) < 3:
            raise Overloaded("full", retry_after=0.01)
        return await real(*given, **options)

    monkeypatch.setattr(tiny, "run_encode", full)
    batch = _end(client, _create(client, _line("a")).id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 1)
    assert next(tries) == 4


def test_a_model_that_cannot_be_had_is_not_waited_for_without_end(
    client: openai.OpenAI, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (batch_runner, line_runner):
        monkeypatch.setattr(module, "_MAX_WAIT", 0.001)

    async def gone(*given: Any, **options: Any) -> Any:
        raise ModelUnavailable("no room", retry_after=5)

    monkeypatch.setattr(tiny, "run_encode", gone)
    batch = _end(client, _create(client, _line("a")).id)
    assert batch.status == "completed"
    assert _read(client, batch.error_file_id)["a"]["response"]["status_code"] == 503


def test_a_file_that_is_not_of_requests_fails_the_batch(client: openai.OpenAI) -> None:
    lines = [
        b'{"custom_id": "a", "method": "POST"',
        b'{"method": "POST", "url": "/v1/embeddings", "body": {}}',
        b'{"custom_id": 5, "method": "POST", "url": "/v1/embeddings", "body": {}}',
        *(json.dumps({**_line("same"), **change}).encode() for change in ({}, {}, {"custom_id": ""})),
        *(json.dumps({**_line(str(n)), k: "x"}).encode() for n, k in enumerate(("method", "url", "body"))),
        b"\xff",
        b"[" * 100_000,
    ]
    name = client.files.create(file=("a", b"\n".join(lines)), purpose="batch").id
    batch = client.batches.create(input_file_id=name, endpoint=ENDPOINT, completion_window="24h")
    batch = _end(client, batch.id)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.failed_at
    assert batch.errors.object == "list"
    assert [(each.line, each.code, each.param) for each in batch.errors.data] == [
        (1, "invalid_json_line", None),
        (2, "invalid_request", "custom_id"),
        (3, "invalid_request", "custom_id"),
        (5, "duplicate_custom_id", "custom_id"),
        (6, "invalid_custom_id", "custom_id"),
        (7, "invalid_method", "method"),
        (8, "invalid_url", "url"),
        (9, "invalid_request", "body"),
        (10, "invalid_json_line", None),
        (11, "invalid_request", None),
    ]


def test_a_line_with_too_much_inside_fails_the_batch(client: openai.OpenAI) -> None:
    start = json.dumps(_line("flood"))[:-2].encode()
    for flood in (b"[]", b"{}", b"0.1"):
        lines = [start + b',"x":[' + b",".join([flood] * 200_000) + b"]}}", json.dumps(_line("cat")).encode()]
        name = client.files.create(file=("a", b"\n".join(lines)), purpose="batch").id
        batch = client.batches.create(input_file_id=name, endpoint=ENDPOINT, completion_window="24h")
        batch = _end(client, batch.id)
        assert [(error.line, error.code) for error in batch.errors.data] == [(1, "line_too_large")]
    many = [_line("ids", [6] * 300_000), _line("texts", ["cat"] * 5000)]  # both are converted in a thread
    batch = _end(client, _create(client, *many).id)
    assert batch.request_counts.completed == 2


def test_a_batch_is_bounded(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (batch_lines.MAX_LINES, batch_lines.MAX_INPUTS, batch_lines.MAX_BYTES) == (50_000, 50_000, 200 * 2**20)
    monkeypatch.setattr(batch_lines, "MAX_LINES", 3)
    monkeypatch.setattr(batch_lines, "MAX_INPUTS", 5)
    monkeypatch.setattr(batch_lines, "_MAX_LINE_BYTES", 1000)
    cases = [
        ([_line(str(n)) for n in range(3)], None),
        ([_line(str(n)) for n in range(4)], "too_many_requests"),
        ([_line("a", ["x"] * 3), _line("b", [[1], [2]])], None),
        ([_line("a", ["x"] * 3), _line("b", [[1], [2], [3]])], "too_many_inputs"),
        ([_line("a", [5, 6, 7, 8, 9, 10])], None),  # one input of token ids
        ([_line("a", "x" * 1000)], "line_too_long"),
        ([_line("a", "x" * 5000)], "line_too_long"),
        ([], "empty_file"),
    ]
    for lines, code in cases:
        batch = _end(client, _create(client, *lines).id)
        assert batch.status == ("failed" if code else "completed"), (lines, batch)
        assert [each.code for each in batch.errors.data] == [code] if code else batch.errors is None


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/chat/completions"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3599}}, "output_expires_after"),
        ({"input_file_id": 5}, "input_file_id"),
    ],
)
def test_a_wrong_batch_is_refused(url: str, change: dict[str, Any], param: str) -> None:
    body = {"input_file_id": "file-x", "endpoint": ENDPOINT, "completion_window": "24h", **change}
    reply = httpx.post(url + "/v1/batches", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text


def test_a_batch_of_no_file_or_of_results_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.batches.create(input_file_id="file-none", endpoint=ENDPOINT, completion_window="24h")
    assert missing.value.param == "input_file_id"
    batch = _end(client, _create(client, _line("a"), metadata={f"{n:064}": "v" * 512 for n in range(16)}).id)
    with pytest.raises(openai.BadRequestError):
        client.batches.create(input_file_id=batch.output_file_id, endpoint=ENDPOINT, completion_window="24h")


def test_batches_come_in_pages(tiny: Encoder) -> None:
    with serving([tiny]) as url, _client(url) as client:
        assert httpx.get(url + "/v1/batches").json()["has_more"] is False
        name = _upload(client, _line("a"))
        made = [
            client.batches.create(input_file_id=name, endpoint=ENDPOINT, completion_window="24h").id for _ in range(5)
        ]
        assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]
        page = client.batches.list(limit=5)
        assert (page.has_more, [batch.id for batch in page.data]) == (False, made[::-1])
        for query in ("limit=0", "limit=101", "after=batch_none"):
            assert httpx.get(f"{url}/v1/batches?{query}").status_code == 400, query
        for each in made:
            assert _end(client, each).status == "completed"


class Gate:
    """Lets so many calls of a model through, and refuses the rest until it is opened."""

    def __init__(self, model: Encoder, monkeypatch: pytest.MonkeyPatch, passes: int) -> None:
        self._left, self.full, self._real = passes, threading.Event(), model.run_encode
        monkeypatch.setattr(model, "run_encode", self._run_encode)

    async def _run_encode(self, *given: Any, **options: Any) -> Any:
        if self._left <= 0:
            self.full.set()
            raise Overloaded("closed", retry_after=0.01)
        self._left -= 1
        return await self._real(*given, **options)


@pytest.mark.slow
def test_a_cancelled_batch_keeps_what_is_done(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_store, "_WINDOW_LINES", 2)
    with serving([tiny]) as url, _client(url) as client:
        gate = Gate(tiny, monkeypatch, 3)
        batch = _create(client, *(_line(str(number)) for number in range(9)))
        assert gate.full.wait(30)
        cancelling = client.batches.cancel(batch.id)
        assert (cancelling.status, cancelling.cancelled_at) == ("cancelling", None)
        assert client.batches.cancel(batch.id).cancelling_at == cancelling.cancelling_at
        batch = _end(client, batch.id)  # the line at hand waits for capacity, and is dropped
        assert (batch.status, batch.request_counts.total) == ("cancelled", 9)
        assert set(_read(client, batch.output_file_id)) == {"0", "1", "2"}
        assert client.batches.cancel(batch.id).status == "cancelled"
        gate._left = 100
        done = _end(client, _create(client, _line("a", dimensions=0)).id)
        with pytest.raises(openai.BadRequestError, match="completed"):
            client.batches.cancel(done.id)


def test_an_expired_batch_tells_what_was_not_done(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_store, "_WINDOW_LINES", 2)
    with serving([tiny]) as url, _client(url) as client:
        gate = Gate(tiny, monkeypatch, 3)
        batch = _create(client, *(_line(str(number)) for number in range(9)))
        assert gate.full.wait(30)
        monkeypatch.setattr(FileStore, "clock", staticmethod(lambda: time.time() + 86_401))
        batch = _end(client, batch.id)
        assert batch.status == "expired"
        assert batch.expired_at >= batch.expires_at
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (9, 3, 6)
        assert len(_read(client, batch.output_file_id)) == 3
        late = _read(client, batch.error_file_id)
        assert len(late) == 6
        assert {(each["response"], each["error"]["code"]) for each in late.values()} == {(None, "batch_expired")}


# -- keys ----------------------------------------------------------------------------------------------------------


def test_what_another_key_made_is_not_there(tiny: Encoder) -> None:
    with serving([tiny], api_keys=("one", "two")) as url, _client(url, "one") as mine, _client(url, "two") as other:
        batch = _end(mine, _create(mine, _line("a")).id)
        assert batch.status == "completed"
        for name in (batch.input_file_id, batch.output_file_id):
            for call in (other.files.retrieve, other.files.content, other.files.delete):
                with pytest.raises(openai.NotFoundError):
                    call(name)
        for find in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                find(batch.id)
        with pytest.raises(openai.NotFoundError):
            other.batches.create(input_file_id=batch.input_file_id, endpoint=ENDPOINT, completion_window="24h")
        assert list(other.files.list()) == []
        assert list(other.batches.list()) == []
        with pytest.raises(openai.BadRequestError):
            other.batches.list(after=batch.id)
        assert len(list(mine.files.list())) == 2
        assert httpx.post(url + "/v1/files", files={"file": b"x"}, data={"purpose": "batch"}).status_code == 401


def test_a_key_s_models_and_rate_hold_for_its_batches(tiny: Encoder, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(
        '[[keys]]\nkey = "narrow"\nmodels = ["BAAI/*"]\n[[keys]]\nkey = "slow"\ntokens_per_minute = 3\n', "utf-8"
    )
    with serving([tiny], api_key_file=keys) as url, _client(url, "narrow") as narrow, _client(url, "slow") as slow:
        batch = _end(narrow, _create(narrow, _line("a")).id)
        assert _read(narrow, batch.error_file_id)["a"]["response"]["status_code"] == 403
        assert _end(slow, _create(slow, _line("a", "cat " * 5)).id).status == "completed"
        with pytest.raises(openai.RateLimitError):
            slow.embeddings.create(model="tiny", input="cat")  # the batch used up what the key had


# -- disk, processes ---------------------------------------------------------------------------------------------


def _full_after(monkeypatch: pytest.MonkeyPatch, module: Any, most: int) -> list[int]:
    """Let files grow by so many bytes, and then say what a full disk says, half a line written."""
    left = [most]
    real = file_store.write_all

    def write(out: Any, data: bytes) -> None:
        if len(data) > left[0]:
            real(out, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= len(data)
        real(out, data)

    monkeypatch.setattr(module, "write_all", write)
    return left


def test_a_full_disk_fails_the_upload_and_nothing_else(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving([tiny], data_dir=tmp_path) as url, _client(url) as client:
        kept = _upload(client, _line("a"))
        with monkeypatch.context() as patch:
            _full_after(patch, file_store, 100)
            with pytest.raises(openai.APIStatusError) as refused:
                client.files.create(file=("a", b"x" * 400_000), purpose="batch")
            assert (refused.value.status_code, refused.value.code) == (507, "storage_full")
            assert "disk is full" in str(refused.value)
            assert client.embeddings.create(model="tiny", input="cat").data
        assert [path.name for path in (tmp_path / "files").iterdir()] == [kept]
        assert client.files.content(kept).content == _jsonl(_line("a"))
        assert _upload(client, _line("a"))


def test_a_full_disk_pauses_the_batch_and_fails_nothing(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batch_store, "_WINDOW_LINES", 1)
    monkeypatch.setattr(batch_runner, "_SPACE_SECONDS", 0.05)
    with serving([tiny], data_dir=tmp_path) as url, _client(url) as client:
        with monkeypatch.context() as patch:
            _full_after(patch, batch_lines, 2000)
            batch = _create(client, *(_line(str(number)) for number in range(9)))
            batch = _until(client, batch.id, lambda _: "waits for space" in caplog.text)
            assert batch.status == "in_progress"
            (partial,) = (tmp_path / "files").glob("*.partial")
            lines = partial.read_bytes().splitlines(keepends=True)  # whole lines only
            assert 0 < len(lines) < 9
            assert all(line.endswith(b"\n") for line in lines)
            assert client.files.content(batch.input_file_id).content
        batch = _end(client, batch.id)
        assert (batch.status, batch.request_counts.completed, batch.errors) == ("completed", 9, None)
        assert set(_read(client, batch.output_file_id)) == {str(number) for number in range(9)}
        assert caplog.text.count("waits for space") == 1
        assert _end(client, _create(client, _line("a")).id).status == "completed"


def test_a_folder_that_cannot_be_written_is_told(tiny: Encoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with serving([tiny], data_dir=tmp_path / "file" / "data") as url, _client(url) as client:
        with pytest.raises(openai.APIStatusError) as refused:
            _upload(client, _line("a"))
        assert (refused.value.status_code, refused.value.code) == (503, "storage_failed")
        assert client.embeddings.create(model="tiny", input="cat").data


def test_two_servers_do_not_run_a_batch_twice(tiny: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (
        serving([tiny], data_dir=tmp_path) as one,
        serving([tiny], data_dir=tmp_path) as two,
        _client(one) as first,
        _client(two) as second,
    ):
        gate = Gate(tiny, monkeypatch, 0)
        batch = _create(first, _line("a"))
        assert gate.full.wait(30)
        name = _upload(second, _line("a"))
        with pytest.raises(openai.InternalServerError, match="Another server process") as refused:
            second.batches.create(input_file_id=name, endpoint=ENDPOINT, completion_window="24h")
        assert (refused.value.status_code, refused.value.code) == (503, "batches_elsewhere")
        assert second.batches.cancel(batch.id).status == "cancelling"  # the first one sees that
        gate._left = 100
        assert _end(second, batch.id).status in ("cancelled", "completed")
        assert _end(first, _create(first, _line("a")).id).status == "completed"


def test_what_was_half_done_is_finished_and_nothing_done_twice(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As after a kill: a last line half written, results renamed but not recorded."""
    monkeypatch.setattr(batch_store, "_WINDOW_LINES", 2)
    with serving([tiny], data_dir=tmp_path) as url, _client(url) as client:
        gate = Gate(tiny, monkeypatch, 5)
        batch = _create(client, *(_line(f'"{number}\\', dimensions=0 if number == 1 else None) for number in range(9)))
        assert gate.full.wait(30)
    monkeypatch.undo()
    good, bad = sorted((tmp_path / "files").glob("*.partial"), key=lambda path: -path.stat().st_size)
    with good.open("ab") as content:
        content.write(good.read_bytes()[:300])
    bad.rename(bad.with_suffix(""))
    before = good.read_bytes()[:-300]
    with serving([tiny], data_dir=tmp_path) as url, _client(url) as client:
        batch = _end(client, batch.id)
        counts = batch.request_counts
        assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 9, 8, 1)
        content_now = client.files.content(batch.output_file_id).content
        assert content_now.startswith(before)
        assert len(_read(client, batch.output_file_id)) == content_now.count(b"\n") == 8
        assert len(_read(client, batch.error_file_id)) == 1
        tokens = [
            line["response"]["body"]["usage"]["total_tokens"] for line in _read(client, batch.output_file_id).values()
        ]
        assert batch.usage.total_tokens == sum(tokens)


def _computed(url: str) -> int:
    page = httpx.get(url + "/metrics").text
    return sum(int(float(line.split()[1])) for line in page.splitlines() if line.startswith("nearfield_inputs_total{"))


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_batch_outlives_its_process(tmp_path: Path, end: str) -> None:
    count, text = 1500, "the cat sat on the mat " * 8
    flags = ("--data-dir", str(tmp_path / "data"), "--threads", "1", "--streams", "1")
    write_tiny_model(tmp_path / "tiny")
    process = Process(tmp_path / "tiny", *flags)
    with _client(process.url) as client:
        name = client.files.create(
            file=("a", io.BytesIO(_jsonl(*(_line(str(n), f"{text}{n}") for n in range(count))))), purpose="batch"
        ).id
        batch = client.batches.create(input_file_id=name, endpoint=ENDPOINT, completion_window="24h")
        batch = _until(client, batch.id, lambda batch: batch.request_counts.completed > 0)
        assert batch.status == "in_progress"
    if end == "kill":
        process.kill()
    else:
        process.terminate()
        assert process.wait() == 0
    (partial,) = (tmp_path / "data" / "files").glob("*.partial")
    done = partial.read_bytes().count(b"\n")
    assert 0 < done < count
    process = Process(tmp_path / "tiny", *flags)
    with _client(process.url) as client:
        until = time.monotonic() + 60
        while partial.exists() and time.monotonic() < until:  # without a request it goes on by itself
            time.sleep(0.02)
        batch = _end(client, batch.id)
        counts = batch.request_counts
        assert (batch.status, counts.completed, counts.failed) == ("completed", count, 0)
        assert _computed(process.url) == count - done
        assert set(_read(client, batch.output_file_id)) == {str(number) for number in range(count)}
        assert client.files.content(batch.output_file_id).content.count(b"\n") == count
    process.terminate()
    assert process.wait() == 0


def test_an_unforeseen_error_stops_one_batch_only(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving([tiny]) as url, _client(url) as client:

        async def broken(*given: Any, **options: Any) -> Any:
            raise ValueError("secretword")

        with monkeypatch.context() as patch:
            patch.setattr(tiny, "run_encode", broken)
            batch = _end(client, _create(client, _line("a")).id)
            reply = _read(client, batch.error_file_id)["a"]["response"]
            assert reply["status_code"] == 500
            assert "secretword" not in json.dumps(reply)
        gone = _upload(client, _line("a"))
        batch = client.batches.create(input_file_id=gone, endpoint=ENDPOINT, completion_window="24h")
        assert _end(client, batch.id).status == "completed"
