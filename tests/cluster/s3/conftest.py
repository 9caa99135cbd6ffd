"""A server of S3, a cluster of two nodes that have its keys, and folders of drafts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.s3_server import Faults, environment, s3_server
from tests.support.simulated_cluster import simulated_cluster


@pytest.fixture(scope="package")
def drafts() -> Iterator[Path]:
    """The folder for temporary files, also of the nodes. It is short: paths of Ray's sockets have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="nf", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="package")
def faults() -> Faults:
    """What goes wrong at the server."""
    return Faults()


@pytest.fixture(scope="package")
def variables(faults: Faults, drafts: Path) -> Iterator[dict[str, str]]:
    """The variables by which the server is found; this process has them too."""
    pytest.importorskip("obstore", reason="needs nearfield[s3]")
    pytest.importorskip("moto.server", reason="needs moto, a server of S3: pip install 'moto[server]'")
    with pytest.MonkeyPatch.context() as patch, s3_server(faults) as url:
        values = {**environment(url), "TMPDIR": str(drafts)}
        for name, value in values.items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(drafts))
        yield values


@pytest.fixture(scope="package")
def cluster(variables: dict[str, str]) -> Iterator[Any]:
    """Nodes that have the keys of the server in their environment."""
    with simulated_cluster(2) as simulated:
        yield simulated
