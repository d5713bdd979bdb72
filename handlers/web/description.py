"""How the admin API describes itself, as OpenAPI 3.1: every operation with its scope, its answers and every refusal.

What a route is described with is also what it is checked by: the scope in ``needs`` is the one that a key must have.
"""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from bot.privacy.intake import MOST_BYTES
from handlers.web import problems
from handlers.web.problems import PROBLEMS, Problem
from handlers.web.shapes import ProblemDetails
from storage.apikeys import SCOPES

_EVERYWHERE: Final = (
    problems.UNAUTHORIZED, problems.METHOD, problems.TOO_LARGE, problems.INVALID, problems.TOO_MANY, problems.FAILED,
    problems.UNAVAILABLE, problems.FORBIDDEN, problems.NOT_FOUND,
)  # fmt: skip
ARCHIVE: Final = {
    "required": True,
    "description": f"one part of an export, of at most {MOST_BYTES} bytes",
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}
LOCATION: Final = {"Location": {"description": "where to ask what became of it", "schema": {"type": "string"}}}


def needs(scope: str) -> dict[str, Any]:
    assert scope in SCOPES
    return {"security": [{"key": [scope]}]}


def scope_of(extra: Mapping[str, Any]) -> str:
    return str(extra["security"][0]["key"][0])


def json_object(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


def refusals(*more: Problem) -> dict[int | str, dict[str, Any]]:
    """Every refusal of an operation, by status; those of one status are told together."""
    found: dict[int | str, dict[str, Any]] = {}
    for problem in PROBLEMS:
        if problem in _EVERYWHERE or problem in more:
            told_of = f"`{problem.name}`: {problem.detail}"
            before = found.get(problem.status, {}).get("description")
            found[problem.status] = {
                "description": f"{before}\n\n{told_of}" if before else told_of,
                "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
            }
    for status, names in ((401, ["WWW-Authenticate"]), (429, ["Retry-After"]), (503, ["Retry-After"])):
        found[status]["headers"] = {name: {"schema": {"type": "string"}} for name in names}
    return found


def described(api: FastAPI) -> bytes:
    """The description as OpenAPI 3.1."""
    document = get_openapi(
        title=api.title, version=api.version, description=api.description, openapi_version="3.1.0", routes=api.routes
    )
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas[ProblemDetails.__name__] = problem
    parts["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "a key made by `python -m bot apikey create`"}
    }
    document["servers"] = [{"url": "/"}]
    return bytes(JSONResponse(document).body)
