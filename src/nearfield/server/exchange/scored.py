"""Base class of the exchanges that compute scores."""

from __future__ import annotations

from dataclasses import dataclass

from nearfield.inference.calls.rerank_options import RerankOptions
from nearfield.reranker import Scores
from nearfield.server.exchange.exchange import Exchange

_NO_OPTIONS = RerankOptions()


@dataclass(kw_only=True)
class ScoredExchange(Exchange):
    """An exchange whose result is scores."""

    options: RerankOptions = _NO_OPTIONS
    #: Whether scores must lie between 0 and 1: a sigmoid replaces a reranker's identity.
    bounded: bool = False
    scores: Scores | None = None

    @property
    def tokens(self) -> int:
        return 0 if self.scores is None or self.scores.tokens is None else int(self.scores.tokens.sum())

    @property
    def dropped(self) -> int:
        return 0 if self.scores is None or self.scores.dropped is None else int(self.scores.dropped.sum())

    @property
    def unknown(self) -> int:
        return 0 if self.scores is None or self.scores.unknown is None else int(self.scores.unknown.sum())
