"""The HTTP face of the Bot API: `/bot<token>/<method>` and `/file/bot<token>/<path>`.

Routing, bodies in all forms, faults, flood control, the call log. What methods do is in `methods`; only `getUpdates`
is here, because it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

import orjson

from bot.sandbox.account import Account
from bot.sandbox.call_log import Call, CallLog
from bot.sandbox.faults import Fault, FaultPlan
from bot.sandbox.flood import FloodGate
from bot.sandbox.form import BadBodyError, Params, as_number, dump, read_params
from bot.sandbox.guard import PAGE_HEADERS
from bot.sandbox.methods import METHODS, Handler, MethodCall
from bot.sandbox.methods.files import MAX_UPLOAD_BYTES
from bot.sandbox.refusal import BLOCKED, RefusedError, too_many
from bot.sandbox.updates import MAX_BATCH, MAX_TIMEOUT_SECONDS, WEBHOOK_ACTIVE
from bot.sandbox.wire import Receive, Scope, Send, TooLargeError, Wire, header, read_body, reply

#: A request may carry one file of the allowed size and some fields.
MAX_BODY_BYTES = MAX_UPLOAD_BYTES + (1 << 20)
#: Methods under flood control: what puts or changes something on people's screens.
_COUNTED = ("send", "edit", "copy", "forward")
_TRUE = b'{"ok":true,"result":true}'
_JSON = b"application/json"
_REASONS = {
    400: "Bad Request: the sandbox was told to refuse",
    401: "Unauthorized",
    403: BLOCKED,
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Answer(NamedTuple):
    """A finished reply."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    retry_after: int | None = None


class Job(NamedTuple):
    """One call, ready to be carried out."""

    account: Account
    method: str
    handler: Handler | None
    params: Params
    call: Call
    wire: Wire


class BotApi:
    """Carries out calls. `find_account` gives None for a token nobody registered."""

    def __init__(self, find_account: Callable[[str], Account | None], log: CallLog, faults: FaultPlan) -> None:
        self._find_account = find_account
        self._log = log
        self.faults = faults
        self.gate: FloodGate | None = None
        self._closing = asyncio.Event()

    def open(self) -> None:
        self._closing.clear()

    def close(self) -> None:
        """Calls that were to be accepted late are not accepted any more."""
        self._closing.set()

    async def call(self, scope: Scope, receive: Receive, send: Send) -> None:
        token, _, name = scope["path"][len("/bot") :].partition("/")
        answer: Answer | None
        try:
            body = await read_body(receive, MAX_BODY_BYTES)
            params = read_params(scope["query_string"], header(scope, b"content-type"), body)
        except ConnectionError:
            return
        except TooLargeError:
            answer = _refused(RefusedError(413, "Request Entity Too Large"))
        except BadBodyError as error:
            answer = _refused(RefusedError(400, str(error)))
        else:
            account = self._find_account(token)
            if account is None:
                answer = _refused(RefusedError(401, "Unauthorized"))
            else:
                answer = await self._answer(account, name, params, scope["wire"])
        if answer is not None:
            await _send(send, answer)

    async def file(self, scope: Scope, send: Send) -> None:
        """Hand out what `getFile` named."""
        token, _, path = scope["path"][len("/file/bot") :].partition("/")
        account = self._find_account(token)
        stored = account.world.file_at(unquote(path)) if account else None
        if account is None or stored is None:
            await _send(
                send, _refused(RefusedError(404, "Not Found") if account else RefusedError(401, "Unauthorized"))
            )
            return
        safe = [(b"content-disposition", b"attachment"), *PAGE_HEADERS]
        await reply(send, 200, account.world.content_of(stored), b"application/octet-stream", safe)

    def from_webhook(self, account: Account, body: bytes) -> None:
        """Carry out the call in a webhook's reply, if it holds one; what becomes of it nobody is told."""
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        name = given.pop("method", None) if isinstance(given, dict) else None
        barred = ("get", "setwebhook", "deletewebhook", "close", "logout")
        if not isinstance(name, str) or name.lower().startswith(barred):
            return
        method, handler = METHODS.get(name.lower(), (name, None))
        params = Params(given)
        call = self._log.open(method, _chat_id(params), given)
        self._carry_out(account, method, handler, params, call)

    # --- one call ------------------------------------------------------------------------------------------
    async def _answer(self, account: Account, name: str, params: Params, wire: Wire) -> Answer | None:
        """The reply, or None where the connection is to be left as it is."""
        lower = name.lower()
        method, handler = ("getUpdates", None) if lower == "getupdates" else METHODS.get(lower, (name, None))
        call = self._log.open(method, _chat_id(params), params.values)
        job = Job(account, method, handler, params, call, wire)
        fault = self.faults.pick(method, call.chat_id) if self.faults else None
        if fault is not None:
            call.fault = fault.kind
            return await self._strike(job, fault, self.faults.pause(fault))
        return await self._perform(job)

    async def _perform(self, job: Job) -> Answer:
        if job.method == "getUpdates":
            return await self._get_updates(job)
        return self._carry_out(job.account, job.method, job.handler, job.params, job.call)

    def _carry_out(self, account: Account, method: str, handler: Handler | None, params: Params, call: Call) -> Answer:
        """Without a pause from check to commit: a call is done wholly or not at all."""
        task = MethodCall(account, params)
        try:
            if handler is None:
                raise RefusedError(404, "Not Found: method not found")
            if self.gate is not None and call.chat_id is not None and method.startswith(_COUNTED):
                self.gate.check(method, call.chat_id)
            result = handler(task)
        except RefusedError as refused:
            self._log.close(call, refused.code, refused.description)
            return _refused(refused)
        finally:
            call.message_id, call.text = task.message_id, task.text
            account.record.commit()
        self._log.close(call, 200)
        return Answer(200, _TRUE if result is True else dump({"ok": True, "result": result}))

    async def _get_updates(self, job: Job) -> Answer:
        params, updates = job.params, job.account.updates
        if job.account.webhook is not None:
            refused = RefusedError(409, WEBHOOK_ACTIVE)
            self._log.close(job.call, 409, WEBHOOK_ACTIVE)
            return _refused(refused)
        with contextlib.suppress(orjson.JSONDecodeError):  # the server ignores a list that it cannot read
            updates.allow(params.nested("allowed_updates"))
        limit = min(max(params.number("limit", MAX_BATCH), 1), MAX_BATCH)
        timeout = min(max(params.number("timeout"), 0), MAX_TIMEOUT_SECONDS)
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if job.wire.is_lost:
            gone.set_result(None)  # a late poll confirms, but it must not wait in another's place
        try:
            with job.wire.telling(gone):
                body = await updates.poll(params.number("offset"), limit, timeout, gone)
        except RefusedError as refused:
            self._log.close(job.call, refused.code, refused.description)
            return _refused(refused)
        self._log.close(job.call, 200)
        return Answer(200, body)

    # --- faults --------------------------------------------------------------------------------------------
    async def _strike(self, job: Job, fault: Fault, seconds: float) -> Answer | None:
        if fault.kind.isdecimal():
            return self._told_to_refuse(job.call, fault, seconds)
        if fault.kind == "slow":
            answer = await self._perform(job)
            await job.wire.lost_within(seconds)
            return answer
        if fault.kind == "accept_then_cut":
            await self._perform(job)
        elif fault.kind == "late":
            if not fault.hold:
                job.wire.cut()
            if await self._closes_within(seconds):
                self._log.close(job.call, 0, fault.kind)
            else:
                await self._perform(job)
        else:
            self._log.close(job.call, 0, fault.kind)
            if fault.kind == "hang":
                await job.wire.lost_within(seconds)
        job.wire.cut()
        return None

    async def _closes_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return self._closing.is_set()

    def _told_to_refuse(self, call: Call, fault: Fault, seconds: float) -> Answer:
        code = int(fault.kind)
        refused = RefusedError(code, fault.description or _REASONS.get(code, ""))
        if code == 429:  # the HTTP status
            refused = too_many(max(1, math.ceil(seconds)))
        self._log.close(call, code, refused.description)
        if fault.html:
            page = f"<html><head><title>{code} {refused.description}</title></head><body>nginx</body></html>"
            return Answer(code, page.encode(), b"text/html")
        return _refused(refused)


def _refused(refused: RefusedError) -> Answer:
    return Answer(refused.code, dump(refused.answer()), retry_after=refused.retry_after)


async def _send(send: Send, answer: Answer) -> None:
    more = [(b"retry-after", str(answer.retry_after).encode())] if answer.retry_after is not None else ()
    await reply(send, answer.status, answer.body, answer.content_type, more)


def _chat_id(params: Params) -> int | None:
    return as_number(params.values.get("chat_id")) or None
