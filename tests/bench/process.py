"""A system under test as a process: started on a processor of its own, measured through /proc, ended by its id.

The bench and the servers of the sandbox keep the first processor, the system under test gets the last one, so that
neither takes time from the other. The CPU of all descendants counts: the embedded store is part of the service.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")
_END_SECONDS: Final = 30.0


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


@lru_cache(maxsize=1)
def processors() -> tuple[int, int]:
    """The bench's processor and the one of the system under test; the same one where there is only one.

    Remembered from the first call, which must come before the bench pins itself: afterwards only its own is left.
    """
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


class Child:
    """A running system. ``command`` gets nothing of this environment but PATH and what ``environment`` names."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, processor: int) -> None:
        self.log = folder / "output.log"
        self._processor = processor
        before = os.sched_getaffinity(0)
        with self.log.open("ab") as log:
            # The child is born on its processor: set after the start, its threads might be elsewhere already.
            os.sched_setaffinity(0, {processor})
            try:
                self.started = time.monotonic()
                self._process = subprocess.Popen(
                    command,
                    env={"PATH": os.environ.get("PATH", ""), "HOME": str(folder), **environment},
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            finally:
                os.sched_setaffinity(0, before)
        self.pid = self._process.pid

    def check(self) -> None:
        """Raises BenchError when the process has ended, or when any of the tree may run elsewhere than it should."""
        if self._process.poll() is not None:
            raise BenchError(f"it ended with {self._process.returncode}: {self.said()}")
        for pid in self.tree():
            with suppress(ProcessLookupError):
                if (allowed := os.sched_getaffinity(pid)) != {self._processor}:
                    raise BenchError(f"a process of it may run on {sorted(allowed)}, not on {self._processor} alone")

    async def finished(self, within_seconds: float) -> None:
        """Waits until it ends by itself, without an error. Raises BenchError."""
        deadline = time.monotonic() + within_seconds
        while (code := self._process.poll()) is None:
            if time.monotonic() > deadline:
                raise BenchError(f"it was not done in {within_seconds:.0f} s: {self.said()}")
            await asyncio.sleep(0.02)
        if code != 0:
            raise BenchError(f"it ended with {code}: {self.said()}")

    def said(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-1500:]

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree so far; resolution better than a millisecond."""
        return sum(_cpu_seconds(pid) for pid in self.tree())

    def cpu_by_part(self) -> dict[str, float]:
        """The same, the process itself and its descendants (the store) apart."""
        own = _cpu_seconds(self.pid)
        return {"process": own, "store": self.cpu_seconds() - own}

    def memory_mib(self) -> dict[str, float]:
        """Resident memory of the process and of its descendants (the store)."""
        own = _resident_kib(self.pid)
        others = sum(_resident_kib(pid) for pid in self.tree() if pid != self.pid)
        return {"process": own / 1024, "store": others / 1024}

    def tree(self) -> list[int]:
        """The process and its descendants."""
        parents = {int(entry.name): _parent(entry) for entry in _PROC.iterdir() if entry.name.isdecimal()}
        found = [self.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    async def end(self) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + _END_SECONDS
            while self._process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 (nobody tells us)
                await asyncio.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(timeout=5)


class Children:
    """A service of several processes and its store, measured as one."""

    def __init__(self, service: Sequence[Child], store: Child) -> None:
        self._service = service
        self._store = store

    def check(self) -> None:
        """Raises BenchError, see ``Child.check``."""
        for child in (*self._service, self._store):
            child.check()

    def said(self) -> str:
        """The end of everyone's output."""
        return "\n".join(child.said() for child in (*self._service, self._store))

    def cpu_by_part(self) -> dict[str, float]:
        """Seconds so far, see ``Child.cpu_by_part``."""
        return {"process": sum(child.cpu_seconds() for child in self._service), "store": self._store.cpu_seconds()}


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _cpu_seconds(pid: int) -> float:
    """The scheduler's own nanoseconds of all threads, or clock ticks where they say more (a thread that ended)."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
        tasks = [(task / "schedstat").read_text() for task in (_PROC / str(pid) / "task").iterdir()]
    except OSError:
        return 0.0
    own, reaped = sum(map(int, fields[11:13])) / _TICK, sum(map(int, fields[13:15])) / _TICK
    return max(own, sum(int(task.split()[0]) for task in tasks) / 1e9) + reaped


def _resident_kib(pid: int) -> int:
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)


def busy_seconds(processor: int) -> float:
    """CPU seconds of everybody on one processor so far, time stolen by the host included: tells a disturbed run."""
    for line in (_PROC / "stat").read_text().splitlines():
        if line.startswith(f"cpu{processor} "):
            user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / _TICK
    return 0.0
