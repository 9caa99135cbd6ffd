"""Exchanges: requests that no longer depend on an API. Every API converts its requests to these classes."""

from nearfield.inference.calls.rerank_options import RerankOptions
from nearfield.inference.encode_options import EncodeKeywords, EncodeOptions
from nearfield.server.exchange.composite import CompositeExchange
from nearfield.server.exchange.encode import Encode, EncodeLateChunks
from nearfield.server.exchange.exchange import Bounds, Exchange
from nearfield.server.exchange.predict import Predict
from nearfield.server.exchange.rank import Rank
from nearfield.server.exchange.scored import ScoredExchange
from nearfield.server.exchange.tokenize import Tokenize
from nearfield.server.exchange.vector_job import VectorJob

__all__ = [
    "Bounds",
    "CompositeExchange",
    "Encode",
    "EncodeKeywords",
    "EncodeLateChunks",
    "EncodeOptions",
    "Exchange",
    "Predict",
    "Rank",
    "RerankOptions",
    "ScoredExchange",
    "Tokenize",
    "VectorJob",
]
