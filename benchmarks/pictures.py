"""Pictures per second from JPEG files to vectors, beside transformers, sentence-transformers and fastembed.

Run as ``python -m benchmarks.pictures NAME FOLDER`` it is one engine, which answers requests in JSON lines.
Models have the shapes of ViT-B/32 and SigLIP-base, and random weights.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.media_engines import (
    OURS,
    REFERENCE,
    MediaContender,
    Work,
    compare,
    cpu_seconds,
    require_same,
    resident,
    serve,
)

#: The engine that reads an ONNX file, and the file's place in a model folder.
FASTEMBED, ONNX = "fastembed", "onnx/model.onnx"
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


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return pictures/s and texts/s of each engine, ratios within a round, shares of CPU time, and memory."""
    with tempfile.TemporaryDirectory() as place:
        files = {name: write_photos(Path(place), name, quick=quick) for name in FILES}
        texts = [f"{CAPTIONS[number % 3]} {number % 97}" for number in range(64 if quick else 256)]
        works = {name: Work("pictures", items, len(items)) for name, items in files.items()}
        works["texts"] = Work("texts", texts, len(texts))
        found: dict[str, Any] = {"shares": {}}
        for shape, write in {"ViT-B/32": write_clip, "SigLIP-base": write_siglip}.items():
            folder = write(Path(place) / shape.replace("/", "-"))
            contenders = {
                name: MediaContender("benchmarks.pictures", name, folder, files["web"]) for name in engines_of(folder)
            }
            require_same({name: contender.sample for name, contender in contenders.items()})
            for part, values in compare(shape, contenders, works, rounds).items():
                found.setdefault(part, {}).update(values)
            for name, items in files.items():
                found["shares"][f"{shape} {name}"] = contenders[OURS].ask("shares", items)
            for contender in contenders.values():
                contender.close()
        found["memory"] = _memory(Path(place) / "ViT-B-32", files["web"], 200 if quick else PHOTOS)
        return found


def engines_of(folder: Path) -> list[str]:
    """Return the names of the engines that run a model."""
    return [name for name in ENGINES if name != FASTEMBED or (folder / ONNX).is_file()]


def write_clip(folder: Path) -> Path:
    """Write a model of CLIP ViT-B/32's shape, with a small vocabulary."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    from tests.support import tiny_towers

    text = json.loads((tiny_towers.clip_with_tokenizer(folder) / "config.json").read_text())["text_config"]
    ids = {name: text[name] for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    model = CLIPModel(CLIPConfig(text_config=ids)).eval()
    _replace(folder, model, CLIPImageProcessorPil())
    _write_onnx(folder / ONNX, model)
    return folder


def write_siglip(folder: Path) -> Path:
    """Write a model of SigLIP-base-patch16-224's shape, with a small vocabulary."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    from tests.support import tiny_towers

    text = json.loads((tiny_towers.siglip2_with_tokenizer(folder) / "config.json").read_text())["text_config"]
    model = SiglipModel(SiglipConfig(text_config={"vocab_size": text["vocab_size"]}))
    return _replace(folder, model, SiglipImageProcessorPil())


def _write_onnx(file: Path, model: Any) -> None:
    """Write the tower of pictures as fastembed reads it, with the processor's file."""
    import torch

    class Tower(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Any) -> Any:
            return self.model.get_image_features(pixel_values=pixel_values).pooler_output

    file.parent.mkdir()
    torch.onnx.export(
        Tower(),
        (torch.zeros(2, 3, 224, 224),),
        file,
        input_names=["pixel_values"],
        output_names=["image_embeds"],
        dynamic_axes={"pixel_values": {0: "batch"}, "image_embeds": {0: "batch"}},
        dynamo=False,
    )
    config = json.loads((file.parent.parent / "preprocessor_config.json").read_text())
    config |= {"image_processor_type": "CLIPImageProcessor", "feature_extractor_type": "CLIPFeatureExtractor"}
    (file.parent / "preprocessor_config.json").write_text(json.dumps(config))


def _replace(folder: Path, model: Any, processor: Any) -> Path:
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    length = model.config.text_config.max_position_embeddings
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": length}))
    return folder


def write_photos(place: Path, name: str, *, quick: bool = False, count: int | None = None) -> list[Path]:
    """Write JPEG files with edges, gradients and the noise of a camera: ``count``, or as many as ``FILES`` says."""
    from PIL import Image

    from tests.support.odd_pictures import smooth

    width, height, usual = FILES[name]
    files = []
    for number in range(count or (max(2, usual // 12) if quick else usual)):
        pixels = np.asarray(smooth(width, height, number), np.int16)
        noise = np.random.default_rng(number).integers(-6, 7, pixels.shape, np.int16)
        files.append(place / f"{name}{number}.jpg")
        Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(files[-1], quality=88)
    return files


def _memory(folder: Path, files: Sequence[Path], photos: int) -> dict[str, float]:
    """Encode many photos as a stream, and return memory after the first tenth and at its largest later."""
    contender = MediaContender("benchmarks.pictures", OURS, folder, files)
    cycle = itertools.islice(itertools.cycle(files), photos)
    answer = contender.ask("stream", list(cycle))
    contender.close()
    return {name: round(value, 1) for name, value in answer.items()}


class Nearfield:
    """Nearfield in float32."""

    media = "pictures"
    precision = "float32"

    def __init__(self, folder: Path) -> None:
        from nearfield import Encoder

        self.folder = folder
        self.encoder = Encoder(str(folder), precision=self.precision)

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
        decoded, decode = cpu_seconds(lambda: [Image(file).read() for file in files])
        prepared, resize = cpu_seconds(lambda: [processor.prepare_picture(picture) for picture in decoded])
        _, model = cpu_seconds(lambda: self.encoder.encode(prepared))
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
            early = early or resident()
            peak = max(peak, resident())
        return {
            "photos": done,
            "rss_mib_early": early,
            "rss_mib_peak": peak,
            "growth_percent": 100 * (peak / early - 1),
        }


class NearfieldAuto(Nearfield):
    """Nearfield in its default precision: bf16 where the CPU has it."""

    precision = "auto"


class Transformers:
    """transformers in float32, with the processor that uses Pillow."""

    media = "pictures"

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

    media = "pictures"

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


class Fastembed:
    """fastembed in float32: its CLIP of pictures and of texts, with our weights in place of its download."""

    media = "pictures"

    def __init__(self, folder: Path) -> None:
        from fastembed import ImageEmbedding

        path = str((folder / ONNX).parent)
        self.model = ImageEmbedding("Qdrant/clip-ViT-B-32-vision", specific_model_path=path)

    def pictures(self, files: list[Path]) -> Any:
        """Return the vectors of picture files."""
        return np.stack(list(self.model.embed(files, batch_size=BATCH)))


ENGINES: dict[str, Callable[[Path], Any]] = {
    OURS: Nearfield,
    "nearfield auto": NearfieldAuto,
    REFERENCE: Transformers,
    "transformers, full padding": PaddedTransformers,
    "sentence-transformers": SentenceTransformers,
    FASTEMBED: Fastembed,
}


def _batches(items: list[Any], vectors: Callable[[list[Any]], Any]) -> Any:
    import torch

    with torch.inference_mode():
        parts = [vectors(items[start : start + BATCH]).pooler_output for start in range(0, len(items), BATCH)]
        return torch.cat(parts).numpy()


if __name__ == "__main__":
    serve(ENGINES)
