"""Errors: what every one carries, and hints for misspelt names that cost next to nothing."""

from __future__ import annotations

import time

from nearfield import errors


def test_the_nearest_name_is_named() -> None:
    assert errors.nearest("qurey", ["query", "document"]) == "Did you mean 'query'? Known: document, query."
    assert errors.nearest("x", []) == "Known: none."


def test_a_name_without_end_is_compared_with_none() -> None:
    started = time.perf_counter()
    hint = errors.nearest("ab" * 500_000, ["ab" * 100, "ab" * 50_000, "query"])
    assert time.perf_counter() - started < 0.5
    assert "Did you mean" not in hint
    assert "Did you mean" not in errors.nearest("ab" * 99, ["ab" * 101])


def test_every_error_has_a_status_and_a_code_of_its_own_kind() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.NearfieldError)
    ]
    assert errors.SlowBody in kinds
    assert all(400 <= kind.status < 600 and kind.code.isidentifier() for kind in kinds)
