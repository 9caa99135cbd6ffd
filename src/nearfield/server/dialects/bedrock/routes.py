"""Embedding models on Bedrock, as boto3's ``invoke_model`` calls them: the forms of Amazon Titan and Amazon Nova.

The signature of a request is not checked. A key is read as a bearer token, which boto3 sends if the variable
``AWS_BEARER_TOKEN_BEDROCK`` is set.
"""

from __future__ import annotations

import msgspec

from nearfield.errors import NearfieldError
from nearfield.server.dialects import Reply, Route, message_of
from nearfield.server.dialects.bedrock.nova import NovaReply, NovaRequest, is_nova_request, read_nova, write_nova
from nearfield.server.dialects.bedrock.titan import TitanReply, TitanRequest, read_titan, write_titan

#: Bedrock's name of a status: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
_ERROR_NAMES = {
    401: "AccessDeniedException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}
_NOVA_EXAMPLE = {
    "taskType": "SINGLE_EMBEDDING",
    "singleEmbeddingParams": {
        "embeddingPurpose": "GENERIC_RETRIEVAL",
        "text": {"truncationMode": "END", "value": "How tall is Mont Blanc?"},
    },
}


class BedrockError(msgspec.Struct):
    """Body of an error response; the header ``x-amzn-errortype`` names its kind."""

    message: str


class BedrockDialect:
    """Bedrock's API of embedding models."""

    name = "bedrock"
    error_type = BedrockError
    routes = (
        Route(
            "/model/{model:path}/invoke",
            "Embed a text, a picture, or both",
            read_titan,
            write_titan,
            TitanRequest,
            TitanReply,
            example={"inputText": "How tall is Mont Blanc?"},
        ),
        Route(
            "/model/{model:path}/invoke",
            "Embed a text, a picture or a sound",
            read_nova,
            write_nova,
            NovaRequest,
            NovaReply,
            example=_NOVA_EXAMPLE,
            matches=is_nova_request,
        ),
    )

    def refuse(self, error: NearfieldError) -> Reply:
        """Return Bedrock's error body, with the header by which its clients choose a class."""
        name = _ERROR_NAMES.get(
            error.status, "InternalServerException" if error.status >= 500 else "ValidationException"
        )
        message = message_of(error, dimensions="embeddingConfig.outputEmbeddingLength (Nova: embeddingDimension)")
        return Reply({"message": message}, error.status, headers={"x-amzn-errortype": name})
