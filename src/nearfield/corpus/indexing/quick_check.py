"""The quick check: whether an index run has nothing to do, without loading a model or opening the store."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nearfield import __version__
from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import Document, SourceItem
from nearfield.corpus.features import Feature
from nearfield.corpus.indexing.changes import content_digest
from nearfield.corpus.indexing.context import UNREADABLE, IndexOptions
from nearfield.corpus.indexing.near_duplicates import RULE
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.records import DocumentRecord
from nearfield.corpus.sources import Source
from nearfield.corpus.sources.inline import InlineSource

#: Manifest key of the definition and the models of the last complete run.
_KEY = "settled"


def record_settled(manifest: Manifest, config: CollectionConfig, features: Iterable[Feature]) -> None:
    """Record that all documents have the chunks and vectors of a definition and its models."""
    folders = sorted({str(feature.encoder.recipe.folder) for feature in features})
    state = {"definition": _definition_digest(config), "models": {folder: _stamp(Path(folder)) for folder in folders}}
    if manifest.get(_KEY) != state:
        manifest.set(_KEY, state)


def find_nothing_to_do(
    name: str, manifest: Manifest, config: CollectionConfig, sources: Sequence[Source], options: IndexOptions
) -> IndexReport | None:
    """Return the report of a run that has nothing to do; None if there may be something to do.

    Only time stamps are compared, except for inline documents. A source that cannot be listed counts as something to
    do, so that the run reports it.
    """
    started = time.perf_counter()
    if not _is_settled(manifest, config, sources):
        return None
    report = IndexReport(name)
    manifest.begin_listing()
    for source in sources:
        listed = 0
        try:
            for item in source.items():
                listed += 1
                record = manifest.document(f"{source.name}#{item.key}")
                if record is None or not _is_same(record, item, source):
                    return None
                if record.state == "failed" and options.retry_failed:
                    return None
                manifest.add_listed(record.id)
                report.add_unchanged(record)
        except UNREADABLE:
            return None
        manifest.flush_listed()
        if source.whole and manifest.count_not_listed(source.name)[0]:
            return None
        report.add_listing(source, listed)
    report.seconds = report.run_seconds = time.perf_counter() - started
    return report


def _is_settled(manifest: Manifest, config: CollectionConfig, sources: Sequence[Source]) -> bool:
    """Return whether the definition, the models and all documents are those of the last complete run."""
    state: Mapping[str, Any] = manifest.get(_KEY) or {}
    models: Mapping[str, str] = state.get("models", {})
    if not models or state.get("definition") != _definition_digest(config):
        return False
    if any(_stamp(Path(folder)) != stamp for folder, stamp in models.items()):
        return False
    tables = manifest.vector_tables()
    if not tables or any(table.state != "live" for table in tables):
        return False
    if config.clean.boilerplate and any(manifest.boilerplate(source.name) is None for source in sources):
        return False
    unfinished = manifest.in_state("new", "writing", "deleting", "stale")
    return not unfinished and not manifest.incomplete_documents([table.name for table in tables], limit=1)


def _is_same(record: DocumentRecord, item: SourceItem, source: Source) -> bool:
    if record.error and record.state != "failed":  # it could not be read the last time
        return False
    if item.stamp is not None:
        return record.stamp == item.stamp
    if source.kind != InlineSource.kind:
        return False
    document = item.read()
    return isinstance(document, Document) and record.digest == content_digest(document, item)


def _definition_digest(config: CollectionConfig) -> str:
    """Return a digest of all that changes chunks and vectors, whatever the sources are."""
    definition = {key: value for key, value in config.to_dict().items() if key != "sources"}
    return hashlib.sha256(json.dumps([__version__, RULE, definition], sort_keys=True).encode()).hexdigest()


def _stamp(folder: Path) -> str:
    """Return a digest of the names, sizes and times of a model's files; empty if there is no such folder."""
    if not folder.is_dir():
        return ""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
