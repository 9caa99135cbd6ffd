"""Failures of S3: what is repeated, and what is one clear error with the right exit status."""

from __future__ import annotations

import json

import pytest

from nearfield.errors import StorageFailed
from nearfield.fileio.s3 import client, settings
from nearfield.fileio.s3.path import S3Path
from tests.support.s3_bucket import OUT, Run, ids_of, names, put_jsonl, some_rows
from tests.support.s3_server import BUCKET, SECRET, Faults

pytest.importorskip("obstore", reason="needs nearfield[s3]")
pytest.importorskip("moto.server", reason="needs moto, a server of S3: pip install 'moto[server]'")
pytestmark = pytest.mark.process

DATA = f"s3://{BUCKET}/data/"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less before requests are repeated."""
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.002)
    monkeypatch.setattr(settings, "_FIRST_WAIT_SECONDS", 0.002)


def _error(code: str, more: str = "") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{more}</Message></Error>".encode()


def test_bodies_that_are_cut_off_or_short_are_read_again(embed: Run, home: S3Path, faults: Faults) -> None:
    """Also those of lists: a list that ends early must not pass for a short one."""
    for part in range(3):
        put_jsonl(f"data/{part}.jsonl", some_rows(400))
    faults.cut, faults.short = 5, 3
    ran = embed(DATA, "-o", OUT, "--json")
    assert ran.code == 0, ran.err
    assert (faults.cut, faults.short) == (0, 0)
    assert ids_of(home) == [f"n{at}" for at in range(400)] * 3


def test_a_list_that_is_cut_off_is_continued_after_the_last_key(home: S3Path, faults: Faults) -> None:
    for at in range(5):
        home.client.put(f"many/{at}", b"x")
    faults.cut = 2
    assert [item.key for item in home.client.list("many")] == [f"many/{at}" for at in range(5)]


def test_answers_that_are_always_cut_off_or_short_are_an_error(home: S3Path, faults: Faults) -> None:
    home.client.put("a", b"x" * 1000)
    item = home.client.find("a")
    assert item is not None
    faults.short = 1000
    with pytest.raises(StorageFailed, match=r"could not read a \(its answers are cut off\)"):
        home.client.read(item, 0, 1000)
    faults.short, faults.cut = 0, 1000
    with pytest.raises(StorageFailed, match=r"could not list out \(its answers are cut off\)"):
        list(home.client.list("out"))


def test_an_upload_that_the_storage_did_not_wait_for_is_repeated(home: S3Path, faults: Faults) -> None:
    answers = iter([("400 Bad Request", _error("RequestTimeout"))] * 2)
    faults.answer = lambda method, path: next(answers, None)
    home.client.put("a", b"1")
    assert home.client.get("a") is not None


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        ("301 Moved Permanently", _error("PermanentRedirect"), "another region than AWS_REGION says (us-east-1)"),
        (
            "400 Bad Request",
            _error("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'"),
            "another region (eu-west-1) than AWS_REGION says (us-east-1)",
        ),
        ("400 Bad Request", _error("ExpiredToken"), "the access keys have expired"),
        ("400 Bad Request", _error("InvalidToken"), "AWS_SESSION_TOKEN does not belong"),
        ("403 Forbidden", _error("InvalidAccessKeyId", SECRET), "does not know the access key"),
        ("403 Forbidden", _error("SignatureDoesNotMatch"), "the secret key does not belong"),
        ("403 Forbidden", _error("RequestTimeTooSkewed"), "the clock of this machine"),
        ("403 Forbidden", _error("AccessDenied"), "denies to"),
    ],
)
@pytest.mark.parametrize("source", [DATA, f"{DATA}a.jsonl"])
def test_what_the_user_has_to_change_is_said_before_the_model_is_loaded(
    embed: Run, home: S3Path, faults: Faults, source: str, status: str, body: bytes, message: str
) -> None:
    """An answer to HEAD has no body: the reason is found all the same."""
    faults.answer = lambda method, path: (status, b"" if method == "HEAD" else body)
    ran = embed(source, "-o", OUT)
    assert (ran.code, message in ran.err) == (2, True), ran.err
    assert SECRET not in ran.err
    assert ran.err.count("\n") == 1


def test_keys_that_expire_during_a_run_end_it_and_the_same_command_continues(
    embed: Run, home: S3Path, faults: Faults
) -> None:
    put_jsonl("data/a.jsonl", some_rows(30))

    def expire(method: str, path: str) -> tuple[str, bytes] | None:
        expired = faults.uploads > 1 and "/part-" in path
        return ("400 Bad Request", _error("ExpiredToken")) if expired else None

    faults.answer = expire
    ran = embed(DATA, "-o", OUT, "--shard-rows", 10)
    assert (ran.code, "the access keys have expired" in ran.err) == (2, True), ran.err
    faults.answer = lambda method, path: None
    report = json.loads(embed(DATA, "-o", OUT, "--shard-rows", 10, "--json").out)
    assert (report["written"], report["skipped"]) == (2, 1)
    assert ids_of(home) == [f"n{at}" for at in range(30)]


def test_writing_that_is_denied_is_exit_status_2_and_a_storage_without_answers_1(
    embed: Run, home: S3Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_jsonl("data/a.jsonl", some_rows(3))
    faults.denied = ("PUT",)
    assert embed(DATA, "-o", OUT).code == 2
    monkeypatch.setattr(settings, "RETRIES", 2)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")  # so that no connection of before is used again
    faults.refused = 1.0
    assert embed(DATA, "-o", OUT).code == 1
    faults.denied, faults.refused = (), 0.0
    assert names(home) == []


def test_an_endpoint_where_nothing_listens_is_said_soon(embed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    ran = embed(DATA, "-o", OUT)
    assert (ran.code, "nothing answers at 127.0.0.1:9" in ran.err) == (1, True), ran.err


def test_an_object_that_changes_between_planning_and_reading_is_refused_before_it_is_encoded(
    embed: Run, home: S3Path, faults: Faults
) -> None:
    put_jsonl("data/a.jsonl", some_rows(30))

    def change(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/plan.json"):
            faults.before = lambda method, path: None
            put_jsonl("data/a.jsonl", [*some_rows(20), *some_rows(10, "dog")])  # the first shards are the same

    faults.before = change
    ran = embed(DATA, "-o", OUT, "--shard-rows", 10)
    assert (ran.code, "changed while it was read: run the command again" in ran.err) == (2, True), ran.err
    assert faults.uploads == 0
    assert embed(DATA, "-o", OUT, "--shard-rows", 10).code == 0


def test_lists_that_lag_behind_cost_no_shard_and_the_manifest_is_complete(
    embed: Run, home: S3Path, faults: Faults
) -> None:
    put_jsonl("data/a.jsonl", some_rows(30))
    assert list(home.client.list("out")) == []
    faults.stale = True
    first = json.loads(embed(DATA, "-o", OUT, "--shard-rows", 10, "--json").out)
    assert (first["written"], first["state"]) == (3, "complete")
    again = json.loads(embed(DATA, "-o", OUT, "--shard-rows", 10, "--json").out)
    assert (again["written"], again["state"], faults.uploads) == (0, "complete", 3)
