"""Runs of ``nearfield embed`` as jobs of a Ray cluster: submitted, listed, followed and stopped over its dashboard.

The name of a job begins with a digest of its output, and Ray accepts a name once. So of two commands that submit a run
for the same folder at the same time, one finds the job of the other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any

from nearfield.cluster.ray_runtime import NO_CLUSTER_HERE, NOT_RUNNING, check_jobs_address, import_ray, probe
from nearfield.errors import ClusterFailed, InputError, MissingExtra
from nearfield.fileio.s3.path import Location

#: States of a job that has not ended.
_ACTIVE = ("pending", "running")
#: The fields of a job's metadata with the folder that it writes, and with the command without its address.
_OUTPUT, _COMMAND = "nearfield_output", "nearfield_command"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_FOLDER_NAME = 40
#: Times that a name which another command has just used is replaced by the next one.
_SUBMISSIONS = 5
#: Variables that Ray prefers to the address that it gets.
_ADDRESS_VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
_NO_DASHBOARD = (
    "Jobs need the dashboard of the head node: install 'ray[default]' there, and start it with `ray start --head "
    "--dashboard-host 0.0.0.0`. `nearfield embed --ray` without --detach needs none."
)
#: What Ray writes, in several sentences, if a cluster requires a token and got none or another one.
_NO_TOKEN = re.compile("authentication token|InvalidAuthToken", re.IGNORECASE)
_TOKEN = (
    "The cluster requires a token: set RAY_AUTH_MODE=token here, and copy ~/.ray/auth_token from the head node to this "
    "machine."
)


@dataclass(frozen=True)
class EmbedJob:
    """A run of ``nearfield embed`` that was submitted to a cluster.

    Attributes:
        id: its name.
        state: ``pending``, ``running``, ``succeeded``, ``failed`` or ``stopped``.
        output: the folder that it writes.
        command: its arguments of ``nearfield``, as for a shell, without the address of the cluster.
        submitted: when it was submitted, in seconds since 1970.
    """

    id: str
    state: str
    output: str
    command: str
    submitted: float

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.state in _ACTIVE

    def to_text(self) -> str:
        """Return a line for a terminal."""
        time = datetime.fromtimestamp(self.submitted, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        return f"{self.id}  {self.state}  {time} UTC  {self.output}"


class RayJobs:
    """The jobs of a cluster that run ``nearfield embed``.

    Args:
        client: Ray's ``JobSubmissionClient``.
        address: the address of the cluster as the head node knows it.
        place: the option that names the cluster in commands of this machine, after a space; empty for ``auto``.
    """

    def __init__(self, client: Any, address: str = "auto", place: str = "") -> None:
        self._client = client
        self._address = address
        self._place = place

    @classmethod
    def connect(cls, address: str) -> RayJobs:
        """Connect to the dashboard of a cluster.

        Raises:
            InputError: the address has no known form, or is ``local``.
            MissingExtra: what Ray needs for jobs is not installed.
            ClusterFailed: there is no cluster, or it has no dashboard that can be reached from here.
        """
        check_jobs_address(address)
        import_ray()
        if address != "auto" and not address.startswith("http"):
            probe(address)
        with _explained(), _without_variables(address):
            from ray.job_submission import JobSubmissionClient

            _be_silent(JobSubmissionClient.__module__)
            # Where a machine has several clusters, "auto" would be the newest.
            return cls(JobSubmissionClient(address), "auto" if "://" in address else address, place_of(address))

    def jobs(self) -> list[EmbedJob]:
        """Return the jobs, those that were submitted first before the others."""
        with _explained():
            jobs = [_job(details) for details in self._client.list_jobs()]
        return sorted((job for job in jobs if job is not None), key=lambda job: (job.submitted, job.id))

    def find(self, name: str) -> EmbedJob:
        """Return a job.

        Raises:
            InputError: there is none of that name.
        """
        job = next((job for job in self.jobs() if job.id == name), None)
        if job is None:
            raise InputError(
                f"There is no job {name!r} of nearfield: see `nearfield cluster jobs{self._place}`.", param="job"
            )
        return job

    def submit(self, words: Sequence[str], output: Location) -> tuple[EmbedJob, bool]:
        """Submit a run, and return its job and whether it is new: the same command that still runs is not repeated.

        Args:
            words: the arguments of ``nearfield``, without the address of the cluster.
            output: the folder that the run writes.

        Raises:
            InputError: a job with another command still writes to the folder.
        """
        command = shlex.join(words)
        for _ in range(_SUBMISSIONS):
            earlier = [job for job in self.jobs() if job.output == str(output)]
            active = next((job for job in earlier if job.is_active), None)
            if active is not None:
                return self._same(active, command), False
            name = _next_name(output, [job.id for job in earlier])
            if self._submitted(name, command, output):
                return self.find(name), True
        raise ClusterFailed(f"Other commands submit jobs for {output} all the time: run the command again.")

    def _same(self, job: EmbedJob, command: str) -> EmbedJob:
        if job.command != command:
            raise InputError(
                f"The job {job.id} writes to {job.output}, with other options than these. Wait for it, or end it with "
                f"`nearfield cluster stop {job.id}{self._place}`.",
                param="output",
            )
        return job

    def _submitted(self, name: str, command: str, output: Location) -> bool:
        """Submit a job, and return False if another command has just used its name."""
        entrypoint = _entrypoint(f"{command} --ray={shlex.quote(self._address)}")
        metadata = {_OUTPUT: str(output), _COMMAND: command}
        with _explained():
            try:
                self._client.submit_job(entrypoint=entrypoint, submission_id=name, metadata=metadata)
            except RuntimeError as error:
                if "already exists" not in str(error):
                    raise
                return False
        return True

    def logs(self, name: str) -> str:
        """Return what a job has printed so far."""
        with _explained():
            return str(self._client.get_job_logs(self.find(name).id))

    def follow(self, name: str, on_text: Callable[[str], None]) -> None:
        """Call ``on_text`` with what a job prints, until it ends."""

        async def copy() -> None:
            async for text in self._client.tail_job_logs(job.id):
                on_text(text)

        job = self.find(name)
        with _explained():
            asyncio.run(copy())

    def stop(self, name: str) -> bool:
        """Stop a job, and return whether it had not ended before."""
        with _explained():
            return bool(self._client.stop_job(self.find(name).id))


def place_of(address: str) -> str:
    """Return what a command of this machine needs to find a cluster: `` --ray ADDRESS``, or nothing for ``auto``."""
    return "" if address == "auto" else f" --ray {shlex.quote(address)}"


def _entrypoint(command: str) -> str:
    """Return a shell command that runs ``nearfield`` in the Python at this path, or else in ``python3``.

    It runs on the head node, where Python may be at another path than here.
    """
    python = f'PYTHON={shlex.quote(sys.executable)}; [ -x "$PYTHON" ] || PYTHON=python3'
    return f'{python}; exec "$PYTHON" -m nearfield.cli {command}'


def _job(details: Any) -> EmbedJob | None:
    """Return a job of this package, or None."""
    metadata = details.metadata or {}
    if _OUTPUT not in metadata or details.submission_id is None:
        return None
    state = str(getattr(details.status, "value", details.status)).lower()
    submitted = (details.start_time or 0) / 1000
    return EmbedJob(details.submission_id, state, metadata[_OUTPUT], metadata.get(_COMMAND, ""), submitted)


def _next_name(output: Location, earlier: Sequence[str]) -> str:
    """Return a name that no earlier job of the same folder has."""
    folder = _UNSAFE.sub("-", output.name).strip("-")[:_MAX_FOLDER_NAME] or "vectors"
    digest = blake2b(str(output).encode(), digest_size=4).hexdigest()
    numbers = [int(name.rpartition("-")[2]) for name in earlier if name.rpartition("-")[2].isdigit()]
    return f"nearfield-{folder}-{digest}-{max(numbers, default=0) + 1}"


def _be_silent(module: str) -> None:
    """Let Ray log errors alone: it writes to the terminal what it does."""
    for name in ("ray", "ray.client_builder", module):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def _without_variables(address: str) -> Iterator[None]:
    """Let an address count more than the variables of the environment, which Ray prefers; ``auto`` means these."""
    hidden = {name: os.environ.pop(name) for name in _ADDRESS_VARIABLES if address != "auto" and name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _explained() -> Iterator[None]:
    """Replace errors of Ray's client, which have no types, by those of this package."""
    ray_error = import_ray().exceptions.RayError
    try:
        yield
    except (InputError, ClusterFailed):
        raise
    except (RuntimeError, OSError, ValueError, ImportError, ray_error) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        if "ray[" in text or isinstance(error, ImportError):
            raise MissingExtra(f"Jobs need more of Ray: pip install 'ray[client,default]' ({text:.200})") from error
        if NOT_RUNNING in str(error):
            raise ClusterFailed(NO_CLUSTER_HERE) from error
        if _NO_TOKEN.search(str(error)):
            raise ClusterFailed(_TOKEN) from error
        if isinstance(error, OSError):
            raise ClusterFailed(f"The dashboard of the cluster cannot be used: {text:.300} {_NO_DASHBOARD}") from error
        raise ClusterFailed(f"The cluster refused: {text:.500}") from error
