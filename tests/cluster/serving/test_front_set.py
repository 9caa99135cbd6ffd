"""How fronts are started. Actors are fakes; Ray is imported, and no cluster is needed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nearfield.cluster.serving import front_set
from nearfield.cluster.serving.actor_calls import CallFailed
from nearfield.cluster.serving.front_actor import FrontActor
from nearfield.cluster.serving.front_set import FrontSet, NodeFront
from nearfield.cluster.serving.messages import ClusterState, FrontConfig, FrontReport, SpendingTotals
from nearfield.server.auth.api_key import key_digest
from nearfield.server.auth.keys import ApiKeys
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
    fronts._share(first, FrontReport((), SpendingTotals(1, {key_digest("nf-a"): 600})))
    await fronts._start_one({"NodeID": "cd" * 28, "NodeManagerAddress": "10.0.0.2"})
    (before, seconds), (after, _) = asked
    assert (before.spent, seconds) == ({}, 7.0)
    assert after.spent[key_digest("nf-a")] == pytest.approx(600, abs=10)


class LocalFront:
    """A front in this process: its keys, and no server. Some of its answers come too late."""

    def __init__(self, file: Any) -> None:
        self.actor, self.keys = FrontActor("front"), ApiKeys((), file)
        self.actor._server = SimpleNamespace(keys=self.keys)  # type: ignore[assignment]
        self.actor._share_keys(FrontConfig(Settings(), [], {}))
        self.is_late = False

    async def exchange(self, state: ClusterState) -> FrontReport:
        """Do what the front does; raise CallFailed if the controller has given up waiting."""
        report = await self.actor._exchange(state)
        if self.is_late:
            raise CallFailed("no answer within 10 s", dead=False)
        return report

    def used(self) -> int:
        """Return the tokens that count against the rate of the key."""
        return self.keys.used().get(key_digest("nf-a"), 0)


async def test_what_a_key_used_counts_once_at_each_front_although_answers_come_too_late(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The front has done what the controller sent, and its report is lost: neither is forgotten or counted twice."""
    file = tmp_path / "keys.toml"
    file.write_text('[[keys]]\nkey = "nf-a"\ntokens_per_minute = 60\n', encoding="utf-8")
    one, two = LocalFront(file), LocalFront(file)
    fronts = FrontSet(FrontConfig(Settings(api_key_file=file), [], {}), 7.0)
    fronts._fronts = {name: NodeFront(name, name, front, name) for name, front in (("one", one), ("two", two))}

    async def ask(method: Any, state: ClusterState) -> FrontReport:
        report: FrontReport = await method(state)
        return report

    monkeypatch.setattr(front_set, "ask", ask)
    key = one.keys.by_digest(key_digest("nf-a"))
    assert key is not None
    key.spend(600)
    one.is_late = two.is_late = True
    for _ in range(2):
        await fronts.publish((), 1.0)
    assert one.used() == pytest.approx(600, abs=60)
    assert two.used() == 0
    assert fronts._ledger.used() == {}
    one.is_late = False
    await fronts.publish((), 1.0)
    key.spend(300)
    key.spend(-100)
    for _ in range(2):
        await fronts.publish((), 1.0)
    two.is_late = False
    await fronts.publish((), 1.0)
    used = [one.used(), two.used(), *fronts._ledger.used().values()]
    assert used == [pytest.approx(800, abs=60)] * 3
