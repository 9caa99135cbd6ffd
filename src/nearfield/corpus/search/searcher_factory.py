"""Build the ``Searcher`` of a collection from its manifest, store and features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.features import Feature, bridge_note, require_same_space, table_from_dict
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.records import VectorTable
from nearfield.corpus.manifest.stored_filters import stored_filter
from nearfield.corpus.search.content.media_filters import with_text_kind
from nearfield.corpus.search.plan import Searchable
from nearfield.corpus.search.relevance import RelevanceScale
from nearfield.corpus.search.reranking import PairScorer
from nearfield.corpus.search.searcher import Searcher
from nearfield.corpus.search.unread_letters import UnreadLetters
from nearfield.errors import InputError
from nearfield.stores import Store
from nearfield.stores.filters import Filter
from nearfield.vectors.vector_map import VectorMap


def create_searcher(
    collection: str,
    config: CollectionConfig,
    manifest: Manifest,
    store: Store,
    features: Mapping[str, Feature],
    load_reranker: Callable[[str], PairScorer],
) -> Searcher:
    """Return a searcher over the features whose vector tables are complete.

    Raises:
        InputError: the collection is empty.
        SpaceMismatch: a feature's model, prompts or options changed since the vectors were computed.
    """
    live = manifest.live_tables()
    if not live:
        raise InputError(f"Collection {collection!r} is empty. To fill it: nearfield index {collection} FOLDER")
    searchable: dict[str, Searchable] = {}
    for name, feature in features.items():
        if name not in live:  # its table is still being built
            continue
        bridge, full = feature.bridge_to(live[name].space), config.features[name].of
        if bridge is not None:
            searchable[name] = _bridged(feature, live[name], bridge)
        elif full is None or not (full in searchable and searchable[full].note):
            # Short forms of a feature that is searched through a bridge are left out until it is complete.
            require_same_space(name, collection, live[name].space, feature.space())
            searchable[name] = _searchable(feature, live[name], full)
    return Searcher(
        store,
        searchable,
        manifest.search_index,
        load_reranker,
        language=config.language,
        fields=config.all_fields,
        relevance=RelevanceScale(store, searchable, manifest.search_index),
        stored_filter=partial(_stored_filter, manifest, bool(config.media_kinds)),
    )


def _stored_filter(manifest: Manifest, has_media: bool, where: Filter) -> Filter:
    return stored_filter(manifest, with_text_kind(where) if has_media else where)


def _searchable(feature: Feature, table: VectorTable, derived_from: str | None) -> Searchable:
    # Truncated vectors of a model with centring must be computed from full vectors, not from other truncated ones.
    derivable = feature.kind == "dense" and not feature.encoder.recipe.centre
    return Searchable(
        table_from_dict(table.described),
        feature.encode_queries,
        model=feature.encoder.name,
        of=derived_from,
        shape=feature.shape if derivable else None,
        encode_documents=feature.encode_documents if feature.reads_texts else None,
        unread_script=UnreadLetters(feature.encoder.tokenizer).script if feature.reads_texts else None,
        reads=feature.reads,
        reads_queries=feature.reads_texts,
        modalities=tuple(feature.encoder.modalities),
        encode_media=feature.encode_media,
        fuses=feature.encoder.recipe.fuses,
    )


def _bridged(feature: Feature, table: VectorTable, bridge: VectorMap) -> Searchable:
    """Return a feature whose queries search the vectors of an earlier model through a bridge."""
    spec = table_from_dict(table.described)
    encode = partial(feature.encode_through, bridge, binary=spec.dtype == "binary")
    return Searchable(
        spec,
        partial(encode, role="query"),
        model=feature.encoder.name,
        encode_documents=partial(encode, role="document"),
        unread_script=UnreadLetters(feature.encoder.tokenizer).script,
        note=bridge_note(bridge, feature.encoder.name, str(table.space.get("model"))),
    )
