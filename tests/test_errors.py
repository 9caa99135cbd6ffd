"""Errors: what every one carries, and hints for misspelt names that cost next to nothing."""

from __future__ import annotations

import difflib

import pytest

from nearfield import errors


def test_the_nearest_name_is_named() -> None:
    assert errors.nearest("qurey", ["query", "document"]) == "Did you mean 'query'? Known: document, query."
    assert errors.nearest("x", []) == "Known: none."


def test_a_name_without_end_is_compared_with_none(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def close(name: str, options: list[str], **_: object) -> list[str]:
        compared.extend([name, *options] if options else [])
        return []

    monkeypatch.setattr(difflib, "get_close_matches", close)
    errors.nearest("ab" * 500_000, ["ab" * 100, "ab" * 50_000, "query"])
    errors.nearest("ab" * 99, ["ab" * 101])
    errors.nearest(True, ["query"])
    assert max(map(len, compared), default=0) <= 200


def test_every_error_has_a_status_and_a_code_of_its_own_kind() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.NearfieldError)
    ]
    assert errors.SlowBody in kinds
    assert all(400 <= kind.status < 600 and kind.code.isidentifier() for kind in kinds)
