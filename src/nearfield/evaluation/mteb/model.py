"""An adapter that lets the ``mteb`` package evaluate a local model or one behind a URL.

Example: ``mteb.evaluate(MtebModel("all-MiniLM-L6-v2"), mteb.get_tasks(["STSBenchmark"]))``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nearfield.attach import open_encoder
from nearfield.client import Client
from nearfield.encoder import Encoder
from nearfield.errors import InputError, MissingExtra
from nearfield.evaluation.json_types import JsonDict, Keywords
from nearfield.vectors.dense import Vectors

#: The encoder of the texts: a local model, or a client of a server.
TextEncoder: TypeAlias = Encoder | Client
#: An object of the mteb package, which has no types.
MtebObject: TypeAlias = Any


class MtebModel:
    """A model with the interface of MTEB's ``EncoderProtocol``.

    The prompt of a text is the first that exists for task name and role, task name, task type and role, task type, or
    role (MTEB's order), among ``prompts``, the model's own, and those in MTEB's registry. Otherwise it is the model's
    prompt for the role, or its default prompt. An instruction model (E5-instruct, Qwen3) gets the task's instruction
    before everything but documents, as in MTEB.

    Args:
        model: a name or folder as for ``Encoder``, or a loaded encoder; with ``url``, its name on the server.
        url: of a Nearfield server or an OpenAI-compatible endpoint.
        key: API key of the server.
        prompts: texts by task name, task type, ``query``, ``document``, or ``NAME-query``, ``NAME-document``.
        truncate_dim, precision: dimensions and number format of vectors, as for ``Encoder.encode``. Quantised
            vectors are decoded before they are compared.
        options: as for ``Encoder``.

    Raises:
        InputError: the model has no vectors that MTEB supports.
        MissingExtra: mteb is not installed.
    """

    def __init__(
        self,
        model: str | Encoder,
        revision: str | None = None,
        *,
        device: str | None = None,
        url: str | None = None,
        key: str | None = None,
        prompts: Mapping[str, str] | None = None,
        truncate_dim: int | None = None,
        precision: str = "float32",
        **options: Any,
    ) -> None:
        package()
        if device is not None:
            options["device"] = device
        self._own = not isinstance(model, Encoder)
        self._encoder: TextEncoder = _open(model, revision, url, key, options)
        changed = {"truncate_dim": truncate_dim, "precision": precision}
        default = {"truncate_dim": None, "precision": "float32"}
        #: Keywords of every call besides the prompt.
        self._keywords = {name: value for name, value in changed.items() if value != default[name]}
        if truncate_dim is not None:
            self._keywords["force_truncate_dim"] = True
        self.mteb_model_meta = _meta(self._encoder, {k: v for k, v in self._keywords.items() if k in default})
        self._prompts = _table(self._encoder, prompts or {})

    def encode(
        self,
        inputs: MtebObject,
        *,
        task_metadata: MtebObject,
        prompt_type: MtebObject = None,
        **options: Any,
    ) -> MtebObject:
        """Encode MTEB batches: float32 [n, dim], or for late interaction a list of [tokens, dim]."""
        texts = [text for batch in inputs for text in batch["text"]]
        keywords = {**self._keywords, **self.prompt(task_metadata, prompt_type)}
        if "precision" in options:
            keywords["precision"] = options["precision"]
        vectors = self._encoder.encode(texts, show_progress_bar=bool(options.get("show_progress_bar")), **keywords)
        if isinstance(vectors, Vectors):
            return vectors.decode().data
        return [np.asarray(row) for row in vectors]

    def prompt(self, task_metadata: MtebObject, prompt_type: MtebObject = None) -> JsonDict:
        """Return the keywords of ``Encoder.encode`` for a task: role, prompt, prompt_name, task or instruction."""
        from mteb.models.abs_encoder import get_prompt_name

        role = None if prompt_type is None else str(prompt_type.value)
        known = {} if role is None else {"role": role}
        name = get_prompt_name(self._prompts, task_metadata, prompt_type)
        if name in (None, role) and role != "document" and _reads_instructions(self._encoder):
            instruction = _instruction(task_metadata, prompt_type)
            if instruction:
                return {**known, "instruction": instruction}
        return known if name is None else {**known, **self._prompts[name]}

    def similarity(self, embeddings1: MtebObject, embeddings2: MtebObject) -> MtebObject:
        """Return all similarities by the model's own measure: a tensor [n, m]."""
        from mteb import similarity_functions

        return getattr(similarity_functions, self._measure())(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: MtebObject, embeddings2: MtebObject) -> MtebObject:
        """Return the similarities of rows at the same position: a tensor [n]."""
        from mteb import similarity_functions

        return getattr(similarity_functions, f"pairwise_{self._measure()}")(embeddings1, embeddings2)

    def _measure(self) -> str:
        return {"dot": "dot_score", "MaxSim": "max_sim"}.get(self.mteb_model_meta.similarity_fn_name.value, "cos_sim")

    def close(self) -> None:
        """Release a model that was loaded here."""
        if self._own:
            self._encoder.close()

    def __enter__(self) -> MtebModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(
    model: str | Encoder, revision: str | None, url: str | None, key: str | None, options: Keywords
) -> TextEncoder:
    if isinstance(model, Encoder):
        encoder: TextEncoder = model
    elif url is not None:
        if options:
            raise InputError(f"{', '.join(options)} cannot be chosen for a model behind a URL.", param="url")
        encoder = Client(url, model, key=key)
    else:
        encoder = open_encoder(model, **(options | ({"revision": revision} if revision else {})))
    if isinstance(encoder, Encoder) and encoder.recipe.outputs[0] not in ("dense", "multivector"):
        raise InputError(f"{encoder.name} returns {encoder.recipe.outputs[0]} vectors; MTEB needs dense ones.")
    return encoder


def _meta(encoder: TextEncoder, settings: JsonDict) -> MtebObject:
    """Return MTEB's metadata of a model, updated with facts about this encoder."""
    from mteb.models.model_implementations import MODEL_REGISTRY
    from mteb.models.model_meta import ModelMeta

    name = (
        encoder.name
        if encoder.name.count("/") == 1 and encoder.name[0] not in "./"
        else f"local/{Path(encoder.name).name}"
    )
    is_multivector = isinstance(encoder, Encoder) and encoder.recipe.outputs[0] == "multivector"
    known = MODEL_REGISTRY.get(name) or ModelMeta.create_empty({"name": name})
    facts: JsonDict = {"loader": None, "loader_kwargs": {}, "experiment_kwargs": settings or None}
    facts["similarity_fn_name"] = _scoring("MaxSim" if is_multivector else _metric(encoder))
    facts["model_type"] = ["late-interaction"] if is_multivector else ["dense"]
    if isinstance(encoder, Encoder):
        revision = encoder.recipe.revision or encoder.fingerprint.split(":")[0]
        facts |= {"revision": revision, "embed_dim": encoder.dimensions, "max_tokens": encoder.max_length}
    elif known.revision is None:
        facts["revision"] = "served"
    return known.model_copy(update=facts)


def _metric(encoder: TextEncoder) -> str:
    metric = encoder.recipe.similarity if isinstance(encoder, Encoder) else "cosine"
    if metric not in ("cosine", "dot"):
        raise InputError(f"{encoder.name} compares by {metric} distance, which MTEB does not support.")
    return metric


def _scoring(metric: str) -> MtebObject:
    from mteb.models.model_meta import ScoringFunction

    return {
        "dot": ScoringFunction.DOT_PRODUCT,
        "MaxSim": ScoringFunction.MAX_SIM,
        "cosine": ScoringFunction.COSINE,
    }[metric]


def _table(encoder: TextEncoder, prompts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return keywords of ``encode`` by the names that MTEB looks up; later sources replace earlier ones."""
    from mteb.models.model_implementations import MODEL_REGISTRY

    known = MODEL_REGISTRY.get(encoder.name)
    registered = dict((known.loader_kwargs if known else {}).get("model_prompts") or {})
    tasks = encoder.recipe.tasks if isinstance(encoder, Encoder) else encoder.remote.prompts
    table = {key: {"task": text} if text in tasks else {"prompt": text} for key, text in registered.items()}
    own = encoder.recipe.prompts if isinstance(encoder, Encoder) else encoder.remote.prompts
    # The role selects these two prompts, and the adapter of the model.
    table |= {name: {} if name in ("query", "document") else {"prompt_name": name} for name in own}
    return table | {key: {"prompt": text} for key, text in prompts.items()}


def _reads_instructions(encoder: TextEncoder) -> bool:
    from nearfield import catalog

    if isinstance(encoder, Encoder):
        return bool(encoder.recipe.instruction)
    entry = catalog.find(encoder.name)
    return bool(entry and entry.instruction and encoder.remote.native)


def _instruction(task_metadata: MtebObject, prompt_type: MtebObject) -> str:
    """Return MTEB's instruction for a task or its type; empty for an unknown task."""
    from mteb.abstasks.abstask import get_abstask_prompt

    instruction = task_metadata.prompt
    if isinstance(instruction, dict):
        instruction = instruction.get("query" if prompt_type is None else prompt_type.value)
    if instruction:
        return str(instruction)
    try:
        return str(get_abstask_prompt(task_metadata.name) or "")
    except KeyError:
        return ""


def package() -> MtebObject:
    """Return the mteb package, or raise MissingExtra."""
    try:
        import mteb
    except ImportError as error:
        raise MissingExtra(f"MTEB tasks need {error.name!r}: pip install 'nearfield[mteb]'") from error
    return mteb
