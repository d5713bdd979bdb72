"""From what a chat API says when it refuses or fails to one of our errors.

Providers agree on little: objects, strings, lists or HTML, codes that are words or numbers, refusals under any status.
So the status is only one of the things looked at. Nothing of what the provider wrote is kept but its short code:
messages may quote the request.
"""

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from bot.errors import ChatApiError, ChatApiRefusedError, ChatApiUnavailableError, Reason

_RETRIED: Final = frozenset({408, 409, 425, 429})
_MAY_BE_CREDIT: Final = frozenset({400, 403, 429})
_BY_STATUS: Final = {
    401: Reason.KEY, 403: Reason.KEY, 404: Reason.ADDRESS, 405: Reason.ADDRESS, 410: Reason.ADDRESS, 413: Reason.SIZE,
}  # fmt: skip
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_WORDS: Final = 4_000

_LOCKED: Final = re.compile(r"conversation_locked|another (?:process|request) is (?:currently )?operating on this conv")
_SIZE: Final = re.compile(
    r"context.{0,3}(?:length|window|size)|maximum context|prompt is too long|too many (?:input )?tokens"
    r"|input is too long|reduce the length|string_above_max_length|request.{0,3}too.{0,3}large"
    r"|exceeds? the (?:maximum|available).{0,40}tokens"
    r"|tokens? (?:count|limit).{0,20}exceed"
)
_CREDIT: Final = re.compile(
    r"insufficient.{0,3}(?:quota|balance|funds|credit)|exceeded your current quota|billing|payment.{0,3}required"
    r"|credit.{0,12}(?:balance|limit|exhaust|insufficient|low)|(?:out of|no|enough|more) credits?|arrearage"
    r"|quota.{0,3}exceeded.{0,20}plan|provider_quota_exceeded|budget.{0,20}exceeded|exceeded.{0,3}budget"
)
_STATE: Final = re.compile(
    r"(?:previous.{0,3}response|response with id).{0,120}not.{0,3}found"
    r"|conversation.{0,120}(?:not.{0,3}(?:found|exist)|expired|unknown)"
    r"|(?:no|unknown|invalid) (?:such )?conversation"
)
_CONTENT: Final = re.compile(
    r"content.{0,3}(?:filter|policy|management)|responsibleai|safety|moderation|inappropriate|sensitive.{0,3}word"
    r"|data.?inspection|content exists risk"
)
_KEY: Final = re.compile(
    r"(?:invalid|incorrect|missing|wrong|no|expired|unknown).{0,24}(?:api.?key|token|credential|authentication)"
    r"|api.?key.{0,24}(?:invalid|not valid|missing|expired|incorrect)|unauthori[sz]ed|authentication"
    r"|credentials.{0,3}not.{0,3}found"
)
_MODEL: Final = re.compile(
    r"model.{0,3}not.{0,3}(?:found|exist|supported)|model.{0,80}(?:does not exist|not found|not exist|is not available"
    r"|not.support|unknown|decommissioned|no longer)|(?:unknown|invalid|no such|not a valid).{0,3}model"
    r"|deploymentnotfound|no endpoints found"
)
_APP: Final = re.compile(r"app.?unavailable")
_KEPT_FULL: Final = re.compile(r"exceed_context_size|context size has been exceeded|request.{0,3}too.{0,3}large")
"""Sizes that some refuse under 500 (llama.cpp) or 429 (a limit of tokens a minute that one request exceeds)."""

_RATE: Final = re.compile(r"rate.?limit.?(?:error|exceeded|reached)")
_SOON: Final = re.compile(r'"retrydelay":"(\d{1,6}(?:\.\d{1,9})?)s"')
_STATUS: Final = re.compile(r"[45][0-9]{2}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?")
_SURE: Final = ((_SIZE, Reason.SIZE), (_STATE, Reason.STATE))
_CERTAIN: Final = (*_SURE, (_CREDIT, Reason.CREDIT), (_CONTENT, Reason.CONTENT))
_LIKELY: Final = ((_KEY, Reason.KEY), (_MODEL, Reason.MODEL), (_CONTENT, Reason.CONTENT), (_APP, Reason.ADDRESS))
_FIELD: Final = re.compile(
    r"unrecogni[sz]ed|unsupported|unknown|unexpected|not (?:permitted|supported|allowed|recogni[sz]ed)|extra|additional"
    r"|invalid|forbidden|does not support|doesn.t support|no longer"
)


@dataclass(frozen=True, slots=True)
class Told:
    """What a failure says of itself. ``words``: all of it, in lower case, to be searched and not to be kept."""

    status: int = 0
    code: str = ""
    param: str = ""
    words: str = ""


def failure(status: int, headers: Mapping[str, str], body: bytes, sent: Collection[str] = ()) -> ChatApiError:
    """Of a reply that is no answer. ``sent``: the fields of the request that it can do without."""
    told = told_in(_loaded(body), body.decode("utf-8", "replace"))
    return classified(status, told, _retry_after(headers), sent)


def failure_in(event: Mapping[str, Any]) -> ChatApiError | None:
    """Of an error that comes under 200, in an event or a whole reply; None where there is none."""
    response = event.get("response")
    if isinstance(response, Mapping) and response.get("status") == "failed":
        event = {"error": response.get("error") or "failed"}
    elif not (event.get("error") or event.get("type") == "error" or event.get("event") == "error"):
        return None
    told = told_in(event, "")
    status = 400 if _first(f"{told.code.lower()} {told.words}", _CERTAIN) else 500
    found = classified(told.status or status, told, None, ())
    if isinstance(found, ChatApiRefusedError) and found.reason in {Reason.REQUEST, Reason.FIELD, Reason.ADDRESS}:
        return ChatApiUnavailableError("an error in the stream")  # it was taken at first: another try may do
    return found


def told_in(reply: Any, text: str) -> Told:
    """What a reply of any known shape says."""
    if isinstance(reply, list) and reply:
        reply = reply[0]
    if not isinstance(reply, Mapping):
        return Told(words=text[:_WORDS].lower())
    inner = reply.get("error")
    fields: Mapping[str, Any] = inner if isinstance(inner, Mapping) else reply
    code = fields.get("code") or fields.get("type") or ""
    status = next((int(str(n)) for n in (fields.get("status"), fields.get("code")) if _is_status(n)), 0)
    words = orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")
    return Told(status, str(code), _param(fields), words[:_WORDS].lower())


def classified(status: int, told: Told, retry_after: float | None, sent: Collection[str]) -> ChatApiError:
    """One of our errors, by what is known of it, the most certain first."""
    code = told.code if _CODE.fullmatch(told.code) else None
    words = f"{told.code.lower()} {told.words}"
    locked = _LOCKED.search(words) is not None
    soon = _SOON.search(words)
    if retry_after is None and soon is not None:
        retry_after = float(soon[1])
    no_credit = status == 402 or (status in _MAY_BE_CREDIT and not soon and _CREDIT.search(words) is not None)
    if _is_passing(status) and _KEPT_FULL.search(words):
        return ChatApiRefusedError(status, code, reason=Reason.SIZE)
    if locked or (_is_passing(status, words) and not no_credit):
        what = "the conversation is locked there" if locked else f"status {status}"
        return ChatApiUnavailableError(what, retry_after=retry_after)
    field = "" if no_credit or _first(words, _SURE) else _named(told, sent, status)
    reason = Reason.CREDIT if no_credit else Reason.FIELD if field else _reason(status, words)
    return ChatApiRefusedError(status, code, reason=reason, field=field)


def _is_passing(status: int, words: str = "") -> bool:
    return status in _RETRIED or status >= 500 or (status == 400 and _RATE.search(words) is not None)


def _reason(status: int, words: str) -> Reason:
    by_status = _BY_STATUS.get(status)
    if by_status in {Reason.SIZE, Reason.KEY} and status != 403:
        return by_status
    return _first(words, (*_SURE, *_LIKELY)) or by_status or (Reason.ADDRESS if status < 400 else Reason.REQUEST)


def _first(words: str, rules: "tuple[tuple[re.Pattern[str], Reason], ...]") -> Reason | None:
    return next((reason for pattern, reason in rules if pattern.search(words)), None)


def _named(told: Told, sent: Collection[str], status: int) -> str:
    """Which of the fields that can be done without a 400 or 422 complains of; the longest name that fits."""
    if status not in {400, 422}:
        return ""
    if told.param:
        head = told.param.partition(".")[0].partition("[")[0]
        for name in (told.param, head):
            if name in sent:
                return name
        if head == "messages" and "role" in told.param + told.words and "role" in sent:
            return "role"
    if not _FIELD.search(told.words):
        return ""
    found = [name for name in sent if re.search(rf"(?<![\w.]){re.escape(name.lower())}(?!\w)", told.words)]
    return max(found, key=len, default="")


def _param(fields: Mapping[str, Any]) -> str:
    """The field that is named: OpenAI's ``param``, or the end of FastAPI's ``loc``."""
    if isinstance(fields.get("param"), str):
        return str(fields["param"])
    detail = fields.get("detail")
    first = detail[0] if isinstance(detail, list) and detail else None
    where = first.get("loc") if isinstance(first, Mapping) else None
    if isinstance(where, list) and where:
        return ".".join(str(part) for part in where if part != "body")
    return ""


def _is_status(value: object) -> bool:
    return _STATUS.fullmatch(str(value)) is not None


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the server wants to be asked again: milliseconds, seconds or a date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if _SECONDS.fullmatch(value):
            return float(value) * scale
        if value and name == "retry-after":
            try:
                return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
            except (ValueError, TypeError, OverflowError):
                return None
    return None
