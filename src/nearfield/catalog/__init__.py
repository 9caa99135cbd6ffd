"""Catalogue: what is known about models beyond their own files, as data: one TOML a publisher."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from nearfield.errors import LicenceRefused, SettingsError, nearest
from nearfield.hub import ModelPackage, ModelPin, StatedModel, has_model
from nearfield.recipe import EncodeTask, RerankPrompt, Template

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class CatalogScore:
    """A published figure: its value, what it measures, and where it was published."""

    value: float
    benchmark: str
    source: str


@dataclass(frozen=True)
class CatalogEntry:
    """One model. What its folder omits (prompts, Matryoshka dimensions, licence) is filled in from here.

    ``kind`` is dense, sparse, multivector or scores; ``max_length`` the usable length in tokens; ``commercial`` whether
    the licence allows commercial use; ``gated`` whether the Hub asks for consent first; ``pooling`` one of the modes of
    ``recipe.Pooling`` where the folder may omit it; ``languages`` ISO 639-1 codes, or ``multilingual``.
    ``modalities`` is what it reads, of text, image and audio, and ``image_size`` the pixels of a side to which pictures
    are scaled, if that is one size; ``max_length`` counts the patches of a model of pictures alone.

    ``stage`` is finished, or what a step on the way to a finished model is: unsupervised, pretrained or ablated.
    ``static_queries`` is whether weights of queries are looked up in a table, without a run of the model.

    What folders leave out: ``instruction`` is the template of a free instruction, ``tail`` what follows each text,
    ``answer`` how a language model is asked to rerank, ``tasks`` prompts with adapters, ``exclude_prompt`` whether
    pooling leaves the prompt out, ``centre`` whether a layer norm precedes truncation, ``is_causal = false`` that a
    decoder reads both ways, ``text_model`` the id of the model whose texts share the space of a model of pictures,
    ``image_model`` that of the model whose pictures share the space of a model of texts, and ``forbid`` number formats
    that the model cannot be computed in.
    """

    id: str
    family: str
    dimensions: int
    max_length: int
    licence: str
    pooling: str | None = None
    kind: str = "dense"
    aliases: tuple[str, ...] = ()
    revision: str | None = None
    parameters: int | None = None
    normalize: bool = True
    prompts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    default_prompt_name: str | None = None
    matryoshka: tuple[int, ...] = ()
    similarity: str = "cosine"
    instruction: str | None = None
    tail: str = ""
    answer: RerankPrompt | None = None
    tasks: Mapping[str, EncodeTask] = field(default_factory=lambda: MappingProxyType({}))
    exclude_prompt: bool = False
    centre: bool = False
    is_causal: bool | None = None
    text_model: str | None = None
    image_model: str | None = None
    forbid: tuple[str, ...] = ()
    commercial: bool = True
    gated: bool = False
    languages: tuple[str, ...] = ("en",)
    modalities: tuple[str, ...] = ("text",)
    image_size: int | None = None
    score: CatalogScore | None = None
    package: ModelPackage | None = None
    stage: str = "finished"
    static_queries: bool = False
    notes: str | None = None

    @property
    def pin(self) -> ModelPin:
        """Where its files are, for ``hub.locate``."""
        return ModelPin(self.id, self.revision, self.package)

    @property
    def is_for_code(self) -> bool:
        """Whether it was trained for source code, as its name says; other texts are no measure of it."""
        return any(part == "code" for part in self.id.rpartition("/")[2].lower().split("-"))

    @property
    def reads(self) -> tuple[str, ...]:
        """What an input may be: the modalities, and video where a tower reads pictures, which frames are.

        Of the language models that read pictures, Qwen3-VL and EmbeddingGemma 2 read videos.
        """
        reads_frames = not self.family.endswith("_text") or self.family in ("qwen3_vl_text", "embedding_gemma2_text")
        return (*self.modalities, "video") if "image" in self.modalities and reads_frames else self.modalities

    @property
    def partner(self) -> str | None:
        """Id of the other model whose files it needs, for its texts or its pictures."""
        return self.text_model or self.image_model

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it answers to: full id, short name, aliases."""
        return (self.id, self.id.rpartition("/")[2], *self.aliases)


_FIELDS = frozenset(item.name for item in fields(CatalogEntry))
_TABLES = {"score": CatalogScore, "package": ModelPackage}
#: Set to 1, it accepts all licences; to ids separated by commas, theirs.
ACCEPT = "NEARFIELD_ACCEPT_LICENSE"


def find(name: str) -> CatalogEntry | None:
    """Return the entry for a full id, short name or alias, whatever its case; None when there is none.

    ``:latest`` at its end, which Ollama's clients put there, says nothing.
    """
    return _by_name().get(name.strip().lower().removesuffix(":latest"))


def find_by_id(name: str) -> CatalogEntry | None:
    """Return the entry of a loaded or served model by its full id; None for the name of a folder, which has no slash.

    A folder may have the short name of another model, of which nothing is valid for it.
    """
    entry = find(name)
    return entry if entry is not None and entry.id.lower() == name.lower() else None


def find_unless_folder(name: str, source: str | None = None) -> CatalogEntry | None:
    """Return the entry of a name that is to be loaded; None if a folder with a model has that name.

    Such a folder is loaded instead. It may have any model, so that nothing of the catalogue is valid for it.
    """
    return None if source in (None, "folder") and has_model(name) else find(name)


def find_stated(stated: StatedModel | None) -> CatalogEntry | None:
    """Return the entry of the model that a file says it holds; one with other dimensions is another model."""
    if stated is None:
        return None
    known = (find(name) for name in stated.names)
    return next((entry for entry in known if entry is not None and entry.dimensions == stated.dimensions), None)


def pin_of(name: str, source: str | None = None) -> ModelPin | None:
    """Return where the files of a name of the catalogue are; None for any other, and for that of a folder."""
    entry = find_unless_folder(name, source)
    return None if entry is None else entry.pin


def entries() -> tuple[CatalogEntry, ...]:
    """Return every entry, by id."""
    return _all()


def check_licence(entry: CatalogEntry, *, accepted: bool = False) -> None:
    """Refuse a model whose licence forbids commercial use, unless it was asked for with open eyes.

    Raises:
        LicenceRefused: it was not; the message names the licence and says how.
    """
    if entry.commercial or accepted or names_entry(os.environ.get(ACCEPT, "").split(","), entry):
        return
    raise LicenceRefused(
        f"{entry.id} is under {entry.licence}, which does not allow commercial use. If yours is none, say so: "
        f"--accept-license, accept_license=True, or {ACCEPT}={entry.id}."
    )


def names_entry(names: Iterable[str], entry: CatalogEntry) -> bool:
    """Return whether one of the names of models is the entry's: its id, short name or an alias; ``1`` names all."""
    known = {name.lower() for name in entry.names} | {"1"}
    return any(name.strip().lower().removesuffix(":latest") in known for name in names)


@lru_cache(maxsize=1)
def _all() -> tuple[CatalogEntry, ...]:
    listed = [entry for file, text in _texts() for entry in read_entries(file, text)]
    return tuple(sorted(listed, key=lambda entry: entry.id.lower()))


@lru_cache(maxsize=1)
def _by_name() -> Mapping[str, CatalogEntry]:
    table: dict[str, CatalogEntry] = {}
    for entry in _all():
        for name in {name.lower() for name in entry.names}:
            if name in table:
                raise SettingsError(f"The catalogue gives {name!r} to both {table[name].id} and {entry.id}.")
            table[name] = entry
    return table


def _texts() -> Iterator[tuple[str, str]]:
    for file in sorted(files(__name__).iterdir(), key=lambda path: path.name):
        if file.name.endswith(".toml"):
            yield file.name, file.read_text(encoding="utf-8")


def read_entries(file: str, text: str) -> list[CatalogEntry]:
    """Read one publisher's TOML: ``[defaults]`` that all its models share, then ``[[model]]`` tables.

    Raises:
        SettingsError: a key is unknown, or a needed one is missing.
    """
    content = tomllib.loads(text)
    for key in content:
        if key not in ("defaults", "model"):
            raise SettingsError(f"{file}: unknown table {key!r}. {nearest(key, ('defaults', 'model'))}")
    defaults = content.get("defaults", {})
    return [_entry(file, {**defaults, **model}) for model in content.get("model", [])]


def _entry(file: str, facts: dict[str, Any]) -> CatalogEntry:
    unknown = next((key for key in facts if key not in _FIELDS), None)
    if unknown:
        raise SettingsError(f"{file}: {facts.get('id')}: unknown key {unknown!r}. {nearest(unknown, _FIELDS)}")
    values = {key: _freeze(key, value) for key, value in facts.items()}
    try:
        return CatalogEntry(**values)
    except TypeError as error:
        raise SettingsError(f"{file}: {facts.get('id')}: {error}") from error


def _freeze(key: str, value: Any) -> Any:
    if key in _TABLES:
        return _TABLES[key](**value)
    if key == "answer":
        template = {name: value[name] for name in ("head", "body", "tail", "instruction") if name in value}
        words = {name: value[name] for name in value.keys() - template.keys()}
        return RerankPrompt(**words, template=Template(**template) if template else None)
    if key == "tasks":
        return MappingProxyType({name: EncodeTask(**task) for name, task in value.items()})
    if isinstance(value, list):
        return tuple(value)
    return MappingProxyType(value) if isinstance(value, dict) else value
