"""Figures: rates and quantiles from two readings of a metrics page, on data whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nearfield.server.observability.live_stats import MetricsSnapshot, live_stats, parse_metrics, quantile, restarted

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHARES = (0.01, 0.1, 0.5, 0.9, 0.95, 0.99)


class Page:
    """Invented metrics of a server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("nearfield_requests", "", ("route", "status"), registry=self.registry)
        self.seconds = Histogram("nearfield_request_seconds", "", ("route",), buckets=BOUNDS, registry=self.registry)
        self.tokens = Counter("nearfield_tokens", "", ("model",), registry=self.registry)
        self.padding = Histogram("nearfield_padding_share", "", ("model",), buckets=(0.5, 1), registry=self.registry)
        self.hits = Counter("nearfield_cache_hits", "", registry=self.registry)
        self.misses = Counter("nearfield_cache_misses", "", registry=self.registry)
        self.queue = Gauge("nearfield_queue_tokens", "", ("class",), registry=self.registry)

    def answer(self, route: str, status: int, *seconds: float) -> None:
        for each in seconds:
            self.requests.labels(route, str(status)).inc()
            self.seconds.labels(route).observe(each)

    def at(self, when: float) -> MetricsSnapshot:
        return parse_metrics(generate_latest(self.registry).decode(), when)


def _buckets(values: Any, bounds: Sequence[float]) -> list[tuple[float, float]]:
    array = np.asarray(values)
    return [(bound, float((array <= bound).sum())) for bound in (*bounds, math.inf)]


@pytest.mark.parametrize("share", SHARES)
def test_quantiles_are_exact_where_values_lie_evenly(share: float) -> None:
    values = (np.arange(100_000) + 0.5) / 100_000
    found = quantile(_buckets(values, (0.1, 0.2, 0.5, 1.0)), share)
    assert found == pytest.approx(np.quantile(values, share), abs=1e-4)


@pytest.mark.parametrize("share", SHARES)
def test_quantiles_lie_in_numpys_bucket(share: float) -> None:
    values = np.random.default_rng(7).lognormal(-4, 1, 5000)
    true = float(np.quantile(values, share))
    edges = (0.0, *BOUNDS)
    place = int(np.searchsorted(edges, true))
    found = quantile(_buckets(values.tolist(), BOUNDS), share)
    assert found is not None
    assert edges[place - 1] <= found <= edges[place]


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile(_buckets([0.5, 7, 8, 9], (1.0, 2.0)), 0.95) == 2.0


def test_a_quantile_of_nothing_is_unknown() -> None:
    assert quantile([], 0.5) is None
    assert quantile(_buckets([], (1.0, 2.0)), 0.5) is None


def test_empty_buckets_take_no_quantile() -> None:
    assert quantile([(1.0, 0.0), (2.0, 0.0), (4.0, 10.0), (math.inf, 10.0)], 0.0) == 2.0
    assert quantile([(1.0, 0.0), (2.0, 0.0), (4.0, 10.0), (math.inf, 10.0)], 0.5) == 3.0


def test_rates_are_growth_between_the_readings() -> None:
    page = Page()
    page.answer("/v1/embeddings", 200, *[20.0] * 50)
    page.tokens.labels("tiny").inc(1000)
    before = page.at(100.0)
    page.answer("/v1/embeddings", 200, *[0.002] * 30)
    page.answer("/v1/embeddings", 429, *[0.002] * 10)
    page.answer("/rerank", 200, *[0.2] * 60)
    page.tokens.labels("tiny").inc(500)
    page.tokens.labels("m3").inc(100)
    told = live_stats(before, page.at(104.0))
    assert (told.seconds, told.restarted) == (4.0, False)
    assert told.requests == 25.0
    assert told.tokens == 150.0
    assert told.tokens_by_model == {"tiny": 125.0, "m3": 25.0}
    busiest, other = told.routes
    assert (busiest.route, dict(busiest.rates)) == ("/rerank", {"200": 15.0})
    assert (other.route, dict(other.rates)) == ("/v1/embeddings", {"200": 7.5, "429": 2.5})
    assert other.latency is not None
    assert other.latency.count == 40
    assert other.latency.p99 is not None
    assert 0.001 <= other.latency.p99 <= 0.0025  # the 20 s from before are not of this interval
    assert told.latency is not None
    assert told.latency.count == 100
    assert told.latency.p50 is not None
    assert 0.1 <= told.latency.p50 <= 0.25


def test_watching_itself_is_no_work() -> None:
    page = Page()
    before = page.at(0.0)
    for route in ("/metrics", "/models", "/ready", "/health"):
        page.answer(route, 200, 0.5)
    page.answer("/embed", 200, 0.002)
    told = live_stats(before, page.at(1.0))
    assert told.requests == 1.0
    assert [each.route for each in told.routes] == ["/embed"]
    assert told.latency is not None
    assert told.latency.count == 1


def test_shares_are_of_this_interval() -> None:
    page = Page()
    page.hits.inc(100)
    page.padding.labels("tiny").observe(1.0)
    before = page.at(0.0)
    page.hits.inc(3)
    page.misses.inc(1)
    page.padding.labels("tiny").observe(0.1)
    page.padding.labels("m3").observe(0.3)
    told = live_stats(before, page.at(2.0))
    assert told.cache_hits == pytest.approx(0.75)
    assert told.padding == pytest.approx(0.2)


def test_one_reading_knows_no_rates() -> None:
    page = Page()
    page.answer("/embed", 200, 0.1)
    page.hits.inc()
    page.queue.labels("bulk").set(70)
    told = live_stats(None, page.at(5.0))
    assert (told.seconds, told.requests, told.latency, told.tokens, told.cache_hits) == (None,) * 5
    assert told.routes == ()
    assert told.queue["bulk"].tokens == 70
    assert told.queue["bulk"].inputs is None  # the page does not say


def test_missing_metrics_are_unknown_and_nothing_happened_is_zero() -> None:
    told = live_stats(parse_metrics("", 0.0), parse_metrics("# a page of something else\n", 1.0))
    assert (told.requests, told.latency, told.tokens, told.batch_fill, told.resident_bytes) == (None,) * 5
    assert told.queue == {}
    page = Page()
    page.answer("/embed", 200, 0.1)
    quiet = live_stats(page.at(0.0), page.at(1.0))
    assert quiet.requests == 0.0
    assert quiet.latency is None
    assert quiet.routes == ()
    assert quiet.cache_hits is None  # of no lookups there is no share


def test_a_server_that_was_started_anew_counts_from_zero() -> None:
    old, new = Page(), Page()
    old.answer("/embed", 200, *[0.5] * 100)
    new.answer("/embed", 200, *[0.002] * 8)
    told = live_stats(old.at(10.0), new.at(12.0))
    assert told.restarted
    assert told.requests == 4.0
    assert told.latency is not None
    assert told.latency.count == 8
    assert told.latency.p99 is not None
    assert told.latency.p99 <= 0.0025


def test_a_restart_shows_even_where_the_new_counts_are_higher() -> None:
    def page(born: float, count: int) -> MetricsSnapshot:
        text = f"# TYPE a_total counter\na_total {count}\n# TYPE a_created gauge\na_created {born}\n"
        return parse_metrics(text, 0.0)

    assert restarted(page(1.0, 5), page(2.0, 9))
    assert not restarted(page(1.0, 5), page(1.0, 9))
    assert restarted(page(1.0, 5), page(1.0, 4))
    assert restarted(page(1.0, 5), parse_metrics("", 0.0))


def test_a_gauge_may_fall() -> None:
    page = Page()
    page.queue.labels("bulk").set(9)
    before = page.at(0.0)
    page.queue.labels("bulk").set(2)
    assert not live_stats(before, page.at(1.0)).restarted


def test_samples_of_several_engines_are_added_up() -> None:
    line = 'nearfield_queue_tokens{class="bulk"} '
    told = live_stats(None, parse_metrics(f"# TYPE nearfield_queue_tokens gauge\n{line}3\n{line}4\n", 0.0))
    assert told.queue["bulk"].tokens == 7


def test_a_page_in_another_format_is_refused() -> None:
    with pytest.raises(ValueError):
        parse_metrics("<html>hello</html>\n{", 0.0)
