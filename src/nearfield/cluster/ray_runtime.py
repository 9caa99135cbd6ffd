"""Ray as this package uses it: imported late, without reports of usage, and connected with errors that say what to do.

Ray reports usage to its makers unless ``RAY_USAGE_STATS_ENABLED`` is 0 when it is imported. It is set here, for this
process and, through Ray's own start of its processes, for all workers of a cluster that this process starts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from nearfield.errors import ClusterFailed, InputError, MissingExtra

#: The oldest version of Ray whose behaviour this package was tested with.
MIN_VERSION = (2, 60)
_PROBE_SECONDS = 5.0
_START = "Start it with `ray start --head` on one machine, or use --ray local."


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
    if address in ("auto", "local"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        known = parts.scheme in ("tcp", "ray") and parts.hostname and parts.port
    except ValueError:  # a port that is no number
        known = False
    if not known:
        raise InputError(f"--ray is auto, local, HOST:PORT or ray://HOST:PORT, not {address!r}.", param="ray")


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield Ray's module, connected to a cluster until the end of the block; ``local`` starts one on this machine.

    A connection that this process has already is used, and left open.

    Raises:
        InputError: the address has no known form.
        MissingExtra: Ray is not installed.
        ClusterFailed: there is no cluster at the address, or one of another version of Ray or Python.
    """
    check_address(address)
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    _connect(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"include_dashboard": False}
    elif address != "auto":
        _probe(address)
    try:
        ray.init(address, **options)
    except (ConnectionError, TimeoutError) as error:
        raise ClusterFailed(f"There is no Ray cluster at {address}: {_first_line(error)} {_START}") from error
    except (RuntimeError, ImportError) as error:
        raise ClusterFailed(_refusal(address, error)) from error


def _probe(address: str) -> None:
    """Raise ClusterFailed at once if nothing listens: Ray would try for two minutes, and end the process."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        socket.create_connection((str(parts.hostname), parts.port or 0), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        raise ClusterFailed(f"There is no Ray cluster at {address}: {error.strerror or error}. {_START}") from error


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
