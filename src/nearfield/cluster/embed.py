"""Entry of bulk embedding on a Ray cluster: the same plan, shards, records and report as on one machine."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, cast

import nearfield
from nearfield.bulk import embed as bulk
from nearfield.bulk.media_files.detection import MediaLayout, find_media
from nearfield.bulk.report import ClusterReport, EmbedReport, Forecast
from nearfield.bulk.shard_encoder import ShardTask
from nearfield.bulk.shard_plan import Shard
from nearfield.bulk.text_source import STDIN
from nearfield.cluster.model_parcel import ModelParcel
from nearfield.cluster.ray_jobs import EmbedJob, RayJobs
from nearfield.cluster.ray_runtime import check_address, check_jobs_address, connected, import_ray
from nearfield.cluster.shard_driver import START_SECONDS, ShardDriver
from nearfield.cluster.shard_worker import WorkerOrder
from nearfield.cluster.worker_options import NodeSize, WorkerSize, plan_workers
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.fileio.s3.path import S3Path, parse_location
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.inference.uncompiled_model import ReadModelKeywords, read_model
from nearfield.progress import Progress


@dataclass(frozen=True)
class ClusterOptions:
    """Where shards are encoded.

    Attributes:
        address: ``auto``, ``local``, HOST:PORT or ray://HOST:PORT.
        workers: the number of workers; None: as many as fit.
        per_worker: what each gets, such as ``cpus=2`` or ``cpus=2,gpus=0.5``.
        start_seconds: seconds to wait for the first worker.
    """

    address: str
    workers: int | None = None
    per_worker: str | None = None
    start_seconds: float = START_SECONDS

    def check(self) -> None:
        """Check what can be checked without a cluster.

        Raises:
            InputError: an option is wrong.
            MissingExtra: Ray is not installed.
        """
        check_address(self.address)
        self.check_workers()
        import_ray()

    def check_workers(self) -> None:
        """Raise InputError for a wrong number or size of workers."""
        WorkerSize.parse(self.per_worker)
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers is at least 1, not {self.workers}.", param="workers")


def embed(
    request: bulk.EmbedRequest, cluster: ClusterOptions, *, on_warning: Callable[[str], None] = lambda _: None
) -> EmbedReport | Forecast:
    """Encode a data set into a folder of shards on a cluster, and return the report.

    A folder that was begun here can be finished on one machine, and the reverse. All machines must see the inputs and
    the output at the same paths, or reach them on S3 by the variables of their environment.

    Raises:
        InputError: an option, an input or the output is wrong.
        MissingExtra: Ray is not installed.
        ClusterFailed: the cluster cannot be used.
    """
    check(request)
    cluster.check()
    with ExitStack() as stack:

        def create_runner(encoder: Encoder, loading: LoadKeywords) -> ClusterRunner:
            loaded = replace(request, loading=loading)
            return ClusterRunner(stack.enter_context(connected(cluster.address)), loaded, encoder, cluster)

        # Paths of pictures may be ids: they stay as they were written.
        whole = replace(request, output=whole_paths(request).output)
        return bulk.embed(whole, on_warning=on_warning, create_runner=create_runner)


def submit(request: bulk.EmbedRequest, cluster: ClusterOptions, words: Sequence[str]) -> tuple[EmbedJob, bool]:
    """Submit a run as a job of a cluster, and return the job and whether it is new.

    Args:
        request: the run, of which only what needs no cluster is checked here.
        cluster: where it runs.
        words: the arguments of ``nearfield`` for the job, with paths that mean the same on the head node.

    Raises:
        InputError: an option or the output is wrong, or another job writes to the folder.
        MissingExtra: Ray is not installed, or a part of it that jobs need.
        ClusterFailed: the cluster has no dashboard that can be used.
    """
    check_jobs_address(cluster.address)
    check(request)
    if STDIN in request.inputs:
        raise InputError("A job has no stdin: save it to a file that the head node sees.", param="inputs")
    if request.folder.dry_run:
        raise InputError("--dry-run is done at once: leave --detach out.", param="detach")
    _check_ids(request)
    cluster.check_workers()
    return RayJobs.connect(cluster.address).submit(words, parse_location(whole_paths(request).output))


def _check_ids(request: bulk.EmbedRequest) -> None:
    """Raise InputError if paths are ids that a job would write in another way."""
    inputs = [path for path in request.inputs if not isinstance(path, S3Path)]
    if len(request.inputs) == 1 and all(path.is_dir() for path in inputs):
        return
    media = find_media(inputs, request.form, request.media)
    if media is not None and media.layout is MediaLayout.FILES and not all(path.is_absolute() for path in inputs):
        raise InputError(
            "The ids of these files are their paths, which a job knows from the root on: name one folder, or absolute "
            "paths.",
            param="inputs",
        )


def check(request: bulk.EmbedRequest) -> None:
    """Raise InputError for a run that a cluster cannot do."""
    if not bulk.is_folder(request.output):
        raise InputError(
            f"--ray writes a folder of shards: end the name of the output with a slash, {request.output}/.",
            param="output",
        )
    if request.folder.shard is not None:
        raise InputError("--ray divides the shards itself: leave --shard out.", param="shard")


def whole_paths(request: bulk.EmbedRequest) -> bulk.EmbedRequest:
    """Return a request whose paths mean the same in the working directory of a worker."""
    inputs = [path if isinstance(path, S3Path) or path == STDIN else path.absolute() for path in request.inputs]
    slash = "/" if request.output.endswith("/") else ""
    output = parse_location(request.output)
    whole = output if isinstance(output, S3Path) else output.absolute()
    return replace(request, inputs=inputs, output=f"{whole}{slash}")


class ClusterRunner:
    """Encodes shards on a cluster."""

    def __init__(self, ray: Any, request: bulk.EmbedRequest, encoder: Encoder, cluster: ClusterOptions) -> None:
        self._ray = ray
        self._request = request
        self._encoder = encoder
        self._cluster = cluster

    def encode(
        self, shards: Sequence[Shard], task: ShardTask, progress: Progress, on_written: Callable[[Shard], None]
    ) -> ClusterReport:
        """Encode shards; ``on_written`` is called with each that this run wrote."""
        if not shards:
            return ClusterReport()
        nodes = [_size(node["Resources"]) for node in self._ray.nodes() if node["Alive"]]
        plan = plan_workers(nodes, WorkerSize.parse(self._cluster.per_worker), self._cluster.workers)
        order = self._order(task, plan.cpus)
        driver = ShardDriver(self._ray, plan, order, progress, on_written, start_seconds=self._cluster.start_seconds)
        return driver.run(shards)

    def _order(self, task: ShardTask, cpus: int) -> WorkerOrder:
        """Return what workers need. Their batches are divided among as many streams as here: then bytes are equal."""
        loading = self._request.loading
        names = ReadModelKeywords.__optional_keys__
        reading = cast(ReadModelKeywords, {name: value for name, value in loading.items() if name in names})
        model = read_model(self._request.model, **reading)
        computing = {name: value for name, value in loading.items() if name not in names}
        precision = "float32" if self._encoder.precision == "float32" else "auto"
        own = {"devices": None, "threads": cpus, "streams": self._encoder.engine.lanes}  # devices are of this machine
        options = {**computing, "precision": precision, **own}
        return WorkerOrder(
            secrets.token_hex(8), task, ModelParcel.pack(model), cast(LoadKeywords, options), self._encoder.precision,
            nearfield.__version__,
        )  # fmt: skip


def _size(resources: dict[str, float]) -> NodeSize:
    return NodeSize(resources.get("CPU", 0.0), resources.get("GPU", 0.0))
