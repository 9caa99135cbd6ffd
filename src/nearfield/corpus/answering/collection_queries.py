"""``CollectionQueries``: the searches and questions of an open collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nearfield.corpus.answering.answer import Answer, ask, stream
from nearfield.corpus.answering.chat_client import ChatEndpoint
from nearfield.corpus.answering.passage_pictures import passage_pictures
from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import DocumentFile
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.search.content.likes import find_likes
from nearfield.corpus.search.content.query import SearchQuery, parse_queries
from nearfield.corpus.search.hit import SearchHit
from nearfield.corpus.search.hit_places import HitPlaces
from nearfield.corpus.search.plan import known_options
from nearfield.corpus.search.relevance import ANSWER_OPTIONS
from nearfield.corpus.search.searcher import Searcher
from nearfield.fork_safety import PerProcess, ProcessLock


class CollectionQueries:
    """What a collection answers: a part of ``Collection``."""

    manifest: Manifest
    config: CollectionConfig
    _lock: ProcessLock
    _searchers: PerProcess[Searcher]

    def _create_searcher(self) -> Searcher:
        raise NotImplementedError

    def _refresh(self) -> None:
        raise NotImplementedError

    def document_file(self, document: str) -> DocumentFile:
        """Return the file of a document by its id."""
        raise NotImplementedError

    def search(self, query: SearchQuery | None = None, k: int = 10, **options: Any) -> list[SearchHit]:
        """Return the ``k`` chunks that match a query best, the best first.

        The query is a text, ``Image``, ``Audio``, ``Video`` or ``MixedContent``, or a list of several, whose vectors
        are added; texts are encoded with the model's query prompt. ``like`` is the id of a chunk or document of the
        collection, or several, whose stored vectors are searched for, alone or beside the query; they are left out of
        the hits. ``part_weights`` are those of the parts of the query, then of ``like``. Other options are those of
        ``Searcher.search_many``: mode, where, rerank, mmr, highlight, explain, exact, min_score, group_by. Scores are
        from 0 (unrelated) to 1; see ``SearchHit``.

        Raises:
            InputError: an option is wrong, or the collection has no feature for the mode, or none that reads the query.
            NotThere: the collection has nothing with an id of ``like``.
            SpaceMismatch: the model, its prompts or the definition changed since the vectors were computed.
        """
        return self.search_many([query], k, **options)[0]  # type: ignore[list-item]  # None, where ``like`` is all

    def search_many(self, queries: Sequence[SearchQuery], k: int = 10, **options: Any) -> list[list[SearchHit]]:
        """Search for several queries; they are encoded together. Options are those of ``search``."""
        like, part_weights = options.pop("like", None), options.pop("part_weights", None)
        options = dict(known_options(options))
        with self._lock:
            self._refresh()
            searcher = self._searchers.get(self._create_searcher)
        likes = find_likes(self.manifest, like)
        parsed = parse_queries(queries, likes=likes, weights=part_weights)
        results = searcher.search_many(parsed, k, **options)
        places = HitPlaces(self.manifest, options.get("where"), self.config)
        return [[places.complete(hit) for hit in hits] for hits in results]

    def ask(
        self, question: str, endpoint: ChatEndpoint | None = None, *, k: int = 8, pictures: int = 0, **options: Any
    ) -> Answer:
        """Answer a question from the collection, with citations; without an endpoint, return the passages alone.

        Passages with a score below ``min_score`` (``MIN_ANSWER_SCORE``) are no evidence and not sent to the endpoint.
        Up to ``pictures`` of the passages that are pictures, pages and parts of videos are sent as pictures, to models
        that read them.

        Raises:
            AnswerFailed: the endpoint cannot be reached or returned no answer, or its model reads no pictures.
        """
        hits = self.search(question, k, **{**ANSWER_OPTIONS, **options})
        return ask(question, hits, endpoint, pictures=passage_pictures(self.document_file, hits, pictures))

    def ask_stream(
        self, question: str, endpoint: ChatEndpoint | None = None, *, k: int = 8, pictures: int = 0, **options: Any
    ) -> Iterator[str | Answer]:
        """Yield the answer's text as it arrives, and the ``Answer`` last; otherwise as ``ask``."""
        hits = self.search(question, k, **{**ANSWER_OPTIONS, **options})
        return stream(question, hits, endpoint, pictures=passage_pictures(self.document_file, hits, pictures))
