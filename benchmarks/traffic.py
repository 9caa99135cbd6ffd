"""One process of clients that send mixed requests, check every reply, and count the outcomes.

Run as ``python -m benchmarks.traffic PLAN``, a Plan as JSON; prints one line of JSON.

Single requests, reranks and the rest come at random times at a given rate, however slow the answers are; bulk comes
from clients that wait for their answer. A reply of 429 or 503 is taken at its word: the request is sent again after
Retry-After. A cycle has three phases: no bulk; bulk beside singles; everything, beginning with a burst of bulk that is
more than can be done before its deadline.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from benchmarks import asks
from benchmarks.asks import Ask, KnownScores, KnownVectors
from benchmarks.tally import Tally
from nearfield.evaluation.performance.workloads import texts
from nearfield.server.observability.live_stats import MONITORING_ROUTES, MetricsSnapshot, parse_metrics

#: Shares of bad requests and of clients that leave.
BAD, LEAVE = 0.01, 0.02
#: Of the others that come at random, those for the second encoder or the reranker.
ELSEWHERE = 0.2
#: Seconds for which those are for the same one of the two, but for a tenth.
TURN = 5.0
#: Shares of a cycle: no bulk, bulk beside singles, everything.
PHASES = (0.2, 0.4, 0.4)
BULK_CLIENTS = 2
MOST_BURST = 64
#: Replies that ask to come again.
AGAIN = (429, 503)
#: Seconds by which a reply may be here after its deadline: this process wakes up late as well.
GRACE = 0.5


@dataclass(frozen=True)
class Plan:
    """What to send, and where to; times in seconds, ``rate`` in requests a second."""

    url: str
    main: str
    second: str
    reranker: str
    seconds: float
    idle_seconds: float
    deadline: float
    cycles: int
    rate: float = 10.0
    bulk: int = 500
    seed: int = 0
    #: API key of all requests; none if empty.
    key: str = ""


class Traffic:
    """The clients."""

    def __init__(self, plan: Plan, client: httpx.AsyncClient) -> None:
        self.plan = plan
        self.tally = Tally()
        self._client = client
        self._chance = random.Random(plan.seed)
        self._pool = texts("short", seed=plan.seed + 1)
        self._flying: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._usual: dict[str, float] = {}
        self._numbers = 0

    async def run(self) -> dict[str, Any]:
        """Send it all; returns the tally, and what was measured beside it."""
        plan = self.plan
        await self._learn()
        idle = await self._idle()
        batch, bulk = await self._alone()
        begun = await self._metrics()
        burst = min(MOST_BURST, int(1.2 * plan.deadline / bulk) + 1)
        before, self.tally = self.tally, Tally()
        if before.faults:
            raise RuntimeError(f"it went wrong before it began: {before.faults}")
        started, lags = time.time(), asyncio.ensure_future(self._lags())
        for _ in range(plan.cycles):
            await self._cycle(plan.seconds / plan.cycles, burst)
        ended = time.time()
        await self._drain()
        lags.cancel()
        told, replies = self.tally.told(), _replies(await self._metrics()) - _replies(begun)
        return told | {
            "started": started,
            "ended": ended,
            "idle_ms": idle,
            "idle_after_ms": await self._idle(),
            "batch_seconds": round(batch, 4),
            "bulk_seconds": round(bulk, 3),
            "burst": burst,
            "server_replies": round(replies),
            "client_cpu_share": round(time.process_time() / (time.time() - started), 3),
            "client_lag_ms": self._lag,
        }

    # -- before ------------------------------------------------------------------------------------------------------

    async def _learn(self) -> None:
        """Ask for what later answers are compared with; texts that differ must have answers that differ."""
        self.main = await self._vectors_of(self.plan.main, self._pool[:64])
        self.second = await self._vectors_of(self.plan.second, self._pool[64:96])
        queries, documents = self._pool[100:104], self._pool[110:150]
        scores = []
        for query in queries:
            reply = await self._client.post("/rank", content=asks.rank_body(self.plan.reranker, query, documents))
            scores.append(asks.read_scores(reply.raise_for_status().json(), len(documents)))
        self.ranks = KnownScores(reply.json()["model"], queries, documents, np.array(scores))
        if float(np.ptp(self.ranks.scores)) < 0.1:
            raise RuntimeError("all pairs score the same: a wrong score would not show")

    async def _vectors_of(self, model: str, known: list[str]) -> KnownVectors:
        reply = await self._client.post("/v1/embeddings", content=asks.vectors_body(model, known, coded=True))
        found = asks.read_vectors(reply.raise_for_status().content)
        unlike = found @ found.T - 2 * np.eye(len(found))
        if float(unlike.max()) > asks.SAME - 0.01:
            raise RuntimeError(f"{model} gives nearly the same vectors for all texts: a wrong one would not show")
        return KnownVectors(model, known, found, reply.headers[asks.FINGERPRINT])

    async def _idle(self) -> dict[str, float]:
        """Send single requests alone, as often as later beside others, and return their quantiles."""
        kept, self.tally = self.tally, Tally()
        await self._arrive(self.plan.idle_seconds, lambda: self._spawn(self._ask(self._single())))
        await self._drain()
        told: dict[str, float] = self.tally.told()["singles_ms"]["alone"]
        kept.faults += self.tally.faults
        self.tally = kept
        return told

    async def _alone(self) -> tuple[float, float]:
        """Return the mean seconds of a batch while bulk requests alone run, one at a time, and the median of theirs."""
        seconds = []
        first = await self._metrics()
        for _ in range(3):
            started = time.perf_counter()
            await self._ask(self._bulk())
            seconds.append(time.perf_counter() - started)
        last = await self._metrics()
        labels = {"model": self.plan.main, "stage": "run"}
        run, count = (
            (last.total(name, **labels) or 0.0) - (first.total(name, **labels) or 0.0)
            for name in ("nearfield_stage_seconds_sum", "nearfield_stage_seconds_count")
        )
        return run / count, sorted(seconds)[1]

    async def _metrics(self) -> MetricsSnapshot:
        reply = await self._client.get("/metrics")
        return parse_metrics(reply.raise_for_status().text, time.monotonic())

    # -- what runs when ----------------------------------------------------------------------------------------------

    async def _cycle(self, seconds: float, burst: int) -> None:
        calm, bulk, everything = (share * seconds for share in PHASES)
        await self._arrive(calm, lambda: self._send(self._draw()))
        until = time.perf_counter() + bulk + everything
        for _ in range(BULK_CLIENTS):
            self._spawn(self._keep_bulk(until))
        await self._arrive(bulk, lambda: self._send(self._single()))
        for _ in range(burst):
            self._spawn(self._ask(self._bulk()))
        await self._arrive(everything, lambda: self._send(self._draw()))

    async def _arrive(self, seconds: float, send: Callable[[], Any]) -> None:
        """Let requests come at random for some seconds, whatever becomes of those before."""
        due = time.perf_counter()
        until = due + seconds
        while (due := due + self._chance.expovariate(self.plan.rate)) < until:
            await asyncio.sleep(due - time.perf_counter())
            send()
        await asyncio.sleep(until - time.perf_counter())

    async def _keep_bulk(self, until: float) -> None:
        while time.perf_counter() < until:
            task = self._send(self._bulk())
            await asyncio.wait([task])

    def _send(self, ask: Ask) -> asyncio.Task[None]:
        """Send a request, or a bad one instead, or leave before its answer."""
        roll = self._chance.random()
        if roll < LEAVE:
            return self._spawn(self._leave(ask))
        if roll < LEAVE + BAD:
            return self._spawn(self._ask(asks.bad(self._chance, self.plan.main)))
        return self._spawn(self._ask(ask))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _drain(self) -> None:
        """Wait for what is on its way; what never ends is lost."""
        if not self._running:
            return
        _, hung = await asyncio.wait(self._running, timeout=4 * self.plan.deadline)
        for task in hung:
            task.cancel()
        await asyncio.gather(*hung, return_exceptions=True)

    # -- kinds of request --------------------------------------------------------------------------------------------

    def _draw(self) -> Ask:
        if self._chance.random() >= ELSEWHERE:
            return self._single()
        turn = int(time.perf_counter() / TURN) % 2 == 0
        second = turn if self._chance.random() < 0.9 else not turn
        return self._other() if second else self._rerank()

    def _single(self) -> Ask:
        coded = self._chance.random() < 0.5
        places = {0: self._chance.randrange(len(self.main.texts))} if self._chance.random() < 0.3 else {}
        return asks.vectors("single", self.main, [self._fresh()], places, coded=coded)

    def _other(self) -> Ask:
        size = self._chance.randint(1, 8)
        places = {self._chance.randrange(size): self._chance.randrange(len(self.second.texts))}
        return asks.vectors("second", self.second, [self._fresh() for _ in range(size)], places, coded=False)

    def _rerank(self) -> Ask:
        places = self._chance.sample(range(len(self.ranks.documents)), 20)
        return asks.rank(self.ranks, self._chance.randrange(len(self.ranks.queries)), places)

    def _bulk(self) -> Ask:
        places = {place: self._chance.randrange(64) for place in self._chance.sample(range(self.plan.bulk), 8)}
        return asks.vectors(
            "bulk", self.main, [self._fresh() for _ in range(self.plan.bulk)], places, coded=self._chance.random() < 0.8
        )

    def _fresh(self) -> str:
        """Return a text that was not sent before."""
        self._numbers += 1
        return f"{self._numbers} {self._chance.choice(self._pool)}"

    # -- one request -------------------------------------------------------------------------------------------------

    async def _ask(self, ask: Ask) -> None:
        """Send a request until it is answered, and count what came."""
        self.tally.sent[ask.kind] += 1
        beside, refused = self._beside(), Counter[int]()
        self._flying[ask.kind] += 1
        try:
            reply, seconds = await self._until_answered(ask, refused)
        except (httpx.HTTPError, asyncio.CancelledError) as error:
            why = "not answered in time" if isinstance(error, asyncio.CancelledError) else repr(error)
            self.tally.fault(ask.kind, self.tally.lost, f"{why}; refused before: {dict(refused)}")
            return
        finally:
            self._flying[ask.kind] -= 1
        self._judge(ask, reply, seconds)
        self._usual[ask.kind] = seconds
        if ask.kind == "single":
            self.tally.seconds[beside].append(seconds)

    async def _until_answered(self, ask: Ask, refused: Counter[int]) -> tuple[httpx.Response, float]:
        while True:
            started = time.perf_counter()
            reply = await self._client.post(ask.path, content=ask.body, headers={"Content-Type": ask.media})
            seconds = time.perf_counter() - started
            self.tally.replies += 1
            if reply.status_code not in AGAIN:
                return reply, seconds
            refused[reply.status_code] += 1
            self.tally.refused[f"{ask.kind} {reply.status_code}"] += 1
            if seconds > self.plan.deadline + GRACE:
                self.tally.fault(ask.kind, self.tally.late, f"refused after {seconds:.2f} s")
            await asyncio.sleep(int(reply.headers["retry-after-ms"]) / 1e3 if "retry-after-ms" in reply.headers else 1)

    def _judge(self, ask: Ask, reply: httpx.Response, seconds: float) -> None:
        self.tally.slowest = max(self.tally.slowest, seconds)
        if seconds > self.plan.deadline + GRACE:
            self.tally.fault(ask.kind, self.tally.late, f"answered after {seconds:.2f} s")
        why: str | None
        if reply.status_code != ask.status:
            why = f"status {reply.status_code}, not {ask.status}: {reply.text[:200]}"
        else:
            try:
                why = ask.check(reply.headers, reply.content)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                why = f"an answer that cannot be read: {error!r}"
        if why is not None:
            self.tally.fault(ask.kind, self.tally.wrong, why)
        else:
            self.tally.answered[ask.kind] += 1

    def _beside(self) -> str:
        """Say what is on its way."""
        names = {"bulk": ("bulk",), "other models": ("second", "rerank")}
        found = [name for name, kinds in names.items() if any(self._flying[kind] for kind in kinds)]
        return f"beside {' and '.join(found)}" if found else "alone"

    async def _leave(self, ask: Ask) -> None:
        """Send all of a request or a part, and close the connection at some moment before its answer is read."""
        url = httpx.URL(self.plan.url)
        head = f"POST {ask.path} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\nContent-Type: {ask.media}\r\n"
        head += f"Authorization: Bearer {self.plan.key}\r\n" if self.plan.key else ""
        data = f"{head}Content-Length: {len(ask.body)}\r\n\r\n".encode() + ask.body
        whole = self._chance.random() < 0.7
        self.tally.left += 1
        self.tally.left_whole += whole
        try:
            _, writer = await asyncio.open_connection(url.host, url.port)
            if self._chance.random() < 0.5:  # close with a reset, not in good order
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.write(data if whole else data[: self._chance.randrange(1, len(data))])
            await writer.drain()
            await asyncio.sleep(self._chance.uniform(0, 1.2 * self._usual.get(ask.kind, 0.1)))
            writer.close()
        except OSError as error:
            self.tally.fault("leave", self.tally.lost, f"no connection: {error!r}")

    async def _lags(self) -> None:
        """See how late this process wakes up: what it measures cannot be better."""
        lags: list[float] = []
        try:
            while True:
                started = time.perf_counter()
                await asyncio.sleep(0.05)
                lags.append((time.perf_counter() - started - 0.05) * 1e3)
        finally:
            self._lag = {
                "p50": round(float(np.quantile(lags, 0.5)), 2),
                "p99": round(float(np.quantile(lags, 0.99)), 2),
            }


def _replies(reading: MetricsSnapshot) -> float:
    found = reading.samples.get("nearfield_requests_total", {})
    return sum(value for labels, value in found.items() if dict(labels)["route"] not in MONITORING_ROUTES)


async def main(plan: Plan) -> dict[str, Any]:
    """Run a plan."""
    bounds = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    # Longer than any answer may take: what comes late is counted as late, what never comes as lost.
    headers = {"Authorization": f"Bearer {plan.key}"} if plan.key else {}
    async with httpx.AsyncClient(
        base_url=plan.url, timeout=2 * plan.deadline, limits=bounds, headers=headers
    ) as client:
        return await Traffic(plan, client).run()


def told(plan: Plan) -> str:
    """Return a plan as this module's argument."""
    return json.dumps(dataclasses.asdict(plan))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Plan(**json.loads(sys.argv[1]))))))
