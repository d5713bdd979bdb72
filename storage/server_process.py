"""The embedded server as a process: where its socket is, the leash that ends it with us, and leftovers of the dead.

A leftover is known by the program it runs and the folder it works in, never by a recorded process id, which may belong
to anybody by now.
"""

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from storage.errors import StoreUnavailableError

BINARY = "valkey-server"
STOP_SECONDS = 10.0

MAX_SOCKET_BYTES = 100
"""``sun_path`` holds 104 bytes on macOS and 108 on Linux."""

# Runs in a fresh interpreter between fork and exec: a `preexec_fn` is not safe beside threads. The parent may be gone
# before the request is in force, hence the look at it afterwards. SIGKILL ends a stopped server too, and loses nothing
# that was answered.
_LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def socket_path(data_dir: Path) -> Path:
    near = data_dir / "socket" / "store"
    if len(os.fsencode(near)) < MAX_SOCKET_BYTES:
        return near
    mark = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"support-store-{os.geteuid()}-{mark}" / "store"


def _on_linux() -> bool:
    return os.uname().sysname == "Linux"


def leashed(command: list[str]) -> list[str]:
    """The command that starts the server; on Linux the kernel ends it with our thread."""
    if not _on_linux():
        return command
    return [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *command]


async def end_leftovers(data_dir: Path) -> None:
    """End each server that still works in ``data_dir`` (SIGKILL: it may be stopped, and nothing answered is lost)."""
    for pid in servers_in(data_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not await gone(lambda: not any(servers_in(data_dir)), STOP_SECONDS):
        raise StoreUnavailableError(f"Process {next(servers_in(data_dir), 0)} still uses DATA_DIR and does not end.")


def servers_in(data_dir: Path) -> Iterator[int]:
    """Process ids of Valkey servers, and of their rewriting children, that run out of our binary on ``data_dir``."""
    if _on_linux():
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and _works_in(entry, data_dir):
                yield int(entry.name)
        return
    listing = subprocess.run(["/bin/ps", "-axo", "pid=,command="], capture_output=True, check=False, timeout=5)
    mark = os.fsencode(socket_path(data_dir))
    for line in listing.stdout.splitlines():
        if mark in line and BINARY.encode() in line:
            yield int(line.split(maxsplit=1)[0])


def _works_in(entry: Path, data_dir: Path) -> bool:
    try:
        program = (entry / "exe").readlink().name.removesuffix(" (deleted)")
        return program == BINARY and (entry / "cwd").readlink() == data_dir
    except OSError:  # gone meanwhile, or somebody else's
        return False


async def gone(check: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True
