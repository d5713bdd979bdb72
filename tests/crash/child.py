"""The real service in a process that dies or freezes at an exact point, made fast.

Importing the service takes two seconds, so one process (the zygote) imports everything once and forks a child on each
order; event loop, sockets and signal handlers are made in the fork. Orders come as JSON lines on stdin, events (born,
stopped, ended) leave as JSON lines on stdout. A *tripwire* ``when:point:nth:action`` sits around every call to the
store, to Telegram and to the chat API: it lets the process kill or stop itself there. The product has no hook for this.

when    ``before`` the call, ``after`` its reply, or ``write`` (Telegram: permitted, the body not yet written)
point   a Lua script's name, a store command in capitals, a Bot API method, or ``ask``
nth     which passage strikes, from 1
action  ``kill`` (SIGKILL) or ``stop`` (SIGSTOP; whoever watches continues it)
"""

import ctypes
import json
import os
import select
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import uvloop

# The four that a worker loads when it starts: here they are loaded once, before the fork.
import bot.conversation.turn
import bot.worker  # noqa: F401
import handlers.telegram.customer
import handlers.telegram.dispatch  # noqa: F401
from bot.app import run
from bot.chat_api.client import ChatApi
from bot.delivery.telegram import TelegramClient
from bot.logs import configure
from bot.settings import Settings
from bot.timing import Timing
from storage.errors import StorageError
from storage.scripts import Store
from tests.crash.mutations import mutate

Method = Callable[..., Awaitable[Any]]

REFUSED: Final = 2
"""The exit code of a child that found no store when it started; the real command line has the same."""

CRASHED: Final = 70
_PR_SET_PDEATHSIG: Final = 1
_ACTIONS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_LIBC: Final = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Trip:
    """One tripwire."""

    when: str
    point: str
    nth: int
    action: str

    @classmethod
    def parse(cls, text: str) -> "Trip":
        when, point, nth, action = text.split(":")
        return cls(when, point, int(nth), action)


class Tripwires:
    """Counts passages; strikes when a trip's turn has come. One set per process."""

    def __init__(self, trips: list[Trip]) -> None:
        self._trips = trips
        self._seen: Counter[tuple[str, str]] = Counter()

    def pass_by(self, when: str, point: str) -> None:
        self._seen[when, point] += 1
        for trip in self._trips:
            if (trip.when, trip.point) == (when, point) and trip.nth == self._seen[when, point]:
                os.kill(os.getpid(), _ACTIONS[trip.action])

    def around(self, original: Method, name: Callable[..., str]) -> Method:
        """The method with a wire before the call and one after its reply; "" as a name leaves a call alone."""

        async def tripped(this: object, *args: Any, **kwargs: Any) -> Any:
            point = name(*args, **kwargs)
            if not point:
                return await original(this, *args, **kwargs)
            self.pass_by("before", point)
            reply = await original(this, *args, **kwargs)
            self.pass_by("after", point)
            return reply

        return tripped

    def around_write(self, original: Method) -> Method:
        """A Telegram call with a wire between the last check and the write of its body."""

        async def tripped(this: object, method: str, parameters: dict[str, Any], **kwargs: Any) -> Any:
            guard = kwargs.get("guard")
            if guard is None:
                return await original(this, method, parameters, **kwargs)

            async def guarded() -> None:
                await guard()
                self.pass_by("write", method)

            return await original(this, method, parameters, **{**kwargs, "guard": guarded})

        return tripped

    def install(self) -> None:
        """Around the four ways out of the service."""
        wrapped: list[tuple[type, str, Method]] = [
            (Store, "script", self.around(Store.script, lambda name, *_: str(name))),
            (Store, "call", self.around(Store.call, lambda command, *_: "" if command == "EVALSHA" else str(command))),
            (
                TelegramClient,
                "call",
                self.around(self.around_write(TelegramClient.call), lambda method, *_, **__: str(method)),
            ),
            (ChatApi, "ask", self.around(ChatApi.ask, lambda *_, **__: "ask")),
        ]
        for owner, name, method in wrapped:
            setattr(owner, name, method)


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to be. ``timing`` and ``settings`` are the fields of Timing and Settings."""

    number: int
    settings: dict[str, Any]
    roles: list[str]
    timing: dict[str, Any]
    trips: list[str]
    mutations: list[str]
    log: str


def live(order: Order) -> int:
    """The whole life of a child; its exit code."""
    settings = Settings(_env_file=None, **order.settings)
    configure("info", "json", settings.secret_values())
    mutate(order.mutations)
    Tripwires([Trip.parse(text) for text in order.trips]).install()
    times: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in order.timing.items()
    }
    return uvloop.run(run(settings, frozenset(order.roles), Timing(**times)))


class Zygote:
    """Forks children on order, and tells what becomes of them."""

    def __init__(self) -> None:
        self._children: dict[int, int] = {}
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)

    def serve(self) -> None:
        """Until stdin closes; then no child is left."""
        _die_with_parent()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        self._tell(event="ready")
        rest = b""
        while True:
            ready, _, _ = select.select([0, self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._report()
            if 0 in ready:
                data = os.read(0, 1 << 20)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._bear(Order(**json.loads(line)))
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _bear(self, order: Order) -> None:
        pid = os.fork()
        if pid:
            self._children[pid] = order.number
            self._tell(event="born", number=order.number, pid=pid)
            return
        code = CRASHED
        try:
            self._leave_home(order.log)
            code = live(order)
        except BaseException as error:  # noqa: BLE001 - the top of the process: told in its log
            traceback.print_exc()
            if _is_about_store(error):
                code = REFUSED
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _leave_home(self, log: str) -> None:
        os.setsid()
        _die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._wake)
        os.close(self._woken)
        nothing = os.open(os.devnull, os.O_RDONLY)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(source, target)

    def _report(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if not pid:
                return
            if os.WIFSTOPPED(status):
                self._tell(event="stopped", number=self._children[pid], pid=pid)
            else:
                code = os.waitstatus_to_exitcode(status)
                self._tell(event="ended", number=self._children.pop(pid), pid=pid, code=code)

    def _tell(self, **event: Any) -> None:
        os.write(1, json.dumps(event).encode() + b"\n")


def _is_about_store(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_about_store, error.exceptions))
    return isinstance(error, StorageError)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    Zygote().serve()
