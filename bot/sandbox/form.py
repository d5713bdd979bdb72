"""What a Bot API call carries: query, JSON, urlencoded and multipart bodies, as one `Params`.

Values keep the type they came with (a number in JSON, a string in a form); the getters convert as the real server
does: what is not a number counts as absent, `true`, `yes` and `1` are true, nested objects may come as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson


class BadBodyError(Exception):
    """The body cannot be read; the message is what the caller is told."""


class Upload(NamedTuple):
    """One file of a multipart body."""

    name: str
    content_type: str
    content: bytes


class Params:
    """The arguments of one call."""

    __slots__ = ("uploads", "values")

    def __init__(self, values: dict[str, Any], uploads: dict[str, Upload] | None = None) -> None:
        self.values = values
        self.uploads = uploads or {}

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        return orjson.dumps(value).decode()

    def number(self, name: str, default: int = 0) -> int:
        return as_number(self.values.get(name), default)

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        return value if isinstance(value, bool) else str(value).lower() in ("true", "yes", "1")

    def nested(self, name: str) -> Any:
        """An object or array, whether it came as such or as JSON text. Raises ValueError for text that is no JSON."""
        value = self.values.get(name)
        if not isinstance(value, str):
            return value
        return orjson.loads(value) if value else None


def as_number(value: object, default: int = 0) -> int:
    """`value` as an integer where it is one or spells one, else `default`."""
    if isinstance(value, bool):
        return default
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return default
    return int(value) if isinstance(value, float) and value == int(value) else default


def read_params(query: bytes, content_type: str, body: bytes) -> Params:
    """Raises `BadBodyError`."""
    values: dict[str, Any] = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {}
    if not body:
        return Params(values)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        values.update(_read_json(body))
        return Params(values)
    if kind == "multipart/form-data":
        fields, uploads = read_multipart(body, content_type)
        values.update(fields)
        return Params(values, uploads)
    if kind == "application/x-www-form-urlencoded":
        values.update(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return Params(values)


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        # orjson takes no lone surrogates; whoever reads the text refuses them in the server's words.
        try:
            given = json.loads(body)
        except ValueError as error:
            raise BadBodyError("Bad Request: can't parse request parameters JSON object") from error
    if not isinstance(given, dict):
        raise BadBodyError("Bad Request: request parameters JSON object expected")
    return given


def read_multipart(body: bytes, content_type: str) -> tuple[dict[str, str], dict[str, Upload]]:
    """Fields and uploads of a multipart body. Raises `BadBodyError` where no boundary separates the parts."""
    boundary = _attribute(content_type, "boundary")
    if not boundary:
        raise BadBodyError("Bad Request: boundary parameter not found in multipart request")
    parts = list(_parts(body, b"--" + boundary.encode("latin-1")))
    if not parts:
        raise BadBodyError("Bad Request: multipart body has no parts")
    fields: dict[str, str] = {}
    uploads: dict[str, Upload] = {}
    for begin, end in parts:
        gap = body.find(b"\r\n\r\n", begin, end)
        if gap < 0:
            continue
        content = body[gap + 4 : end - 2 if body[end - 2 : end] == b"\r\n" else end]
        headers = _part_headers(body[begin:gap])
        disposition = headers.get("content-disposition", "")
        name, file_name = _attribute(disposition, "name"), _attribute(disposition, "filename")
        if file_name or "filename" in disposition:
            uploads[name] = Upload(file_name or name, headers.get("content-type", ""), content)
        elif name:
            fields[name] = content.decode("utf-8", "replace")
    return fields, uploads


def _parts(body: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Where each part begins and ends; a file of 50 MB is copied once, when it is taken out."""
    begin = body.find(mark)
    while begin >= 0 and (end := body.find(mark, begin + len(mark))) >= 0:
        yield begin + len(mark), end
        begin = end


def _part_headers(head: bytes) -> dict[str, str]:
    lines = head.decode("utf-8", "replace").split("\r\n")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _attribute(value: str, name: str) -> str:
    """One attribute of a header such as `form-data; name="photo"`; quoted values may hold semicolons."""
    rest = value
    while rest:
        _, gap, rest = rest.partition(";")
        if not gap:
            return ""
        key, equal, tail = rest.partition("=")
        if equal and key.strip().lower() == name:
            tail = tail.strip()
            if tail.startswith('"'):
                return tail[1:].partition('"')[0]
            return tail.partition(";")[0].strip()
    return ""


def dump(value: object) -> bytes:
    """JSON bytes. Lone surrogates, which no strict encoder takes, go out as escapes: JSON can carry them."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=True).encode()
