"""MTEB: lets the ``mteb`` package measure a model that Nearfield runs, here or behind a URL.

``mteb.evaluate(MtebModel("all-MiniLM-L6-v2"), mteb.get_tasks(["STSBenchmark"]))`` is all it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nearfield.client import Client
from nearfield.encoder import Encoder
from nearfield.errors import InputError, MissingExtra
from nearfield.vectors.dense import Vectors

#: What encodes the texts: a model in this process, or one behind a URL.
TextEncoder: TypeAlias = Encoder | Client


class MtebModel:
    """A model as MTEB's ``EncoderProtocol`` wants it.

    Which prompt a text gets: the first of task name with role, task name, task type with role, task type, and role
    that has one (MTEB's own order), among the ``prompts`` given, the model's own, and those that MTEB keeps for the
    model. Where there is none, the model's own prompt of the role, else its default. A model that reads instructions
    (E5-instruct, Qwen3) gets the task's, before all but documents, as MTEB gives it.

    Args:
        model: a name or a folder, as for ``Encoder``, or a model that is loaded; with ``url`` its name there.
        url: of a server: Nearfield's own, or one that speaks OpenAI's API.
        key: for that server.
        prompts: texts by task name, task type, ``query``, ``document``, or ``NAME-query``, ``NAME-document``.
        truncate_dim, precision: dimensions and number format of vectors, as for ``Encoder.encode``. Quantised
            vectors are compared as what they decode to.
        options: as for ``Encoder``.

    Raises:
        InputError: the model gives no vectors that MTEB compares.
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
        self._runs: TextEncoder = _opened(model, revision, url, key, options)
        changed = {"truncate_dim": truncate_dim, "precision": precision}
        default = {"truncate_dim": None, "precision": "float32"}
        #: What every call asks for beside its prompt.
        self._asked = {name: value for name, value in changed.items() if value != default[name]}
        if truncate_dim is not None:
            self._asked["force_truncate_dim"] = True
        self.mteb_model_meta = _meta(self._runs, {k: v for k, v in self._asked.items() if k in default})
        self._prompts = _table(self._runs, prompts or {})

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        prompt_type: Any = None,
        **options: Any,
    ) -> Any:
        """Encode batches of MTEB's: float32 [n, dim], or for late interaction a list of [tokens, dim]."""
        texts = [text for batch in inputs for text in batch["text"]]
        asked = {**self._asked, **self.prompt(task_metadata, prompt_type)}
        if "precision" in options:
            asked["precision"] = options["precision"]
        found = self._runs.encode(texts, show_progress_bar=bool(options.get("show_progress_bar")), **asked)
        if isinstance(found, Vectors):
            return found.decode().data
        return [np.asarray(row) for row in found]

    def prompt(self, task_metadata: Any, prompt_type: Any = None) -> dict[str, Any]:
        """Return what ``Encoder.encode`` is asked for a task's texts: role, prompt, prompt_name, task, instruction."""
        from mteb.models.abs_encoder import get_prompt_name

        role = None if prompt_type is None else str(prompt_type.value)
        known = {} if role is None else {"role": role}
        name = get_prompt_name(self._prompts, task_metadata, prompt_type)
        if name in (None, role) and role != "document" and _reads_instructions(self._runs):
            instruction = _instruction(task_metadata, prompt_type)
            if instruction:
                return {**known, "instruction": instruction}
        return known if name is None else {**known, **self._prompts[name]}

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare all with all by the model's own measure: a tensor [n, m]."""
        from mteb import similarity_functions

        return getattr(similarity_functions, self._measure())(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare row with row: a tensor [n]."""
        from mteb import similarity_functions

        return getattr(similarity_functions, f"pairwise_{self._measure()}")(embeddings1, embeddings2)

    def _measure(self) -> str:
        return {"dot": "dot_score", "MaxSim": "max_sim"}.get(self.mteb_model_meta.similarity_fn_name.value, "cos_sim")

    def close(self) -> None:
        """Let go of a model that was loaded here."""
        if self._own:
            self._runs.close()

    def __enter__(self) -> MtebModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(model: str | Encoder, revision: str | None, url: str | None, key: str | None, options: Any) -> TextEncoder:
    if isinstance(model, Encoder):
        found: TextEncoder = model
    elif url is not None:
        if options:
            raise InputError(f"{', '.join(options)} cannot be chosen for a model behind a URL.", param="url")
        found = Client(url, model, key=key)
    else:
        found = Encoder(model, **(options | ({"revision": revision} if revision else {})))
    if isinstance(found, Encoder) and found.recipe.outputs[0] not in ("dense", "multivector"):
        raise InputError(f"{found.name} gives {found.recipe.outputs[0]} vectors; MTEB is driven by dense ones here.")
    return found


def _meta(runs: TextEncoder, asked: dict[str, Any]) -> Any:
    """Return what MTEB keeps about a model, as far as it knows it, with what ran here."""
    from mteb.models.model_implementations import MODEL_REGISTRY
    from mteb.models.model_meta import ModelMeta

    name = runs.name if runs.name.count("/") == 1 and runs.name[0] not in "./" else f"local/{Path(runs.name).name}"
    many = isinstance(runs, Encoder) and runs.recipe.outputs[0] == "multivector"
    known = MODEL_REGISTRY.get(name) or ModelMeta.create_empty({"name": name})
    facts: dict[str, Any] = {"loader": None, "loader_kwargs": {}, "experiment_kwargs": asked or None}
    facts["similarity_fn_name"] = _scoring("MaxSim" if many else _metric(runs))
    facts["model_type"] = ["late-interaction"] if many else ["dense"]
    if isinstance(runs, Encoder):
        revision = runs.recipe.revision or runs.fingerprint.split(":")[0]
        facts |= {"revision": revision, "embed_dim": runs.dimensions, "max_tokens": runs.max_length}
    elif known.revision is None:
        facts["revision"] = "served"
    return known.model_copy(update=facts)


def _metric(runs: TextEncoder) -> str:
    metric = runs.recipe.similarity if isinstance(runs, Encoder) else "cosine"
    if metric not in ("cosine", "dot"):
        raise InputError(f"{runs.name} compares by {metric} distance, which MTEB does not know as a measure.")
    return metric


def _scoring(metric: str) -> Any:
    from mteb.models.model_meta import ScoringFunction

    return {
        "dot": ScoringFunction.DOT_PRODUCT,
        "MaxSim": ScoringFunction.MAX_SIM,
        "cosine": ScoringFunction.COSINE,
    }[metric]


def _table(runs: TextEncoder, given: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what is asked for by the names that MTEB looks up; earlier sources give way to later ones."""
    from mteb.models.model_implementations import MODEL_REGISTRY

    known = MODEL_REGISTRY.get(runs.name)
    kept = dict((known.loader_kwargs if known else {}).get("model_prompts") or {})
    tasks = runs.recipe.tasks if isinstance(runs, Encoder) else runs.remote.prompts
    table = {key: {"task": text} if text in tasks else {"prompt": text} for key, text in kept.items()}
    own = runs.recipe.prompts if isinstance(runs, Encoder) else runs.remote.prompts
    # The role alone finds these two, and the model's adapter with them.
    table |= {name: {} if name in ("query", "document") else {"prompt_name": name} for name in own}
    return table | {key: {"prompt": text} for key, text in given.items()}


def _reads_instructions(runs: TextEncoder) -> bool:
    from nearfield import catalog

    if isinstance(runs, Encoder):
        return bool(runs.recipe.instruction)
    entry = catalog.find(runs.name)
    return bool(entry and entry.instruction and runs.remote.native)


def _instruction(task_metadata: Any, prompt_type: Any) -> str:
    """Return the instruction that MTEB has for a task, or for all of its type; empty for a task it does not know."""
    from mteb.abstasks.abstask import get_abstask_prompt

    told = task_metadata.prompt
    if isinstance(told, dict):
        told = told.get("query" if prompt_type is None else prompt_type.value)
    if told:
        return str(told)
    try:
        return str(get_abstask_prompt(task_metadata.name) or "")
    except KeyError:
        return ""


def package() -> Any:
    """Return the mteb package, or raise MissingExtra."""
    try:
        import mteb
    except ImportError as error:
        raise MissingExtra(f"MTEB's tasks need {error.name!r}: pip install 'nearfield[mteb]'") from error
    return mteb
