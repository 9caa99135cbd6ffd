"""Ray as this package uses it: imported late, without reports of usage, and connected with errors that say what to do.

Ray reports usage to its makers unless ``RAY_USAGE_STATS_ENABLED`` is 0 when it is imported. It is set here, for this
process and, through Ray's own start of its processes, for all workers of a cluster that this process starts.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from nearfield.cluster.connection_watch import end_notice
from nearfield.errors import ClusterFailed, InputError, MissingExtra

#: The oldest version of Ray whose behaviour this package was tested with.
MIN_VERSION = (2, 60)
_PROBE_SECONDS = 5.0
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: The type of a frame is its fourth byte.
_SETTINGS_FRAME = 4
_EMPTY_SETTINGS = bytes([0, 0, 0, _SETTINGS_FRAME, 0, 0, 0, 0, 0])
_TOKEN = (
    "If `ray start` said there that token authentication is enabled, set RAY_AUTH_MODE=token here, and copy "
    "~/.ray/auth_token from the head node; otherwise check that this is the address that it printed."
)
_CLIENT = "The port of ray:// is 10001 unless `ray start --head` got --ray-client-server-port."
_START = "Start it with `ray start --head` on one machine, or use --ray local."
#: What Ray says if ``auto`` finds nothing; the rest of its sentence names options that are not those of this package.
NOT_RUNNING = "Could not find any running Ray instance"
NO_CLUSTER_HERE = (
    "There is no Ray cluster on this machine. Name another machine's with --ray HOST:PORT, or start one with "
    "`ray start --head`."
)


def import_ray() -> Any:
    """Import Ray, after its reports of usage were switched off.

    Raises:
        MissingExtra: it is not installed, or older than the versions that are supported.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Without it, Ray hides GPUs from workers that ask for none by changing their variables, and warns of that.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Otherwise Ray prints each stopped worker on stdout, where reports are.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("A cluster needs Ray: pip install 'nearfield[ray]'") from error
    version = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if version < MIN_VERSION:
        raise MissingExtra(f"Ray {ray.__version__} is too old: pip install 'nearfield[ray]'")
    return ray


def check_address(address: str) -> None:
    """Raise InputError for an address of no known form: ``auto``, ``local``, HOST:PORT or ray://HOST:PORT."""
    if address not in ("auto", "local") and not _has_form(address, ("tcp", "ray")):
        raise InputError(f"--ray is auto, local, HOST:PORT or ray://HOST:PORT, not {address!r}.", param="ray")


def check_jobs_address(address: str) -> None:
    """Raise InputError for an address to which no job can be submitted; that of the dashboard (http://) can be."""
    if address == "local":
        raise InputError(
            "--ray local ends with its command, and so would a job: leave --detach out, or start a cluster with "
            "`ray start --head`.",
            param="ray",
        )
    if address != "auto" and not _has_form(address, ("tcp", "ray", "http", "https")):
        raise InputError(
            f"For jobs, --ray is auto, HOST:PORT, ray://HOST:PORT or http://HOST:8265, not {address!r}.", param="ray"
        )


def _has_form(address: str, schemes: Sequence[str]) -> bool:
    """Return whether an address has a host, a port and one of some schemes; without one it is tcp."""
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        return bool(parts.scheme in schemes and parts.hostname and parts.port)
    except ValueError:  # a port that is no number
        return False


def is_job() -> bool:
    """Return whether this process is the driver of a job that was submitted to a cluster."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@contextmanager
def connected(address: str, *, is_continued: bool = True) -> Iterator[Any]:
    """Yield Ray's module, connected to a cluster until the end of the block; ``local`` starts one on this machine.

    A connection that this process has already is used, and left open. If Ray ends this process, a sentence says so,
    where the same command continues (``is_continued``).

    Raises:
        InputError: the address has no known form.
        MissingExtra: Ray is not installed.
        ClusterFailed: there is no cluster at the address, or one of another version of Ray or Python.
    """
    check_address(address)
    ray = import_ray()
    if not ray.is_initialized():
        with _connection(ray, address), _notice(ray, is_needed=is_continued and address != "local"):
            yield ray
        return
    with _notice(ray, is_needed=is_continued):
        yield ray


def _notice(ray: Any, *, is_needed: bool) -> AbstractContextManager[None]:
    return end_notice(ray) if is_needed else nullcontext()


@contextmanager
def _connection(ray: Any, address: str) -> Iterator[None]:
    _connect(ray, address)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"include_dashboard": False}
        # Ray runs workers with a lower priority than all else. Here they are the command, and there is nothing else.
        os.environ.setdefault("RAY_worker_niceness", "0")
    elif address != "auto":
        probe(address)
    try:
        with warnings.catch_warnings(), _same_handler():
            warnings.simplefilter("ignore")  # the error says it
            ray.init(address, **options)
    except (ConnectionError, TimeoutError) as error:
        if NOT_RUNNING in str(error):
            raise ClusterFailed(f"{NO_CLUSTER_HERE} --ray local starts one for this command alone.") from error
        hint = _START if address == "auto" else _CLIENT if address.startswith("ray:") else _TOKEN
        raise ClusterFailed(
            f"There is no Ray cluster that can be used at {address}: {_first_line(error)} {hint}"
        ) from error
    except (RuntimeError, ImportError, ValueError) as error:
        if "ray[client]" in str(error):
            raise MissingExtra("An address ray:// needs Ray's client: pip install 'ray[client]'") from error
        raise ClusterFailed(_refusal(address, error)) from error
    except Exception as error:  # Ray raises no other class where one of its processes does not start
        raise ClusterFailed(
            f"Ray did not start its processes ({_first_line(error)}). The machine may be too busy, or lack memory: try "
            "again when it has less to do; the logs are in /tmp/ray/session_latest/logs."
        ) from error


@contextmanager
def _same_handler() -> Iterator[None]:
    """Leave a handler of SIGTERM that the program has in its place: Ray sets another one when it connects."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def probe(address: str) -> None:
    """Raise ClusterFailed soon if nothing listens, or something that is not Ray: Ray would try for minutes."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=_PROBE_SECONDS) as connection:
            speaks = _uses_tls() or _speaks_http2(connection)
    except OSError as error:
        raise ClusterFailed(f"There is no Ray cluster at {address}: {error.strerror or error}. {_START}") from error
    if not speaks:
        raise ClusterFailed(f"What listens at {address} is not a Ray cluster: it does not speak gRPC. {_START}")


def _uses_tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _speaks_http2(connection: socket.socket) -> bool:
    """Return whether a server answers the start of HTTP/2, which gRPC uses, with its settings (RFC 9113, 3.4)."""
    connection.sendall(_HTTP2_PREFACE + _EMPTY_SETTINGS)
    try:
        head = connection.recv(len(_EMPTY_SETTINGS), socket.MSG_WAITALL)
    except (TimeoutError, ConnectionResetError):
        return False
    return len(head) == len(_EMPTY_SETTINGS) and head[3] == _SETTINGS_FRAME


def _refusal(address: str, error: Exception) -> str:
    text = str(error)
    if "ersion mismatch" in text:
        details = " ".join(text.split())
        return (
            f"The cluster at {address} has another version of Ray or Python: {details} Install the same on all nodes."
        )
    return f"Ray cannot connect to {address}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
