"""What the service leaves behind: no secret and no customer's word in any output, no plain text in the store."""

from collections.abc import Callable
from pathlib import Path

import httpx

from bot import texts
from bot.sandbox import ChatBehaviour
from tests.flows.conftest import KEY, QUICK, TOKEN, Service, World, until

MARKER = "zebra-marker-7431"
CUSTOMER = 7_431_999_111
"""A chat id that cannot be part of another number by chance."""


async def lived_through(world: World) -> None:
    """Everything that could end up in a log: answers, faults of both sides, refusals, edits, malformed updates."""
    customer = world.customer(CUSTOMER)
    world.telegram.add_customer(CUSTOMER, first_name=f"{MARKER} first", username="zebra_username")
    await customer.asks(f"{MARKER} one **bold**")
    for kind in ("500", "garbage", "empty"):
        world.chat_api.faults.add(kind=kind, count=1)
        await customer.asks(f"{MARKER} after {kind}")
    world.chat_api.faults.add(kind="401", count=1)
    await customer.asks(f"{MARKER} after 401")
    world.telegram.faults.add(method="getUpdates", kind="500", count=1)
    world.telegram.faults.add(method="sendMessage", kind="accept_then_cut", count=1)
    await customer.asks(f"{MARKER} after a cut")
    refusal = f'Bad Request: can\'t parse entities: Unsupported start tag "{MARKER}" at byte offset 5'
    world.telegram.faults.add(method="sendMessage", kind="400", count=2, description=refusal)
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: f"{MARKER} **answer**")
    customer.writes(f"{MARKER} refused")
    await until(lambda: customer.texts[-1] == texts.UNDELIVERABLE, "the sentence about it")
    world.at_ease()
    malformed = {"message": {"chat": {"id": CUSTOMER, "type": "private"}, "text": MARKER, "message_id": MARKER}}
    world.telegram.push_update(malformed)
    await customer.asks(f"{MARKER} last")
    await world.all_taken()


async def test_no_output_holds_a_secret_or_a_word(world: World, shared: Service) -> None:
    """At debug level, over all that the shared service has said since it began; nor do the figures name a chat."""
    await lived_through(world)
    async with httpx.AsyncClient(base_url=shared.url, trust_env=False) as client:
        pages = [(await client.get(path)).text for path in ("/metrics", "/readyz", "/healthz", "/nothing-here")]
    output = shared.output + "".join(pages)
    assert "service.started" in output
    for secret in (TOKEN, TOKEN.partition(":")[2], KEY, MARKER, "zebra_username", str(CUSTOMER)):
        assert secret not in output, secret


async def test_a_crash_tells_no_secret_either(
    start_service: Callable[..., Service], own_world: World, tmp_path: Path
) -> None:
    """SIGTERM in the middle of trouble, a port that is taken: words for people, without values."""
    first = start_service(times=QUICK)
    await first.start()
    await first.ready()
    second = start_service(DATA_DIR=str(tmp_path / "data2"), MASTER_KEY_FILE=str(tmp_path / "s2" / "master.key"))
    second.settings["HTTP_PORT"] = str(first.port)
    second.spawn()
    assert await second.ended() == 2
    third = start_service()
    third.spawn()
    assert await third.ended() == 2
    own_world.telegram.faults.add(kind="hang", seconds=1)
    customer = own_world.customer(CUSTOMER)
    customer.writes(f"{MARKER} in trouble")
    await own_world.is_asked(MARKER)
    await first.stop()
    output = first.output + second.output + third.output
    assert "in use by process" in third.output
    assert "Traceback" not in second.output + third.output
    for secret in (TOKEN.partition(":")[2], KEY, MARKER, str(CUSTOMER)):
        assert secret not in output, secret


async def test_stored_bytes_hold_no_words(world: World, shared: Service) -> None:
    """Neither the files of the store nor the values of any key can be read: mailboxes, journals, history."""
    customer = world.customer()
    await customer.asks(f"{MARKER} stored")
    world.slow(1.0)
    customer.writes(f"{MARKER} being asked")
    await world.is_asked(f"{MARKER} being asked")
    customer.writes(f"{MARKER} in the mailbox")
    await world.all_taken()
    async with shared.store() as client:
        names: list[bytes] = await client.keys("*")  # type: ignore[assignment]
        # A dump may be compressed, so values are read as well.
        values = [str(await _value(client, name)) for name in names]
        dumps = [bytes(await client.dump(name) or b"") for name in names]
    assert any(b":mail:" in name for name in names)
    files = [path.read_bytes() for path in files_in(shared.folder) if not path.name.startswith("log-")]
    assert len(files) > 5
    for text in (MARKER, "zebra", "being asked"):
        assert not any(text in value for value in values)
        assert not any(text.encode() in held for held in [*names, *dumps, *files])
    await customer.sees(3)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def _value(client: object, name: bytes) -> object:
    from redis.asyncio import Redis

    assert isinstance(client, Redis)
    match await client.type(name):
        case b"hash":
            return await client.hgetall(name)
        case b"list":
            return await client.lrange(name, 0, -1)
        case b"zset":
            return await client.zrange(name, 0, -1)
        case b"stream":
            return await client.xrange(name)
        case _:
            return await client.get(name)


async def test_secrets_lie_where_only_the_owner_reads(world: World, shared: Service) -> None:
    """Master key and keyring, and the folders with them and with the store: no other user can open them."""
    await world.customer().asks("anything")
    key, data = Path(shared.environment["MASTER_KEY_FILE"]), Path(shared.environment["DATA_DIR"])
    for path in (key, *files_in(key.parent), key.parent, data):
        assert path.stat().st_mode & 0o077 == 0, path
