"""Entry of bulk embedding: from an `EmbedRequest` to one file of vectors or to a folder of shards."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

from nearfield.attach import open_encoder
from nearfield.bulk.file_job import OUTPUT_FORMATS, FileJob, check_output
from nearfield.bulk.input_table import InputTable, RowSource, expand_locations
from nearfield.bulk.media_files.detection import TAR, MediaInputs, MediaLayout, find_media, unread_media
from nearfield.bulk.media_files.file_rows import MediaFiles
from nearfield.bulk.media_files.media_row import MediaReading
from nearfield.bulk.media_files.media_table import MediaTable
from nearfield.bulk.media_files.picture_source import PictureSource
from nearfield.bulk.media_files.sound_source import SoundRows
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, PICTURES, SOUNDS, VIDEOS
from nearfield.bulk.media_files.tar_rows import tar_rows
from nearfield.bulk.media_files.video_source import VideoOptions, VideoRows
from nearfield.bulk.preflight import Sharding, ShardRequest, parse_share
from nearfield.bulk.report import EmbedReport, Forecast
from nearfield.bulk.row_files.vector_rows import output_kind
from nearfield.bulk.shard_job import ShardJob, ShardRunner
from nearfield.bulk.storage.shard_bucket import ShardBucket
from nearfield.bulk.text_source import STDIN, TextSource
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.fileio.output_path import probe_writing, probe_writing_file
from nearfield.fileio.s3.matching import listed
from nearfield.fileio.s3.path import Location, S3Path, parse_location
from nearfield.inference.encode_options import EncodeKeywords
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.media.fetch import FetchPolicy
from nearfield.progress import Shown

#: Called with an encoder and the keywords with which it was loaded.
CreateRunner: TypeAlias = Callable[[Encoder, LoadKeywords], ShardRunner]


@dataclass(frozen=True)
class FolderOptions:
    """Options that only a folder of shards has; see ``nearfield embed --help``."""

    keep: Sequence[str] | None = None
    shard_format: str | None = None
    shard_rows: int | None = None
    shard: str | None = None
    check: bool = False
    dry_run: bool = False
    retry_set_aside: bool = False

    def first_set(self) -> str | None:
        """Return the name of the first option that was set, or None."""
        return next((name for name, value in vars(self).items() if value not in (None, False)), None)


@dataclass(frozen=True)
class EmbedRequest:
    """One run of bulk embedding.

    Attributes:
        inputs: files, folders and patterns, also of objects on S3; ``-`` is stdin.
        output: the file to write, or a folder of shards if it ends in a slash; on S3 always a folder.
        model: the model's name.
        form: the format of the inputs, ``image``, ``video`` or ``audio`` for such files; None chooses by their names.
        media: the kind of the items of a table or of tars, ``image``, ``video`` or ``audio``.
        field: the field or column of the texts or items; None stands for ``text``, or for what ``media`` is.
        id_field: the field or column of the ids.
        options: how to encode, as keywords of ``Encoder.encode``.
        loading: how to load the model, as keywords of ``Encoder``.
        folder: options of a folder of shards.
        skip_unreadable: leave pictures, videos or sounds that cannot be read out of a file of vectors.
        fetching: which addresses of a table's items are fetched.
        videos: which parts and frames of videos, and which parts of sounds, are read.
        restart: ignore what an earlier run has written.
        shown: show a progress bar, or lines.
    """

    inputs: Sequence[Location]
    output: str
    model: str
    form: str | None = None
    media: str | None = None
    field: str | None = None
    id_field: str | None = None
    options: EncodeKeywords = dataclasses.field(default_factory=EncodeKeywords)
    loading: LoadKeywords = dataclasses.field(default_factory=LoadKeywords)
    folder: FolderOptions = FolderOptions()
    skip_unreadable: bool = False
    fetching: FetchPolicy = dataclasses.field(default_factory=FetchPolicy)
    videos: VideoOptions = dataclasses.field(default_factory=VideoOptions)
    restart: bool = False
    shown: Shown = False


def embed(
    request: EmbedRequest,
    *,
    on_warning: Callable[[str], None] = lambda _: None,
    create_runner: CreateRunner | None = None,
) -> EmbedReport | Forecast:
    """Encode a data set and return the report.

    Args:
        request: what to encode, how, and where to.
        on_warning: called with warnings about the model and the ids.
        create_runner: called with the loaded model and how it was loaded; returns what encodes the shards of a
            folder, if not this process.

    Raises:
        InputError: an option, an input or the output is wrong.
        OSError: the output cannot be written.
        StorageFull: the disk is full; what was completed stays.
    """
    _check_output(request)
    inputs = [listed(path) if isinstance(path, S3Path) else path for path in request.inputs]
    request = dataclasses.replace(request, inputs=inputs)
    if (media := find_media(inputs, request.form, request.media)) is not None:
        return _embed_media(request, media, on_warning, create_runner)
    if request.fetching.enabled:
        _refuse_option("media_urls", "tables of media (--media)")
    if (option := request.videos.first_set()) is not None:
        _refuse_option(option, "videos and sounds" if option == "segments" else "videos")
    if request.skip_unreadable:
        _refuse_option("skip_unreadable", "pictures, videos and sounds")
    if is_folder(request.output):
        return _embed_to_folder(request, on_warning, create_runner)
    return _embed_to_file(request, on_warning)


def is_folder(output: str) -> bool:
    """Return whether an output is a folder of shards: it ends in a slash, or exists and is not named like a file."""
    path = Path(output)
    named_file = path.suffix.removeprefix(".").lower() in OUTPUT_FORMATS
    return output.endswith(("/", os.sep)) or (path.is_dir() and not named_file)


def _check_output(request: EmbedRequest) -> None:
    """Raise InputError for a file of vectors on S3."""
    if isinstance(parse_location(request.output), S3Path) and not request.output.endswith("/"):
        raise InputError(
            f"{request.output}: on S3, the output is a folder of shards. End its name with a slash.", param="output"
        )


def _local(request: EmbedRequest) -> list[Path]:
    return [path for path in request.inputs if isinstance(path, Path)]


def _embed_media(
    request: EmbedRequest, media: MediaInputs, on_warning: Callable[[str], None], create_runner: CreateRunner | None
) -> EmbedReport | Forecast:
    _check_media(request, media)
    if request.form is None and media.layout is MediaLayout.FILES:
        for warning in unread_media(request.inputs, media.kind):
            on_warning(warning)
    loading: LoadKeywords = {**request.loading, "modalities": (media.kind,)}
    request = dataclasses.replace(request, loading=loading)
    if not is_folder(request.output):
        return _write_file(request, _media_source(request, media.kind, on_warning), on_warning)
    return _write_folder(request, _media_rows(request, media), on_warning, create_runner)


def _media_rows(request: EmbedRequest, media: MediaInputs) -> RowSource:
    """Return the rows of media for a folder of shards."""
    reading, output = MediaReading(media.kind, request.videos), parse_location(request.output)
    if media.layout is MediaLayout.FILES:
        return MediaFiles.expand(request.inputs, output, reading)
    keep = _keep(request)
    if media.layout is MediaLayout.TAR:
        return tar_rows(expand_locations(request.inputs, TAR, output), reading, request.field, keep)
    paths = _whole(expand_locations(request.inputs, request.form, output))
    field, policy = request.field or media.kind, dataclasses.replace(request.fetching, max_bytes=reading.max_bytes)
    return MediaTable(paths, request.form, field, request.id_field, keep, reading=reading, fetching=policy)


def _media_source(request: EmbedRequest, form: str, on_warning: Callable[[str], None]) -> PictureSource:
    inputs, output, skips = _local(request), Path(request.output), request.skip_unreadable
    if form == PICTURES:
        return PictureSource(inputs, output, skip_unreadable=skips, on_skipped=on_warning)
    if form == SOUNDS:
        return SoundRows(inputs, output, request.videos.segments, skip_unreadable=skips, on_skipped=on_warning)
    return VideoRows(inputs, output, request.videos, skip_unreadable=skips, on_skipped=on_warning)


def _check_media(request: EmbedRequest, media: MediaInputs) -> None:
    """Raise InputError for options that are not those of inputs of a kind and layout."""
    form, videos = media.kind, request.videos
    if form == PICTURES and videos.segments is not None:
        _refuse_option("segments", "videos and sounds")
    if form != VIDEOS and (option := dataclasses.replace(videos, segments=None).first_set()) is not None:
        _refuse_option(option, "videos")
    if request.fetching.enabled and media.layout is not MediaLayout.TABLE:
        raise InputError("--media-urls is for a column of addresses, and the inputs have none.", param="media_urls")
    if not is_folder(request.output):
        _check_media_file(request, media)
    if media.layout is MediaLayout.FILES:
        _check_media_files(request, form)
    elif videos.segments is not None:
        raise InputError("--segments is for files, not for tables and tars.", param="segments")
    if media.layout is MediaLayout.TAR and request.id_field is not None:
        raise InputError("The ids of samples are their keys: leave --id-field out.", param="id_field")


def _check_media_file(request: EmbedRequest, media: MediaInputs) -> None:
    """Raise InputError for what a single file of vectors cannot have."""
    is_remote = any(isinstance(path, S3Path) for path in request.inputs)
    if is_remote or media.layout is not MediaLayout.FILES:
        what = "Media on S3" if is_remote else "Tables and tars of media"
        raise InputError(
            f"{what} become a folder of shards: end the name with a slash, {request.output}/.", param="output"
        )
    _refuse_folder_options(request)


def _check_media_files(request: EmbedRequest, form: str) -> None:
    """Raise InputError for options of columns."""
    kind = f"{MEDIA_NOUNS[form]}s"
    if request.id_field is not None:
        raise InputError(f"The ids of {kind} are their paths: leave --id-field out.", param="id_field")
    option = "field" if request.field is not None else "keep" if _keep(request) else None
    if option is not None:
        raise InputError(f"--{option} is for columns, and files of {kind} have none.", param=option)


def _refuse_option(option: str, kinds: str) -> NoReturn:
    """Raise InputError for an option of other inputs."""
    raise InputError(f"--{option.replace('_', '-')} is for {kinds}, and the inputs are none.", param=option)


def _embed_to_file(request: EmbedRequest, on_warning: Callable[[str], None]) -> EmbedReport:
    _refuse_folder_options(request)
    paths = expand_locations(request.inputs, request.form, Path(request.output))
    source = TextSource(paths, request.form, request.field or "text", request.id_field)
    return _write_file(request, source, on_warning)


def _refuse_folder_options(request: EmbedRequest) -> None:
    """Raise InputError for options that only a folder of shards has."""
    option = request.folder.first_set()
    if option is not None:
        flag = "--" + option.replace("_", "-")
        raise InputError(
            f"{flag} needs a folder of shards: end the name of the output with a slash, {Path(request.output)}/.",
            param=option,
        )


def _write_file(
    request: EmbedRequest, source: TextSource | PictureSource, on_warning: Callable[[str], None]
) -> EmbedReport:
    output = Path(request.output)
    check_output(output, source)
    probe_writing_file(output)
    job = FileJob(_load(request, on_warning), source, output, request.options)
    return job.run(restart=request.restart, shown=request.shown, on_warning=on_warning)


def _embed_to_folder(
    request: EmbedRequest,
    on_warning: Callable[[str], None],
    create_runner: CreateRunner | None,
) -> EmbedReport | Forecast:
    paths = expand_locations(request.inputs, request.form, parse_location(request.output))
    paths = paths if create_runner is None else _whole(paths)
    source = InputTable(paths, request.form, request.field or "text", request.id_field, _keep(request))
    if request.folder.retry_set_aside:
        _refuse_option("retry_set_aside", "pictures, videos and sounds")
    return _write_folder(request, source, on_warning, create_runner)


def _keep(request: EmbedRequest) -> tuple[str, ...]:
    """Return the names of the columns to carry over."""
    return tuple(dict.fromkeys(name for names in request.folder.keep or () for name in names.split(",") if name))


def _whole(paths: Sequence[Location]) -> tuple[Location, ...]:
    """Return paths that mean the same in the working directory of another process."""
    return tuple(path.absolute() if isinstance(path, Path) and path != STDIN else path for path in paths)


def _write_folder(
    request: EmbedRequest,
    source: RowSource,
    on_warning: Callable[[str], None],
    create_runner: CreateRunner | None,
) -> EmbedReport | Forecast:
    options, output = request.folder, parse_location(request.output)
    share = (1, 1) if options.shard is None else parse_share(options.shard)
    sharding = Sharding(options.shard_format, options.shard_rows, share)
    _refuse_inputs_in_output(source.paths, output)
    if not options.dry_run:
        _probe_writing(output)
    task = ShardRequest(_load(request, on_warning), source, output, sharding, request.options)
    has_runner = create_runner is not None and not options.dry_run
    runner = create_runner(task.encoder, request.loading) if create_runner is not None and has_runner else None
    job = ShardJob(
        task,
        restart=request.restart,
        thorough=options.check,
        shown=request.shown,
        runner=runner,
        retries=options.retry_set_aside,
    )
    if job.warning is not None:
        on_warning(job.warning)
    return job.forecast() if options.dry_run else job.run()


def _load(request: EmbedRequest, on_warning: Callable[[str], None]) -> Encoder:
    encoder = open_encoder(request.model, **request.loading)
    output_kind(encoder, request.options)
    for warning in encoder.unlogged_warnings:
        on_warning(warning)
    return encoder


def _probe_writing(output: Location) -> None:
    if isinstance(output, S3Path):
        ShardBucket(output).probe()
    else:
        probe_writing(output)


def _refuse_inputs_in_output(paths: Sequence[Location | str], output: Location) -> None:
    places = (Path(path) if isinstance(path, str) else path for path in paths)
    inside = next((path for path in places if _is_within(path, output)), None)
    if inside is not None:
        raise InputError(f"{inside} is an input and lies in the folder of shards: write to another.", param="inputs")


def _is_within(path: Location, folder: Location) -> bool:
    if isinstance(path, S3Path) or isinstance(folder, S3Path):
        return isinstance(path, S3Path) and isinstance(folder, S3Path) and path.is_within(folder)
    return folder.resolve() in path.resolve().parents
