"""Collection: sources, their chunks, and vectors in a store, kept true to each other and searched."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nearfield import stores
from nearfield.corpus import config as definition
from nearfield.corpus import feature as features
from nearfield.corpus import shipping
from nearfield.corpus.answer import Answer, ask, stream
from nearfield.corpus.chat import Endpoint
from nearfield.corpus.config import Config
from nearfield.corpus.cutting import Cutter
from nearfield.corpus.feature import Feature, Placed
from nearfield.corpus.found import Found, Origin
from nearfield.corpus.given import Given
from nearfield.corpus.ingest import Ingest, Parts
from nearfield.corpus.locking import alone
from nearfield.corpus.manifest import Entry, Manifest, Placement, Stored
from nearfield.corpus.reading import Reader
from nearfield.corpus.report import Report
from nearfield.corpus.search import Searchable, Searcher
from nearfield.corpus.sources import Source, open_source
from nearfield.encoder import Encoder
from nearfield.errors import CollectionNotFound, InputError, NearfieldError, NotThere, nearest
from nearfield.reranker import Reranker
from nearfield.stores import Store

_OF_SOURCE = "SELECT id FROM documents WHERE source = ?"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_CURRENT = "current"
EncoderOf = Callable[[str], Encoder]


def home() -> Path:
    """Return the folder of collections: ``NEARFIELD_COLLECTIONS``, else ``~/.local/share/nearfield/collections``."""
    told = os.environ.get("NEARFIELD_COLLECTIONS")
    return Path(told or Path.home() / ".local" / "share" / "nearfield" / "collections").expanduser().absolute()


def listed(place: Path | None = None) -> list[str]:
    """Return the names of all collections, sorted."""
    folder = place or home()
    return sorted(path.parent.name for path in folder.glob(f"*/{_CURRENT}")) if folder.is_dir() else []


@dataclass(frozen=True)
class DocumentInfo:
    """A document of a collection: where it comes from, its state (done, failed, ...), and why it failed."""

    id: str
    source: str
    key: str
    title: str
    state: str
    error: str
    chunks: int
    tokens: int
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> DocumentInfo:
        """Take what is of interest out of a manifest's entry."""
        state = "failed" if entry.error else {"stale": "done", "new": "writing"}.get(entry.state, entry.state)
        place = (entry.id, entry.source, entry.key, entry.title)
        return cls(*place, state, entry.error, entry.chunks, entry.tokens, entry.fields)


class Collection:
    """A collection, opened. Use ``create``, ``open`` or ``ensure``.

    Several processes may search it while one indexes; a second one that would write is refused (CollectionBusy).
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        encoder_of: EncoderOf | None = None,
        reranker_of: Callable[[str], Any] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self._lock = threading.RLock()
        self._own: dict[str, Encoder] = {}
        self._rerankers: dict[str, Reranker] = {}
        self._encoder_of = encoder_of or self._load
        self._reranker_of = reranker_of
        self._open()

    def _open(self) -> None:
        self._current = (self.folder / _CURRENT).read_text(encoding="utf-8").strip()
        self.manifest = Manifest(self.folder / self._current)
        self.config: Config = definition.read(self.manifest.get("config", {}))
        self.store: Store = stores.connect(self.address)

    # -- finding one -------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        name: str,
        config: Config | Mapping[str, Any] | None = None,
        *,
        home: Path | None = None,
        encoder_of: EncoderOf | None = None,
    ) -> Collection:
        """Make an empty collection.

        Raises:
            InputError: there is one of that name, the name cannot be a folder's, or the definition is wrong.
        """
        folder = _folder(name, home)
        if (folder / _CURRENT).exists():
            raise InputError(f"There is a collection {name!r} already. Open it, or drop it first.", param="name")
        told = config if isinstance(config, Config) else definition.read(config or {})
        fresh = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with alone(folder / "lock", name):
                # A store that cannot be had leaves no empty collection behind.
                stores.connect(told.store or _address(folder)).close()
                _begin(folder, "manifest-1.db", told, uid=secrets.token_hex(4)).close()
                _point(folder, "manifest-1.db")
        except NearfieldError:
            if fresh and not (folder / _CURRENT).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(name, folder, encoder_of)

    @classmethod
    def open(
        cls,
        name: str,
        *,
        home: Path | None = None,
        encoder_of: EncoderOf | None = None,
        reranker_of: Callable[[str], Any] | None = None,
    ) -> Collection:
        """Open a collection that there is.

        Raises:
            CollectionNotFound: with the nearest name.
        """
        folder = _folder(name, home)
        if not (folder / _CURRENT).exists():
            known = listed(home)
            raise CollectionNotFound(f"There is no collection {name!r}. {nearest(name, known)}", param="collection")
        return cls(name, folder, encoder_of, reranker_of)

    @classmethod
    def ensure(
        cls,
        name: str,
        config: Mapping[str, Any] | None = None,
        *,
        home: Path | None = None,
        encoder_of: EncoderOf | None = None,
    ) -> Collection:
        """Open a collection, or make it; ``config`` replaces those parts of its definition that it names."""
        if not (_folder(name, home) / _CURRENT).exists():
            return cls.create(name, config, home=home, encoder_of=encoder_of)
        found = cls.open(name, home=home, encoder_of=encoder_of)
        if config:
            found.configure(config)
        return found

    def configure(self, told: Mapping[str, Any]) -> None:
        """Replace parts of the definition; sources are added. The next ``index`` brings the vectors to it.

        Raises:
            InputError: the definition is wrong, or wants another store (see ``move``).
        """
        config = definition.merged(self.config, told)
        if config.store != self.config.store and self.manifest.placements():
            target = _without_password(config.store or _address(self.folder))
            raise InputError(
                f"Collection {self.name!r} lies in {_without_password(self.address)}. To take it elsewhere: "
                f"nearfield collections move {self.name} {target}"
            )
        with self._alone():
            built = self._tried(config)
            self._save(config)
            self.__dict__["features"] = built

    def _tried(self, config: Config) -> dict[str, Feature]:
        """Return the features of a definition; one that cannot be had, or cannot cut, must not be kept."""
        same = (config.features, config.chunks) == (self.config.features, self.config.chunks)
        if same and "features" in self.__dict__:
            return self.features
        built = features.build(config, self._encoder_of)
        first = next(iter(built.values()))
        Cutter(config, features.ruler(first), partial(_embed, first), self.manifest)
        return built

    def _save(self, config: Config) -> None:
        self.manifest.set("config", config.told())
        moved = config.store != self.config.store
        self.config = config
        self._forget()
        if moved:
            self.store.close()
            self.store = stores.connect(self.address)

    def release(self) -> None:
        """Let go of the models; the next search asks for them again. For those who only lend them."""
        self._forget()

    def _forget(self) -> None:
        for name in ("features", "_searcher"):
            self.__dict__.pop(name, None)

    @property
    def address(self) -> str:
        """Where its vectors lie."""
        return self.config.store or _address(self.folder)

    def close(self) -> None:
        """Let go of files and database; models stay loaded while others use them."""
        self.manifest.close()
        self.store.close()
        for loaded in (*self._own.values(), *self._rerankers.values()):
            loaded.close()
        self._own.clear()
        self._rerankers.clear()
        self._forget()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, model: str) -> Encoder:
        if model not in self._own:
            self._own[model] = Encoder(model, accept_license=self.config.accept_license, progress=False)
        return self._own[model]

    @cached_property
    def features(self) -> dict[str, Feature]:
        """Its features by name, their models loaded."""
        return features.build(self.config, self._encoder_of)

    # -- indexing ----------------------------------------------------------------------------------------------

    def index(
        self,
        sources: Sequence[Source] | None = None,
        *,
        dry_run: bool = False,
        shown: bool = False,
        retry_failed: bool = False,
    ) -> Report:
        """Bring the collection to the state of its sources: what is new or changed is read, what is gone is removed.

        Args:
            sources: further sources, which are kept; None takes those that it has. What is piped in is kept itself.
            dry_run: tell what would be done, and write nothing.
            shown: show a progress bar.
            retry_failed: read documents again that failed before, though they did not change.

        Raises:
            CollectionBusy: another process indexes it.
            StoreFailed: the database failed; run it again to go on.
        """
        if dry_run:
            return self.plan(sources or (), retry_failed=retry_failed)
        piped = [each for each in sources or () if each.kind == "stdin"]
        if sources and len(piped) < len(sources):
            self.configure(_remembered([each for each in sources if each.kind != "stdin"]))
        with self._alone():
            for each in piped:
                Given(self.manifest).take(each)
            return self._index(self._all_sources(), shown=shown, retry_failed=retry_failed)

    def plan(
        self,
        sources: Sequence[Source] = (),
        told: Mapping[str, Any] | None = None,
        *,
        retry_failed: bool = False,
    ) -> Report:
        """Tell what ``index`` would do with further sources and a definition changed so; nothing is written.

        All that it would read is read, to tell what changed; what is piped in is read, and counted as new.
        """
        kept, features = self.config, self.__dict__.pop("features", None)
        piped = [each for each in sources if each.kind == "stdin"]
        added = _remembered([each for each in sources if each.kind != "stdin"])
        try:
            self.config = definition.merged(kept, {**(told or {}), **added})
            with TemporaryDirectory() as place:
                return self._plan(Path(place), piped, retry_failed=retry_failed)
        finally:
            self._forget()
            self.config = kept
            if features is not None:
                self.__dict__["features"] = features

    def _plan(self, place: Path, piped: Sequence[Source], *, retry_failed: bool) -> Report:
        manifest, cutter = self.manifest, self._cutter(self.manifest)
        if manifest.get("cutting") not in (None, cutter.identity()):
            # Documents would be cut otherwise, and so all be read and embedded anew.
            manifest = _begin(place, "manifest.db", self.config, uid="plan")
            shipping.copy_table(self.manifest.connection, manifest, "given")
        placed = self._tables(manifest, making=False)
        sources = [*self._all_sources(manifest), *piped]
        with Reader() as reader:
            parts = self._parts(manifest, cutter, placed)
            report = Ingest(parts, sources, reader=reader, retry_failed=retry_failed).plan()
        if manifest is not self.manifest:
            manifest.close()
        return report

    def _all_sources(self, manifest: Manifest | None = None) -> list[Source]:
        opened = [open_source(each.kind, each.location, **each.options) for each in self.config.sources]
        return [*opened, Given(manifest or self.manifest)]

    def _index(self, sources: Sequence[Source], *, shown: bool = False, retry_failed: bool = False) -> Report:
        cutter = self._cutter(self.manifest)
        if self.manifest.get("cutting") not in (None, cutter.identity()):
            return self._rebuild(shown=shown)
        self.manifest.set("cutting", cutter.identity())
        report = self._fill(self.manifest, cutter, sources, shown=shown, retry_failed=retry_failed)
        self._forget()
        return report

    def _fill(
        self,
        manifest: Manifest,
        cutter: Cutter,
        sources: Sequence[Source],
        *,
        shown: bool,
        retry_failed: bool = False,
    ) -> Report:
        """Index into a manifest's tables, and let those that are new take the place of others."""
        placed = self._tables(manifest)
        with Reader() as reader:
            parts = self._parts(manifest, cutter, placed)
            report = Ingest(parts, sources, reader=reader, retry_failed=retry_failed).run(shown=shown)
        names = [each.table.name for each in placed.values()]
        for each in placed.values():
            self.store.index(each.table)
        manifest.go_live(names, keep=())
        self._sweep()
        return report

    def _parts(self, manifest: Manifest, cutter: Cutter, placed: dict[str, Placed]) -> Parts:
        return Parts(self.name, self.config, manifest, self.store, cutter, placed)

    def _cutter(self, manifest: Manifest) -> Cutter:
        first = next(iter(self.features.values()))
        return Cutter(self.config, features.ruler(first), partial(_embed, first), manifest)

    def _rebuild(self, *, shown: bool) -> Report:
        """Index all sources anew beside what there is, since documents are cut otherwise now, and switch at the end."""
        number = int(re.sub(r"\D", "", self._current)) + 1
        name = f"manifest-{number}.db"
        wanted = self._cutter(self.manifest).identity()
        fresh = Manifest(self.folder / name, language=self.config.language)
        if fresh.get("cutting") != wanted or fresh.get("config") != self.config.told():
            fresh.close()
            _remove_manifest(self.folder / name)
            fresh = _begin(self.folder, name, self.config, uid=self.manifest.get("uid"))
            fresh.set("cutting", wanted)
            shipping.copy_table(self.manifest.connection, fresh, "given")
        report = self._fill(fresh, self._cutter(fresh), self._all_sources(fresh), shown=shown)
        fresh.close()
        if report.unlisted:
            # What they hold is in the old chunks alone.
            report.held_back = (
                f"Searches go on with the chunks as they were cut before, since not every source could be listed. Mend "
                f"it and index again, or let go of it: nearfield collections forget {self.name} SOURCE"
            )
            return report
        _point(self.folder, name)
        old = self.manifest
        old.close()
        _remove_manifest(old.path)
        self._reopen()
        self._sweep()
        return report

    def _reopen(self) -> None:
        self._forget()
        self.store.close()
        self._open()

    def _tables(self, manifest: Manifest, *, making: bool = True) -> dict[str, Placed]:
        """Return each feature with the table that holds it; one that none holds yet gets a new table.

        Without ``making``, it gets one that only has a name.
        """
        placements = manifest.placements()
        placed: dict[str, Placed] = {}
        for name, feature in self.features.items():
            found = next((each for each in placements if self._holds(each, name, feature)), None)
            if found is None and not making:
                placed[name] = Placed(feature, feature.table(f"planned_{len(placed)}", self.config.all_fields))
                continue
            if found is None:
                found = self._new_table(manifest, name, feature, live=not placements)
            table = features.table_of(found.described)
            if making:
                self.store.create(table)
            placed[name] = Placed(feature, table)
        return placed

    def _holds(self, placement: Placement, name: str, feature: Feature) -> bool:
        described = features.described(feature.table(placement.name, self.config.all_fields))
        same = placement.feature == name and placement.space == feature.space()
        return same and dict(placement.described) == described

    def _new_table(self, manifest: Manifest, name: str, feature: Feature, *, live: bool) -> Placement:
        title = self._title(manifest, name)
        table = feature.table(title, self.config.all_fields)
        self.store.check(table)
        made = Placement(title, name, features.described(table), feature.space(), "live" if live else "building")
        manifest.place(made)
        return made

    def _title(self, manifest: Manifest, feature: str) -> str:
        """Return a name for a table that no other has, in this collection or another."""
        slug = re.sub(r"[^a-z0-9]", "_", f"c_{self.name}")[:24]
        return f"{slug}_{manifest.get('uid')}_{feature.replace('-', '_')[:12]}_{secrets.token_hex(3)}"

    def _sweep(self) -> None:
        """Drop tables of this collection that no manifest knows: those that were replaced, or begun and given up."""
        known: set[str] = set()
        for path in self.folder.glob("manifest-*.db"):
            if path == self.manifest.path:
                known |= {each.name for each in self.manifest.placements()}
            else:
                beside = Manifest(path)
                known |= {each.name for each in beside.placements()}
                beside.close()
        mark = f"_{self.manifest.get('uid')}_"
        for name in self.store.tables():
            if mark in name and name not in known:
                self.store.drop(name)

    def watched(self) -> list[str]:
        """Return the paths whose changes are changes of its sources."""
        return sorted({path for source in self._all_sources() for path in source.watch()})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with alone(self.folder / "lock", self.name):
            yield

    # -- documents ---------------------------------------------------------------------------------------------

    def put(self, documents: Iterable[Mapping[str, Any]], *, shown: bool = False) -> Report:
        """Add documents, or replace those of the same ids: mappings with ``id``, ``text``, ``title`` and fields.

        They are kept, so that a change of model or chunks can make their vectors anew.

        Raises:
            InputError: one of them is wrong; none was added.
        """
        with self._alone():
            told = list(documents)
            Given(self.manifest).add(told, self.config.fields)
            return self._index([Given(self.manifest, only=[each["id"] for each in told])], shown=shown)

    def remove(self, documents: Sequence[str]) -> int:
        """Remove documents by their ids (or keys of those that were put); returns how many there were.

        Documents of a source come back with the next ``index`` unless the source loses them.
        """
        with self._alone():
            ids = [each if "#" in each else f"{Given.NAME}#{each}" for each in documents]
            Given(self.manifest).remove([each.partition("#")[2] for each in ids if each.startswith(Given.NAME)])
            placed = self._tables(self.manifest)
            with Reader() as reader:
                parts = self._parts(self.manifest, self._cutter(self.manifest), placed)
                return Ingest(parts, [], reader=reader).remove(ids)

    def forget(self, source: str) -> int:
        """Let go of a source, by its name or location, and of all documents that came from it; returns how many.

        Raises:
            InputError: the collection has no such source.
        """
        known = {f"{each.kind}:{each.location}": each for each in self.config.sources}
        name = next((each for each, spec in known.items() if source in (each, spec.location)), None)
        if name is None:
            raise InputError(f"Collection {self.name!r} has no source {source!r}. {nearest(source, known)}")
        with self._alone():
            kept = [each for each in self.config.told()["sources"] if f"{each['kind']}:{each['location']}" != name]
            # In this order: killed in between, it still has the source, and can let go of it again.
            count = self.remove([row[0] for row in self.manifest.rows(_OF_SOURCE, (name,))])
            self._save(definition.read({**self.config.told(), "sources": kept}))
            return count

    def documents(self, *, state: str | None = None, limit: int = 100, after: str | None = None) -> list[DocumentInfo]:
        """Return documents in the order of their ids, from the one after ``after`` on."""
        self._refresh()
        return [DocumentInfo.of(each) for each in self.manifest.entries(state=state, after=after or "", limit=limit)]

    def document(self, document: str) -> DocumentInfo:
        """Return a document by its id.

        Raises:
            NotThere: there is none of that id.
        """
        self._refresh()
        entry = self.manifest.entry(document) or self.manifest.entry(f"{Given.NAME}#{document}")
        if entry is None:
            raise NotThere(f"Collection {self.name!r} has no document {document!r:.200}.", param="document")
        return DocumentInfo.of(entry)

    def text(self, document: str) -> str:
        """Return what can be found of a document: its chunks in order, joined where they overlap."""
        found = self.document(document)
        chunks = [*self.manifest.chunks(found.id), *(twin.chunk for twin in self.manifest.twins(found.id))]
        return _joined(sorted(chunks, key=lambda each: each.ordinal))

    # -- searching ---------------------------------------------------------------------------------------------

    def search(self, query: str, k: int = 10, **options: Any) -> list[Found]:
        """Return the ``k`` chunks that match a query best, the best first.

        The query is encoded with the model's own query prompt. Options are those of ``Searcher.search_many``: mode,
        where, rerank, mmr, highlight, explain, exact.

        Raises:
            InputError: an option is wrong, or the collection has no feature for the mode.
            SpaceMismatch: the model, its prompts or the definition changed since the vectors were made.
        """
        return self.search_many([query], k, **options)[0]

    def search_many(self, queries: Sequence[str], k: int = 10, **options: Any) -> list[list[Found]]:
        """Search for several queries at once: they are encoded together."""
        with self._lock:
            self._refresh()
            searcher = self._searcher
        found = searcher.search_many(queries, k, **options)
        return [[self._with_repeats(each) for each in hits] for hits in found]

    def _with_repeats(self, found: Found) -> Found:
        repeats = self.manifest.repeats(found.id)
        also = tuple(
            Origin(each.document, each.payload["start"], each.payload["end"], each.payload.get("page"))
            for each in repeats
        )
        return replace(found, also=also) if also else found

    def _refresh(self) -> None:
        """Turn to the manifest that another process has switched to."""
        try:
            told = (self.folder / _CURRENT).read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise CollectionNotFound(f"Collection {self.name!r} was dropped meanwhile.", param="collection") from error
        if told != self._current:
            self.manifest.close()
            self._reopen()
            return
        state = self.manifest.get("config"), [each.name for each in self.manifest.placements()]
        if state != self.__dict__.get("_seen"):
            self.__dict__["_seen"] = state
            self.config = definition.read(state[0])
            self._forget()

    @cached_property
    def _searcher(self) -> Searcher:
        live = {each.feature: each for each in self.manifest.placements() if each.state == "live"}
        if not live:
            raise InputError(f"Collection {self.name!r} is empty. Fill it: nearfield index {self.name} FOLDER")
        found: dict[str, Searchable] = {}
        for name, feature in self.features.items():
            if name not in live:
                continue  # being made
            features.require_same(name, self.name, live[name].space, feature.space())
            table = features.table_of(live[name].described)
            found[name] = Searchable(
                table,
                feature.encode_queries,
                model=feature.encoder.name,
                of=self.config.features[name].of,
                # Vectors that were centred before they were cut must be cut from whole ones, not from one another.
                shape=None if feature.kind != "dense" or feature.encoder.recipe.centre else feature.shape,
                encode_documents=feature.encode_documents,
            )
        return Searcher(
            self.store,
            found,
            self.manifest.searched,
            self._reranker,
            language=self.config.language,
            fields=self.config.all_fields,
        )

    def _reranker(self, model: str) -> Any:
        if self._reranker_of is not None:
            return self._reranker_of(model)
        with self._lock:
            if model not in self._rerankers:
                self._rerankers[model] = Reranker(model, accept_license=self.config.accept_license)
            return self._rerankers[model]

    def ask(self, question: str, endpoint: Endpoint | None = None, *, k: int = 8, **options: Any) -> Answer:
        """Answer a question from the collection, with citations; without an endpoint: the passages alone.

        Raises:
            AnswerFailed: the endpoint cannot be reached or gave no answer.
        """
        return ask(question, self.search(question, k, **options), endpoint)

    def ask_stream(
        self, question: str, endpoint: Endpoint | None = None, *, k: int = 8, **options: Any
    ) -> Iterator[str | Answer]:
        """Yield the answer's text as it comes, and last the ``Answer``; as ``ask`` otherwise."""
        return stream(question, self.search(question, k, **options), endpoint)

    # -- the whole ---------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Return what it is, as JSON can say it: definition, counts, states, and sizes of its tables."""
        self._refresh()
        tables = []
        for each in self.manifest.placements():
            size = self.store.size(features.table_of(each.described))
            tables.append({"feature": each.feature, "state": each.state, "bytes": size, **each.space})
        return {
            "name": self.name,
            "store": _without_password(self.address),
            "definition": {**self.config.told(), "store": _without_password(self.config.store)},
            "states": self.manifest.states(),
            **self.manifest.counts(),
            "tables": tables,
        }

    def verify(self, *, sample: int = 100) -> dict[str, Any]:
        """Compare manifest and store, document by document, and make some vectors anew to compare them.

        Returns:
            What was compared, and lists of what is wrong: ``missing`` and ``foreign`` records, ``unlike`` vectors, and
            features whose vectors are ``outdated``: of another model, or asked otherwise, than the definition says. All
            are empty where the collection is whole.
        """
        self._refresh()
        return shipping.verify(self.manifest, self.store, self.features, sample=sample)

    def export(self, folder: Path) -> list[Path]:
        """Write all of it as Parquet files into a new folder; see ``import_``.

        Raises:
            InputError: the folder is there and not empty.
        """
        with self._alone():
            return shipping.export(self.name, self.manifest, self.store, folder)

    @classmethod
    def import_(cls, name: str, folder: Path, *, store: str | None = None, home: Path | None = None) -> Collection:
        """Make a collection of what ``export`` wrote, its vectors included, in the store of an address.

        Raises:
            InputError: there is one of that name, or the folder holds no export.
        """
        told = shipping.described(folder)
        config = definition.read({**told["config"], "store": store or ""})
        made = cls.create(name, config, home=home)
        with made._alone():
            shipping.import_(folder, made.manifest, made.store, partial(made._retitled))
        made._reopen()
        return made

    def _retitled(self, placement: Placement) -> Placement:
        title = self._title(self.manifest, placement.feature)
        return replace(placement, name=title, described={**placement.described, "name": title})

    def move(self, address: str) -> None:
        """Take the vectors to another store, without making them anew; the old ones are dropped when all have arrived.

        Raises:
            InputError: the other store cannot hold them.
        """
        with self._alone():
            old, target = self.store, stores.connect(address)
            try:
                shipping.move(self.manifest, old, target)
            except BaseException:
                target.close()
                raise
            names = [each.name for each in self.manifest.placements()]
            target.close()
            own = "" if address == _address(self.folder) else address
            config = definition.read({**self.config.told(), "store": own})
            self.manifest.set("config", config.told())
            for name in names:
                old.drop(name)
        self._reopen()

    def drop(self) -> None:
        """Remove it, its vectors included."""
        with self._alone():
            mark = f"_{self.manifest.get('uid')}_"
            for name in self.store.tables():
                if mark in name:
                    self.store.drop(name)
            self.close()
            (self.folder / _CURRENT).unlink()
            shutil.rmtree(self.folder)


def _embed(feature: Feature, texts: Sequence[str]) -> Any:
    found = feature.encoder.encode(list(texts), role="document", show_progress_bar=False, outputs=("dense",))
    return found["dense"].data


def _folder(name: str, place: Path | None) -> Path:
    if not NAME.fullmatch(name):
        raise InputError(
            f"A collection's name is 1 to 63 of a-z, 0-9, - and _, after a letter or digit: not {name!r}.", param="name"
        )
    return (place or home()) / name


def _address(folder: Path) -> str:
    """Return where vectors lie unless the definition says otherwise."""
    return f"lancedb://{folder / 'vectors'}"


def _remembered(sources: Sequence[Source]) -> dict[str, Any]:
    """Return sources as a definition has them."""
    specs = [{"kind": each.kind, "location": each.location, "options": each.options} for each in sources]
    return {"sources": specs} if specs else {}


def _begin(folder: Path, name: str, config: Config, *, uid: str) -> Manifest:
    made = Manifest(folder / name, language=config.language)
    made.set("config", config.told())
    made.set("uid", uid)
    return made


def _point(folder: Path, name: str) -> None:
    """Let the collection be what a manifest says, in one step."""
    fresh = folder / f"{_CURRENT}.new"
    with fresh.open("w", encoding="utf-8") as file:
        file.write(name)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / _CURRENT)


def _remove_manifest(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _joined(chunks: Sequence[Stored]) -> str:
    """Join chunks, without what the end of one and the start of the next have in common."""
    text, last = "", 0
    for chunk in chunks:
        start, end = int(chunk.payload["start"]), int(chunk.payload["end"])
        piece = chunk.text
        if text and start < last:
            shared = next((n for n in range(min(len(text), len(piece)), 0, -1) if text.endswith(piece[:n])), 0)
            text += piece[shared:]
        else:
            text += ("\n\n" if text else "") + piece
        last = end
    return text


def _without_password(address: str) -> str:
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", address)
