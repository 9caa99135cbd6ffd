"""What failed requests to S3 mean: errors that say what to do, and answers for which a request is worth repeating.

The messages of the library quote requests and answers, which may hold keys. Only the storage's code for an error, or
its HTTP status, is shown.
"""

from __future__ import annotations

import re

from nearfield.errors import InputError, StorageFailed
from nearfield.fileio.s3.settings import S3Settings

_KEYS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
#: What the user has to change, by what the library's messages and the storage's answers hold.
_MEANINGS = (
    (r"NoSuchBucket", "there is no such bucket. Create it, or check the endpoint."),
    # An answer 301 without a new address; or one that names the right region.
    (
        r"BareRedirect|PermanentRedirect|IllegalLocationConstraint|expecting '[a-z0-9-]+'",
        "the bucket is in another region{there} than AWS_REGION says ({region}). Set AWS_REGION.",
    ),
    # The address at which machines in a cloud get keys.
    (r"169\.254\.169\.254", "no access keys. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
    (
        r"<Code>(?:ExpiredToken|ExpiredTokenException|TokenRefreshRequired)<",
        "the access keys have expired. Get new ones, and repeat the command to continue.",
    ),
    (r"<Code>InvalidToken<", "AWS_SESSION_TOKEN does not belong to the access keys. Set all three again."),
    (r"<Code>InvalidAccessKeyId<", f"the storage does not know the access key. {_KEYS}"),
    (r"<Code>SignatureDoesNotMatch<", f"the secret key does not belong to the access key. {_KEYS}"),
    (
        r"<Code>(?:RequestTimeTooSkewed|RequestExpired)<",
        "the clock of this machine differs from the storage's. Set it, and repeat the command.",
    ),
    (r"non-partial response", "this storage ignores the ranges of requests, so that files cannot be read in parts."),
)
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>|expecting '([a-z0-9-]+)'")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
#: Statuses and codes of requests that are not worth repeating.
_REFUSALS = ("400", "401", "403", "AccessDenied", "AllAccessDisabled", "AccountProblem")
#: Those of them that may concern one object alone.
_DENIALS = ("403", "AccessDenied")
#: Answers that say nothing: connections cut in the middle of a list, fewer bytes than requested, and an upload that the
#: storage did not wait for (status 400, which the library does not repeat).
_USELESS = re.compile(r"response body|Requested \d+\.\.\d+, got|<Code>(?:RequestTimeout|IncompleteBody)</Code>")


class ObjectDenied(InputError):
    """The storage denies to read one object; it may allow to read others."""


def is_useless(error: Exception) -> bool:
    """Return whether an answer says nothing, so that the request may be repeated; the library does not do it."""
    return _USELESS.search(str(error)) is not None


def explain(settings: S3Settings, error: Exception, action: str, key: str) -> InputError | StorageFailed:
    """Return our error for one of the library: what could not be done with which object, why, and what to do.

    An InputError is for what the user has to change, a StorageFailed for what may pass.
    """
    text, what, reason = str(error), key or "all objects", _reason(error)
    meaning = next((message for pattern, message in _MEANINGS if re.search(pattern, text)), None)
    if meaning is not None:
        match = _REGION.search(text)
        there = f" ({match[1] or match[2]})" if match else ""
        return InputError(f"{settings.place}: {meaning.format(there=there, region=settings.region)}")
    if reason in _REFUSALS:
        kind = ObjectDenied if action == "read" and reason in _DENIALS else InputError
        return kind(
            f"{settings.place}, {what}: the storage denies to {action} it ({reason}). Check the access keys and their "
            "permissions."
        )
    return StorageFailed(f"{settings.place}: could not {action} {what} ({reason}). Repeat the command to continue.")


def _reason(error: Exception) -> str:
    """Return the storage's code for an error, or its HTTP status; nothing else of an answer is shown."""
    text = str(error)
    if match := _CODE.search(text) or _STATUS.search(text):
        return match[1]
    if is_useless(error):
        return "its answers are cut off"
    return "timeout" if "timed out" in text or "timeout" in text.lower() else "no connection"
