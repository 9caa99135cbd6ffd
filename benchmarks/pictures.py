"""Pictures per second from JPEG files to vectors, beside transformers and sentence-transformers; shares and memory.

Run as ``python -m benchmarks.pictures NAME FOLDER`` it is one engine, which answers requests in JSON lines.
Models have the shapes of ViT-B/32 and SigLIP-base, and random weights.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.throughput import ratio

OURS, REFERENCE = "nearfield float32", "transformers"
#: Width, height and number of the files: pictures of web pages, and of telephones (12 megapixels).
FILES = {"web": (640, 427, 96), "phone": (4000, 3000, 16)}
CAPTIONS = (
    "a red fox jumps over the lazy dog",
    "the moon and a star",
    "one small house of stone by the river at night",
)
#: Pictures of one batch of the others.
BATCH = 32
#: Photos of the test of memory.
PHOTOS = 10_000


class PictureContender:
    """An engine in its own process."""

    def __init__(self, name: str, folder: Path, files: Sequence[Path]) -> None:
        command = [sys.executable, "-m", "benchmarks.pictures", name, str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.sample = np.array(self.ask("sample", files[:4])["vectors"])

    def ask(self, work: str, items: Sequence[object]) -> Any:
        """Return the answer to one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"work": work, "items": list(map(str, items))}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return pictures/s and texts/s of each engine, ratios within a round, shares of CPU time, and memory."""
    with tempfile.TemporaryDirectory() as place:
        files = {name: _photos(Path(place), name, quick=quick) for name in FILES}
        texts = [f"{CAPTIONS[number % 3]} {number % 97}" for number in range(64 if quick else 1024)]
        found: dict[str, Any] = {"ratios": {}, "per_second": {}, "shares": {}}
        for shape, write in {"ViT-B/32": write_clip, "SigLIP-base": write_siglip}.items():
            folder = write(Path(place) / shape.replace("/", "-"))
            for part, values in _compare(shape, folder, files, texts, rounds).items():
                found[part].update(values)
        found["memory"] = _memory(Path(place) / "ViT-B-32", files["web"], 200 if quick else PHOTOS)
        return found


def write_clip(folder: Path) -> Path:
    """Write a model of CLIP ViT-B/32's shape, with a small vocabulary."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    from tests.support import tiny_towers

    text = json.loads((tiny_towers.clip_with_tokenizer(folder) / "config.json").read_text())["text_config"]
    ids = {name: text[name] for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    return _replace(folder, CLIPModel(CLIPConfig(text_config=ids)), CLIPImageProcessorPil())


def write_siglip(folder: Path) -> Path:
    """Write a model of SigLIP-base-patch16-224's shape, with a small vocabulary."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    from tests.support import tiny_towers

    text = json.loads((tiny_towers.siglip2_with_tokenizer(folder) / "config.json").read_text())["text_config"]
    model = SiglipModel(SiglipConfig(text_config={"vocab_size": text["vocab_size"]}))
    return _replace(folder, model, SiglipImageProcessorPil())


def _replace(folder: Path, model: Any, processor: Any) -> Path:
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    length = model.config.text_config.max_position_embeddings
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": length}))
    return folder


def _photos(place: Path, name: str, *, quick: bool) -> list[Path]:
    """Write JPEG files with edges, gradients and the noise of a camera."""
    from PIL import Image

    from tests.support.odd_pictures import smooth

    width, height, count = FILES[name]
    files = []
    for number in range(max(2, count // 12) if quick else count):
        pixels = np.asarray(smooth(width, height, number), np.int16)
        noise = np.random.default_rng(number).integers(-6, 7, pixels.shape, np.int16)
        files.append(place / f"{name}{number}.jpg")
        Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(files[-1], quality=88)
    return files


def _compare(
    shape: str, folder: Path, files: dict[str, list[Path]], texts: list[str], rounds: int
) -> dict[str, dict[str, Any]]:
    """Return ratios, pictures or texts per second, and shares of one model."""
    contenders = {name: PictureContender(name, folder, files["web"]) for name in ENGINES}
    require_same({name: contender.sample for name, contender in contenders.items()})
    works: dict[str, tuple[str, Sequence[object]]] = {name: ("pictures", items) for name, items in files.items()}
    works["texts"] = ("texts", texts)
    speeds: dict[str, dict[str, list[float]]] = {work: {name: [] for name in contenders} for work in works}
    for number, (work, (kind, items)), name in itertools.product(range(rounds + 1), works.items(), contenders):
        seconds = contenders[name].ask(kind, items)["seconds"]
        if number:  # the first round warms up
            speeds[work][name].append(len(items) / seconds)
    shares = {f"{shape} {name}": contenders[OURS].ask("shares", items) for name, items in files.items()}
    for contender in contenders.values():
        contender.close()
    return {
        "ratios": {
            f"{shape} {work} / {name}": ratio(row[OURS], row[name])
            for work, row in speeds.items()
            for name in row
            if name != OURS
        },
        "per_second": {
            f"{shape} {work}": {name: round(statistics.median(values), 2) for name, values in row.items()}
            for work, row in speeds.items()
        },
        "shares": shares,
    }


def require_same(samples: dict[str, Any]) -> None:
    """Refuse to compare engines that give other vectors: they would not do the same work."""
    truth = samples[REFERENCE]
    for name, rows in samples.items():
        cosines = (rows * truth).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(truth, axis=1)
        print(f"  {name}: cosine to the reference {cosines.min():.6f}", flush=True)
        if cosines.min() < 0.9999:
            raise RuntimeError(f"{name} gives other vectors (cosine {cosines.min():.5f})")


def _memory(folder: Path, files: Sequence[Path], photos: int) -> dict[str, float]:
    """Encode many photos as a stream, and return memory after the first tenth and at its largest later."""
    contender = PictureContender(OURS, folder, files)
    cycle = itertools.islice(itertools.cycle(files), photos)
    answer = contender.ask("stream", list(cycle))
    contender.close()
    return {name: round(value, 1) for name, value in answer.items()}


class Nearfield:
    """Nearfield in float32."""

    def __init__(self, folder: Path) -> None:
        from nearfield import Encoder

        self.folder = folder
        self.encoder = Encoder(str(folder), precision="float32")

    def pictures(self, files: list[Path]) -> Any:
        """Return the vectors of picture files."""
        return np.asarray(self.encoder.encode(files))

    def texts(self, texts: list[str]) -> Any:
        """Return the vectors of texts."""
        return np.asarray(self.encoder.encode(texts))

    def shares(self, files: list[Path]) -> dict[str, float]:
        """Return the shares of CPU time that decoding, resizing and the model take."""
        from nearfield.checkpoint.processors.image import read_image_processor
        from nearfield.media.image import Image

        processor = read_image_processor(self.folder)
        assert processor is not None
        decoded, decode = _cpu_seconds(lambda: [Image(file).read().pixels for file in files])
        prepared, resize = _cpu_seconds(lambda: [processor.prepare(pixels) for pixels in decoded])
        _, model = _cpu_seconds(lambda: self.encoder.encode(prepared))
        total = decode + resize + model
        return {
            "decode": round(decode / total, 3),
            "resize": round(resize / total, 3),
            "model": round(model / total, 3),
            "milliseconds a picture": round(1000 * total / len(files), 1),
        }

    def stream(self, files: list[Path]) -> dict[str, float]:
        """Encode many files; return MiB of memory after the first tenth, and at the largest after that."""
        from nearfield.media.image import Image

        done, early, peak = 0, 0.0, 0.0
        for part in self.encoder.stream(map(Image, files), window=64):
            done += len(part)
            if done < len(files) // 10:
                continue
            early = early or _resident()
            peak = max(peak, _resident())
        return {
            "photos": done,
            "rss_mib_early": early,
            "rss_mib_peak": peak,
            "growth_percent": 100 * (peak / early - 1),
        }


class Transformers:
    """transformers in float32, with the processor that uses Pillow."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        self.model = AutoModel.from_pretrained(folder).eval()
        self.processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        #: CLIP's is padded to the longest of a batch, as in the examples of its model card; SigLIP's has to be full.
        self.padding = True if self.model.config.model_type == "clip" else "max_length"

    def pictures(self, files: list[Path]) -> Any:
        """Return the vectors of picture files."""
        from PIL import Image

        def vectors(batch: list[Any]) -> Any:
            images = [Image.open(file).convert("RGB") for file in batch]
            return self.model.get_image_features(**self.processor(images, return_tensors="pt"))

        return _batches(files, vectors)

    def texts(self, texts: list[str]) -> Any:
        """Return the vectors of texts."""

        def vectors(batch: list[Any]) -> Any:
            inputs = self.tokenizer(batch, padding=self.padding, truncation=True, return_tensors="pt")
            return self.model.get_text_features(input_ids=inputs["input_ids"])

        return _batches(texts, vectors)


class PaddedTransformers(Transformers):
    """transformers with each text padded to the table's length, as CLIP's own code and open_clip do it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.padding = "max_length"


class SentenceTransformers:
    """sentence-transformers in float32, with its defaults."""

    def __init__(self, folder: Path) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(str(folder), device="cpu")

    def pictures(self, files: list[Path]) -> Any:
        """Return the vectors of picture files, which it is given opened."""
        from PIL import Image

        return np.asarray(self.model.encode([Image.open(file) for file in files], batch_size=BATCH))

    def texts(self, texts: list[str]) -> Any:
        """Return the vectors of texts."""
        return np.asarray(self.model.encode(texts, batch_size=BATCH))


ENGINES: dict[str, Callable[[Path], Any]] = {
    OURS: Nearfield,
    REFERENCE: Transformers,
    "transformers, full padding": PaddedTransformers,
    "sentence-transformers": SentenceTransformers,
}


def _batches(items: list[Any], vectors: Callable[[list[Any]], Any]) -> Any:
    import torch

    with torch.inference_mode():
        parts = [vectors(items[start : start + BATCH]).pooler_output for start in range(0, len(items), BATCH)]
        return torch.cat(parts).numpy()


def _cpu_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    return work(), time.process_time() - started


def _resident() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss / 2**20)


def main() -> None:
    """Load an engine, then answer each request: ``pictures`` and ``texts`` with seconds."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr
    engine = ENGINES[name](folder)
    for line in sys.stdin:
        request = json.loads(line)
        work, items = request["work"], request["items"]
        items = items if work == "texts" else list(map(Path, items))
        started = time.perf_counter()
        answer = getattr(engine, "pictures" if work == "sample" else work)(items)
        seconds = time.perf_counter() - started
        if work == "sample":
            answer = {"vectors": np.asarray(answer, np.float64).tolist()}
        elif work in ("pictures", "texts"):
            answer = {"seconds": seconds, "rss": _resident()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
