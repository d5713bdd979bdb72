"""Archives that come back over the admin API: what is ours is handed to the chat's worker, all else is refused."""

import json
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import httpx
import pytest
import pytest_asyncio

from bot.privacy.intake import MOST_BYTES
from bot.privacy.rights import Rights
from bot.privacy.seal import Seal
from bot.privacy.staging import Staging, claimed_chat
from handlers.web.api import admin_api
from handlers.web.gate import Gate
from storage.apikeys import ApiKeys
from tests.web.conftest import ROOT, SEAL, Api, assert_problem

ZIP = {"Content-Type": "application/zip"}


class Desk:
    """An API of the test's own, whose seal the test holds, on the store of the running service."""

    def __init__(self, api: Api, client: httpx.AsyncClient, archive: bytes, chat_id: int) -> None:
        self.api = api
        self.client = client
        self.archive = archive
        self.chat_id = chat_id

    async def bring(self, content: bytes, query: str = "", **headers: str) -> httpx.Response:
        return await self.client.post(f"{ROOT}/imports{query}", content=content, headers={**ZIP, **headers})

    @property
    def staging(self) -> Staging:
        return Staging(self.api.inside.store, self.api.inside.keys, self.api.inside.vault)


@pytest_asyncio.fixture(loop_scope="session")
async def desk(api: Api) -> AsyncIterator[Desk]:
    customer = api.world.customer()
    await customer.asks('alpha \u2028 "one"')
    await customer.asks("alpha two")
    await api.world.all_taken()
    rights = api.inside.rights
    export = await rights.request_export(customer.chat_id, "operator")
    assert export is not None
    _, content = await rights.export_part(export, 1)
    archive = b"".join([chunk async for chunk in content])

    async def load() -> Any:
        return admin_api(rights)

    gate = Gate(ApiKeys(api.inside.store, api.inside.keys), load)
    headers = {"Authorization": f"Bearer {await api.token('imports', 'receipts:read')}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(gate), base_url="http://api.example.com", headers=headers
    ) as client:
        yield Desk(api, client, archive, customer.chat_id)


async def test_a_dry_run_tells_what_an_archive_offers_and_changes_nothing(desk: Desk) -> None:
    """How much, from when to when, of which chat; the store gets no key and the chat no letter."""
    before = await desk.api.inside.store.call("DBSIZE")
    reply = await desk.bring(desk.archive, "?dry_run=true")
    assert reply.status_code == 200
    told = reply.json()
    assert (told["chat_id"], told["part"], told["parts"]) == (desk.chat_id, 1, 1)
    assert (told["counts"]["turns"], told["counts"]["messages"]) == (2, 4)
    assert told["earliest"] <= told["latest"] <= told["made"]
    assert await desk.api.inside.store.call("DBSIZE") <= before + 1  # the count of calls


async def test_an_archive_of_ours_is_staged_and_the_worker_told(desk: Desk) -> None:
    """202 with a request; the archive lies sealed for an hour, and comes out as it went in."""
    reply = await desk.bring(desk.archive)
    assert reply.status_code == 202
    request_id = reply.json()["receipt"]
    assert reply.headers["Location"] == f"{ROOT}/receipts/{request_id}"
    state = (await desk.client.get(reply.headers["Location"])).json()
    assert (state["kind"], state["by"]) == ("import", "operator")


async def test_what_is_staged_comes_out_whole_or_not_at_all(desk: Desk) -> None:
    """Pieces under a key of the chat, for an hour: a lost piece, another name or a forget gives nothing."""
    content = bytes(range(256)) * 5_000
    inside = desk.api.inside
    for request_id in ("ONE", "TWO", "SIX"):
        await desk.staging.put(desk.chat_id, request_id, content)
    name = inside.keys.of(desk.chat_id).staged("ONE")
    assert 3_500 < await inside.store.call("TTL", name) <= 3_600
    assert await inside.store.call("LLEN", name) == 3
    assert await desk.staging.read(desk.chat_id, "ONE") == content
    await inside.store.call(
        "RENAME", inside.keys.of(desk.chat_id).staged("SIX"), inside.keys.of(desk.chat_id).staged("X")
    )
    assert await desk.staging.read(desk.chat_id, "X") is None
    await inside.store.call("RPOP", inside.keys.of(desk.chat_id).staged("TWO"))
    assert await desk.staging.read(desk.chat_id, "TWO") is None
    await desk.staging.drop(desk.chat_id, "TWO")
    assert await inside.store.call("EXISTS", inside.keys.of(desk.chat_id).staged("TWO")) == 0
    await inside.vault.destroy(desk.chat_id)
    assert await desk.staging.read(desk.chat_id, "ONE") is None


def rewritten(archive: bytes, **files: bytes | None) -> bytes:
    """The same zip with other contents of some files; None leaves one out."""
    changed = {name.replace("_", "."): content for name, content in files.items()}
    into = BytesIO()
    with zipfile.ZipFile(BytesIO(archive)) as old, zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = changed.pop(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
        for name, content in changed.items():
            new.writestr(name, content or b"")
    return into.getvalue()


def manifest(archive: bytes, **changes: Any) -> bytes:
    held = json.loads(zipfile.ZipFile(BytesIO(archive)).read("manifest.json"))
    return json.dumps({**held, **changes}).encode()


def signed(archive: bytes, seal: Seal, **changes: Any) -> bytes:
    told = manifest(archive, **changes)
    return rewritten(archive, manifest_json=told, manifest_sig=seal.signed(told))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("archive-not-whole", lambda archive: b""),
        ("archive-not-whole", lambda archive: b"hello"),
        ("archive-not-whole", lambda archive: archive[:-100]),
        ("archive-not-whole", lambda archive: archive[: len(archive) // 2]),
        ("archive-damaged", lambda archive: rewritten(archive, manifest_sig=None)),
        ("archive-damaged", lambda archive: rewritten(archive, manifest_json=b"{")),
        ("archive-unsafe", lambda archive: rewritten(archive, account_json=bytes(50_000_000))),
        ("archive-unsafe", lambda archive: rewritten(archive, more_txt=b"hello")),
        ("archive-newer", lambda archive: rewritten(archive, manifest_json=manifest(archive, version=99))),
        ("archive-foreign", lambda archive: signed(archive, Seal.of(bytes(32)))),
        ("archive-forged", lambda archive: rewritten(archive, manifest_json=manifest(archive, chat_id=1))),
        ("archive-forged", lambda archive: rewritten(archive, account_json=b"{}")),
        ("archive-not-yours", lambda archive: signed(archive, SEAL, bot_id=1)),
    ],
)
async def test_what_is_not_ours_gets_its_own_sentence(desk: Desk, name: str, harm: Any) -> None:
    """Truncated, dangerous, newer, foreign, forged, of another bot: each its own problem, and nothing is kept."""
    before = await desk.api.inside.store.call("KEYS", "*:import:*")
    for query in ("", "?dry_run=true"):
        assert_problem(await desk.bring(harm(desk.archive), query), 422, name)
    assert await desk.api.inside.store.call("KEYS", "*:import:*") == before


async def test_uploads_have_a_bound_and_a_type(desk: Desk) -> None:
    """413 and 415, before anything is looked at."""
    assert_problem(await desk.bring(bytes(MOST_BYTES + 1)), 413, "too-large")
    for media in ("application/json", "multipart/form-data", ""):
        assert_problem(await desk.bring(desk.archive, **{"Content-Type": media}), 415, "media-type")


def test_a_claim_is_read_from_anything() -> None:
    """Whatever it is handed, it gives a number."""
    into = BytesIO()
    with zipfile.ZipFile(into, "w") as packed:
        packed.writestr("manifest.json", b'{"chat_id": true}')
    for content in (b"", b"PK", into.getvalue(), bytes(MOST_BYTES + 1)):
        assert claimed_chat(content) == 0


async def test_a_service_without_a_seal_takes_nothing(desk: Desk) -> None:
    """Nothing can have been made here."""
    inside = desk.api.inside

    async def name() -> str:
        return ""

    rights = Rights(
        inside.store, inside.keys, inside.vault, post=inside.rights._post, receipts=inside.rights._receipts, name=name
    )
    from bot.privacy.intake import IntakeError, Reason

    with pytest.raises(IntakeError) as refused:
        await rights.preview(desk.archive)
    assert refused.value.reason == Reason.FOREIGN
