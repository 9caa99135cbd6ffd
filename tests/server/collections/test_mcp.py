"""The tools for agents: driven by the SDK's own client, over the standard streams of a real process and over HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters

from nearfield.corpus.collection import Collection
from nearfield.encoder import Encoder
from nearfield.server.collections.mcp import OpenCollections, create_server
from nearfield.testing import tiny_encoder
from tests.support.cli_runner import run

pytestmark = pytest.mark.process

CATS = "The cat sat on the mat.\n\n" + "A cat sleeps a lot. " * 30 + "\n\nThe end of the cats."
DOCUMENTS: list[dict[str, Any]] = [
    {"id": "cats", "text": CATS, "title": "Cats", "year": 2020},
    {"id": "dogs", "text": "A dog looked at the blue world. \u2028 \x1b[31m", "title": "Dogs", "year": 2022},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """The model of the collections."""
    with tiny_encoder(tmp_path_factory.mktemp("model") / "tiny") as encoder:
        yield encoder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, model: Encoder) -> Path:
    """A folder of two collections, ``pets`` and ``empty``."""
    place = tmp_path_factory.mktemp("collections")
    features = {"dense": {"model": str(model.recipe.folder)}}
    config: dict[str, Any] = {"features": features, "fields": {"year": "int"}}
    with Collection.create("pets", config, home=place, encoder_of=lambda _: model) as pets:
        pets.put(DOCUMENTS)
    Collection.create("empty", config, home=place).close()
    return place


@asynccontextmanager
async def agent(home: Path, *words: str) -> AsyncIterator[Client]:
    """An agent that has started ``nearfield mcp``."""
    environment = {"NEARFIELD_COLLECTIONS": str(home), "NEARFIELD_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "nearfield.cli", "mcp", *words], env=environment
    )
    async with Client(command, read_timeout_seconds=60) as client:
        yield client


@asynccontextmanager
async def inside(home: Path, model: Encoder, *names: str) -> AsyncIterator[Client]:
    """An agent that talks to the server in this process."""
    opened = OpenCollections(names, home, lambda _: model)
    try:
        async with Client(create_server(opened)) as client:
            yield client
    finally:
        opened.close()


async def call_tool(client: Client, tool: str, **arguments: Any) -> tuple[str, Any]:
    """Return a tool's text and structured content."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.content[0].text, result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """Return why a tool refused."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content[0].text)


async def test_search_and_read_through_a_process(home: Path) -> None:
    async with agent(home) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "read", "collections"}
        for tool in tools.values():
            assert tool.description
            assert tool.annotations.read_only_hint
            assert tool.output_schema
        options = {"query", "collection", "k", "where", "min_score", "like", "by_document", "pictures"}
        assert options == set(tools["search"].input_schema["properties"])
        assert all(schema.get("description") for schema in tools["read"].input_schema["properties"].values())
        assert "never follow" in client.instructions

        text, content = await call_tool(client, "collections")
        assert [collection["name"] for collection in content["collections"]] == ["empty", "pets"]
        assert content["collections"][1]["documents"] == 2
        assert content["collections"][1]["fields"]["year"] == "int"
        assert "pets: 2 documents" in text

        text, content = await call_tool(client, "search", query="cat on a mat", collection="pets", k=2)
        best = content["results"][0]
        assert (best["document"], best["title"], best["fields"]["year"]) == ("put:#cats", "Cats", 2020)
        assert "put:#cats" in text
        assert best["text"] in text

        text, content = await call_tool(client, "read", document=best["document"], collection="pets")
        assert content["text"].startswith("The cat sat on the mat.")
        assert content["text"].endswith("The end of the cats.")
        assert (content["start"], content["end"], content["total"]) == (0, len(content["text"]), len(content["text"]))
        assert content["text"] in text


async def test_only_the_protocol_is_written_to_stdout(home: Path) -> None:
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "by hand", "version": "1"},
    }
    messages: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "search", "arguments": {"query": "blue dog", "collection": "pets"}},
        },
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "nearfield.cli", "mcp", "-c", "pets"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "NEARFIELD_COLLECTIONS": str(home), "NEARFIELD_OFFLINE": "1"},
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in messages:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        replies = {}
        while 2 not in replies:
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            replies[json.loads(line).get("id")] = json.loads(line)
        process.stdin.close()
        assert process.stdout.read() == b""  # it ends by itself, and says nothing else
        assert process.wait(30) == 0
    assert replies[2]["result"]["structuredContent"]["results"][0]["document"] == "put:#dogs"


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({"where": {"year": {"lt": 2021}}}, "put:#cats"),
        ({"where": '{"path": "dogs"}'}, "put:#dogs"),  # as some agents send objects
        ({"k": 1}, "put:#dogs"),
    ],
)
async def test_options_of_a_search(home: Path, model: Encoder, options: dict[str, Any], first: str) -> None:
    async with inside(home, model) as client:
        _, content = await call_tool(client, "search", query="blue dog", collection="pets", **options)
    assert content["results"][0]["document"] == first
    assert len(content["results"]) <= options.get("k", 8)


async def test_a_part_of_a_document(home: Path, model: Encoder) -> None:
    async with inside(home, model) as client:
        _, content = await call_tool(client, "read", document="put:#cats", collection="pets", start=4, length=7)
        assert (content["text"], content["start"], content["end"]) == ("cat sat", 4, 11)
        _, past = await call_tool(client, "read", document="put:#cats", collection="pets", start=10**6)
        assert (past["text"], past["start"], past["end"]) == ("", content["total"], content["total"])


async def test_errors_are_returned_to_the_agent(home: Path, model: Encoder) -> None:
    async with inside(home, model) as client:
        assert "Known: empty, pets" in await refused(client, "search", query="cat")
        assert "Did you mean 'pets'" in await refused(client, "search", query="cat", collection="pet")
        assert "is empty" in await refused(client, "search", query="cat", collection="empty")
        assert "query" in await refused(client, "search", query="", collection="pets")
        assert "k" in await refused(client, "search", query="cat", collection="pets", k=51)
        assert "year" in await refused(client, "search", query="cat", collection="pets", where={"yaer": 1})
        assert "no document" in await refused(client, "read", document="put:#lions", collection="pets")
        assert "length" in await refused(client, "read", document="put:#cats", collection="pets", length=0)
        assert "collection" in await refused(client, "read", document="put:#cats", collection="../pets")


async def test_only_named_collections_are_offered(home: Path, model: Encoder) -> None:
    async with inside(home, model, "empty") as client:
        _, content = await call_tool(client, "collections")
        assert [collection["name"] for collection in content["collections"]] == ["empty"]
        assert "There is no collection 'pets'" in await refused(client, "read", document="put:#cats", collection="pets")
        # The only one need not be named.
        assert "has no document" in await refused(client, "read", document="put:#cats")


async def test_a_home_without_collections(tmp_path: Path, model: Encoder) -> None:
    async with inside(tmp_path, model) as client:
        text, content = await call_tool(client, "collections")
        assert (text, content) == ("There are no collections yet.", {"collections": []})


async def test_a_collection_that_is_dropped_while_the_server_runs(home: Path, model: Encoder) -> None:
    async with inside(home, model) as client:
        with Collection.create("brief", {}, home=home):
            assert "has no document" in await refused(client, "read", document="a", collection="brief")
        Collection.open("brief", home=home).drop()
        assert "There is no collection 'brief'" in await refused(client, "read", document="a", collection="brief")


def test_an_unknown_collection_ends_the_command(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(home))
    ran = run(capsys, monkeypatch, "mcp", "-c", "pest")
    assert (ran.code, ran.out) == (2, "")
    assert "Did you mean 'pets'" in ran.err


@pytest.mark.network
async def test_http_on_loopback(home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "nearfield.cli", "mcp", "--http", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "NEARFIELD_COLLECTIONS": str(home), "NEARFIELD_OFFLINE": "1"},
    )
    try:
        assert process.stderr is not None
        assert f"127.0.0.1:{port}/mcp" in process.stderr.readline().decode()
        url = f"http://127.0.0.1:{port}/mcp"
        transport = httpx.HTTPTransport(retries=8)  # it says where it will be before it is there
        with httpx.Client(transport=transport) as plain:
            evil = plain.post(url, json={}, headers={"host": "evil.example", "accept": "application/json"})
            assert evil.status_code == 421  # no page of another name reaches it through a browser
        async with Client(url, read_timeout_seconds=60) as client:
            _, content = await call_tool(client, "read", document="put:#dogs", collection="pets", length=5)
            assert content["text"] == "A dog"
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("search", {}, "Error executing tool search: Give a 'query', or the id of a result in 'like'."),
        ("search", {"query": ""}, "search: 'query' must not be empty."),
        ("search", {"query": "cat", "k": 0}, "search: 'k' must be at least 1, not 0."),
        ("search", {"query": "cat", "k": 999}, "search: 'k' must be at most 50, not 999."),
        ("search", {"query": "cat", "k": "ten"}, "search: 'k' must be a whole number, not 'ten'."),
        ("search", {"query": "cat", "where": "x"}, "search: 'where' must be an object, not 'x'."),
        ("search", {"query": "cat", "min_score": "high"}, "search: 'min_score' must be a number, not 'high'."),
        ("search", {"query": "cat", "min_score": 5}, "search: 'min_score' must be at most 1, not 5."),
        ("search", {"query": "cat", "min_score": -0.5}, "search: 'min_score' must be at least 0, not -0.5."),
        ("read", {"start": -1}, "read: 'document' is missing. 'start' must be at least 0, not -1."),
    ],
)
async def test_wrong_arguments_are_named_in_plain_words(
    home: Path, model: Encoder, tool: str, arguments: dict[str, Any], message: str
) -> None:
    async with inside(home, model) as client:
        assert await refused(client, tool, **arguments) == message


async def test_a_filter_that_matches_nothing_is_explained(home: Path, model: Encoder) -> None:
    async with inside(home, model) as client:
        text, content = await call_tool(client, "search", query="cat", collection="pets", where={"type": "pdf"})
        assert content["results"] == [] and text.startswith("No passage matches. No document has this 'type'.")


async def test_a_hit_is_read_at_its_place(home: Path, model: Encoder) -> None:
    async with inside(home, model) as client:
        _, content = await call_tool(client, "search", query="cat on a mat", collection="pets", k=5)
        for hit in content["results"]:
            place = {"start": hit["start"], "end": hit["end"]}
            _, read = await call_tool(client, "read", document=hit["document"], collection="pets", **place)
            assert read["text"] == hit["text"]
