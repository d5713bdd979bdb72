"""Whatever is sent to the admin API, nothing breaks: inputs made from its description, and against it.

All operations get valid and broken inputs, about chats, exports and receipts that exist and that do not, and archives
that were made here and altered since. A wrong answer is a 5xx, one that the description does not know, an error that is
no problem JSON, or the acceptance of what the description forbids.
"""

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from handlers.web.gate import CALLS_A_MINUTE
from handlers.web.problems import MEDIA_TYPE, SECURITY_HEADERS
from storage.apikeys import SCOPES
from tests.web.conftest import ROOT, Api

SEED: Final = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
CHECKS: Final = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance, negative_data_rejection,
]  # fmt: skip
SHORT, LONG, PARTS = 250, 10_200, 3
"""Inputs over all operations: in the run of every change; and in the long one, in several parts."""


@schemathesis.serializer("application/zip")
def as_bytes(_: Any, value: Any) -> bytes:
    """What a body of bytes is sent as, whatever was made up for one."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@dataclass
class Bench:
    """What the fuzz calls with: keys that are changed before they are spent, and ids that exist."""

    url: str
    tokens: list[str]
    known: dict[str, list[Any]]
    archive: bytes
    calls: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    session: requests.Session = field(default_factory=requests.Session)

    def send(self, case: Any) -> None:
        token = self.tokens[self.calls // (CALLS_A_MINUTE - 100)]
        self.calls += 1
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}
        reply = case.call(base_url=self.url, session=self.session, timeout=30)
        self.statuses[reply.status_code] = self.statuses.get(reply.status_code, 0) + 1
        assert reply.status_code < 500
        held = dict(reply.headers.items())
        for header, value in SECURITY_HEADERS.items():
            assert held[header.lower()] == [value], header
        if reply.status_code >= 400:
            assert held["content-type"] == [MEDIA_TYPE]
            assert reply.json()["type"].startswith(f"{ROOT}/problems/")
        case.validate_response(reply, checks=CHECKS)


def made(operation: Any, bench: Bench) -> st.SearchStrategy[Any]:
    """Inputs of one operation: valid, broken, and about what exists."""
    strategies = [operation.as_strategy(mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]
    names = {name for name in bench.known if f"{{{name}}}" in operation.path}
    for name in sorted(names):
        for value in bench.known[name]:
            parameters = {name: value, **({"part": 1} if "{part}" in operation.path else {})}
            strategies.append(operation.as_strategy(path_parameters=parameters))
    if operation.path.endswith("/exports"):
        strategies += [st.just({"chat_id": chat}).flatmap(_with(operation)) for chat in bench.known["chat_id"]]
    if operation.path.endswith("/imports"):
        strategies += [altered(bench.archive).flatmap(_with(operation)) for _ in range(3)]
    return st.one_of(strategies)


@st.composite
def altered(draw: st.DrawFn, archive: bytes) -> bytes:
    """An archive with some bytes changed, cut out or doubled."""
    content = bytearray(archive)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        content[at : at + draw(st.integers(0, 40))] = draw(st.binary(max_size=40))
    return bytes(content)


def _with(operation: Any) -> Callable[[Any], st.SearchStrategy[Any]]:
    return lambda body: operation.as_strategy(body=body)


def fuzzed(bench: Bench, document: dict[str, Any], inputs: int, first: int) -> None:
    schema = schemathesis.openapi.from_dict(document)
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    share = inputs // len(operations) + 1
    for operation in operations:
        until = bench.calls + share
        turn = 0
        while bench.calls < until:  # an operation with few distinct inputs comes to an end early, and is begun anew

            @seed(first + turn)
            @settings(
                max_examples=min(until - bench.calls, 500), database=None, deadline=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=made(operation, bench))
            def judge(case: Any) -> None:
                bench.send(case)

            judge()
            turn += 1


async def hammered(api: Api, inputs: int, part: int = 0) -> Bench:
    """The running service under that many inputs."""
    customers = [api.world.customer() for _ in range(3)]
    for customer in customers:
        await customer.asks("alpha of the fuzz")
    await api.world.all_taken()
    rights = api.inside.rights
    exports = [await rights.request_export(customer.chat_id, "operator") for customer in customers[:2]]
    tokens = [await api.token(*SCOPES) for _ in range(inputs // (CALLS_A_MINUTE - 100) * 2 + 5)]
    ids = [export.id for export in exports if export is not None]
    assert exports[0] is not None
    _, content = await rights.export_part(exports[0], 1)
    archive = b"".join([chunk async for chunk in content])
    known: dict[str, list[Any]] = {
        "chat_id": [customer.chat_id for customer in customers[:2]],
        "export_id": ids,
        "receipt_id": ids,
    }
    bench = Bench(api.service.url, tokens, known, archive)
    bench.session.trust_env = False
    document = (await api.client.get(f"{ROOT}/openapi.json")).json()
    print(f"seed {SEED}, part {part}, {inputs} inputs")
    try:
        await asyncio.to_thread(fuzzed, bench, document, inputs, SEED + 1_000 * part)
    finally:
        bench.session.close()
        print(f"{bench.calls} inputs: {dict(sorted(bench.statuses.items()))}, seed {SEED}")
    assert api.service.code is None
    assert "api.failed" not in api.service.output
    assert await customers[2].asks("bravo after the fuzz") == "Answer to: bravo after the fuzz"
    return bench


async def test_inputs_of_all_kinds_get_described_answers(api: Api) -> None:
    """Every operation, described and broken inputs: no crash, no 5xx, no answer that is not described."""
    bench = await hammered(api, SHORT)
    assert bench.calls >= SHORT
    assert {200, 404, 422} <= set(bench.statuses)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(1, PARTS + 1))
async def test_ten_thousand_inputs_get_described_answers(api: Api, part: int) -> None:
    """The same for long."""
    assert (await hammered(api, LONG // PARTS, part)).calls >= LONG // PARTS
