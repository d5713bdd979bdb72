"""Every way in which the admin API says no, as problem JSON (RFC 9457). A ``type`` is a promise to programs: it stays.

No problem repeats what was sent, and those that refuse a key do not tell why: who guesses learns nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ROOT: Final = "/api/v1"
MEDIA_TYPE: Final = "application/problem+json"
SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of refusal; its ``type`` is ``/api/v1/problems/NAME``."""

    name: str
    status: int
    title: str
    detail: str

    @property
    def type(self) -> str:
        return f"{ROOT}/problems/{self.name}"

    def body(self, detail: str = "", errors: Sequence[Mapping[str, str]] = ()) -> bytes:
        told: dict[str, Any] = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": detail or self.detail,
        }
        return json.dumps(told | ({"errors": list(errors)} if errors else {})).encode()


class ProblemError(Exception):
    """Ends a request. ``detail``: in place of the problem's own; ``errors``: which rules the request breaks, and
    where."""

    def __init__(
        self,
        problem: Problem,
        *,
        detail: str = "",
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(problem.name)
        self.problem = problem
        self.body = problem.body(detail, errors)
        self.headers = {"Content-Type": MEDIA_TYPE, **(headers or {})}


MALFORMED: Final = Problem("malformed", 400, "Malformed request", "The request cannot be read.")
UNAUTHORIZED: Final = Problem(
    "unauthorized", 401, "No valid key", "Send a key that is in force, as: Authorization: Bearer sk-ID-SECRET."
)
FORBIDDEN: Final = Problem("forbidden", 403, "Not allowed", "This key lacks the scope that this call needs.")
NOT_FOUND: Final = Problem("not-found", 404, "Not found", "There is nothing here.")
NOTHING_STORED: Final = Problem("nothing-stored", 404, "Nothing stored", "Nothing is stored of this chat.")
METHOD: Final = Problem("method-not-allowed", 405, "Method not allowed", "This address does not take this method.")
TIMEOUT: Final = Problem("timeout", 408, "Too slow", "The body did not arrive in time.")
GONE: Final = Problem("gone", 410, "Gone", "What this export was of has been deleted since.")
TOO_LARGE: Final = Problem("too-large", 413, "Too large", "The body is larger than this address takes.")
MEDIA: Final = Problem("media-type", 415, "Wrong media type", "This address takes another type of body.")
INVALID: Final = Problem("invalid", 422, "Invalid request", "Something in the request is not as described.")
TOO_MANY: Final = Problem("too-many-requests", 429, "Too many requests", "Wait as long as Retry-After says.")
FAILED: Final = Problem("failed", 500, "Failed", "This request failed. What was asked for may not have been done.")
UNAVAILABLE: Final = Problem("unavailable", 503, "Not available now", "The store does not answer. Try again later.")

_NOT_TAKEN: Final = "Archive not taken"
NOT_WHOLE: Final = Problem("archive-not-whole", 422, _NOT_TAKEN, "This is no zip, or only a part of one.")
UNSAFE: Final = Problem("archive-unsafe", 422, _NOT_TAKEN, "This zip holds something that no archive of ours does.")
DAMAGED: Final = Problem("archive-damaged", 422, _NOT_TAKEN, "This archive is damaged, or of a version no longer read.")
NEWER: Final = Problem("archive-newer", 422, _NOT_TAKEN, "A later version of this service made this archive.")
FOREIGN: Final = Problem("archive-foreign", 422, _NOT_TAKEN, "Another installation of this service made this archive.")
FORGED: Final = Problem("archive-forged", 422, _NOT_TAKEN, "This archive was altered after it was made.")
NOT_YOURS: Final = Problem("archive-not-yours", 422, _NOT_TAKEN, "This archive is of another bot.")
ARCHIVES: Final = (NOT_WHOLE, UNSAFE, DAMAGED, NEWER, FOREIGN, FORGED, NOT_YOURS)
"""Why an archive is not read back."""

PROBLEMS: Final = (
    MALFORMED,
    UNAUTHORIZED,
    FORBIDDEN,
    NOT_FOUND,
    NOTHING_STORED,
    METHOD,
    TIMEOUT,
    GONE,
    TOO_LARGE,
    MEDIA,
    INVALID,
    *ARCHIVES,
    TOO_MANY,
    FAILED,
    UNAVAILABLE,
)
