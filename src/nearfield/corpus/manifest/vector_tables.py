"""The vector tables of a collection: which table of the store has which feature's vectors."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nearfield.corpus import features
from nearfield.corpus.extractors.media.kinds import MEDIA_FIELDS
from nearfield.corpus.features import Feature, FeatureTable
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.records import VectorTable
from nearfield.stores import Store
from nearfield.stores.filters import FieldType


@dataclass(frozen=True)
class VectorTables:
    """The vector tables of one collection.

    Args:
        collection: its name, which is part of the tables' names.
        manifest: lists the tables.
        store: has the tables.
        fields: the fields that filters may use.
    """

    collection: str
    manifest: Manifest
    store: Store
    fields: Mapping[str, FieldType]

    def open(self, loaded: Mapping[str, Feature]) -> dict[str, FeatureTable]:
        """Return the features with their tables, in the store and the manifest; a feature without one gets a new one.

        Raises:
            InputError: the store does not support such a table.
        """
        existing = self.manifest.vector_tables()
        result: dict[str, FeatureTable] = {}
        for name, feature in loaded.items():
            record = self._find(existing, feature) or self._add(feature, live=not existing)
            table = features.table_from_dict(record.described)
            self.store.create(table)
            result[name] = FeatureTable(feature, table)
        return result

    def plan(self, loaded: Mapping[str, Feature]) -> dict[str, FeatureTable]:
        """Return the features with their tables as ``open`` does, but create none: new tables are names only."""
        existing = self.manifest.vector_tables()
        result: dict[str, FeatureTable] = {}
        for name, feature in loaded.items():
            record = self._find(existing, feature)
            if record is None:
                table = feature.table(f"planned_{len(result)}", self.fields)
            else:
                table = features.table_from_dict(record.described)
            result[name] = FeatureTable(feature, table)
        return result

    def _find(self, existing: Iterable[VectorTable], feature: Feature) -> VectorTable | None:
        """Return the table of a feature, if one has the same vector space and settings."""
        return next((table for table in existing if self._matches(table, feature)), None)

    def _matches(self, table: VectorTable, feature: Feature) -> bool:
        described = features.table_to_dict(feature.table(table.name, self.fields))
        same = table.feature == feature.name and table.space == feature.space()
        if same and not feature.reads_media:
            # A table of texts stays when a feature of media is added or removed, which changes the fields for filters.
            stored = {**table.described, "fields": self._without_media(table.described["fields"])}
            return stored == {**described, "fields": self._without_media(self.fields)}
        return same and dict(table.described) == described

    def _without_media(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {name: kind for name, kind in fields.items() if name not in MEDIA_FIELDS}

    def _add(self, feature: Feature, *, live: bool) -> VectorTable:
        table = feature.table(self.new_name(feature.name), self.fields)
        self.store.check(table)
        self.store.create(table)  # first: searches read the manifest at any moment
        described = features.table_to_dict(table)
        record = VectorTable(table.name, feature.name, described, feature.space(), "live" if live else "building")
        self.manifest.add_vector_table(record)
        return record

    def new_name(self, feature: str) -> str:
        """Return a new name for a table, unique among all collections."""
        slug = re.sub(r"[^a-z0-9]", "_", f"c_{self.collection}")[:24]
        return f"{slug}{self._mark}{feature.replace('-', '_')[:12]}_{secrets.token_hex(3)}"

    def drop(self, *, keep: Iterable[str] = ()) -> None:
        """Drop all tables of this collection from the store, also those of earlier manifests, except ``keep``."""
        names = set(keep)
        for name in self.store.tables():
            if self._mark in name and name not in names:
                self.store.drop(name)

    @property
    def _mark(self) -> str:
        return f"_{self.manifest.get('uid')}_"
