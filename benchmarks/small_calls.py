"""Cost of small calls and of equal texts, of two commits in turns: ``python -m benchmarks.small_calls BEFORE``.

Each tree has one process, which loads three models of random weights: one of MiniLM's shape, a cross-encoder of that
shape, and a static one of 30,000 x 256. The processes run each workload for a moment, in turns, for many rounds. The
table has the medians of the processor's time and of the time that passed, in microseconds an input, and the ratio
before / after of each (median over rounds): above 1 the working tree is faster. Other programs add little to the
processor's time. ``engine`` is the queue alone, with a model that costs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commits import ROOT, checkout, environment

#: Seconds of a workload in a round.
_SECONDS = 0.25


class FreeRunner:
    """A model whose vectors cost nothing."""

    name, width, batch_tokens, shared_length = "free", 2, 1024, 64

    def create_lane_function(self) -> Callable[[Any], Any]:
        return lambda batch: np.zeros((len(batch.jobs), 2), np.float32)


def write_models(home: Path) -> None:
    """Write the folders ``minilm``, ``rerank`` and ``static``."""
    from model2vec import StaticModel
    from safetensors.numpy import load_file, save_file
    from tokenizers import Tokenizer, processors

    from nearfield.evaluation.performance.workloads import words
    from nearfield.testing import write_tiny_model

    known = sorted({word.strip(".,;:!?\"'()_").lower() for word in words()})
    known += [f"word{number}" for number in range(30_000 - len(known))]
    folder = write_tiny_model(
        home / "minilm", size=384, layers=6, heads=12, inner=1536, length=256, spread=0.05, words=known
    )
    tokenizer, weights = Tokenizer.from_file(str(folder / "tokenizer.json")), load_file(folder / "model.safetensors")
    vectors = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 256)).astype(np.float32)
    StaticModel(vectors, tokenizer, normalize=True, max_length=512).save_pretrained(home / "static")
    (home / "rerank").mkdir()
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "relevance"}, "num_labels": 1}
    (home / "rerank" / "config.json").write_text(json.dumps(config))
    shutil.copy(folder / "tokenizer_config.json", home / "rerank")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(home / "rerank" / "tokenizer.json"))
    head = {"bert.pooler.dense.weight": np.eye(384), "bert.pooler.dense.bias": np.zeros(384)}
    head |= {"classifier.weight": np.ones((1, 384)) / 384, "classifier.bias": np.zeros(1)}
    named = {f"bert.{name}": value for name, value in weights.items()}
    save_file(
        named | {name: value.astype(np.float32) for name, value in head.items()}, home / "rerank" / "model.safetensors"
    )


def workloads(home: Path, stack: ExitStack) -> dict[str, Callable[[], int]]:
    """Load the models; return functions that run a workload once and return the number of its inputs."""
    from nearfield import Encoder, Reranker
    from nearfield.engine.engine import Engine, Ticket
    from nearfield.evaluation.performance import workloads as texts_of

    minilm, static = (stack.enter_context(Encoder(str(home / name))) for name in ("minilm", "static"))
    reranker = stack.enter_context(Reranker(str(home / "rerank")))
    texts = list(dict.fromkeys(text for seed in range(4) for text in texts_of.texts("short", seed=seed)))
    single = itertools.cycle(texts)
    windows = itertools.cycle([texts[at : at + 256] for at in range(0, len(texts) - 256, 256)])
    engine, runner = Engine(lanes=2), FreeRunner()
    stack.callback(engine.close)
    ids = [[number, *range(100, 115)] for number in range(4096)]
    loop = asyncio.new_event_loop()
    stack.callback(loop.close)

    def encode(encoder: Any, batch: Any) -> int:
        encoder.encode(batch, show_progress_bar=False)
        return 1 if isinstance(batch, str) else len(batch)

    def awaited(encoder: Any, batch: Any) -> int:
        loop.run_until_complete(encoder.aencode(batch))
        return 1

    def rank() -> int:
        documents = next(windows)[:20]
        reranker.score(documents[0][:40], documents)
        return 1

    def queue() -> int:
        engine.submit(Ticket.from_ids(runner, ids)).result(30)
        return len(ids)

    def equal(encoder: Any, times: int) -> int:
        return encode(encoder, [text for text in next(windows)[: 256 // times] for _ in range(times)])

    return {
        "one text, MiniLM": lambda: encode(minilm, next(single)),
        "one text, MiniLM, aencode": lambda: awaited(minilm, next(single)),
        "one text, static": lambda: encode(static, next(single)),
        "one query, 20 documents": rank,
        "256 texts, MiniLM": lambda: encode(minilm, next(windows)),
        "256 texts, half equal": lambda: equal(minilm, 2),
        "256 texts, 16 of each": lambda: equal(minilm, 16),
        "256 texts, static": lambda: encode(static, next(windows)),
        "8,000 texts, static": lambda: encode(static, texts),
        "engine, 4,096 inputs": queue,
    }


def serve(home: Path) -> None:
    """Run the workload of each line for a moment, and print its times in microseconds an input."""
    answers, sys.stdout = sys.stdout, sys.stderr
    with ExitStack() as stack:
        known = workloads(home, stack)
        for run in known.values():
            run()
        print(json.dumps(list(known)), file=answers, flush=True)
        for line in sys.stdin:
            run, count = known[line.strip()], 0
            run()
            started, cpu = time.perf_counter(), time.process_time()
            while time.perf_counter() - started < _SECONDS:
                count += run()
            spent = time.process_time() - cpu, time.perf_counter() - started
            print(json.dumps([seconds / count * 1e6 for seconds in spent]), file=answers, flush=True)


def ask(process: subprocess.Popen[str], line: str) -> Any:
    """Send a workload's name to a process; return its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return json.loads(process.stdout.readline())


def rows(processes: list[subprocess.Popen[str]], names: list[str], rounds: int) -> Iterator[str]:
    """Yield the rows of the table."""
    times: dict[str, list[list[list[float]]]] = {name: [] for name in names}
    for number in range(rounds):
        order = [0, 1] if number % 2 == 0 else [1, 0]
        for name in names:
            pair = {which: ask(processes[which], name) for which in order}
            times[name].append([pair[0], pair[1]])
    for name in names:
        cells = []
        for kind in (0, 1):
            medians = [statistics.median(one[which][kind] for one in times[name]) for which in (0, 1)]
            ratio = statistics.median(one[0][kind] / one[1][kind] for one in times[name])
            cells.append(f"{medians[0]:,.1f} | {medians[1]:,.1f} | {ratio:.2f}")
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.small_calls", description=__doc__)
    parser.add_argument("before", help="git revision to compare with; or a folder of models, with --serve")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="names of workloads")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(Path(options.before))
    with tempfile.TemporaryDirectory() as place, checkout(options.before) as before, ExitStack() as stack:
        write_models(Path(place))
        command = [sys.executable, "-m", "benchmarks.small_calls", "--serve", place]
        processes = [
            subprocess.Popen(
                command, cwd=ROOT, env=environment(tree), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for tree in (before, ROOT)
        ]
        for process in processes:
            stack.callback(process.wait, 30)
            stack.callback(process.stdin.close)  # type: ignore[union-attr]
        known, _ = (ask(process, "") for process in processes)  # when they have loaded their models
        names = [name for name in known if not options.only or name in options.only]
        print("| workload | processor, before | after | ratio | passed, before | after | ratio |")
        print("|---|---|---|---|---|---|---|")
        for row in rows(processes, names, options.rounds):
            print(row, flush=True)
    return None


if __name__ == "__main__":
    main()
