"""``nearfield embed --ray`` on simulated nodes: ``python -m benchmarks.cluster [--only NAME ...] [--rows N]``.

Texts say how long the encoder of a worker sleeps (``tests/support/cluster_faults.py``), so that figures are those of
the cluster and not of the processor. Each fault is repeated in one run of many shards, at random moments; then the
folder is compared byte for byte with one that was written without a cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from nearfield.bulk import embed as bulk
from nearfield.bulk.embed import EmbedRequest, FolderOptions
from nearfield.bulk.report import FolderReport
from nearfield.cluster.embed import ClusterOptions, embed
from nearfield.cluster.shard_driver import ShardDriver
from nearfield.hardware import cpu_name
from nearfield.testing import write_tiny_model
from tests.support.cluster_faults import DEADLY, SLEEP
from tests.support.simulated_cluster import add_node, simulated_cluster

ROWS_PER_SHARD = 10
#: Pairs of runs that are compared, of which the median counts.
_PAIRS = 5


class Bench:
    """A cluster (None: the check needs none), a model, and a data set for each measurement."""

    def __init__(self, place: Path, cluster: Any, options: argparse.Namespace) -> None:
        self.place, self.cluster, self.times, self.rows = place, cluster, options.times, options.rows
        self.pairs = options.pairs
        self.model = options.model or str(write_tiny_model(place / "tiny"))
        self.draw = random.Random(1)

    def write(self, name: str, shards: int, seconds: float, special: dict[int, str] | None = None) -> Path:
        """Write rows for so many shards that take so many seconds each."""
        path = self.place / f"{name}.jsonl"
        nap = f"{SLEEP}{seconds / ROWS_PER_SHARD:.4f}"
        with path.open("w", encoding="utf-8") as file:
            for at in range(shards * ROWS_PER_SHARD):
                file.write(json.dumps({"id": at, "text": f"the cat {nap} {(special or {}).get(at, at % 7)}"}) + "\n")
        os.utime(path, (time.time() - 60,) * 2)
        return path

    def request(self, path: Path, output: str) -> EmbedRequest:
        """Return a request of a data set to a folder."""
        folder = FolderOptions(shard_rows=ROWS_PER_SHARD)
        options = {"precision": "float32", "compile_cache": False}
        return EmbedRequest(
            inputs=[path], output=f"{self.place / output}/", model=self.model, id_field="id", folder=folder,
            loading=options,  # type: ignore[arg-type]
        )  # fmt: skip

    def run(self, path: Path, output: str, workers: int) -> FolderReport:
        """Encode on the cluster."""
        report = embed(self.request(path, output), ClusterOptions(self.cluster.address, workers, "cpus=1"))
        assert isinstance(report, FolderReport)
        return report

    def differences(self, path: Path, output: str) -> str:
        """Compare a folder with one written here, and return what is wrong, or 'equal'."""
        bulk.embed(self.request(path, f"{output}-alone"))
        folders = [self.place / name for name in (output, f"{output}-alone")]
        files = [{file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} for folder in folders]
        drafts = list((folders[0] / "_shards").glob("drafts-*"))
        return "equal, no drafts" if files[0] == files[1] and not drafts else f"DIFFERENT {drafts}"


def efficiency(bench: Bench) -> dict[str, float]:
    """Return the speed at 2 and 4 workers as a share of the ideal, from the first result to the last."""
    rates = {}
    for workers in (1, 2, 4):
        path = bench.write(f"efficiency{workers}", 16 * workers, 1.0)
        with result_times() as times:
            bench.run(path, f"efficiency{workers}", workers)
        rates[workers] = (len(times) - 1) / (times[-1] - times[0])
    return {f"{workers} workers": round(rates[workers] / (workers * rates[1]), 3) for workers in (2, 4)}


def overhead(bench: Bench) -> dict[str, float]:
    """Return the processor time and the time of the driver for each of 1,000 shards that cost next to nothing."""
    path = bench.write("overhead", 1000, 0.0)
    bench.run(bench.write("warm", 1, 0.0), "warm", 1)
    with result_times() as times, step_seconds() as steps:
        cpu = time.process_time()
        bench.run(path, "overhead", 4)
        cpu = time.process_time() - cpu
    return {
        "ms of processor a shard, planning included": round(cpu, 4),
        "ms in the driver a shard, without waiting": round(sum(steps) / len(times) * 1000, 2),
    }


def empty(bench: Bench) -> dict[str, float]:
    """Return the seconds to plan 100,000 shards of one row, and to find out that nothing is to do for them."""
    path = bench.place / "empty.jsonl"
    path.write_text("".join(json.dumps({"id": at, "text": "a"}) + "\n" for at in range(100_000)), encoding="utf-8")
    os.utime(path, (time.time() - 60,) * 2)
    code = f"""
import time; from pathlib import Path
from nearfield.bulk.input_table import InputTable
from nearfield.bulk.shard_plan import plan_shards
from nearfield.bulk.shard_directory import ShardDirectory
from nearfield.bulk.shard_writer import shard_file_names
from nearfield.bulk.storage.records import planned_fields
import json
home = Path({str(bench.place / "empty")!r}); state = home / "_shards"; state.mkdir(parents=True)
started = time.perf_counter()
plan = plan_shards(InputTable((Path({str(path)!r}),), id_field="id"), 1, typed=True)
print(time.perf_counter() - started)
folder = ShardDirectory(home); folder.set_schema({{}}, {{"model": "none"}}); folder.write_plan("k", plan)
for shard in plan.shards:
    name = shard_file_names("jsonl", shard.number)[0]
    (home / name).write_bytes(b"")
    record = {{**planned_fields(shard), "files": {{name: {{"bytes": 0, "digest": ""}}}}}}
    (state / f"{{shard.number:05d}}.json").write_text(json.dumps(record))
started = time.perf_counter()
plan = folder.plan("k")
todo = [shard for shard in plan.shards if not folder.has_shard(shard, "jsonl")]
assert not todo
folder.write_manifest(plan, "jsonl")
print(time.perf_counter() - started)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    planned, resumed = map(float, done.stdout.split())
    return {"seconds to plan": round(planned, 1), "seconds to resume": round(resumed, 1)}


def killed_workers(bench: Bench) -> dict[str, object]:
    """Kill workers at random moments of one run."""

    def kill() -> bool:
        pids = [pid for pid, name in processes() if name.startswith("ray::ShardWorker.encode")]
        if pids:
            os.kill(bench.draw.choice(pids), signal.SIGKILL)
        return bool(pids)

    return bench_faults(bench, "workers", kill, pause=(1.0, 6.0))


def killed_nodes(bench: Bench) -> dict[str, object]:
    """Remove nodes without warning at random moments of one run, and add another one for each."""

    def kill() -> bool:
        nodes = [node for node in bench.cluster.list_all_nodes() if node is not bench.cluster.head_node]
        bench.cluster.remove_node(bench.draw.choice(nodes), allow_graceful=False)
        add_node(bench.cluster)
        return True

    return bench_faults(bench, "nodes", kill, pause=(2.0, 15.0))


def stopped_nodes(bench: Bench) -> dict[str, object]:
    """Stop workers with SIGSTOP for 20 s at random moments of one run."""

    def stop() -> bool:
        pids = [pid for pid, name in processes() if name.startswith("ray::ShardWorker.encode")]
        if pids:
            pid = bench.draw.choice(pids)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(20)
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        return bool(pids)

    return bench_faults(bench, "stopped", stop, pause=(0.5, 2.0), times=max(1, bench.times // 6), seconds=20.0)


def bench_faults(
    bench: Bench,
    name: str,
    fault: Callable[[], bool],
    pause: tuple[float, float],
    times: int | None = None,
    seconds: float = 0.0,
) -> dict[str, object]:
    """Run shards of half a second until so many faults, which take ``seconds``, have happened; compare the bytes."""
    wanted, happened = times or bench.times, 0
    path = bench.write(name, max(60, round(wanted * (sum(pause) + 2 * seconds) * 2)), 0.5)
    with ThreadPoolExecutor(1) as threads:  # Ray adds nodes in the main thread alone
        run = threads.submit(bench.run, path, name, 2)
        while not wait([run], bench.draw.uniform(*pause)).done and happened < wanted:
            happened += fault()
        report = run.result()
    cluster = report.cluster
    assert cluster is not None
    again = {"retries": cluster.retries, "copies": cluster.copies, "set aside": len(cluster.set_aside)}
    return {"faults": happened, "shards": report.shards, **again, "bytes": bench.differences(path, name)}


def killed_drivers(bench: Bench) -> dict[str, object]:
    """Kill the command with SIGKILL at random moments, and repeat it, until it is done."""
    path = bench.write("drivers", 40, 0.5)
    kills = 0
    while True:
        process = subprocess.Popen(command(bench, path, "drivers"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        limit = bench.draw.uniform(4.0, 25.0) if kills < bench.times else None
        try:
            _, problem = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        if process.returncode:
            return {"kills": kills, "failed": problem.decode()[-500:]}
        if kills >= bench.times:
            return {"kills": kills, "bytes": bench.differences(path, "drivers")}
        for part in list((bench.place / "drivers").glob("part-*"))[::2]:
            part.unlink()  # more to do for the next one


def interrupted(bench: Bench) -> dict[str, object]:
    """Interrupt the command as Ctrl-C does, look at what it leaves, and repeat it."""
    path = bench.write("interrupted", 40, 0.5)
    process = subprocess.Popen(command(bench, path, "interrupted"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not list((bench.place / "interrupted").glob("part-*")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    drafts = list((bench.place / "interrupted" / "_shards").glob("drafts-*"))
    subprocess.run(command(bench, path, "interrupted"), check=True, capture_output=True)
    return {"code": process.returncode, "drafts": len(drafts), "bytes": bench.differences(path, "interrupted")}


def deadly(bench: Bench) -> dict[str, object]:
    """Encode a text that ends its process; say what the report says, and continue without it."""
    path = bench.write("deadly", 6, 0.1, {33: DEADLY})
    report = bench.run(path, "deadly", 2)
    assert report.cluster is not None
    os.truncate(path, 0)
    bench.write("deadly", 6, 0.1)
    bench.run(path, "deadly", 2)
    return {"report": report.cluster.set_aside, "then": bench.differences(path, "deadly")}


def plain(bench: Bench) -> dict[str, object]:
    """Return the throughput of ``--ray local --workers 1`` as a share of that of the plain command.

    Each pair of runs encodes the same short texts into empty folders, in turn. ``encoding`` compares the time that the
    reports state, in which a worker starts and loads the model; ``command`` also counts planning and Ray's start.
    """
    rows = bench.rows or 200_000
    path = write_short_texts(bench.place / "short.jsonl", rows)
    pairs = []
    for pair in range(bench.pairs):
        order = (False, True) if pair % 2 else (True, False)
        seconds = {on_ray: timed_command(bench, path, on_ray=on_ray) for on_ray in order}
        pairs.append([alone / ray for alone, ray in zip(seconds[False], seconds[True], strict=True)])
    shares = zip(("encoding", "command"), zip(*pairs, strict=True), strict=True)
    medians = {name: round(statistics.median(ratios), 3) for name, ratios in shares}
    return {"rows": rows, "pairs": len(pairs), "CPU": cpu_name(), "share of the plain command": medians}


def timed_command(bench: Bench, path: Path, *, on_ray: bool) -> tuple[float, float]:
    """Return the seconds of encoding and of the whole command, for a folder that is then removed."""
    words = ["embed", str(path), "-o", f"{bench.place}/timed/", "--model", bench.model, "--id-field", "id", "--json"]
    words += ["--quiet", *(["--ray", "local", "--workers", "1"] if on_ray else [])]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "nearfield.cli", *words], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    shutil.rmtree(bench.place / "timed")
    return json.loads(done.stdout)["seconds"], seconds


def memory(bench: Bench) -> dict[str, object]:
    """Return the peak memory of the driver at a hundredth, a tenth and all of the rows."""
    most = bench.rows or 10_000_000
    peaks = {}
    for rows in (most // 100, most // 10, most):
        path = write_short_texts(bench.place / "many.jsonl", rows)
        done = subprocess.run(
            memory_command(bench, path, max(1, most // 100)), capture_output=True, text=True, check=True
        )
        shutil.rmtree(bench.place / "many")
        peaks[f"{rows:,}"] = round(int(done.stdout.split()[-1]) / 1024)
        print(f"{rows:,} rows: {peaks[f'{rows:,}']} MB", file=sys.stderr, flush=True)
    return {"MB of the driver by rows": peaks, "growth": round(max(peaks.values()) / min(peaks.values()) - 1, 3)}


def memory_command(bench: Bench, path: Path, shard_rows: int) -> list[str]:
    """Return a command line that encodes rows on the cluster and prints the driver's peak memory in KiB."""
    # Not getrusage: its peak begins with that of the process that started this one.
    code = (
        "import re; from pathlib import Path; from nearfield.cli import app; app(standalone_mode=False);"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    words = [str(path), "-o", f"{bench.place}/many/", "--model", bench.model, "--id-field", "id", "--quiet"]
    words += ["--shard-rows", str(min(shard_rows, 100_000)), "--ray", bench.cluster.address]
    return [sys.executable, "-c", code, "embed", *words]


def write_short_texts(path: Path, rows: int) -> Path:
    """Write rows of about ten words, each with another id."""
    with path.open("w", encoding="utf-8") as file:
        for at in range(rows):
            file.write(f'{{"id": "n{at}", "text": "the cat sat on {"the mat " * (at % 4)}and saw bird {at % 97}"}}\n')
    os.utime(path, (time.time() - 60,) * 2)
    return path


def command(bench: Bench, path: Path, output: str) -> list[str]:
    """Return the command line of a run, with the faults of workers."""
    code = (
        "import ray, sys; from tests.support import cluster_faults; from nearfield.cli import main;"
        f"ray.init({bench.cluster.address!r}, log_to_driver=False, logging_level='ERROR',"
        " runtime_env={'worker_process_setup_hook': cluster_faults.install}); main()"
    )
    words = [str(path), "-o", f"{bench.place / output}/", "--model", bench.model, "--precision", "float32"]
    words += ["--id-field", "id", "--shard-rows", str(ROWS_PER_SHARD), "--ray", bench.cluster.address, "--quiet"]
    return [sys.executable, "-c", code, "embed", *words, "--workers", "2", "--per-worker", "cpus=1"]


def processes() -> Iterator[tuple[int, str]]:
    """Yield the processes that this one started, directly or not, with their names."""
    names, parents = {}, {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                names[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ").strip()
                parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                continue
    for pid, name in names.items():
        ancestor = pid
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid():
            yield pid, name


@contextmanager
def result_times() -> Iterator[list[float]]:
    """Yield a list that gets the time of each result."""
    times: list[float] = []
    settle = ShardDriver._settle

    def timed(self: ShardDriver, *arguments: Any) -> None:
        times.append(time.perf_counter())
        settle(self, *arguments)

    ShardDriver._settle = timed  # type: ignore[method-assign, assignment]
    try:
        yield times
    finally:
        ShardDriver._settle = settle  # type: ignore[method-assign]


@contextmanager
def step_seconds() -> Iterator[list[float]]:
    """Yield a list that gets the seconds of each step of the driver, those in ``ray.wait`` left out."""
    import ray

    steps: list[float] = []
    step, wait, waited = ShardDriver._step, ray.wait, [0.0]

    def timed_wait(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return wait(*arguments, **options)
        finally:
            waited[0] += time.perf_counter() - started

    def timed_step(self: ShardDriver) -> None:
        started, waited[0] = time.perf_counter(), 0.0
        step(self)
        steps.append(time.perf_counter() - started - waited[0])

    ShardDriver._step, ray.wait = timed_step, timed_wait  # type: ignore[method-assign]
    try:
        yield steps
    finally:
        ShardDriver._step, ray.wait = step, wait  # type: ignore[method-assign]


CHECKS: dict[str, tuple[int, Callable[[Bench], Any]]] = {
    "efficiency": (4, efficiency),
    "overhead": (4, overhead),
    "empty": (1, empty),
    "deadly": (2, deadly),
    "interrupted": (2, interrupted),
    "workers": (2, killed_workers),
    "nodes": (2, killed_nodes),
    "stopped": (2, stopped_nodes),
    "drivers": (2, killed_drivers),
    "plain": (0, plain),
    "memory": (2, memory),
}


def main() -> None:
    """Measure and print one line for each check."""
    parser = argparse.ArgumentParser(prog="benchmarks.cluster", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(CHECKS), default=list(CHECKS))
    parser.add_argument("--times", type=int, default=30, help="faults of each kind")
    parser.add_argument("--rows", type=int, help="rows of plain [200,000] and memory [10,000,000]")
    parser.add_argument("--pairs", type=int, default=_PAIRS, help="runs of each command by plain")
    parser.add_argument("--model", help="the model [a tiny one with random weights]")
    options = parser.parse_args()
    for name in options.only:
        nodes, check = CHECKS[name]
        with tempfile.TemporaryDirectory() as place, simulated_cluster(nodes) if nodes else nullcontext() as cluster:
            started = time.perf_counter()
            result = check(Bench(Path(place), cluster, options))
            print(f"{name:12} {json.dumps(result)}  ({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
