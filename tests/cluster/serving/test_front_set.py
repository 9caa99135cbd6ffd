"""How fronts are started. Actors are fakes; Ray is imported, and no cluster is needed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nearfield.cluster.serving import front_set
from nearfield.cluster.serving.front_set import FrontSet
from nearfield.cluster.serving.messages import FrontConfig, FrontReport
from nearfield.server.auth.api_key import key_digest
from nearfield.settings import Settings


async def test_a_new_front_gets_the_start_timeout_and_what_keys_have_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    pytest.importorskip("ray")
    file = tmp_path / "keys.toml"
    file.write_text('[[keys]]\nkey = "nf-a"\ntokens_per_minute = 60\n', encoding="utf-8")
    asked: list[tuple[FrontConfig, float]] = []

    async def ask(_: Any, config: FrontConfig, seconds: float) -> tuple[str, str]:
        asked.append((config, seconds))
        return "http://10.0.0.1:8080/v1", ""

    monkeypatch.setattr(front_set, "start_actor", lambda *_: SimpleNamespace(start=None))
    monkeypatch.setattr(front_set, "ask", ask)
    fronts = FrontSet(FrontConfig(Settings(api_key_file=file), [], {}), 7.0)
    first = await fronts._start_one({"NodeID": "ab" * 28, "NodeManagerAddress": "10.0.0.1"})
    first.report = FrontReport((), {key_digest("nf-a"): 600})
    fronts._share(first, first.report.spent)
    await fronts._start_one({"NodeID": "cd" * 28, "NodeManagerAddress": "10.0.0.2"})
    (before, seconds), (after, _) = asked
    assert (before.spent, seconds) == ({}, 7.0)
    assert after.spent[key_digest("nf-a")] == pytest.approx(600, abs=10)
