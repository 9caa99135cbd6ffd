"""Start processes of attackers, and create the API keys that they and others use."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks import commits

#: Names of the keys: of an honest client, and of attackers.
KEYS = ("polite", "attacker", "greedy", "small")
#: Tokens a minute of the key ``small``.
SMALL_RATE = 100


def create_keys(file: Path) -> dict[str, str]:
    """Write a key file with new keys; return them by name."""
    keys = {name: f"nf-{secrets.token_hex(16)}" for name in KEYS}
    tables = []
    for name, key in keys.items():
        rate = f"tokens_per_minute = {SMALL_RATE}\n" if name == "small" else ""
        tables.append(f'[[keys]]\nname = "{name}"\nkey = "{key}"\n{rate}')
    file.write_text("".join(tables), encoding="utf-8")
    return keys


def start_module(name: str, *words: str) -> subprocess.Popen[str]:
    """Start a module of the benchmarks with pipes for its input and output."""
    return subprocess.Popen(
        [sys.executable, "-m", name, *words],
        cwd=commits.ROOT,
        env=commits.environment(commits.ROOT),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start_attackers(
    attacks: Mapping[str, int], port: int, keys: Mapping[str, str], seconds: float
) -> subprocess.Popen[str]:
    """Start a process of attackers, and wait until its bodies are built.

    ``attacks`` has the number of clients of each attack; 0 is the usual number.
    """
    order = {"port": port, "attacks": dict(attacks), "seconds": seconds, "keys": dict(keys)}
    process = start_module("benchmarks.attackers", json.dumps(order))
    if process.stdout is None or process.stdout.readline().strip() != "ready":
        raise RuntimeError("the attackers did not start: see above")
    return process


def release(process: subprocess.Popen[str]) -> None:
    """Let attackers begin."""
    if process.stdin is not None:
        process.stdin.write("\n")
        process.stdin.flush()
