"""The admin API: what the law gives people, by key and by script. It is loaded when it is first called.

Each operation names the scope it needs in its description, and the same line is what is checked: before the body is
read and before anything is looked up, so that a key that may not ask learns nothing from asking.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from starlette.exceptions import HTTPException

from bot.logs import get_logger
from bot.privacy.account import told
from bot.privacy.content import iso, moment
from bot.privacy.intake import MOST_BYTES, IntakeError, Reason
from bot.privacy.rights import MOST_CHAT_ID, Export, Preview, Rights
from handlers.web import problems
from handlers.web.description import ARCHIVE, LOCATION, described, json_object, needs, refusals, scope_of
from handlers.web.problems import ROOT, ProblemError
from handlers.web.shapes import Accepted, ExportOrder, ExportState, Offered, ReceiptState, Requests
from storage.apikeys import ApiKey
from storage.errors import StorageError

MOST_BODY_BYTES: Final = 4_096
_BODY_SECONDS: Final = 20.0
_UPLOAD_SECONDS: Final = 300.0
_UPLOADS_AT_ONCE: Final = 4
_MOST_LISTED: Final = 500
_ID: Final = r"^[2-9A-HJKMNP-TV-Z]{4}(-[2-9A-HJKMNP-TV-Z]{4}){2}$"
_log = get_logger(__name__)


def _whole(value: object) -> object:
    """Only what the description says is a number: not ``1.0``, ``+1`` or ``1_000``, which Python reads as one."""
    if isinstance(value, str) and not re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", value):
        raise ValueError("a whole number in plain digits is wanted")
    return value


def _word(value: object) -> object:
    if isinstance(value, str) and value not in {"true", "false"}:
        raise ValueError("true or false is wanted")
    return value


_Whole = BeforeValidator(_whole)
ChatId = Annotated[int, _Whole, InPath(gt=-MOST_CHAT_ID, lt=MOST_CHAT_ID, description="Telegram's id of the chat")]
ReceiptId = Annotated[str, InPath(pattern=_ID, description="an id as it was handed out")]
Choice = BeforeValidator(_word)


class _Guarded(APIRoute):
    """A route that asks for its scope first, and reads a body only as far as it may be long."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        scope = scope_of(self.openapi_extra or {})

        async def guarded(request: Request) -> Response:
            key: ApiKey = request.scope["api_key"]
            if scope not in key.scopes:
                raise ProblemError(problems.FORBIDDEN)
            if self.body_field is not None:
                body = await _bounded(request, MOST_BODY_BYTES)
                request = Request(request.scope, _replayed(body))
            return await handle(request)

        return guarded


def admin_api(rights: Rights) -> FastAPI:
    """The application behind the gate, which has put the key into the request."""
    api = FastAPI(
        title="Admin API",
        version="1",
        description="Access, deletion, export and restore of customers' data, and what became of each request.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            ProblemError: _problem,
            HTTPException: _http_error,
            RequestValidationError: _invalid,
            StorageError: _unavailable,
            Exception: _failed,
        },
    )
    api.router.route_class = _Guarded
    _about_chats(api, rights)
    _about_exports(api, rights)
    _about_imports(api, rights)
    _about_requests(api, rights)
    document = described(api)

    async def openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    api.add_route(f"{ROOT}/openapi.json", openapi, methods=["GET"])
    return api


# ---- operations
def _about_chats(api: FastAPI, rights: Rights) -> None:
    @api.get(
        f"{ROOT}/chats/{{chat_id}}/data",
        summary="Everything stored of a chat",
        response_class=StreamingResponse,
        responses={
            200: json_object("What an archive's conversations.json holds, and the account."),
            **refusals(problems.NOTHING_STORED),
        },
        openapi_extra=needs("data:read"),
    )
    async def read_data(chat_id: ChatId) -> Response:
        content = await rights.data(chat_id)
        if content is None:
            raise ProblemError(problems.NOTHING_STORED)
        return StreamingResponse(content, media_type="application/json")

    @api.delete(
        f"{ROOT}/chats/{{chat_id}}/data",
        summary="Delete everything stored of a chat",
        status_code=202,
        response_model=Accepted,
        responses={202: {"headers": LOCATION}, **refusals(problems.NOTHING_STORED)},
        openapi_extra=needs("data:delete"),
    )
    async def delete_data(
        request: Request,
        chat_id: ChatId,
        notify: Annotated[bool, Choice, Query(description="tell the customer in the chat")] = False,
    ) -> Response:
        receipt = await rights.erase(chat_id, "operator", notify=notify)
        if receipt is None:
            raise ProblemError(problems.NOTHING_STORED)
        _asked(request, "erasure", receipt)
        return JSONResponse({"receipt": receipt}, 202, {"Location": f"{ROOT}/receipts/{receipt}"})


def _about_exports(api: FastAPI, rights: Rights) -> None:
    @api.post(
        f"{ROOT}/exports",
        summary="Make an export of a chat",
        status_code=201,
        response_model=ExportState,
        responses={
            201: {"headers": LOCATION},
            **refusals(problems.NOTHING_STORED, problems.MALFORMED, problems.TIMEOUT),
        },
        openapi_extra=needs("exports"),
    )
    async def make_export(request: Request, order: ExportOrder) -> Response:
        export = await rights.request_export(order.chat_id, "operator")
        if export is None:
            raise ProblemError(problems.NOTHING_STORED)
        _asked(request, "export", export.id)
        return JSONResponse(_state_of(export), 201, {"Location": f"{ROOT}/exports/{export.id}"})

    @api.get(
        f"{ROOT}/exports/{{export_id}}",
        summary="Where the parts of an export are",
        response_model=ExportState,
        responses=refusals(problems.GONE),
        openapi_extra=needs("exports"),
    )
    async def read_export(export_id: ReceiptId) -> Response:
        return JSONResponse(_state_of(await standing(export_id)))

    @api.get(
        f"{ROOT}/exports/{{export_id}}/parts/{{part}}",
        summary="One part of an export, made while it is read",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
            **refusals(problems.GONE),
        },
        openapi_extra=needs("exports"),
    )
    async def read_part(
        export_id: ReceiptId, part: Annotated[int, _Whole, InPath(ge=1, le=1_000_000, description="from 1 on")]
    ) -> Response:
        export = await standing(export_id)
        if part > len(export.parts):
            raise ProblemError(problems.NOT_FOUND)
        name, content = await rights.export_part(export, part)
        return _attached(name, content)

    async def standing(export_id: str) -> Export:
        export = await rights.export(export_id)
        if export is None:
            raise ProblemError(problems.NOT_FOUND)
        if export.gone:
            raise ProblemError(problems.GONE)
        return export


def _about_imports(api: FastAPI, rights: Rights) -> None:
    # Each holds its archive in memory; looking into one may take seconds, and customers are served meanwhile.
    uploads, looks = asyncio.Semaphore(_UPLOADS_AT_ONCE), asyncio.Lock()

    @api.post(
        f"{ROOT}/imports",
        summary="Read an archive back into the chat it is of",
        status_code=202,
        response_model=Accepted,
        responses={
            200: {"model": Offered, "description": "of a dry run: what the archive offers"},
            202: {"headers": LOCATION},
            **refusals(*problems.ARCHIVES, problems.MEDIA, problems.TIMEOUT),
        },
        openapi_extra={**needs("imports"), "requestBody": ARCHIVE},
    )
    async def bring_back(
        request: Request,
        dry_run: Annotated[bool, Choice, Query(description="look at it, and read nothing in")] = False,
    ) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/zip":
            raise ProblemError(problems.MEDIA)
        async with uploads:
            content = await _bounded(request, MOST_BYTES, _UPLOAD_SECONDS)
            async with looks:
                preview = await _previewed(rights, content)
            if dry_run:
                return JSONResponse(_offered(preview))
            receipt = await rights.submit_import(preview.chat_id, content, "operator")
        _asked(request, "import", receipt)
        return JSONResponse({"receipt": receipt}, 202, {"Location": f"{ROOT}/receipts/{receipt}"})


async def _previewed(rights: Rights, content: bytes) -> Preview:
    try:
        return await rights.preview(content)
    except IntakeError as error:
        raise ProblemError(_NOT_TAKEN[error.reason]) from error


def _offered(preview: Preview) -> dict[str, Any]:
    offer = preview.offer
    made, earliest, latest = (moment(seconds) for seconds in (offer.made_s, offer.earliest_s, offer.latest_s))
    return {
        "chat_id": preview.chat_id,
        "made": iso(made) if made else None,
        "part": offer.part,
        "parts": offer.parts,
        "counts": dict(offer.counts),
        "earliest": iso(earliest) if earliest else None,
        "latest": iso(latest) if latest else None,
    }


_NOT_TAKEN: Final = {
    Reason.NOT_WHOLE: problems.NOT_WHOLE,
    Reason.UNSAFE: problems.UNSAFE,
    Reason.DAMAGED: problems.DAMAGED,
    Reason.NEWER: problems.NEWER,
    Reason.FOREIGN: problems.FOREIGN,
    Reason.FORGED: problems.FORGED,
    Reason.NOT_YOURS: problems.NOT_YOURS,
}


def _about_requests(api: FastAPI, rights: Rights) -> None:
    @api.get(
        f"{ROOT}/receipts/{{receipt_id}}",
        summary="What became of a request",
        response_model=ReceiptState,
        responses=refusals(),
        openapi_extra=needs("receipts:read"),
    )
    async def read_receipt(receipt_id: ReceiptId) -> Response:
        receipt = await rights.receipt(receipt_id)
        if receipt is None:
            raise ProblemError(problems.NOT_FOUND)
        return JSONResponse(told(receipt))

    @api.get(
        f"{ROOT}/requests",
        summary="All requests, with the legal deadline of each",
        response_model=Requests,
        responses=refusals(),
        openapi_extra=needs("requests:read"),
    )
    async def list_requests(
        limit: Annotated[int, _Whole, Query(ge=1, le=_MOST_LISTED, description="how many at most, about")] = 100,
        before: Annotated[int, _Whole, Query(ge=0, lt=2**53, description="only those before, in ms since 1970")] = 0,
    ) -> Response:
        page = await rights.requests(limit, before)
        more = f"{ROOT}/requests?limit={limit}&before={page.before_ms}" if page.before_ms else None
        return JSONResponse({"requests": [told(receipt) for receipt in page.requests], "next": more})


def _state_of(export: Export) -> dict[str, Any]:
    expires = moment(export.expires_s)
    parts = [f"{ROOT}/exports/{export.id}/parts/{part}" for part in range(1, len(export.parts) + 1)]
    return {"id": export.id, "parts": parts, "expires": iso(expires) if expires else None}


def _attached(name: str, content: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(
        content, media_type="application/zip", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _asked(request: Request, kind: str, request_id: str) -> None:
    """Who asked for what, for the operator's own account; of whom, nobody learns from the log."""
    _log.info("api.asked", kind=kind, request=request_id, key=request.scope["api_key"].id)


# ---- bodies
async def _bounded(request: Request, most: int, seconds: float = _BODY_SECONDS) -> bytes:
    """The body, however long it claims to be, and however slowly it comes. Raises ProblemError."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most:
        raise ProblemError(problems.TOO_LARGE)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise ProblemError(problems.TOO_LARGE)
                parts.append(part)
    except TimeoutError as error:
        raise ProblemError(problems.TIMEOUT) from error
    return b"".join(parts)


def _replayed(body: bytes) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


# ---- refusals
async def _problem(_: Request, error: ProblemError) -> Response:
    return Response(error.body, error.problem.status, error.headers)


async def _unavailable(request: Request, error: StorageError) -> Response:
    _log.warning("api.unavailable", error=type(error).__name__)
    return await _problem(request, ProblemError(problems.UNAVAILABLE, headers={"Retry-After": "5"}))


async def _failed(request: Request, _: Exception) -> Response:
    """The framework hands the error on to the gate, which logs it."""
    return await _problem(request, ProblemError(problems.FAILED))


async def _http_error(request: Request, error: HTTPException) -> Response:
    """What the framework refuses by itself."""
    by_status = {
        HTTPStatus.BAD_REQUEST: problems.MALFORMED,
        HTTPStatus.NOT_FOUND: problems.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED: problems.METHOD,
    }
    problem = by_status.get(HTTPStatus(error.status_code), problems.FAILED)
    return await _problem(request, ProblemError(problem, headers=error.headers))


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    """Where and why, never what: the value may be somebody's data."""
    broken = [{"where": _where(one["loc"]), "why": _why(one)} for one in error.errors()]
    problem = problems.MALFORMED if any(one["type"] == "json_invalid" for one in error.errors()) else problems.INVALID
    return await _problem(request, ProblemError(problem, errors=broken[:20]))


def _where(place: tuple[Any, ...]) -> str:
    known = [str(part) for part in place if re.fullmatch(r"[a-z_]{1,20}", str(part))]
    return ".".join(known)


def _why(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")
