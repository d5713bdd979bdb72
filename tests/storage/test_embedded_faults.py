"""The embedded server in trouble: killed, frozen, out of disk, its files damaged."""

import asyncio
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from storage import embedded, server_process
from storage.connection import inspect
from storage.embedded import EmbeddedServer
from storage.errors import StoreFullError, StoreRefusedError, translated
from tests.storage.owning import connected, holds, until, watched


async def test_a_killed_server_is_started_again_without_loss(data_dir: Path) -> None:
    """`kill -9` of the store costs the commands in flight and nothing else."""
    told: list[str] = []
    server = EmbeddedServer(data_dir, on_event=lambda name, _fields: told.append(name))
    await server.start()
    confirmed = 0
    async with watched(server), connected(server) as client:
        for restart in range(3):
            for _ in range(20):
                confirmed = await client.incr("n")
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await until(partial(_started, server, restart + 2))
            await until(client.ping)
            assert int(await client.get("n") or 0) >= confirmed
    await server.aclose()
    assert told.count("store.started") == 4
    assert told.count("store.died") == 3


async def test_closing_while_it_is_revived_leaves_nothing_behind(data_dir: Path) -> None:
    """A revival and the end must not overlap."""
    died = asyncio.Event()
    server = EmbeddedServer(data_dir, on_event=lambda name, _fields: died.set() if name == "store.died" else None)
    await server.start()
    async with watched(server):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            await died.wait()
        await server.aclose()
        await asyncio.sleep(0.2)
        assert not list(server_process.servers_in(server.data_dir))


async def _started(server: EmbeddedServer, times: int) -> bool:
    return server.starts == times


async def _true(value: bool) -> bool:
    return value


async def test_a_cut_tail_of_the_log_is_dropped(data_dir: Path) -> None:
    """A power cut may leave half a command that nobody was told of."""
    server = EmbeddedServer(data_dir)
    await server.start()
    async with connected(server) as client:
        await client.set("kept", "v")
        await client.set("cut", "x" * 100)
    await server.aclose()
    log = _log_file(data_dir)
    os.truncate(log, log.stat().st_size - 20)
    await server.start()
    async with connected(server) as client:
        assert await client.get("kept") == b"v"
        assert await client.get("cut") is None
    await server.aclose()


def _log_file(data_dir: Path) -> Path:
    return next((data_dir / "appendonlydir").glob("*.incr.aof"))


async def test_damaged_files_are_refused_with_the_cure(data_dir: Path) -> None:
    """What cannot be read is not overwritten: a sentence says what to do."""
    server = EmbeddedServer(data_dir)
    await server.start()
    async with connected(server) as client:
        for number in range(50):
            await client.set(f"k{number}", "v" * 100)
    await server.aclose()
    with _log_file(data_dir).open("r+b") as log:
        log.seek(500)
        log.write(b"\x00" * 200)
    with pytest.raises(StoreRefusedError, match="restore a backup"):
        await server.start()
    assert not server.exclusive


async def test_a_frozen_server_goes_on_where_it_stood(server: EmbeddedServer) -> None:
    """SIGSTOP for a while is an outage, no loss and no restart."""
    assert server.pid is not None
    async with watched(server), connected(server, timeout_seconds=0.3) as client:
        await client.set("k", "v")
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(redis_errors.TimeoutError):
            await client.get("k")
        os.kill(server.pid, signal.SIGCONT)
        await until(lambda: holds(client, "k", b"v"))
    assert server.starts == 1


async def test_a_server_frozen_for_good_is_replaced(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left without a store because one process hangs."""
    monkeypatch.setattr(embedded, "_PING_SECONDS", 0.1)
    monkeypatch.setattr(embedded, "_TEND_SECONDS", 0.05)
    told: list[str] = []
    server = EmbeddedServer(data_dir, on_event=lambda name, _fields: told.append(name))
    await server.start()
    async with watched(server), connected(server, timeout_seconds=0.3) as client:
        await client.set("k", "v")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        await until(partial(_started, server, 2))
        await until(lambda: holds(client, "k", b"v"))
    await server.aclose()
    assert "store.frozen" in told
    assert told.count("store.started") == 2


class Writer:
    """Writes numbered values; knows which were confirmed, and how the others failed."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.confirmed: list[bytes] = []
        self.failures: set[type[Exception]] = set()
        self._next = 0

    async def write(self, size: int = 20_000) -> bool:
        name = b"%08d" % self._next
        self._next += 1
        try:
            await self.client.hset("log", name, os.urandom(size))
        except (redis_errors.RedisError, OSError) as error:
            self.failures.add(type(translated(error)))
            return False
        self.confirmed.append(name)
        return True

    async def lost(self) -> set[bytes]:
        """What is missing once the store can be read: a failed write may have ended it, and it may still be loading."""
        kept: set[object] = set()

        async def read() -> bool:
            kept.update(await self.client.hkeys("log"))
            return True

        await until(read)
        return set(self.confirmed) - kept


async def test_a_failed_write_to_the_log_loses_nothing_and_heals(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valkey exits when it cannot write its log: it comes back refusing writes, reads work, and it resumes later."""
    monkeypatch.setattr(embedded, "_GUARD_SECONDS", 0.3)
    monkeypatch.setattr(embedded, "_TEND_SECONDS", 0.05)
    told: list[str] = []
    server = EmbeddedServer(data_dir, on_event=lambda name, _fields: told.append(name))
    await server.start()
    async with watched(server), connected(server) as client:
        writer = Writer(client)
        assert server.pid is not None
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
        async with asyncio.timeout(30):
            while StoreFullError not in writer.failures:
                await writer.write()
            assert await writer.lost() == set()
            await until(writer.write)
        assert await writer.lost() == set()
        assert len(writer.confirmed) > 5
    await server.aclose()
    assert told[:4] == ["store.started", "store.died", "store.started", "store.guarded"]


@pytest.fixture
def small_disk(short_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; only root may make one."""
    folder = short_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=10)


@pytest.mark.parametrize("guard_below", [0, 500_000])
async def test_a_full_disk_stops_writes_and_resumes_by_itself(
    small_disk: Path, guard_below: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing confirmed is lost, reads work, and writing goes on once there is room; at best without a restart."""
    monkeypatch.setattr(embedded, "_GUARD_SECONDS", 0.3)
    monkeypatch.setattr(embedded, "_TEND_SECONDS", 0.02)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_000_000))
    server = EmbeddedServer(small_disk, guard_below_bytes=guard_below)
    await server.start()
    async with watched(server), connected(server) as client:
        writer = Writer(client)
        async with asyncio.timeout(30):
            while StoreFullError not in writer.failures:
                await writer.write()
                await asyncio.sleep(0.005)
            assert await writer.lost() == set()
            assert server.guarded
            ballast.unlink()
            await until(writer.write)
        assert await writer.lost() == set()
        assert server.starts == (2 if guard_below == 0 else 1)
    await server.aclose()


async def test_a_guarded_server_lets_nothing_expire(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each expiry is a write to the log: on a full disk it would end the server again and again."""
    monkeypatch.setattr(embedded, "_TEND_SECONDS", 0.02)
    monkeypatch.setattr(embedded, "_free_bytes", lambda _folder: 0)
    server = EmbeddedServer(data_dir)
    await server.start()
    async with watched(server), connected(server) as client:
        assert server.guarded
        with pytest.raises(redis_errors.ResponseError) as caught:
            await client.set("k", "v", px=1)
        assert isinstance(translated(caught.value), StoreFullError)
        assert any("refuse writes" in problem.sentence for problem in (await inspect(client)).problems)
        monkeypatch.setattr(embedded, "_free_bytes", lambda _folder: 1 << 40)
        await until(lambda: client.set("k", "v", px=300))
        size = _log_file(data_dir).stat().st_size
        monkeypatch.setattr(embedded, "_free_bytes", lambda _folder: 0)
        await until(lambda: _true(server.guarded))
        await asyncio.sleep(0.6)
        assert _log_file(data_dir).stat().st_size == size
    await server.aclose()


async def test_leftovers_of_a_broken_rewrite_are_removed(data_dir: Path) -> None:
    """Each kill during a rewrite would leave a file as large as the store."""
    server = EmbeddedServer(data_dir)
    await server.start()
    await server.aclose()
    left = [data_dir / "temp-rewriteaof-bg-77.aof", data_dir / "appendonlydir" / "temp-appendonly.aof.incr"]
    for path in left:
        path.write_bytes(b"left")
    await server.start()
    await server.aclose()
    assert not any(path.exists() for path in left)


async def test_the_first_answer_comes_quickly(data_dir: Path) -> None:
    """`make run` is ready within three seconds: the store's part is far below that even on a busy machine."""
    begun = time.monotonic()
    server = EmbeddedServer(data_dir)
    await server.start()
    await server.aclose()
    assert time.monotonic() - begun < 3.0
