"""`find_duplicate_files`: copies among the pictures, videos and sounds of folders."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np

from nearfield.argument_checks import require_number
from nearfield.bulk.media_files.duplicates.duplicate_report import (
    EXACT,
    NEAR,
    VECTORS,
    DuplicateFile,
    DuplicateGroup,
    DuplicateReport,
)
from nearfield.bulk.media_files.duplicates.file_vectors import encode_files
from nearfield.bulk.media_files.duplicates.folder_listing import FolderListing, ListedFile, list_media_files
from nearfield.bulk.media_files.duplicates.hash_cache import HashCache
from nearfield.bulk.media_files.duplicates.media_facts import (
    DIGEST_RULE,
    FACTS_RULE,
    MediaFacts,
    read_digest,
    read_facts,
    read_values,
)
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, MEDIA_SUFFIXES, PICTURES, SOUNDS, VIDEOS
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.media.copies.grouping import CopyIndex, CopyLink, group_copies
from nearfield.media.copies.hash_index import MAX_DISTANCE, PictureHashIndex
from nearfield.media.copies.picture_hash import PictureHash, require_imagehash
from nearfield.media.copies.vector_index import CopyVectorIndex
from nearfield.media.copies.video_hash import VideoHash, VideoHashIndex
from nearfield.media.decoding import require_pillow
from nearfield.message_text import count_of
from nearfield.progress import Progress, Shown
from nearfield.settings import cache_dir
from nearfield.text_inputs import describe

Folders: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
_HashIndex: TypeAlias = PictureHashIndex | VideoHashIndex
#: Cosine of vectors from which on two files are near-copies.
THRESHOLD = 0.97
#: Files that ``find_duplicate_files`` stores hashes in, within the cache folder.
_CACHE = Path("dedupe", "hashes.sqlite")


@dataclass
class _Content:
    """Files with the same bytes, the best first; and what is known of them."""

    files: list[ListedFile]
    facts: MediaFacts = field(default_factory=lambda: MediaFacts(0, 0))

    @property
    def best(self) -> DuplicateFile:
        return DuplicateFile(self.files[0], self.facts.width, self.facts.height)


def find_duplicate_files(
    folders: Folders,
    *,
    model: str | Encoder | None = None,
    threshold: float = THRESHOLD,
    max_distance: int = MAX_DISTANCE,
    accept_license: bool = False,
    progress: Shown = False,
    on_warning: Callable[[str], None] | None = None,
) -> DuplicateReport:
    """Return the copies among the pictures, videos and sounds in folders, in groups with the best one of each.

    Files with the same bytes are copies, and pictures that look the same: saved again, scaled, in grey, or with up to
    a twentieth cut off. So are videos of the same length whose frames look the same, with any sound. Sounds are
    compared by their bytes. With a model, files whose vectors are near are copies too, of each kind that it reads.

    The best file has the largest resolution; of several, it is the largest, the oldest, and the first by name. Each
    copy is near the best file itself, not only near another copy. Nothing is changed. Hashes are stored in the cache
    folder, by path, size and time of change: a later run, or one after an interruption, reads only other files.

    Args:
        folders: a folder, or several. Links are not followed; names that begin with a dot or an underscore are skipped.
        model: a model of pictures, videos or sounds: a name, a folder or an encoder.
        threshold: the cosine of two vectors from which on files are copies.
        max_distance: bits of 256 in which the hashes of copies differ at most, from 0 to 96.
        accept_license: use a model whose licence does not allow commercial use.
        progress: show a progress bar on stderr, or lines.
        on_warning: called with what limits the search, such as a package that is not installed.

    Raises:
        InputError: a folder does not exist, a number is out of range, or the model reads none of the files.
        MissingExtra: ImageHash is not installed (``nearfield[dedupe]``).
    """
    require_number("threshold", threshold)
    if not 0 < threshold <= 1:
        raise InputError(f"threshold must be above 0 and at most 1, and is {threshold}.", param="threshold")
    indexes: dict[str, _HashIndex] = {PICTURES: PictureHashIndex(max_distance), VIDEOS: VideoHashIndex(max_distance)}
    require_pillow(), require_imagehash()
    warn = on_warning or (lambda _: None)
    listing = list_media_files(_to_paths(folders))
    encoder = _open_model(model, listing, accept_license=accept_license)
    cache = HashCache(cache_dir() / _CACHE)
    try:
        with Progress(len(listing.files), label="Reading", unit="files", shown=progress) as bar:
            search = _Search(listing, cache, bar, warn)
            groups = search.run(indexes, encoder, threshold)
    finally:
        cache.close()
    if cache.problem:
        warn(cache.problem)
    return DuplicateReport(
        folders=tuple(str(path) for path in _to_paths(folders)),
        counts={kind: sum(file.kind == kind for file in listing.files) for kind in MEDIA_SUFFIXES},
        groups=tuple(sorted(groups, key=lambda group: group.best.path)),
        unreadable=dict(sorted(listing.problems.items())),
        links=listing.links,
        model="" if encoder is None else encoder.name,
    )


class _Search:
    """One search: reads files, compares them and forms groups. What cannot be read is added to the listing."""

    def __init__(
        self, listing: FolderListing, cache: HashCache, bar: Progress, on_warning: Callable[[str], None]
    ) -> None:
        self._listing, self._cache, self._bar, self._on_warning = listing, cache, bar, on_warning

    def run(
        self, hash_indexes: dict[str, _HashIndex], encoder: Encoder | None, threshold: float
    ) -> list[DuplicateGroup]:
        """Return the groups of all kinds."""
        groups: list[DuplicateGroup] = []
        contents = self._contents()
        self._read_facts([content for content in contents if content.files[0].kind in hash_indexes])
        for kind in MEDIA_SUFFIXES:
            chosen = [content for content in contents if content.files[0].kind == kind]
            indexes: dict[str, CopyIndex] = {}
            if kind in hash_indexes:
                _add_hashes(hash_indexes[kind], chosen)
                indexes[NEAR] = hash_indexes[kind]
            if encoder is not None and kind in encoder.modalities:
                indexes[VECTORS] = CopyVectorIndex(self._vectors(encoder, chosen), threshold)
            self._bar.relabel(f"Comparing {MEDIA_NOUNS[kind]}s")
            groups += _form_groups(chosen, indexes)
        return groups

    def _contents(self) -> list[_Content]:
        """Return the files by their bytes; only those whose sizes are equal are read."""
        by_size: dict[tuple[str, int], list[ListedFile]] = defaultdict(list)
        for file in self._listing.files:
            if file.size:
                by_size[file.kind, file.size].append(file)
            else:
                self._add_problem(file, f"{file.name} is empty (0 bytes).")
        alike = [file for files in by_size.values() if len(files) > 1 for file in files]
        self._bar.set_total(len(alike))
        contents: dict[object, list[ListedFile]] = {files[0]: files for files in by_size.values() if len(files) == 1}
        for result in read_values(alike, DIGEST_RULE, read_digest, self._cache):
            self._bar.advance(1, 0)
            if result.problem:
                self._add_problem(result.file, result.problem)
            else:
                contents.setdefault((result.file.kind, result.value), []).append(result.file)
        return [_Content(sorted(files, key=lambda file: DuplicateFile(file).rank)) for files in contents.values()]

    def _read_facts(self, contents: Iterable[_Content]) -> None:
        """Read what files look like: of those with the same bytes, one."""
        chosen = {content.files[0]: content for content in contents}
        self._bar.set_total(int(self._bar.texts) + len(chosen))
        if find_spec("av") is None and (videos := [file for file in chosen if file.kind == VIDEOS]):
            count = count_of(len(videos), "video")
            self._on_warning(f"{count} are compared by bytes alone: pip install 'nearfield[video]'")
            chosen = {file: content for file, content in chosen.items() if file.kind != VIDEOS}
        for result in read_values(chosen, FACTS_RULE, read_facts, self._cache):
            self._bar.advance(1, 0)
            if result.problem:
                for file in chosen[result.file].files:
                    self._add_problem(file, result.problem.replace(result.file.name, file.name))
            else:
                chosen[result.file].facts = MediaFacts.from_bytes(result.value)

    def _vectors(self, encoder: Encoder, contents: Sequence[_Content]) -> np.ndarray:
        """Return the vectors of files, with zeros for those that cannot be read."""
        self._bar.relabel("Encoding")
        files = [content.files[0] for content in contents]
        readable = [place for place, file in enumerate(files) if file.name not in self._listing.problems]
        self._bar.set_total(int(self._bar.texts) + len(readable))
        part = encode_files(
            encoder, [files[place] for place in readable], self._cache, lambda done: self._bar.advance(done, 0)
        )
        for file, problem in part.problems.items():
            self._add_problem(file, problem)
        rows = np.zeros((len(files), part.rows.shape[1]), np.float32)
        rows[readable] = part.rows
        return rows

    def _add_problem(self, file: ListedFile, problem: str) -> None:
        self._listing.problems[file.name] = problem


def _to_paths(folders: Folders) -> list[Path]:
    several = [folders] if isinstance(folders, (str, os.PathLike)) else folders
    if not isinstance(several, (list, tuple)) or not all(isinstance(path, (str, os.PathLike)) for path in several):
        raise InputError(f"folders must be a path or a list of paths, and is {describe(folders)}.", param="folders")
    return [Path(path) for path in several]


def _open_model(model: str | Encoder | None, listing: FolderListing, *, accept_license: bool) -> Encoder | None:
    """Return the encoder; it must read files of one of the kinds that there are.

    Raises:
        InputError: it reads none of them.
    """
    if model is None:
        return None
    kinds = {file.kind for file in listing.files}
    # In this process: a server does not say which of several files it cannot read.
    encoder = model if isinstance(model, Encoder) else Encoder(model, accept_license=accept_license)
    if kinds and not kinds.intersection(encoder.modalities):
        nouns = " and ".join(f"{MEDIA_NOUNS[kind]}s" for kind in MEDIA_SUFFIXES if kind in kinds)
        known = SOUNDS if kinds == {SOUNDS} else PICTURES
        raise InputError(
            f"{encoder.name} does not read {nouns}. Models that do: nearfield models list --input {known}.",
            param="model",
        )
    return encoder


def _add_hashes(index: _HashIndex, contents: Iterable[_Content]) -> None:
    """Add what files look like to an index, in order; what has no hash has no copies."""
    for content in contents:
        frames = tuple(map(PictureHash.from_bytes, content.facts.frames))
        if isinstance(index, VideoHashIndex):
            index.add(VideoHash(content.facts.seconds, frames))
        else:
            index.add(frames[0] if frames else PictureHash.blank())


def _form_groups(contents: Sequence[_Content], indexes: dict[str, CopyIndex]) -> list[DuplicateGroup]:
    """Return the groups of files of one kind."""
    order = np.array(sorted(range(len(contents)), key=lambda place: contents[place].best.rank), np.int64)
    links = group_copies(order, indexes)
    copies: dict[int, list[DuplicateFile]] = defaultdict(list)
    for number in order.tolist():
        link = links.get(number)
        copies[number if link is None else link.original] += _copies_of(contents[number], link)
    return [DuplicateGroup(contents[number].best, tuple(rest)) for number, rest in copies.items() if rest]


def _copies_of(content: _Content, link: CopyLink | None) -> list[DuplicateFile]:
    """Return the files of one content: all but the first if they are copies of it, all if they are near another."""
    first, *others = content.files
    relation, value = (EXACT, None) if link is None else (link.measure, link.value)
    size = content.facts.width, content.facts.height
    nodes = {(first.device, first.inode)}
    copies = [] if link is None else [DuplicateFile(first, *size, relation, value)]
    for file in others:
        node = file.device, file.inode
        copies.append(DuplicateFile(file, *size, relation, value, first, node in nodes))
    return copies
