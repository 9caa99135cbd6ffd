"""Run the client checks with releases that cannot be installed together with those of the tests.

``python -m tools.clients [NAME ...] [--home FOLDER]`` creates environments, serves tiny models, and lets each
client try them (``tools/client_checks.py``). It needs the package index, and Python 3.12 for SIE's SDK.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.reranker import Reranker
from nearfield.server.models.model_pool import ModelPool
from nearfield.testing import tiny_encoder
from tests.conftest import PROMPTS
from tests.parity.scores import classifier
from tests.support.serving import serving

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]
QUERY = "a cat"
CHECKS = Path(__file__).with_name("client_checks.py")


@dataclass(frozen=True)
class Environment:
    """What is installed together, and which checks it serves."""

    packages: tuple[str, ...]
    checks: tuple[str, ...]
    python: str = sys.executable


ENVIRONMENTS = {
    "openai-0": Environment(("openai==0.28.1", "numpy"), ("openai0",)),
    "oldest": Environment(
        ("openai==1.3.9", "httpx<0.28", "cohere==4.57", "voyageai==0.2.4", "ollama==0.3.3", "huggingface_hub==0.24.7"),
        ("openai", "cohere4", "voyage", "ollama", "hub"),
    ),
    "older": Environment(
        ("openai==1.109.1", "cohere==5.21.1", "voyageai==0.3.7", "ollama==0.4.9", "huggingface_hub==0.36.2", "numpy"),
        ("openai", "cohere5", "voyage", "ollama", "hub"),
    ),
    "newer": Environment(("openai==2.54.0", "huggingface_hub==2.4.0", "numpy"), ("openai", "hub")),
    # These want cohere before 6.
    "cohere-5": Environment(
        ("langchain-cohere", "llama-index-embeddings-cohere", "llama-index-postprocessor-cohere-rerank"),
        ("cohere5", "langchain-cohere", "llama-index-cohere"),
    ),
    # These want voyageai before 0.4.
    "voyage-0.3": Environment(
        ("llama-index-embeddings-voyageai", "llama-index-postprocessor-voyageai-rerank"),
        ("voyage", "llama-index-voyage"),
    ),
    "litellm": Environment(("litellm", "infinity-client", "langchain-community"), ("litellm", "infinity")),
    "clouds": Environment(("google-genai", "boto3"), ("gemini", "vertex", "bedrock")),
    "sie": Environment(("sie-sdk==0.10.1",), ("sie",), "python3.12"),
}


def main() -> int:
    """Try all, or those named; return 1 if any check failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ENVIRONMENTS)}")
    parser.add_argument("--home", type=Path, help="folder of the environments; an existing one is used unchanged")
    given = parser.parse_args()
    unknown = set(given.names) - set(ENVIRONMENTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="nearfield-clients-") as scratch, _served(Path(scratch)) as (url, expected):
        failed = [
            f"{name}: {check}"
            for name in given.names or ENVIRONMENTS
            for check in _tried(name, (given.home or Path(scratch)) / name, url, expected)
        ]
    return int(bool(failed))


def _tried(name: str, folder: Path, url: str, expected: Path) -> Iterator[str]:
    """Make an environment, and yield the checks that fail in it."""
    environment = ENVIRONMENTS[name]
    python = folder / "bin" / "python"
    if not python.exists() and not _made(folder, environment):
        print(f"{name}: left out, {environment.python} is not there or its packages could not be had")
        return
    for check in environment.checks:
        command = [str(python), str(CHECKS), check, url, str(expected)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        print(f"{name}: {check}: {'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
        if done.returncode:
            print(done.stderr)
            yield check


def _made(folder: Path, environment: Environment) -> bool:
    """Make an environment, or leave nothing of it."""
    commands = (
        [environment.python, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *environment.packages],
    )
    made = shutil.which(environment.python) is not None
    made = made and all(subprocess.run(command, check=False).returncode == 0 for command in commands)
    if not made:
        shutil.rmtree(folder, ignore_errors=True)
    return made


@contextmanager
def _served(home: Path) -> Iterator[tuple[str, Path]]:
    """Serve a tiny encoder and reranker; yield the address, and a file of what they give in Python."""
    options: dict[str, Any] = {"precision": "float32", "compile_cache": False}
    ranks = classifier("bert", 1)(home / "parts").rename(home / "tiny-reranker")
    with (
        tiny_encoder(home / "tiny", prompts=PROMPTS, precision="float32") as encoder,
        Reranker(str(ranks), **options) as reranker,
        serving(ModelPool([encoder, reranker], {"tiny": ["embed-english-v3.0"]})) as url,
    ):
        roles = {"plain": None, "query": "query", "document": "document"}
        ranked = reranker.rank(QUERY, TEXTS, activation="sigmoid")
        expected = home / "expected.json"
        told = {
            "texts": TEXTS,
            "query": QUERY,
            "reranker": reranker.name,
            "vectors": {name: encoder.encode(TEXTS, role=role).data.tolist() for name, role in roles.items()},
            "order": [each.index for each in ranked],
            "scores": [each.score for each in ranked],
        }
        expected.write_text(json.dumps(told), encoding="utf-8")
        yield url, expected


if __name__ == "__main__":
    raise SystemExit(main())
