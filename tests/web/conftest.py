"""The admin API of a service at work, over real HTTP, and keys for it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from bot.conversation.post import Post
from bot.privacy.rights import Rights
from bot.privacy.seal import Seal
from handlers.web.problems import MEDIA_TYPE, SECURITY_HEADERS
from storage.apikeys import SCOPES, ApiKeys
from storage.inbox import Inbox
from storage.keys import Keys
from storage.receipts import Receipts
from storage.scripts import Store
from storage.vault import Vault, open_vault
from tests.flows.conftest import TOKEN, Service, World, lasting, zygote

__all__ = ["zygote"]

ROOT: Final = "/api/v1"
BOT_ID: Final = int(TOKEN.partition(":")[0])
SEAL: Final = Seal.of(bytes(range(32)))
NOBODY: Final = 4_200_000_001
"""A chat that the bot never met."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these run in one event loop, since they share a service that lives in it."""
    for item in items:
        if Path(__file__).parent in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@dataclass
class Counted:
    """A store that tells which commands were sent through it."""

    store: Store
    commands: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        call = self.store.call

        async def counted(*arguments: Any) -> Any:
            self.commands.append(str(arguments[0]))
            return await call(*arguments)

        self.store.call = counted  # type: ignore[method-assign]


@dataclass
class Inside:
    """The parts behind the API, on the store and the keyring of a service that runs beside them."""

    counted: Counted
    keys: Keys
    vault: Vault
    rights: Rights

    @property
    def store(self) -> Store:
        return self.counted.store


@dataclass
class Api:
    """The admin API of one service."""

    service: Service
    client: httpx.AsyncClient
    inside: Inside

    @property
    def world(self) -> World:
        return self.service.world

    async def token(self, *scopes: str, **more: Any) -> str:
        """Of a new key; without scopes it may do everything."""
        _, token = await ApiKeys(self.inside.store, self.inside.keys).create(scopes or SCOPES, **more)
        return token

    async def call(self, method: str, path: str, token: str | None, **more: Any) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {token}"} if token is not None else {}), **more.pop("headers", {})}
        return await self.client.request(method, ROOT + path, headers=headers, **more)

    @asynccontextmanager
    async def from_address(self, address: str) -> AsyncIterator["Api"]:
        """The same API, called from another loopback address: the limit of failed sign-ins is one of each."""
        transport = httpx.AsyncHTTPTransport(local_address=address)
        async with httpx.AsyncClient(base_url=self.service.url, transport=transport) as client:
            yield Api(self.service, client, self.inside)


def assert_problem(reply: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Every error is problem JSON under the headers of every answer; gives what it says."""
    assert (reply.status_code, reply.headers["Content-Type"]) == (status, MEDIA_TYPE), reply.text
    told: dict[str, Any] = json.loads(reply.content)
    assert told["type"] == f"{ROOT}/problems/{name}"
    assert told["status"] == status
    assert told["title"]
    assert told["detail"].endswith((".", "SECRET."))
    assert_headers(reply)
    return told


def assert_headers(reply: httpx.Response) -> None:
    for header, value in SECURITY_HEADERS.items():
        assert reply.headers.get_list(header) == [value], header
    assert "server" not in reply.headers


@asynccontextmanager
async def inside_of(service: Service) -> AsyncIterator[Inside]:
    settings = service.environment
    secrets = Path(settings["MASTER_KEY_FILE"]).parent
    async with service.store() as client:
        vault = await open_vault(
            client,
            BOT_ID,
            master_key_file=secrets / "master.key",
            keyring_url=f"sqlite:{secrets / 'keyring.db'}",
            data_dir=Path(settings["DATA_DIR"]),
        )
        counted, keys = Counted(Store(client)), Keys(BOT_ID)
        receipts = Receipts(counted.store, keys, keep_days=365)
        post = Post(Inbox(counted.store, keys, mailbox_cap=100), vault)

        async def name() -> str:
            return "a_bot"

        try:
            yield Inside(
                counted,
                keys,
                vault,
                Rights(counted.store, keys, vault, post=post, receipts=receipts, name=name, seal=SEAL),
            )
        finally:
            await vault.aclose()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory, zygote: Any) -> AsyncIterator[Service]:
    """One service for all: what the API does to it, it does to chats of one test each."""
    async with lasting(zygote, tmp_path_factory.mktemp("api")) as found:
        await found.ready()
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_api(service: Service) -> AsyncIterator[Api]:
    limits = httpx.Limits(max_connections=50)
    async with (
        inside_of(service) as inside,
        httpx.AsyncClient(base_url=service.url, trust_env=False, limits=limits, timeout=30) as client,
    ):
        yield Api(service, client, inside)


@pytest_asyncio.fixture(loop_scope="session")
async def api(shared_api: Api) -> AsyncIterator[Api]:
    """The API, in a world without what earlier tests did to it."""
    with shared_api.world.fresh():
        yield shared_api
    await asyncio.sleep(0)
