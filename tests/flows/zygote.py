"""Forks services: one process has imported everything, so that a start costs no import (a second of a core each).

Orders come as JSON lines on stdin, each answered with the child's process id; the exit code of a child is written to
`exit-PID` in its folder. A child runs the command line itself, with the settings of its order and no others.
"""

import gc
import json
import os
import select
import sys
import traceback
from pathlib import Path
from typing import Any

import bot.app
import bot.check
from bot.__main__ import cli
from bot.timing import Timing

_LOOK_SECONDS = 0.02


def child(order: dict[str, Any]) -> int:
    """Becomes the service; its exit code."""
    os.chdir(order["folder"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(target, number)
    os.environ.clear()
    os.environ.update(order["environment"])
    if order["times"] is not None:
        times = Timing(**{**order["times"], **{k: tuple(v) for k, v in order["times"].items() if isinstance(v, list)}})
        vars(bot.app)["Timing"] = lambda: times
    sys.argv = ["bot", *order["words"]]
    try:
        cli()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = child(order)
    except Exception:  # noqa: BLE001 (the top of a process: it is told in its log, and ends)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    bot.app._load_worker()
    gc.freeze()
    folders: dict[int, Path] = {}
    waiting = b""
    while True:
        readable, _, _ = select.select([0], [], [], _LOOK_SECONDS)
        if readable:
            read = os.read(0, 65536)
            if not read:
                return
            waiting += read
        while b"\n" in waiting:
            line, waiting = waiting.split(b"\n", 1)
            order = json.loads(line)
            pid = fork(order)
            folders[pid] = Path(order["folder"])
            os.write(1, b"%d\n" % pid)
        reap(folders)


def reap(folders: dict[int, Path]) -> None:
    while folders:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        report = folders.pop(pid) / f"exit-{pid}"
        fresh = report.with_suffix(".new")
        fresh.write_text(str(os.waitstatus_to_exitcode(status)))
        fresh.replace(report)


if __name__ == "__main__":
    main()
