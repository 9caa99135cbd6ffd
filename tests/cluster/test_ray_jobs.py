"""Jobs of a cluster: when a run is submitted, joined or refused, tested with a client that has Ray's signatures."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nearfield.cluster import ray_jobs, ray_runtime
from nearfield.cluster.ray_jobs import RayJobs
from nearfield.errors import ClusterFailed, InputError, MissingExtra
from tests.support.cli_runner import run

OUTPUT = Path("/data/My vectors")
WORDS = ["embed", "/data/a b.jsonl", "--output=/data/My vectors/"]


@dataclass
class FakeJobClient:
    """What ``JobSubmissionClient`` does, without a cluster."""

    address: str = "head:6379"
    details: list[Any] = field(default_factory=list)
    #: Names that another command takes in the moment of a submission.
    taken: list[str] = field(default_factory=list)

    def list_jobs(self) -> list[Any]:
        return self.details

    def submit_job(self, *, entrypoint: str, submission_id: str, metadata: dict[str, str]) -> str:
        if submission_id in self.taken:
            self.add(submission_id, "PENDING", entrypoint, metadata)
            raise RuntimeError(f"Request failed with status code 500: Job with {submission_id} already exists.")
        self.add(submission_id, "PENDING", entrypoint, metadata)
        return submission_id

    def add(self, name: str | None, state: str, entrypoint: str, metadata: dict[str, str]) -> None:
        time = 1_796_000_000_000 + len(self.details)
        details = {"submission_id": name, "status": state, "entrypoint": entrypoint}
        self.details.append(SimpleNamespace(**details, metadata=metadata, start_time=time))

    def get_job_logs(self, job_id: str) -> str:
        return f"log of {job_id}\n"

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        yield f"log of {job_id}\n"
        yield "done\n"

    def stop_job(self, job_id: str) -> bool:
        return next(item.status for item in self.details if item.submission_id == job_id) == "RUNNING"


@pytest.fixture
def client() -> FakeJobClient:
    return FakeJobClient()


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module in place of Ray, of which its errors are needed alone."""
    fake = ModuleType("ray")
    fake.__version__ = "2.60.0"  # type: ignore[attr-defined]
    fake.exceptions = SimpleNamespace(RayError=type("RayError", (Exception,), {}))  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", fake)
        yield


def test_the_same_command_joins_the_job_that_runs_and_submits_another_after_its_end(client: FakeJobClient) -> None:
    jobs = RayJobs(client, "head:6379")
    first, is_new = jobs.submit(WORDS, OUTPUT)
    assert is_new and first.id.startswith("nearfield-My-vectors-") and first.id.endswith("-1")
    assert jobs.submit(WORDS, OUTPUT) == (first, False)
    for state in ("FAILED", "STOPPED", "SUCCEEDED"):
        client.details[-1].status = state
        again, is_new = jobs.submit(WORDS, OUTPUT)
        assert is_new and again.id.rpartition("-")[0] == first.id.rpartition("-")[0]
    assert [job.id[-2:] for job in jobs.jobs()] == ["-1", "-2", "-3", "-4"]


def test_another_command_for_the_folder_of_a_job_that_runs_is_refused(client: FakeJobClient) -> None:
    jobs = RayJobs(client)
    first, _ = jobs.submit(WORDS, OUTPUT)
    with pytest.raises(InputError, match=rf"job {first.id} writes .* other options .*cluster stop {first.id}"):
        jobs.submit([*WORDS, "--dtype=int8"], OUTPUT)
    assert jobs.submit([*WORDS, "--dtype=int8"], Path("/data/other"))[1]


def test_of_two_commands_at_the_same_time_one_joins_the_other(client: FakeJobClient) -> None:
    jobs = RayJobs(client)
    first, _ = RayJobs(FakeJobClient()).submit(WORDS, OUTPUT)
    client.taken = [first.id]
    job, is_new = jobs.submit(WORDS, OUTPUT)
    assert (job.id, is_new, len(client.details)) == (first.id, False, 1)


def test_commands_in_errors_name_the_cluster(client: FakeJobClient) -> None:
    """They are copied to a terminal, where a command without --ray would mean the cluster of this machine."""
    jobs = RayJobs(client, "auto", ray_jobs.place_of("http://head:8265"))
    first, _ = jobs.submit(WORDS, OUTPUT)
    with pytest.raises(InputError, match=f"`nearfield cluster stop {first.id} --ray http://head:8265`"):
        jobs.submit([*WORDS, "--dtype=int8"], OUTPUT)
    with pytest.raises(InputError, match="`nearfield cluster jobs --ray http://head:8265`"):
        jobs.find("another")
    assert ray_jobs.place_of("auto") == ""


def test_jobs_of_others_are_not_listed_and_cannot_be_stopped(client: FakeJobClient) -> None:
    client.add("theirs", "RUNNING", "python train.py", {"team": "b"})
    client.add(None, "RUNNING", "a driver", {})
    assert RayJobs(client).jobs() == []
    with pytest.raises(InputError, match=r"no job 'theirs' of nearfield"):
        RayJobs(client).stop("theirs")


@pytest.mark.process
def test_the_entry_point_keeps_each_word_and_finds_a_python(client: FakeJobClient, tmp_path: Path) -> None:
    """The head node may have Python at another path: then the first one in its PATH runs."""
    program = tmp_path / "python3"
    program.write_text('#!/bin/sh\nshift 2\nfor word in "$@"; do echo "$word"; done\n', encoding="utf-8")
    program.chmod(0o755)
    words = [*WORDS, "--prompt=it's a $HOME; `date`"]
    RayJobs(client, "head:6379").submit(words, OUTPUT)
    entrypoint = client.details[0].entrypoint
    assert f"PYTHON={shlex.quote(sys.executable)};" in entrypoint
    entrypoint = entrypoint.replace(shlex.quote(sys.executable), "/nowhere/python")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(entrypoint, shell=True, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [*words, "--ray=head:6379"]


@pytest.mark.parametrize(
    ("address", "problem"),
    [("local", "--ray local ends with its command"), ("nowhere", "auto, HOST:PORT, ray://HOST:PORT or http://")],
)
def test_addresses_without_jobs_are_refused(address: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        RayJobs.connect(address)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (RuntimeError("The Ray jobs CLI & SDK require the ray[default] installation"), MissingExtra, "pip install"),
        (ModuleNotFoundError("No module named 'aiohttp'"), MissingExtra, r"ray\[client,default\]"),
        (ConnectionError("Failed to connect"), ClusterFailed, r"Jobs need the dashboard .*--dashboard-host 0\.0\.0\.0"),
        (RuntimeError("Request failed with status code 500: \n no space"), ClusterFailed, "refused: +no space"),
        (
            ConnectionError("Could not find any running Ray instance. Specify the `--address` flag."),
            ClusterFailed,
            r"^There is no Ray cluster on this machine\. .*--ray HOST:PORT.*`ray start --head`\.$",
        ),
        (
            RuntimeError("RPC error: InvalidAuthToken: Authentication token is missing\nNote: RAY_AUTH_MODE"),
            ClusterFailed,
            r"requires a token: set RAY_AUTH_MODE=token here, and copy ~/\.ray/auth_token",
        ),
    ],
)
def test_what_jobs_lack_is_one_error(
    error: Exception, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise error

    submission = ModuleType("ray.job_submission")
    submission.JobSubmissionClient = refuse  # type: ignore[attr-defined]
    refuse.__module__ = "ray.sdk"
    monkeypatch.setitem(sys.modules, "ray.job_submission", submission)
    with pytest.raises(kind, match=message):
        RayJobs.connect("http://head:8265")


def test_an_address_counts_more_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's client would connect to the cluster of the variable, whatever it is asked for."""
    variables: list[str | None] = []

    def create(address: str) -> FakeJobClient:
        variables.append(os.environ.get("RAY_ADDRESS"))
        return FakeJobClient(address)

    submission = ModuleType("ray.job_submission")
    submission.JobSubmissionClient = create  # type: ignore[attr-defined]
    create.__module__ = "ray.sdk"
    monkeypatch.setitem(sys.modules, "ray.job_submission", submission)
    monkeypatch.setattr(ray_jobs, "probe", lambda _: None)
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    for address in ("head:6379", "auto"):
        RayJobs.connect(address)
    assert variables == [None, "other:6379"] and os.environ["RAY_ADDRESS"] == "other:6379"


# -- commands ------------------------------------------------------------------------------------------------


@pytest.fixture
def command(
    client: FakeJobClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """Run a command of ``nearfield`` whose cluster is the fake one."""
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    Path("model").mkdir()
    monkeypatch.setattr(RayJobs, "connect", classmethod(lambda cls, address: cls(client, address)))
    return lambda *words: run(capsys, monkeypatch, *words)


EMBED = ("embed", "rows.jsonl", "-o", "out/", "-m", "model", "--keep", "a,b", "--keep", "c", "--prompt", "-x")


def test_detach_submits_the_command_with_whole_paths_and_says_how_to_follow_it(
    command: Any, client: FakeJobClient, tmp_path: Path
) -> None:
    ran = command(*EMBED, "--restart", "--ray", "head:6379", "--detach", "--json")
    job = json.loads(ran.out)
    assert (ran.code, job["is_new"], job["state"]) == (0, True, "pending")
    words = shlex.split(RayJobs(client).find(job["job"]).command)
    assert words[:2] == ["embed", str(tmp_path / "rows.jsonl")]
    assert {f"--output={tmp_path}/out/", f"--model={tmp_path}/model", "--keep=a,b", "--keep=c", "--prompt=-x"} <= {
        *words
    }
    assert "--restart" in words and not {"--detach", "--json"} & {*words}
    again = command(*EMBED, "--restart", "--ray", "head:6379", "--detach")
    assert f"runs already as job {job['job']}" in again.out
    assert f"nearfield cluster logs {job['job']} --follow --ray head:6379" in again.out


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--detach",), "--detach needs --ray"),
        (("--ray", "local", "--detach"), "--ray local ends"),
        (("--ray", "auto", "--detach", "--dry-run"), "--dry-run is done at once"),
        (("--ray", "auto", "--detach", "--workers", "0"), "--workers is at least 1"),
        (("--ray", "auto", "--detach", "--shard", "1/2"), "leave --shard out"),
    ],
)
def test_what_cannot_be_a_job_is_refused_before_a_cluster_is_asked(
    command: Any, client: FakeJobClient, more: tuple[str, ...], problem: str
) -> None:
    ran = command(*EMBED, *more)
    assert (ran.code, problem in ran.err, client.details) == (2, True, []), ran.err


def test_a_job_has_no_stdin(command: Any) -> None:
    ran = command("embed", "-", "-o", "out/", "--ray", "auto", "--detach")
    assert (ran.code, "A job has no stdin" in ran.err) == (2, True), ran.err


def test_jobs_are_listed_followed_and_stopped(command: Any, client: FakeJobClient) -> None:
    assert "No job of nearfield embed" in command("cluster", "jobs").out
    name = json.loads(command(*EMBED, "--ray", "auto", "--detach", "--json").out)["job"]
    assert name in command("cluster", "jobs").out
    assert json.loads(command("cluster", "jobs", "--json").out)[0]["id"] == name
    assert command("cluster", "logs", name).out == f"log of {name}\n"
    client.details[0].status = "RUNNING"
    assert "ends now" in command("cluster", "stop", name).out
    client.details[0].status = "FAILED"
    ran = command("cluster", "logs", name, "--follow")
    assert (ran.code, ran.out) == (1, f"log of {name}\ndone\n")
    client.details[0].status = "SUCCEEDED"
    assert command("cluster", "logs", name, "--follow").code == 0
    assert "had ended before" in command("cluster", "stop", name).out
    assert command("cluster", "logs", "another").code == 2


def test_a_job_shows_its_progress_in_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from nearfield import progress

    monkeypatch.setattr(progress, "_SECONDS_PER_LINE", 0.0)
    with progress.Progress(4, label="out shard 0/2", shown="lines") as lines:
        lines.announce("out  starting 2 workers")
        lines.relabel("out shard 0/2")
        lines.advance(1, 10)
        lines.relabel("out shard 1/2")
        lines.advance(2, 20)
    at_once, first, second = capsys.readouterr().err.splitlines()
    assert at_once == "out  starting 2 workers"
    assert first.startswith("out shard 0/2  1/4 texts") and second.startswith("out shard 1/2  3/4 texts")
    assert not ray_runtime.is_job()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert ray_runtime.is_job()
