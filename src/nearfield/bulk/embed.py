"""Entry of bulk embedding: from an `EmbedRequest` to one file of vectors or to a folder of shards."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from nearfield.attach import open_encoder
from nearfield.bulk.file_job import OUTPUT_FORMATS, FileJob, check_output
from nearfield.bulk.input_table import InputTable, expand_locations
from nearfield.bulk.media_files.detection import media_form, unread_media
from nearfield.bulk.media_files.picture_source import PictureSource
from nearfield.bulk.media_files.sound_source import SoundRows
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, PICTURES, SOUNDS, VIDEOS
from nearfield.bulk.media_files.video_source import VideoOptions, VideoRows
from nearfield.bulk.preflight import Sharding, ShardRequest, parse_share
from nearfield.bulk.report import EmbedReport, Forecast
from nearfield.bulk.row_files.vector_rows import output_kind
from nearfield.bulk.shard_job import ShardJob, ShardRunner
from nearfield.bulk.storage.shard_bucket import ShardBucket
from nearfield.bulk.text_source import TextSource
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.fileio.output_path import probe_writing, probe_writing_file
from nearfield.fileio.s3.path import Location, S3Path, parse_location
from nearfield.inference.encode_options import EncodeKeywords
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.progress import Shown


@dataclass(frozen=True)
class FolderOptions:
    """Options that only a folder of shards has; see ``nearfield embed --help``."""

    keep: Sequence[str] | None = None
    shard_format: str | None = None
    shard_rows: int | None = None
    shard: str | None = None
    check: bool = False
    dry_run: bool = False

    def first_set(self) -> str | None:
        """Return the name of the first option that was set, or None."""
        return next((name for name, value in vars(self).items() if value not in (None, False)), None)


@dataclass(frozen=True)
class EmbedRequest:
    """One run of bulk embedding.

    Attributes:
        inputs: files, folders and patterns; ``-`` is stdin. Texts may be objects on S3.
        output: the file to write, or a folder of shards if it ends in a slash; on S3 always a folder.
        model: the model's name.
        form: the format of the inputs, ``image``, ``video`` or ``audio`` for such files; None chooses by their names.
        field: the field or column of the texts.
        id_field: the field or column of the ids.
        options: how to encode, as keywords of ``Encoder.encode``.
        loading: how to load the model, as keywords of ``Encoder``.
        folder: options of a folder of shards.
        skip_unreadable: leave out pictures, videos or sounds that cannot be read.
        videos: which parts and frames of videos, and which parts of sounds, are read.
        restart: ignore what an earlier run has written.
        shown: show a progress bar, or lines.
    """

    inputs: Sequence[Location]
    output: str
    model: str
    form: str | None = None
    field: str = "text"
    id_field: str | None = None
    options: EncodeKeywords = dataclasses.field(default_factory=EncodeKeywords)
    loading: LoadKeywords = dataclasses.field(default_factory=LoadKeywords)
    folder: FolderOptions = FolderOptions()
    skip_unreadable: bool = False
    videos: VideoOptions = dataclasses.field(default_factory=VideoOptions)
    restart: bool = False
    shown: Shown = False


def embed(
    request: EmbedRequest,
    *,
    on_warning: Callable[[str], None] = lambda _: None,
    create_runner: Callable[[Encoder], ShardRunner] | None = None,
) -> EmbedReport | Forecast:
    """Encode a data set and return the report.

    Args:
        request: what to encode, how, and where to.
        on_warning: called with warnings about the model and the ids.
        create_runner: called with the loaded model; returns what encodes the shards of a folder, if not this process.

    Raises:
        InputError: an option, an input or the output is wrong.
        OSError: the output cannot be written.
        StorageFull: the disk is full; what was completed stays.
    """
    _check_remote(request)
    if not is_remote(request) and (form := media_form(_local(request), request.form)) is not None:
        return _embed_media(request, form, on_warning)
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


def is_remote(request: EmbedRequest) -> bool:
    """Return whether an input or the output is on S3."""
    return any(isinstance(path, S3Path) for path in (*request.inputs, parse_location(request.output)))


def _check_remote(request: EmbedRequest) -> None:
    """Raise InputError for what cannot be on S3."""
    if (kind := MEDIA_NOUNS.get(request.form or "")) is not None and is_remote(request):
        raise InputError(f"{kind.capitalize()}s are not read from or written to S3: copy the files.", param="inputs")
    if isinstance(parse_location(request.output), S3Path) and not request.output.endswith("/"):
        raise InputError(
            f"{request.output}: on S3, the output is a folder of shards. End its name with a slash.", param="output"
        )


def _local(request: EmbedRequest) -> list[Path]:
    return [path for path in request.inputs if isinstance(path, Path)]


def _embed_media(request: EmbedRequest, form: str, on_warning: Callable[[str], None]) -> EmbedReport:
    _check_media(request, form)
    source = _media_source(request, form, on_warning)
    if request.form is None:
        for warning in unread_media(_local(request), form):
            on_warning(warning)
    loading: LoadKeywords = {**request.loading, "modalities": (form,)}
    return _write_file(dataclasses.replace(request, loading=loading), source, on_warning)


def _media_source(request: EmbedRequest, form: str, on_warning: Callable[[str], None]) -> PictureSource:
    inputs, output, skips = _local(request), Path(request.output), request.skip_unreadable
    if form == PICTURES:
        return PictureSource(inputs, output, skip_unreadable=skips, on_skipped=on_warning)
    if form == SOUNDS:
        return SoundRows(inputs, output, request.videos.segments, skip_unreadable=skips, on_skipped=on_warning)
    return VideoRows(inputs, output, request.videos, skip_unreadable=skips, on_skipped=on_warning)


def _check_media(request: EmbedRequest, form: str) -> None:
    """Raise InputError for options that are not those of inputs of a format."""
    kind, videos = f"{MEDIA_NOUNS[form]}s", request.videos
    if form == PICTURES and videos.segments is not None:
        _refuse_option("segments", "videos and sounds")
    if form != VIDEOS and (option := dataclasses.replace(videos, segments=None).first_set()) is not None:
        _refuse_option(option, "videos")
    if is_folder(request.output) or request.folder.first_set() is not None:
        raise InputError(
            f"{kind.capitalize()} are written to one file, not to shards: name a .parquet or .jsonl.", param="output"
        )
    if request.id_field is not None:
        raise InputError(f"The ids of {kind} are their paths: leave --id-field out.", param="id_field")


def _refuse_option(option: str, kinds: str) -> NoReturn:
    """Raise InputError for an option of other inputs."""
    raise InputError(f"--{option.replace('_', '-')} is for {kinds}, and the inputs are none.", param=option)


def _embed_to_file(request: EmbedRequest, on_warning: Callable[[str], None]) -> EmbedReport:
    output, option = Path(request.output), request.folder.first_set()
    if option is not None:
        flag = "--" + option.replace("_", "-")
        raise InputError(
            f"{flag} needs a folder of shards: end the name of the output with a slash, {output}/.", param=option
        )
    source = TextSource(
        expand_locations(request.inputs, request.form, output), request.form, request.field, request.id_field
    )
    return _write_file(request, source, on_warning)


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
    create_runner: Callable[[Encoder], ShardRunner] | None,
) -> EmbedReport | Forecast:
    options, output = request.folder, parse_location(request.output)
    share = (1, 1) if options.shard is None else parse_share(options.shard)
    sharding = Sharding(options.shard_format, options.shard_rows, share)
    keep = tuple(dict.fromkeys(name for names in options.keep or () for name in names.split(",") if name))
    paths = expand_locations(request.inputs, request.form, output)
    _refuse_inputs_in_output(paths, output)
    source = InputTable(paths, request.form, request.field, request.id_field, keep)
    if not options.dry_run:
        _probe_writing(output)
    task = ShardRequest(_load(request, on_warning), source, output, sharding, request.options)
    runner = create_runner(task.encoder) if create_runner is not None and not options.dry_run else None
    job = ShardJob(task, restart=request.restart, thorough=options.check, shown=request.shown, runner=runner)
    if job.warning is not None:
        on_warning(job.warning)
    return job.forecast() if options.dry_run else job.run()


def _load(request: EmbedRequest, on_warning: Callable[[str], None]) -> Encoder:
    encoder = open_encoder(request.model, **request.loading)
    output_kind(encoder, request.options)
    for warning in encoder.recipe.warnings:
        on_warning(warning)
    return encoder


def _probe_writing(output: Location) -> None:
    if isinstance(output, S3Path):
        ShardBucket(output).probe()
    else:
        probe_writing(output)


def _refuse_inputs_in_output(paths: Sequence[Location], output: Location) -> None:
    inside = next((path for path in paths if _is_within(path, output)), None)
    if inside is not None:
        raise InputError(f"{inside} is an input and lies in the folder of shards: write to another.", param="inputs")


def _is_within(path: Location, folder: Location) -> bool:
    if isinstance(path, S3Path) or isinstance(folder, S3Path):
        return isinstance(path, S3Path) and isinstance(folder, S3Path) and path.is_within(folder)
    return folder.resolve() in path.resolve().parents
