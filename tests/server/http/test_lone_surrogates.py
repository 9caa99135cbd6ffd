"""Half of a character in JSON is read as U+FFFD, and costs no other input."""

from __future__ import annotations

import json

import httpx
import pytest

from nearfield.encoder import Encoder
from nearfield.server.batches.batch_lines import decode
from nearfield.server.http.request_body import replace_lone_surrogates

HEADERS = {"content-type": "application/json"}
CASES = [
    (rb"cut \ud83d here", "cut \ufffd here", 1),
    (rb"\ud83d", "\ufffd", 1),
    (rb"\uDFFF\uD800", "\ufffd\ufffd", 2),
    (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600", 1),
    (rb"\ude00\ud83d\u0041", "\ufffd\ufffdA", 2),
    (rb"\ud83d\ude00 \\ud83d \n", "\U0001f600 \\ud83d \n", 0),
    (rb"\\\ud83d\\", "\\\ufffd\\", 1),
]


@pytest.mark.parametrize(("escaped", "text", "count"), CASES)
def test_lone_halves_alone_are_replaced(escaped: bytes, text: str, count: int) -> None:
    repaired, replaced = replace_lone_surrogates(b'{"text":"' + escaped + b'"}')
    assert (json.loads(repaired)["text"], replaced) == (text, count)


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/embeddings", "input"), ("/encode", "input"), ("/embed", "inputs"), ("/tokenize", "inputs")]
)
def test_the_other_inputs_are_served(url: str, path: str, name: str) -> None:
    body = f'{{"model":"tiny","{name}":["a good text","cut emoji \\ud83d here","\\udc00"]}}'.encode()
    reply = httpx.post(url + path, content=body, headers=HEADERS)
    assert reply.status_code == 200
    assert reply.headers["x-nearfield-replaced-characters"] == "2"
    good = httpx.post(url + path, json={"model": "tiny", name: ["a good text", "cut emoji \ufffd here", "\ufffd"]})
    assert reply.json() == good.json()
    assert "x-nearfield-replaced-characters" not in good.headers


def test_the_vector_is_that_of_the_repaired_text(url: str, tiny: Encoder) -> None:
    reply = httpx.post(url + "/embed", content=rb'{"inputs":"cut \ud83d here"}', headers=HEADERS)
    assert reply.json()[0] == pytest.approx(tiny.encode(["cut \ufffd here"])[0].tolist(), abs=1e-5)


def test_names_and_lines_of_batches_are_repaired(url: str) -> None:
    body = rb'{"model":"tiny","input":"x","\ud800":1}'
    reply = httpx.post(url + "/v1/embeddings", content=body, headers=HEADERS)
    assert (reply.status_code, reply.headers["x-nearfield-ignored-fields"]) == (200, "?")
    line = decode(rb'{"custom_id":"\ud83d","method":"POST","url":"/v1/embeddings","body":{"input":"\ude00"}}')
    assert (line.custom_id, line.body) == ("\ufffd", {"input": "\ufffd"})


def test_what_is_wrong_otherwise_is_refused(url: str) -> None:
    reply = httpx.post(url + "/v1/embeddings", content=rb'{"model":"tiny","input":"\ud83d', headers=HEADERS)
    assert reply.status_code == 400
