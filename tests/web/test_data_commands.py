"""`apikey`, `export`, `forget` and `purge` beside a running service and without one."""

import asyncio
import json
import stat
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bot.commands.beside import Reached, is_worked_on
from storage.apikeys import ApiKeys
from storage.history import History
from tests.flows.conftest import Customer, Service, World, sandbox_world
from tests.web.conftest import NOBODY, Api, assert_problem, inside_of


@pytest.fixture
def say(api: Api) -> Callable[..., Any]:
    """Runs a command with the settings of the running service; its exit code and what it wrote."""

    async def run(*words: str) -> tuple[int, str]:
        command = Service(api.world, api.service.zygote, api.service.folder, words)
        command.settings = dict(api.service.settings)
        await asyncio.to_thread(command.log.unlink, missing_ok=True)
        command.spawn()
        return await command.ended(), command.output

    return run


@pytest_asyncio.fixture(loop_scope="session")
async def world_of_its_own() -> AsyncIterator[World]:
    async with sandbox_world() as world:
        yield world


# ---- apikey
async def test_a_key_is_made_used_listed_and_revoked_beside_the_service(api: Api, say: Callable[..., Any]) -> None:
    """What is printed works at once; the list holds no secret; what is revoked ends at once."""
    code, output = await say(
        "apikey",
        "create",
        "--scope",
        "requests:read",
        "--scope",
        "exports",
        "--expires",
        "90d",
        "--note",
        "cron",
        "--json",
    )
    assert code == 0
    made = json.loads(output)
    assert made["scopes"] == ["exports", "requests:read"]
    assert 89.9 < (made["expires_s"] - time.time()) / 86_400 <= 90
    assert (await api.call("GET", "/requests", made["token"])).status_code == 200
    code, output = await say("apikey", "list")
    assert code == 0
    assert made["id"] in output
    assert "cron" in output
    assert made["token"].rpartition("-")[2] not in output
    code, output = await say("apikey", "list", "--json")
    assert next(key for key in json.loads(output) if key["id"] == made["id"])["note"] == "cron"
    assert "digest" not in output
    code, output = await say("apikey", "revoke", made["id"])
    assert (code, output) == (0, f"{made['id']} is revoked.\n")
    async with api.from_address("127.0.0.41") as caller:
        assert_problem(await caller.call("GET", "/requests", made["token"]), 401, "unauthorized")


async def test_a_key_without_options_is_told_in_words(say: Callable[..., Any]) -> None:
    """The token alone on its line, for `$(…)`, and a sentence on what it may do."""
    code, output = await say("apikey", "create", "--scope", "data:delete")
    assert code == 0
    assert "does not expire" in output
    assert "not shown again" in output
    assert [line.startswith("sk-") for line in output.splitlines()].count(True) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create", "--scope", "everything"), "--scope does not know 'everything'"),
        (("create", "--scope", "exports", "--expires", "soon"), "--expires is not a length of time"),
        (("create",), "--scope"),
        (("revoke", "0" * 12), "There is no key"),
    ],
)
async def test_slips_with_keys_are_refused_in_words(say: Callable[..., Any], words: tuple[str, ...], told: str) -> None:
    """Exit code 2, and nothing was made."""
    code, output = await say("apikey", *words)
    assert code == 2
    assert told in output
    assert "Traceback" not in output


async def test_keys_can_be_made_before_the_service_ever_ran(tmp_path: Path, service: Service) -> None:
    """An embedded server is started for it and ended with it; the service then knows the key."""
    command = Service(service.world, service.zygote, tmp_path, ("apikey", "create", "--scope", "exports", "--json"))
    command.spawn()
    assert await command.ended() == 0, command.output
    token = json.loads(command.output)["token"]
    later = Service(service.world, service.zygote, tmp_path, port=command.port)
    try:
        await later.start()
        await later.ready()
        async with inside_of(later) as inside:
            assert await ApiKeys(inside.store, inside.keys).check(token) is not None
    finally:
        await later.destroy()


# ---- export
async def test_export_writes_files_for_nobody_else(api: Api, say: Callable[..., Any], tmp_path: Path) -> None:
    """A whole zip with its own name and 0600; a second one on the same day does not take its place."""
    customer = api.world.customer()
    await customer.asks("alpha exported")
    code, output = await say("export", str(customer.chat_id), "--to", str(tmp_path / "new" / "folder"))
    assert code == 0
    [path] = [Path(line) for line in output.splitlines()]
    assert path.parent == tmp_path / "new" / "folder"
    assert str(customer.chat_id) in path.name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"alpha exported" in zipfile.ZipFile(path).read("conversations.json")
    before = path.read_bytes()
    token = await api.token("imports")
    headers = {"Content-Type": "application/zip"}
    offered = await api.call("POST", "/imports?dry_run=true", token, content=before, headers=headers)
    assert (offered.status_code, offered.json()["chat_id"]) == (200, customer.chat_id)
    code, output = await say("export", str(customer.chat_id), "--to", str(path.parent))
    assert code == 2
    assert "it is there already" in output
    assert path.read_bytes() == before
    assert [left.name for left in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("command", ["export", "forget"])
async def test_of_an_unknown_chat_nothing_is_done(say: Callable[..., Any], command: str) -> None:
    """Exit code 2: most likely the number is wrong."""
    code, output = await say(command, str(NOBODY), *(["--yes"] if command == "forget" else []))
    assert code == 2
    assert str(NOBODY) in output
    assert "Traceback" not in output
    code, output = await say(command, str(2**60))
    assert code == 2
    assert "no id of a chat" in output


# ---- forget and purge
async def test_a_worker_of_another_process_is_seen(api: Api) -> None:
    """Beside a service the command leaves the work to it."""
    inside = api.inside
    assert await is_worked_on(Reached(inside.store.client, inside.store, inside.keys, ""))


async def test_forget_asks_first_and_refuses_where_nobody_can_answer(api: Api, say: Callable[..., Any]) -> None:
    """In a script without --yes nothing is deleted; --dry-run tells how much it would be."""
    customer = api.world.customer()
    await customer.asks("bravo kept")
    await api.world.all_taken()
    code, output = await say("forget", str(customer.chat_id))
    assert code == 2
    assert "--yes" in output
    code, output = await say("forget", str(customer.chat_id), "--dry-run")
    assert code == 0
    assert "1 turns in 1 conversations" in output
    assert (await api.inside.rights.held(customer.chat_id)).turns == 1


async def test_purge_tells_how_many_and_leaves_the_young_alone(api: Api, say: Callable[..., Any]) -> None:
    """Nobody here is a day old; a length of time is needed."""
    customer = api.world.customer()
    await customer.asks("charlie young")
    await api.world.all_taken()
    code, output = await say("purge", "--older-than", "1d", "--yes")
    assert code == 0
    assert output.startswith("There is nothing to delete: 0 of ")
    assert (await api.inside.rights.held(customer.chat_id)).turns == 1
    for length in ("", "0d", "-1d", "400", "d", "1y", "4e2d"):
        code, output = await say("purge", "--older-than", length)
        assert code == 2, length
        assert "Traceback" not in output


async def test_a_store_that_was_never_used_is_told_and_not_made(tmp_path: Path, service: Service) -> None:
    """Commands on data look, and leave nothing behind."""
    for words in (("export", "1"), ("forget", "1", "--yes"), ("purge", "--older-than", "9d")):
        command = Service(service.world, service.zygote, tmp_path, words)
        command.spawn()
        assert await command.ended() == 2
        assert "never used" in command.output
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "secrets").exists()


async def aged(api: Api, customer: Customer, days: int) -> None:
    """Makes the chat's turns that much older."""
    inside = api.inside
    history, key = History(inside.store, inside.keys), inside.keys.of(customer.chat_id).turns(0, 0)
    for turn in await history.read(customer.chat_id, 0, 0, 1, 9):
        await inside.store.call("HSET", key, turn.number, replace(turn, day=turn.day - days).packed())


async def is_empty(api: Api, customer: Customer) -> bool:
    """Whether nothing but receipts is left of a chat."""
    told = (await api.call("GET", f"/chats/{customer.chat_id}/data", await api.token("data:read"))).json()
    return bool(told["conversations"] == [] and told["account"]["receipts"])


@pytest.mark.parametrize("quiet", [True, False])
async def test_forget_deletes_and_waits_for_the_receipt(api: Api, say: Callable[..., Any], quiet: bool) -> None:
    """When the command has ended nothing is left; the customer hears of it unless that is unwanted."""
    customer = api.world.customer()
    await customer.asks("delta forgotten")
    await api.world.all_taken()
    code, output = await say("forget", str(customer.chat_id), "--yes", *(["--quiet"] if quiet else []))
    assert code == 0, output
    assert await is_empty(api, customer)
    receipt = await api.inside.rights.receipt(output.strip())
    assert receipt is not None
    assert receipt.done_ms >= receipt.asked_ms
    assert len(customer.texts) == (1 if quiet else 2)
    code, _ = await say("forget", str(customer.chat_id), "--yes", "--quiet")
    assert code == 0, "harmless again"


async def test_purge_deletes_what_is_old_and_nothing_else(api: Api, say: Callable[..., Any]) -> None:
    """By the newest turn of each chat; first told, then done, then nothing is left to do."""
    old, young = api.world.customer(), api.world.customer()
    for customer in (old, young):
        await customer.asks("echo of the purge")
    await api.world.all_taken()
    await aged(api, old, 401)
    await aged(api, young, 398)
    code, output = await say("purge", "--older-than", "400d", "--dry-run")
    assert (code, output.startswith("This would delete 1 of ")) == (0, True), output
    assert (await api.inside.rights.held(old.chat_id)).turns == 1
    code, output = await say("purge", "--older-than", "400d")
    assert (code, "--yes" in output) == (2, True)
    code, output = await say("purge", "--older-than", "400d", "--yes")
    assert code == 0, output
    assert await is_empty(api, old)
    assert (await api.inside.rights.held(young.chat_id)).turns == 1
    code, output = await say("purge", "--older-than", "400d", "--yes")
    assert (code, output.startswith("There is nothing to delete: 0 of ")) == (0, True), output


async def test_forget_works_where_no_service_runs(tmp_path: Path, service: Service, world_of_its_own: World) -> None:
    """A worker runs inside the command until the receipt is there, and ends with it."""
    first = Service(world_of_its_own, service.zygote, tmp_path)
    await first.start()
    await first.ready()
    customer = world_of_its_own.customer()
    await customer.asks("foxtrot forgotten")
    await world_of_its_own.all_taken()
    assert await first.stop() == 0
    command = Service(world_of_its_own, service.zygote, tmp_path, ("forget", str(customer.chat_id), "--yes", "--quiet"))
    command.spawn()
    assert await command.ended() == 0, command.output
    second = Service(world_of_its_own, service.zygote, tmp_path)
    try:
        await second.start()
        await second.ready()
        async with inside_of(second) as inside:
            assert (await inside.rights.held(customer.chat_id)).turns == 0
        assert await customer.asks("what did I say?") == "Answer to: what did I say?"
        assert "foxtrot" not in str(world_of_its_own.asked("what did I say?")[0].messages)
    finally:
        await second.destroy()
