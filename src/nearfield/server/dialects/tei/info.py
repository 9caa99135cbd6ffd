"""TEI's description of the served model (GET /info) and its liveness probe (GET /ping)."""

from __future__ import annotations

from nearfield import __version__
from nearfield.hardware import usable_cores
from nearfield.server.dialects import JsonObject, Reply
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription


def get_info(_: None, context: RequestContext) -> JsonObject:
    """Return the description of the first loaded model, or of the one that the query names."""
    name = context.query.get("model")
    model = (
        context.models.describe(name, context.allowed)
        if name
        else context.models.first(lambda model: context.allowed(model.name))
    )
    return {
        "model_id": model.name,
        "model_sha": model.revision,
        "model_dtype": {"bf16": "bfloat16"}.get(model.precision, model.precision),
        "served_model_name": model.name,
        "model_type": _model_type(model),
        "max_concurrent_requests": None,
        "max_input_length": model.max_length,
        "max_batch_tokens": model.batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": context.limits.items if context.limits is not None else None,
        "auto_truncate": True,
        "tokenization_workers": usable_cores(),
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


def _model_type(model: ModelDescription) -> JsonObject:
    if not model.is_encoder:
        numbers = {str(number): label for number, label in enumerate(model.labels)}
        labels = {"id2label": numbers, "label2id": {label: int(number) for number, label in numbers.items()}}
        return {"reranker" if len(model.labels) == 1 else "classifier": labels}
    return {"embedding": {"pooling": _pooling(model)}}


def _pooling(model: ModelDescription) -> str:
    """Return TEI's name of the pooling, or the name of the main output if there is no pooling."""
    return "+".join(model.pooling).replace("lasttoken", "last_token") or model.outputs[0]


def ping(_: None, __: RequestContext) -> Reply:
    """Return an empty response: the process is alive."""
    return Reply(b"", media_type="text/plain")
