"""A collection that moves to another model: searches use the old vectors through a bridge until the new ones exist.

The definition names the new model and the bridge from the first moment. Searches compare the space of the live vector
table with that of the model: while they differ, queries go through the bridge. The run makes the new table live in one
transaction (or the new manifest in one rename), so that a killed run changes nothing; the next one continues.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.features import Feature, bridge_note
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.errors import InputError


def check_bridges(collection: str, features: Mapping[str, Feature], manifest: Manifest) -> None:
    """Check before a definition is saved that its bridges lead from its models to the vectors that exist.

    Raises:
        InputError: a bridge cannot be read, or the collection has no vectors of that feature.
        SpaceMismatch: a bridge leads from another model, or into another space.
    """
    live = manifest.live_tables()
    for name, feature in features.items():
        if feature.config.bridge and name not in live:
            raise InputError(
                f"Collection {collection!r} has no vectors of feature {name!r} that a bridge could lead to: leave the "
                "bridge out.",
                param="bridge",
            )
        if feature.config.bridge:
            feature.bridge_to(live[name].space)


def bridge_notes(features: Mapping[str, Feature], manifest: Manifest) -> list[str]:
    """Return what searches lose now because of bridges: a sentence for each feature that needs one."""
    live = manifest.live_tables()
    notes = []
    for name, feature in features.items():
        bridge = feature.bridge_to(live[name].space) if name in live else None
        if bridge is not None:
            notes.append(bridge_note(bridge, feature.encoder.name, str(live[name].space.get("model"))))
    return notes


def end_migration(config: CollectionConfig, manifest: Manifest) -> CollectionConfig:
    """Return the definition without bridges, and save it: all vectors are of its models now."""
    if not any(feature.bridge for feature in config.features.values()):
        return config
    features = {name: msgspec.structs.replace(feature, bridge="") for name, feature in config.features.items()}
    ended = msgspec.structs.replace(config, features=features)
    manifest.set("config", ended.to_dict())
    return ended
