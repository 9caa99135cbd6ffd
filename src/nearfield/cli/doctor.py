"""nearfield doctor: what this machine can compute, where models come from, and which versions are installed."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Annotated

import typer

EXAMPLES = """Examples:

nearfield doctor

nearfield doctor --json"""

#: Seconds to wait for the Hub and for the package index.
_TIMEOUT = 3.0
_FLAGS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),  # Arm
)
#: What multiplies matrices, by the flag that shows it, best first.
_UNITS = {"amx_bf16": "AMX tiles", "avx512_bf16": "AVX-512 vectors", "asimd": "NEON vectors"}
_PACKAGES = ("nearfield", "openvino", "tokenizers", "safetensors", "numpy", "huggingface-hub", "uvicorn", "torch")
#: The words for the keys of the JSON report.
_TITLES = {
    "machine": "This machine",
    "precision": "Arithmetic",
    "sources": "Models and settings",
    "versions": "Installed versions",
}
_LABELS = {
    "cores_that_may_be_used": "Usable CPU cores",
    "cores_seen": "All CPU cores",
    "batches_at_once": "Parallel batches",
    "devices": "Devices (--devices)",
    "cpu_features": "CPU features",
    "memory_available": "Available memory",
    "measured_speed": "Measured speed",
    "auto_means": "Precision",
    "because": "Reason",
    "cache": "Cache folder",
    "models_here": "Downloaded models",
    "hub": "Hugging Face Hub",
    "package_index": "Python package index",
}
_PRECISIONS = {"bf16": "bfloat16 (--precision auto)", "float32": "float32 (--precision auto)"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what this machine can compute.

    Also shows where models come from, and which versions are installed.
    """
    report = {"machine": _machine(), "precision": _precision(), "sources": _sources(), "versions": _versions()}
    if as_json:
        typer.echo(json.dumps(report, default=str))
        return
    for section, facts in report.items():
        typer.echo(_TITLES[section])
        for key, value in facts.items():
            label = (
                key.replace("_", "-") if section == "versions" else _LABELS.get(key, key.replace("_", " ").capitalize())
            )
            text = _PRECISIONS.get(str(value), value) if key == "auto_means" else value
            typer.echo(f"  {label + ':':22} {text}")


def _machine() -> dict[str, object]:
    from nearfield import hardware

    plan = hardware.plan_cpu()
    return {
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "cores_that_may_be_used": hardware.usable_cores(),
        "cores_seen": os.cpu_count(),
        "batches_at_once": plan.streams,
        "devices": _devices(),
        "cpu_features": ", ".join(flag for flag in _FLAGS if flag in hardware.cpu_flags()) or "none of note",
        "memory": _memory(),
        "memory_available": _memory_available(),
        "measured_speed": _measured_speed(),
    }


def _devices() -> str:
    """Return the devices that replicas can have: a set of CPUs for each NUMA node, and the GPUs that are seen."""
    from nearfield import hardware
    from nearfield.devices import format_cpus

    nodes = [f"cpu:{format_cpus(node)} (NUMA node {number})" for number, node in enumerate(hardware.numa_nodes())]
    return ", ".join([*nodes, *(f"cuda:{number} ({name})" for number, name in enumerate(hardware.gpu_names()))])


def _measured_speed() -> str:
    """Return what calibrations of this machine are stored, and how old they are."""
    from nearfield.evaluation.planning.speed.stored_calibration import stored_calibrations

    stored = stored_calibrations()
    rows = [f"{row.calibration.precision} on {row.device}, {row.calibration.age}" for row in stored]
    return "; ".join(rows) or "no: nearfield advise measures it, and stores the result"


def _memory() -> str:
    from nearfield.units import format_bytes

    try:
        return format_bytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return "unknown"


def _memory_available() -> str:
    from nearfield.hardware import memory_limit
    from nearfield.units import format_bytes

    limit = memory_limit()
    if limit is None:
        return "unknown"
    if limit.cause == "machine":
        return format_bytes(limit.available)
    available = format_bytes(limit.available, limit.bytes)
    return f"{available} of {format_bytes(limit.bytes, limit.bytes)} (limit: {limit.cause})"


def _precision() -> dict[str, object]:
    from nearfield import hardware

    units = (name for flag, name in _UNITS.items() if flag in hardware.cpu_flags())
    return {
        "auto_means": hardware.auto_precision(),
        "because": _reason(),
        "matrix_units": next(units, "vectors"),
    }


def _reason() -> str:
    """Return why precision ``auto`` means what it does."""
    from nearfield.hardware import has_bf16, is_arm

    if is_arm():
        return "OpenVINO has no bfloat16 on Arm"
    return "the CPU multiplies bfloat16 matrices natively" if has_bf16() else "the CPU has no bfloat16 matrix units"


def _sources() -> dict[str, object]:
    from nearfield import hub
    from nearfield.settings import cache_dir, config_file

    endpoint = _without_secrets(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    config = config_file()
    return {
        "cache": cache_dir(),
        "models_here": ", ".join(sorted({model.name for model in hub.cached_models()})) or "none",
        "hub": "offline by setting" if hub.offline() else f"{endpoint} ({_reach(endpoint)})",
        "package_index": _index() if _has_pip() else "pip is not installed in this environment",
        "settings_file": config if config.is_file() else f"none ({config})",
    }


def _index() -> str:
    """Return the index that pip uses by its settings and environment, and whether it can be reached."""
    import subprocess

    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "get", "global.index-url"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except subprocess.TimeoutExpired:
        return "pip does not answer"
    index = _without_secrets(os.environ.get("PIP_INDEX_URL") or output or "https://pypi.org/simple")
    return f"{index} ({_reach(index)})"


def _without_secrets(url: str) -> str:
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _reach(url: str) -> str:
    """Return whether a server answers a request, with any status, through the proxy if one is set."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=_TIMEOUT):
            return "reachable"
    except HTTPError:
        return "reachable"
    except (OSError, ValueError, HTTPException) as error:
        return f"not reachable: {getattr(error, 'reason', error)}"


def _has_pip() -> bool:
    from importlib.util import find_spec

    return find_spec("pip") is not None


def _versions() -> dict[str, object]:
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, object] = {}
    for name in _PACKAGES:
        try:
            versions[name.replace("-", "_")] = version(name)
        except PackageNotFoundError:
            versions[name.replace("-", "_")] = "not installed"
    return versions
