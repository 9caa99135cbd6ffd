"""Loading of models as the settings say, and the further names of the loaded models."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from nearfield import catalog
from nearfield.auto import load
from nearfield.devices import parse_devices, plan_devices
from nearfield.engine.engine import Engine, EngineLimits
from nearfield.hub import existing_path
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.logs import LOG
from nearfield.server.models.names import full_id
from nearfield.settings import Settings


class ModelLoader:
    """Loads models with the options of the settings, including those of a single model."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._options: dict[str, Any] = {
            "engine": engine,
            "progress": sys.stderr.isatty(),
            "precision": settings.precision,
            "backend": settings.backend,
            "threads": settings.threads,
            "streams": settings.streams,
            "devices": settings.devices,
            "reproducible": settings.reproducible,
        }
        self._model_options = {full_id(name).lower(): options for name, options in settings.model_settings.items()}

    def __call__(self, name: str) -> LoadedModel:
        """Load the model of a name. Raises as ``nearfield.load`` does."""
        entry = catalog.find_unless_folder(name)
        accepted = entry is not None and catalog.names_entry(self._settings.accept_license, entry)
        own = self._model_options.get(full_id(name).lower(), {})
        options = {**self._options, "accept_license": accepted, **({"devices": None} if "device" in own else {}), **own}
        model = load(name, **options)
        model.load_towers()  # a request would wait for a tower that is compiled when it is first needed
        for warning in model.unlogged_warnings:
            LOG.warning("%s: %s", model.name, warning)
        return model


def load_models(settings: Settings) -> tuple[Engine, ModelLoader, list[LoadedModel]]:
    """Create the engine, and load the models that are served from the start. Raises as ``serve`` does."""
    devices = () if settings.devices is None else parse_devices(settings.devices)
    plans = plan_devices(devices, settings.threads, settings.streams)
    lanes = sum(plan.streams for plan in plans)
    engine = Engine(lanes, EngineLimits(max_queued_tokens=settings.max_queued_tokens))
    loader = ModelLoader(settings, engine)
    return engine, loader, list({model.name: model for model in map(loader, settings.models)}.values())


def model_aliases(loaded: Sequence[LoadedModel], settings: Settings) -> dict[str, list[str]]:
    """Return the further names of models by full id: the catalogue's, the settings', and the path it was loaded by."""
    aliases = {model.name: list(entry.names) if (entry := catalog.find_by_id(model.name)) else [] for model in loaded}
    for name in settings.models:
        if catalog.find_unless_folder(name) is None:
            for model in loaded if len(loaded) == 1 else _loaded_from(name, loaded):
                aliases[model.name].append(name)
    for alias, name in settings.aliases.items():
        known = full_id(name)
        aliases.setdefault(_find_loaded(known, aliases) or known, []).append(alias)
    return aliases


def _loaded_from(name: str, loaded: Sequence[LoadedModel]) -> list[LoadedModel]:
    """Return the models of a folder: collections know them by its path, and others by its last part alone."""
    path = existing_path(name)
    return [] if path is None else [model for model in loaded if model.recipe.folder.resolve() == path.resolve()]


def _find_loaded(name: str, aliases: Mapping[str, Sequence[str]]) -> str | None:
    """Return the full id of the loaded model that has a name."""
    key = name.lower()
    return next(
        (
            model
            for model, names in aliases.items()
            if key in {known.lower() for known in (model, model.rpartition("/")[2], *names)}
        ),
        None,
    )
