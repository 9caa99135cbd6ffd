"""Collection: sources, their chunks, and vectors in a store, kept true to each other and searched."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nearfield import stores
from nearfield.corpus import config as definition
from nearfield.corpus import directory as folders
from nearfield.corpus import features, transfer
from nearfield.corpus.answering.answer import Answer, ask, stream
from nearfield.corpus.answering.chat_client import ChatEndpoint
from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.directory import CollectionDirectory, home, list_collections
from nearfield.corpus.document_info import DocumentInfo, join_chunks
from nearfield.corpus.features import EncoderOf, Feature
from nearfield.corpus.indexing.indexer import Indexer, own_folders, sources_of, sweep
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.manifest.manifest import Manifest, VectorTable
from nearfield.corpus.manifest.vector_tables import VectorTables
from nearfield.corpus.search.hit import Location, SearchHit
from nearfield.corpus.search.searcher import Searchable, Searcher
from nearfield.corpus.sources import Source
from nearfield.corpus.sources.inline import InlineSource
from nearfield.encoder import Encoder
from nearfield.errors import CollectionNotFound, InputError, NearfieldError, NotThere, nearest
from nearfield.reranker import Reranker
from nearfield.stores import Store

__all__ = ["Collection", "DocumentInfo", "home", "list_collections"]

_OF_SOURCE = "SELECT id FROM documents WHERE source = ?"


class Collection:
    """A collection, opened. Use ``create``, ``open`` or ``ensure``.

    Several processes may search it while one indexes; a second one that would write is refused (CollectionBusy).
    """

    def __init__(
        self,
        folder: CollectionDirectory,
        encoder_of: EncoderOf | None = None,
        reranker_of: Callable[[str], Any] | None = None,
    ) -> None:
        self.name = folder.name
        self.folder = folder
        self._lock = threading.RLock()
        self._own: dict[str, Encoder] = {}
        self._rerankers: dict[str, Reranker] = {}
        self._encoder_of = encoder_of or self._load
        self._reranker_of = reranker_of
        self._open()

    def _open(self) -> None:
        self.manifest = Manifest(self.folder.path / self.folder.current())
        self.config: CollectionConfig = definition.read(self.manifest.get("config", {}))
        self.store: Store = stores.connect(self.address)

    # -- finding one -------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        name: str,
        config: CollectionConfig | Mapping[str, Any] | None = None,
        *,
        home: Path | None = None,
        encoder_of: EncoderOf | None = None,
    ) -> Collection:
        """Make an empty collection.

        Raises:
            InputError: there is one of that name, the name cannot be a folder's, or the definition is wrong.
        """
        folder = CollectionDirectory.of(name, home)
        if folder.taken:
            raise InputError(f"There is a collection {name!r} already. Open it, or drop it first.", param="name")
        told = config if isinstance(config, CollectionConfig) else definition.read(config or {})
        fresh = not folder.path.exists()
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with folder.alone():
                # A store that cannot be had leaves no empty collection behind.
                stores.connect(told.store or folder.address).close()
                folders.begin(folder.path / folders.FIRST, told, uid=secrets.token_hex(4)).close()
                folder.point(folders.FIRST)
        except NearfieldError:
            if fresh and not folder.taken:
                shutil.rmtree(folder.path, ignore_errors=True)
            raise
        return cls(folder, encoder_of)

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
        folder = CollectionDirectory.of(name, home)
        if not folder.taken:
            known = list_collections(home)
            raise CollectionNotFound(f"There is no collection {name!r}. {nearest(name, known)}", param="collection")
        return cls(folder, encoder_of, reranker_of)

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
        if not CollectionDirectory.of(name, home).taken:
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
            target = _without_password(config.store or self.folder.address)
            raise InputError(
                f"Collection {self.name!r} lies in {_without_password(self.address)}. To take it elsewhere: "
                f"nearfield collections move {self.name} {target}"
            )
        with self.folder.alone():
            built = self._tried(config)
            self._save(config)
            self.__dict__["features"] = built

    def _tried(self, config: CollectionConfig) -> dict[str, Feature]:
        """Return the features of a definition; one that cannot be had, or cannot cut, must not be kept."""
        same = (config.features, config.chunks) == (self.config.features, self.config.chunks)
        if same and "features" in self.__dict__:
            return self.features
        built = features.build(config, self._encoder_of)
        Indexer(self.folder, config, self.manifest, self.store, built).cutter()
        return built

    def _save(self, config: CollectionConfig) -> None:
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
        return self.config.store or self.folder.address

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
    ) -> IndexReport:
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
        with self.folder.alone():
            for each in piped:
                InlineSource(self.manifest).take(each)
            return self._index(shown=shown, retry_failed=retry_failed)

    def plan(
        self,
        sources: Sequence[Source] = (),
        told: Mapping[str, Any] | None = None,
        *,
        retry_failed: bool = False,
    ) -> IndexReport:
        """Tell what ``index`` would do with further sources and a definition changed so; nothing is written.

        All that it would read is read, to tell what changed; what is piped in is read, and counted as new.
        """
        kept, features = self.config, self.__dict__.pop("features", None)
        piped = [each for each in sources if each.kind == "stdin"]
        added = _remembered([each for each in sources if each.kind != "stdin"])
        try:
            self.config = definition.merged(kept, {**(told or {}), **added})
            return self._indexing().plan(piped, retry_failed=retry_failed)
        finally:
            self._forget()
            self.config = kept
            if features is not None:
                self.__dict__["features"] = features

    def _indexing(self) -> Indexer:
        return Indexer(self.folder, self.config, self.manifest, self.store, self.features)

    def _index(self, sources: Sequence[Source] | None = None, **options: bool) -> IndexReport:
        report = self._indexing().run(sources, **options)
        if self.folder.current() == self.manifest.path.name:
            self._forget()
            return report
        self.manifest.close()
        self._reopen()
        sweep(self.folder, self._tables())
        return report

    def _reopen(self) -> None:
        self._forget()
        self.store.close()
        self._open()

    def watched(self) -> tuple[list[str], list[Path]]:
        """Return the paths whose changes are changes of its sources, and the folders in which they are its own."""
        own = own_folders(self.folder, self.store)
        return sorted({path for each in sources_of(self.config, self.manifest, own) for path in each.watch()}), own

    # -- documents ---------------------------------------------------------------------------------------------

    def put(self, documents: Iterable[Mapping[str, Any]], *, shown: bool = False) -> IndexReport:
        """Add documents, or replace those of the same ids: mappings with ``id``, ``text``, ``title`` and fields.

        They are kept, so that a change of model or chunks can make their vectors anew.

        Raises:
            InputError: one of them is wrong; none was added.
        """
        with self.folder.alone():
            told = list(documents)
            InlineSource(self.manifest).add(told, self.config.fields)
            return self._index([InlineSource(self.manifest, only=[each["id"] for each in told])], shown=shown)

    def remove(self, documents: Sequence[str]) -> int:
        """Remove documents by their ids (or keys of those that were put); returns how many there were.

        Documents of a source come back with the next ``index`` unless the source loses them.
        """
        with self.folder.alone():
            ids = [each if "#" in each else f"{InlineSource.NAME}#{each}" for each in documents]
            InlineSource(self.manifest).remove(
                [each.partition("#")[2] for each in ids if each.startswith(InlineSource.NAME)]
            )
            return self._indexing().remove(ids)

    def forget(self, source: str) -> int:
        """Let go of a source, by its name or location, and of all documents that came from it; returns how many.

        Raises:
            InputError: the collection has no such source.
        """
        known = {f"{each.kind}:{each.location}": each for each in self.config.sources}
        name = next((each for each, spec in known.items() if source in (each, spec.location)), None)
        if name is None:
            raise InputError(f"Collection {self.name!r} has no source {source!r}. {nearest(source, known)}")
        with self.folder.alone():
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
        entry = self.manifest.entry(document) or self.manifest.entry(f"{InlineSource.NAME}#{document}")
        if entry is None:
            raise NotThere(f"Collection {self.name!r} has no document {document!r:.200}.", param="document")
        return DocumentInfo.of(entry)

    def text(self, document: str) -> str:
        """Return what can be found of a document: its chunks in order, joined where they overlap."""
        found = self.document(document)
        return join_chunks([*self.manifest.chunks(found.id), *(twin.chunk for twin in self.manifest.twins(found.id))])

    # -- searching ---------------------------------------------------------------------------------------------

    def search(self, query: str, k: int = 10, **options: Any) -> list[SearchHit]:
        """Return the ``k`` chunks that match a query best, the best first.

        The query is encoded with the model's own query prompt. Options are those of ``Searcher.search_many``: mode,
        where, rerank, mmr, highlight, explain, exact.

        Raises:
            InputError: an option is wrong, or the collection has no feature for the mode.
            SpaceMismatch: the model, its prompts or the definition changed since the vectors were made.
        """
        return self.search_many([query], k, **options)[0]

    def search_many(self, queries: Sequence[str], k: int = 10, **options: Any) -> list[list[SearchHit]]:
        """Search for several queries at once: they are encoded together."""
        with self._lock:
            self._refresh()
            searcher = self._searcher
        found = searcher.search_many(queries, k, **options)
        return [[self._with_repeats(each) for each in hits] for hits in found]

    def _with_repeats(self, found: SearchHit) -> SearchHit:
        repeats = self.manifest.repeats(found.id)
        also = tuple(
            Location(each.document, each.payload["start"], each.payload["end"], each.payload.get("page"))
            for each in repeats
        )
        return replace(found, also=also) if also else found

    def _refresh(self) -> None:
        """Turn to the manifest that another process has switched to."""
        try:
            told = self.folder.current()
        except FileNotFoundError as error:
            raise CollectionNotFound(f"Collection {self.name!r} was dropped meanwhile.", param="collection") from error
        if told != self.manifest.path.name:
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

    def ask(self, question: str, endpoint: ChatEndpoint | None = None, *, k: int = 8, **options: Any) -> Answer:
        """Answer a question from the collection, with citations; without an endpoint: the passages alone.

        Raises:
            AnswerFailed: the endpoint cannot be reached or gave no answer.
        """
        return ask(question, self.search(question, k, **options), endpoint)

    def ask_stream(
        self, question: str, endpoint: ChatEndpoint | None = None, *, k: int = 8, **options: Any
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
        return transfer.verify(self.manifest, self.store, self.features, sample=sample)

    def export(self, folder: Path) -> list[Path]:
        """Write all of it as Parquet files into a new folder; see ``import_``.

        Raises:
            InputError: the folder is there and not empty.
        """
        with self.folder.alone():
            return transfer.export(self.name, self.manifest, self.store, folder)

    @classmethod
    def import_(cls, name: str, folder: Path, *, store: str | None = None, home: Path | None = None) -> Collection:
        """Make a collection of what ``export`` wrote, its vectors included, in the store of an address.

        Raises:
            InputError: there is one of that name, or the folder holds no export.
        """
        told = transfer.described(folder)
        config = definition.read({**told["config"], "store": store or ""})
        made = cls.create(name, config, home=home)
        with made.folder.alone():
            transfer.import_(folder, made.manifest, made.store, made._retitled)
        made._reopen()
        return made

    def _retitled(self, placement: VectorTable) -> VectorTable:
        title = self._tables().title(placement.feature)
        return replace(placement, name=title, described={**placement.described, "name": title})

    def move(self, address: str) -> None:
        """Take the vectors to another store, without making them anew; the old ones are dropped when all have arrived.

        Raises:
            InputError: the other store cannot hold them.
        """
        with self.folder.alone():
            old, target = self.store, stores.connect(address)
            try:
                transfer.move(self.manifest, old, target)
            except BaseException:
                target.close()
                raise
            names = [each.name for each in self.manifest.placements()]
            target.close()
            own = "" if address == self.folder.address else address
            config = definition.read({**self.config.told(), "store": own})
            self.manifest.set("config", config.told())
            for name in names:
                old.drop(name)
        self._reopen()

    def drop(self) -> None:
        """Remove it, its vectors included."""
        with self.folder.alone():
            self._tables().drop()
            self.close()
            self.folder.remove()

    def _tables(self) -> VectorTables:
        return VectorTables(self.name, self.manifest, self.store, self.config.all_fields)


def _remembered(sources: Sequence[Source]) -> dict[str, Any]:
    """Return sources as a definition has them."""
    specs = [{"kind": each.kind, "location": each.location, "options": each.options} for each in sources]
    return {"sources": specs} if specs else {}


def _without_password(address: str) -> str:
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", address)
