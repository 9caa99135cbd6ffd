"""Tables: which of a store's tables holds which feature of a collection."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nearfield.corpus import features
from nearfield.corpus.features import Feature, FeatureTable
from nearfield.corpus.manifest.manifest import Manifest, VectorTable
from nearfield.stores import Store
from nearfield.stores.filters import FieldType


@dataclass(frozen=True)
class VectorTables:
    """The tables of one collection, as a manifest knows them.

    Args:
        collection: its name, for those of tables.
        manifest: says which there are.
        store: where they are.
        fields: what each of them can be filtered by.
    """

    collection: str
    manifest: Manifest
    store: Store
    fields: Mapping[str, FieldType]

    def placed(self, made_by: Mapping[str, Feature], *, making: bool = True) -> dict[str, FeatureTable]:
        """Return each feature with the table that holds it; one that none holds yet gets a new table.

        Without ``making``, it gets one that only has a name.

        Raises:
            InputError: the store cannot hold such a table.
        """
        placements = self.manifest.placements()
        placed: dict[str, FeatureTable] = {}
        for name, feature in made_by.items():
            found = next((each for each in placements if self._holds(each, name, feature)), None)
            if found is None and not making:
                placed[name] = FeatureTable(feature, feature.table(f"planned_{len(placed)}", self.fields))
                continue
            if found is None:
                found = self._new(name, feature, live=not placements)
            table = features.table_of(found.described)
            if making:
                self.store.create(table)
            placed[name] = FeatureTable(feature, table)
        return placed

    def _holds(self, placement: VectorTable, name: str, feature: Feature) -> bool:
        described = features.described(feature.table(placement.name, self.fields))
        same = placement.feature == name and placement.space == feature.space()
        return same and dict(placement.described) == described

    def _new(self, name: str, feature: Feature, *, live: bool) -> VectorTable:
        title = self.title(name)
        table = feature.table(title, self.fields)
        self.store.check(table)
        made = VectorTable(title, name, features.described(table), feature.space(), "live" if live else "building")
        self.manifest.place(made)
        return made

    def title(self, feature: str) -> str:
        """Return a name for a table that no other has, in this collection or another."""
        slug = re.sub(r"[^a-z0-9]", "_", f"c_{self.collection}")[:24]
        return f"{slug}{self._mark}{feature.replace('-', '_')[:12]}_{secrets.token_hex(3)}"

    def drop(self, *, but: Iterable[str] = ()) -> None:
        """Drop all tables of this collection in the store, those of earlier manifests too, but the named ones."""
        kept = set(but)
        for name in self.store.tables():
            if self._mark in name and name not in kept:
                self.store.drop(name)

    @property
    def _mark(self) -> str:
        return f"_{self.manifest.get('uid')}_"
