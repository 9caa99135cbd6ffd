"""nearfield doctor: what this machine can do, and what stands in the way."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Annotated, Any

import typer

EXAMPLES = """Examples:

nearfield doctor

nearfield doctor --json"""

_PATIENCE = 3.0
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "bf16", "asimd")


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what this machine can do: CPU, precision, sources, versions."""
    report = {"machine": _machine(), "precision": _precision(), "sources": _sources(), "versions": _versions()}
    if as_json:
        keyed = {title: {_key(name): value for name, value in facts.items()} for title, facts in report.items()}
        typer.echo(json.dumps(keyed, default=str))
        return
    for title, facts in report.items():
        typer.echo(title)
        for name, value in facts.items():
            typer.echo(f"  {name:22} {value}")


def _key(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")


def _machine() -> dict[str, Any]:
    from nearfield import hardware

    plan = hardware.plan_cpu()
    return {
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "cores that may be used": hardware.usable_cores(),
        "cores seen": os.cpu_count(),
        "batches at once": plan.streams,
        "cpu features": ", ".join(flag for flag in _FLAGS if flag in hardware.cpu_flags()) or "none of note",
        "memory": _memory(),
    }


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (ValueError, OSError, AttributeError):
        return "unknown"


def _precision() -> dict[str, Any]:
    from nearfield.hardware import cpu_flags, has_bf16

    reason = "the CPU multiplies bfloat16 matrices natively" if has_bf16() else "the CPU has no bfloat16 matrix units"
    units = (
        "AMX tiles" if "amx_bf16" in cpu_flags() else "AVX-512 vectors" if "avx512_bf16" in cpu_flags() else "vectors"
    )
    return {"auto means": "bf16" if has_bf16() else "float32", "because": reason, "matrix units": units}


def _sources() -> dict[str, Any]:
    from nearfield import hub
    from nearfield.settings import cache_dir, config_file

    endpoint = _without_secrets(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    config = config_file()
    return {
        "cache": cache_dir(),
        "models here": ", ".join(sorted({model.name for model in hub.cached_models()})) or "none",
        "Hub": "offline by setting" if hub.offline() else f"{endpoint} ({_reach(endpoint)})",
        "package index": _index() if _has_pip() else "pip is not installed in this environment",
        "settings file": config if config.is_file() else f"none ({config})",
    }


def _index() -> str:
    """Ask pip which index it uses: settings, environment and mirrors are its business."""
    import subprocess

    asked = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "get", "global.index-url"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except subprocess.TimeoutExpired:
        return "pip does not answer"
    index = _without_secrets(os.environ.get("PIP_INDEX_URL") or said or "https://pypi.org/simple")
    return f"{index} ({_reach(index)})"


def _without_secrets(url: str) -> str:
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _reach(url: str) -> str:
    """Ask for a page, through the proxy if one is set; any answer at all means that something is there."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=_PATIENCE):
            return "reachable"
    except HTTPError:
        return "reachable"
    except (OSError, ValueError, HTTPException) as error:
        return f"not reachable: {getattr(error, 'reason', error)}"


def _has_pip() -> bool:
    from importlib.util import find_spec

    return find_spec("pip") is not None


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("nearfield", "openvino", "tokenizers", "safetensors", "numpy", "huggingface-hub", "uvicorn", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
