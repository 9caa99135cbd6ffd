"""``ModelProvider``: the encoders and rerankers of a collection, loaded once or lent by the caller."""

from __future__ import annotations

from collections.abc import Callable

from nearfield.attach import open_encoder, open_reranker
from nearfield.corpus.features import EncoderOf
from nearfield.corpus.search.reranking import PairScorer
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.fork_safety import ProcessLock
from nearfield.reranker import Reranker

RerankerOf = Callable[[str], PairScorer]


class ModelProvider:
    """Returns models by name. Each is loaded when it is first needed.

    Args:
        encoder_of: returns encoders that the caller has loaded; the provider then loads none.
        reranker_of: the same for rerankers.
    """

    def __init__(self, encoder_of: EncoderOf | None, reranker_of: RerankerOf | None) -> None:
        self._encoder_of, self._reranker_of = encoder_of, reranker_of
        self._lock = ProcessLock()
        self._encoders: dict[str, Encoder] = {}
        self._rerankers: dict[str, Reranker] = {}

    @property
    def are_lent(self) -> bool:
        """Whether the caller lends encoders, so that the provider loads none."""
        return self._encoder_of is not None

    def check_sendable(self, collection: str) -> None:
        """Check that another process can load the models of a collection.

        Raises:
            InputError: the caller lends them.
        """
        if self._encoder_of is not None or self._reranker_of is not None:
            raise InputError(
                f"Collection {collection!r} uses models that its caller lends it, and they cannot be sent to another "
                "process: open the collection there by its name."
            )

    def encoder(self, model: str, *, accept_license: bool = False) -> Encoder:
        """Return an encoder; ``accept_license`` allows models whose license restricts their use."""
        if self._encoder_of is not None:
            return self._encoder_of(model)
        with self._lock:
            if model not in self._encoders:
                self._encoders[model] = open_encoder(model, accept_license=accept_license, progress=False)
            return self._encoders[model]

    def reranker(self, model: str, *, accept_license: bool = False) -> PairScorer:
        """Return a reranker; ``accept_license`` as for ``encoder``."""
        if self._reranker_of is not None:
            return self._reranker_of(model)
        with self._lock:
            if model not in self._rerankers:
                self._rerankers[model] = open_reranker(model, accept_license=accept_license)
            return self._rerankers[model]

    def close(self) -> None:
        """Close the models that were loaded here. Models that the caller lent stay loaded."""
        for model in (*self._encoders.values(), *self._rerankers.values()):
            model.close()
        self._encoders.clear()
        self._rerankers.clear()
