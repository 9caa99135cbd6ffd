"""Tests of collections compute in float32."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def float32() -> Iterator[None]:
    """Compute in float32 on any CPU.

    In bfloat16, which is the default where the CPU has it, vectors and scores depend on how texts were batched.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nearfield.backends.openvino.auto_precision", lambda: "float32")
        yield
