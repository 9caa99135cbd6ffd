"""``nearfield embed`` with inputs and outputs on S3: resume, lost races, faults of the storage, refusals."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as arrow
import pytest
from pyarrow import parquet

from nearfield.errors import InputError, StorageFailed
from nearfield.fileio.s3 import settings
from nearfield.fileio.s3.matching import find_objects
from nearfield.fileio.s3.path import S3Path, parse_location
from tests.support.s3_bucket import OUT, Run, content, ids_of, manifest_of, names, put_jsonl, some_rows
from tests.support.s3_server import BUCKET, SECRET, Faults

pytest.importorskip("obstore", reason="needs nearfield[s3]")
pytest.importorskip("moto.server", reason="needs moto, a server of S3: pip install 'moto[server]'")
pytestmark = pytest.mark.process

TO = ("-o", OUT, "--shard-rows", "10")


def test_objects_become_shards_and_are_found_again(embed: Run, home: S3Path, tmp_path: Path) -> None:
    put_jsonl("data/a.jsonl", some_rows(15))
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.Table.from_pylist([{"id": f"p{at}", "text": "a dog"} for at in range(8)]), sink)
    home.client.put("data/b.parquet", sink.getvalue().to_pybytes())
    done = embed(f"s3://{BUCKET}/data/", *TO, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["written"] == 3
    assert ids_of(home) == [f"n{at}" for at in range(15)] + [f"p{at}" for at in range(8)]
    assert manifest_of(home)["state"] == "complete"
    assert sum(name.startswith("part-") for name in names(home)) == 3
    again = json.loads(embed(f"s3://{BUCKET}/data/", *TO, "--json").out)
    assert (again["written"], again["skipped"]) == (0, 3)
    assert not list((tmp_path / "drafts").iterdir())


@pytest.mark.parametrize("form", ["npy", "jsonl"])
def test_other_formats(embed: Run, home: S3Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in some_rows(12)), encoding="utf-8")
    words = (path, *TO, "--shard-format", form, "--json")
    assert json.loads(embed(*words).out)["written"] == 2
    assert json.loads(embed(*words, "--check").out)["skipped"] == 2


def test_vectors_are_those_of_a_folder_on_disk(embed: Run, home: S3Path, tmp_path: Path) -> None:
    put_jsonl("data/a.jsonl", some_rows(15))
    embed(f"s3://{BUCKET}/data/*.jsonl", *TO)
    embed(f"s3://{BUCKET}/data/*.jsonl", "-o", f"{tmp_path}/disk/", "--shard-rows", "10")
    names = [name for shard in manifest_of(home)["shards"] for name in shard["files"]]
    assert [content(home, name) for name in names] == [
        path.read_bytes() for path in sorted((tmp_path / "disk").glob("part-*"))
    ]


def test_changed_damaged_and_surplus_shards(embed: Run, home: S3Path) -> None:
    put_jsonl("data/a.jsonl", some_rows(30))
    embed(f"s3://{BUCKET}/data/", *TO)
    first = next(iter(manifest_of(home)["shards"][0]["files"]))
    home.client.put(home.child(first).key, b"x" * len(content(home, first)))
    put_jsonl("data/a.jsonl", [*some_rows(10), *some_rows(10, "dog")])
    report = json.loads(embed(f"s3://{BUCKET}/data/", *TO, "--check", "--json").out)
    assert (report["damaged"], report["written"], report["removed"]) == (1, 2, 1)
    assert ids_of(home) == [f"n{at}" for at in range(10)] * 2
    assert sum(name.startswith("part-") for name in names(home)) == 2


def test_a_shard_that_another_run_wrote_first_is_neither_replaced_nor_doubled(
    embed: Run, home: S3Path, faults: Faults
) -> None:
    put_jsonl("data/a.jsonl", some_rows(10))
    embed(f"s3://{BUCKET}/data/", *TO)
    record, part = content(home, "_shards/00000.json"), next(iter(manifest_of(home)["shards"][0]["files"]))
    home.client.delete([home.child("_shards/00000.json").key])
    theirs = record.replace(b'"tokens"', b'"tokens_"')  # a record with another content

    def write_first(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("_shards/00000.json"):
            faults.before = lambda method, path: None
            assert home.client.create(home.child("_shards/00000.json").key, theirs)

    faults.before = write_first
    report = json.loads(embed(f"s3://{BUCKET}/data/", *TO, "--json").out)
    assert report["written"] == 0
    assert content(home, "_shards/00000.json") == theirs
    assert part in names(home)


def test_files_of_killed_runs_are_removed_once_their_shard_exists(embed: Run, home: S3Path, tmp_path: Path) -> None:
    put_jsonl("data/a.jsonl", some_rows(10))
    home.client.put(home.child("_shards/terms.json").key, b"")  # lost by the storage
    home.client.put(home.child(f"part-00000.{'0' * 32}.parquet").key, b"half")
    draft = tmp_path / "drafts" / "nearfield-shards-killed"
    draft.mkdir()
    (draft / "lock").touch()
    refused = embed(f"s3://{BUCKET}/data/", *TO)
    assert "nothing is known" in refused.err
    assert embed(f"s3://{BUCKET}/data/", *TO, "--restart").code == 0
    home.client.put(home.child(f"part-00000.{'0' * 32}.parquet").key, b"half")
    assert embed(f"s3://{BUCKET}/data/", *TO).code == 0
    assert sum(name.startswith("part-") for name in names(home)) == 1
    assert not draft.exists()


def test_half_of_the_requests_may_fail_and_answers_may_be_slow_or_lost(
    embed: Run, home: S3Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_jsonl("data/a.jsonl", some_rows(20))
    monkeypatch.setattr(settings, "_MAX_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(settings, "_FIRST_WAIT_SECONDS", 0.005)
    monkeypatch.setenv("AWS_REGION", "us-east-2")  # so that no connection of another test is used again
    faults.refused, faults.delay = 0.5, 0.05
    done = embed(f"s3://{BUCKET}/data/", *TO, "--json")
    faults.refused = faults.delay = 0.0
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["state"] == "complete"
    assert report["written"] == 2
    assert ids_of(home) == [f"n{at}" for at in range(20)]
    assert faults.failures > 5


def test_a_request_whose_answer_does_not_come_is_repeated(
    home: S3Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "REQUEST_SECONDS", 1.0)
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    waits = iter([2.0])
    faults.before = lambda method, path: time.sleep(next(waits, 0.0))
    home.client.put("a", b"1")
    assert next(waits, None) is None
    assert home.client.get("a") is not None
    assert faults.requests > 3  # the bucket, the late one, its repetition and the check


def test_storage_that_never_answers_is_an_error_after_a_bounded_time(
    home: S3Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "RETRIES", 2)
    monkeypatch.setenv("AWS_REGION", "us-west-1")
    faults.refused = 1.0
    with pytest.raises(StorageFailed, match=r"could not read out \(SlowDown\)"):
        home.client.get("out")


def test_denied_writes_and_missing_buckets_are_errors_before_work(embed: Run, home: S3Path, faults: Faults) -> None:
    put_jsonl("data/a.jsonl", some_rows(3))
    missing = embed(f"s3://{BUCKET}/data/", "-o", "s3://missing/out/")
    assert missing.code != 0
    assert "there is no such bucket" in missing.err
    assert "there is no such bucket" in embed("s3://missing/data/", *TO).err
    faults.denied = ("PUT",)
    denied = embed(f"s3://{BUCKET}/data/", *TO)
    assert "denies to write" in denied.err
    assert "AccessDenied" in denied.err
    assert SECRET not in denied.err + missing.err
    assert "AKIATESTSONLY" not in denied.err + missing.err
    assert names(home) == []


def test_storage_without_conditional_writes_is_refused(home: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nearfield.bulk.storage.shard_bucket import ShardBucket
    from nearfield.fileio.s3.client import S3Client

    def put_always(self: S3Client, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True

    monkeypatch.setattr(S3Client, "create", put_always)
    with pytest.raises(InputError, match="ignores the conditions"):
        ShardBucket(home).probe()
    assert names(home) == []


def test_no_variable_is_part_of_records(embed: Run, home: S3Path) -> None:
    put_jsonl("data/a.jsonl", some_rows(3))
    embed(f"s3://{BUCKET}/data/", *TO)
    everything = b"".join(content(home, name) for name in names(home))
    assert SECRET.encode() not in everything
    assert b"127.0.0.1" not in everything


def test_patterns_and_folders(home: S3Path) -> None:
    for key in ("d/a.jsonl", "d/_b.jsonl", "d/x/c.jsonl", "d/x/d.txt", "d/_y/e.jsonl", "e/f.jsonl"):
        home.client.put(key, b"{}\n")

    def keys(key: str) -> list[str]:
        return [path.key for path in find_objects(S3Path(BUCKET, key), (".jsonl",))]

    assert keys("d") == ["d/a.jsonl", "d/x/c.jsonl"]
    assert keys("") == ["d/a.jsonl", "d/x/c.jsonl", "e/f.jsonl"]
    assert keys("d/*.jsonl") == ["d/_b.jsonl", "d/a.jsonl"]
    assert keys("*/f.jsonl") == ["e/f.jsonl"]
    assert keys("d/**/*.jsonl") == ["d/_b.jsonl", "d/_y/e.jsonl", "d/a.jsonl", "d/x/c.jsonl"]
    assert keys("[de]") == ["d/a.jsonl", "d/x/c.jsonl", "e/f.jsonl"]
    assert keys("d/x/d.txt") == ["d/x/d.txt"]
    assert keys("none") == []


@pytest.mark.parametrize("text", ["gs://bucket/a", "s3://", "s3:///a", "s3://bucket/a//b", "s3://bucket/../b"])
def test_urls_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"s3://|URLs|parts of a key"):
        parse_location(text)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("http://storage.example.org", "plain HTTP"),
        ("https://user:word@storage.example.org", "user or a password"),
        ("storage.example.org", "must be a URL"),
    ],
)
def test_endpoints_that_are_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str, message: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(InputError, match=message) as caught:
        settings.S3Settings.read("bucket")
    assert "word@" not in str(caught.value)


def test_plain_http_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example.org")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert settings.S3Settings.read("bucket").allow_http


def test_what_cannot_be_on_s3_is_refused(embed: Run) -> None:
    assert "End its name with a slash" in embed("a.jsonl", "-o", f"s3://{BUCKET}/out.parquet").err
    assert "leave --id-field out" in embed(f"s3://{BUCKET}/a/", *TO, "--format", "image").err


def test_inputs_in_the_output_are_refused(embed: Run) -> None:
    put_jsonl("out/a.jsonl", some_rows(3))
    assert "lies in the folder of shards" in embed(f"s3://{BUCKET}/out/a.jsonl", *TO).err
