"""Fixtures that many tests share (a tiny model, and a server that serves it), and the option ``--fast``.

Settings of the whole run are here too: threads and caches of libraries, and when garbage is looked for.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield.auto import load
from nearfield.encoder import Encoder
from nearfield.inference.loaded_model import LoadedModel
from nearfield.testing import tiny_encoder
from tests.parity.m3 import write as write_m3
from tests.parity.scores import classifier
from tests.support.serving import serving

#: Markers of tests that ``--fast`` leaves out; pyproject.toml describes them.
LEFT_OUT = ("service", "process", "network", "slow")
_MODULE_MARKER = re.compile(rf"^pytestmark = (?:\[[^\]]*|[^\n]*)\.mark\.({'|'.join(LEFT_OUT)})\b", re.MULTILINE)
PROMPTS = {"query": "search: ", "passage": "hello "}
#: Variables of libraries, which processes that tests start inherit. Test processes share the cores, so that threads of
#: torch and onnxruntime would wait for each other, busily. Tiny models take longer to compile kernels than to run:
#: those of a shape are compiled once for all models of a process. Neither changes a number. Models that Ollama has on
#: this machine are not looked at, and commands store no reports in its user's folder. Servers of tests are on loopback,
#: most without TLS: each client of httpx would read the authorities of the system, which takes 30 ms.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024",
    "OLLAMA_MODELS": os.devnull,
    "NEARFIELD_REPORTS": "off",
    "SSL_CERT_DIR": os.devnull,
}
#: New objects from which Python looks for garbage among the youngest; its default is 700.
GARBAGE_THRESHOLD = 10_000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--fast``."""
    parser.addoption("--fast", action="store_true", help=f"leave out tests that are marked {', '.join(LEFT_OUT)}")


def pytest_configure(config: pytest.Config) -> None:
    """Set variables before a library reads them."""
    os.environ.pop("SSL_CERT_FILE", None)  # httpx would prefer it
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Look for no garbage while tests are collected, nor later among the modules that this imported."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--fast``, do not even import a file that is marked as a whole."""
    if not config.getoption("--fast") or collection_path.suffix != ".py":
        return None
    return bool(_MODULE_MARKER.search(collection_path.read_text(encoding="utf-8"))) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--fast``, deselect tests that are marked one by one."""
    if config.getoption("--fast"):
        left_out = [item for item in items if any(item.get_closest_marker(name) for name in LEFT_OUT)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """A tiny model with prompts, in float32."""
    with tiny_encoder(tmp_path_factory.mktemp("tiny") / "tiny", prompts=PROMPTS, precision="float32") as encoder:
        yield encoder


@pytest.fixture(scope="session")
def url(tiny: Encoder) -> Iterator[str]:
    """A server of the tiny model."""
    with serving([tiny]) as base:
        yield base


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, tiny: Encoder) -> Iterator[dict[str, LoadedModel]]:
    """One model of each kind, by kind.

    They are called ``tiny`` (vectors, with prompts), ``m3`` (bge-m3's three outputs), ``tiny-reranker``, and
    ``tiny-classifier`` (three labels).
    """
    home = tmp_path_factory.mktemp("fleet")
    options: dict[str, Any] = {"precision": "float32", "compile_cache": False}
    m3 = load(str(write_m3(home)), **options)
    reranker, labels = (
        load(str(classifier("bert", count)(home / str(count)).rename(home / name)), **options)
        for count, name in ((1, "tiny-reranker"), (3, "tiny-classifier"))
    )
    yield {"tiny": tiny, "m3": m3, "reranker": reranker, "classifier": labels}
    for model in (m3, reranker, labels):
        model.close()


@pytest.fixture(scope="session")
def fleet_url(fleet: dict[str, LoadedModel]) -> Iterator[str]:
    """A server of all of them."""
    with serving(list(fleet.values())) as base:
        yield base
