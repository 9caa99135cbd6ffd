"""Signatures of webhooks, as the Standard Webhooks specification defines them: https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from nearfield.errors import SettingsError

_PREFIX = "whsec_"
#: Bytes of a secret.
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64


def parse_secret(text: str) -> bytes:
    """Return the bytes of a secret, ``whsec_`` and base64.

    Raises:
        SettingsError: the secret has another form, or is too short or too long.
    """
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(_PREFIX) or not _MIN_SECRET_BYTES <= len(secret) <= _MAX_SECRET_BYTES:
        raise SettingsError(
            f"Setting 'webhook_secrets': a secret is {_PREFIX!r} followed by {_MIN_SECRET_BYTES} to "
            f"{_MAX_SECRET_BYTES} random bytes in base64. To create one: echo {_PREFIX}$(openssl rand -base64 32)"
        )
    return secret


def signed_headers(secrets: Sequence[bytes], name: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message: its id, the time of sending, and one signature for each secret."""
    content = f"{name}.{timestamp}.".encode() + body
    signatures = (hmac.new(secret, content, hashlib.sha256).digest() for secret in secrets)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join("v1," + base64.b64encode(signature).decode() for signature in signatures),
    }
