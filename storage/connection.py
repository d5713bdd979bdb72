"""How the service reaches an external store: which addresses it takes, the pool of connections, and what `check` says.

Replies stay bytes. RESP2 is spoken: with hiredis it was measured as fast as RESP3 (70 µs a call on a local socket), and
it needs no HELLO. The client library repeats nothing by itself: only the caller knows which command may be sent twice.
"""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis
from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from storage.errors import StorageError, StoreRefusedError, translated

_SCHEMES = frozenset({"redis", "rediss", "unix"})
_OLDEST = (7, 0)
_CROWDED = 0.8


@dataclass(frozen=True)
class StoreTarget:
    """Where the store is. An empty ``url`` stands for the embedded server."""

    url: str = field(repr=False)
    ca_file: Path | None = None

    @classmethod
    def parse(cls, url: str, *, ca_file: Path | None = None) -> "StoreTarget":
        """Check REDIS_URL. Raises StoreRefusedError with the cure; nothing is opened but the certificate file."""
        text = url.strip()
        if text:
            _check_address(text)
        if ca_file is not None and urlsplit(text).scheme == "rediss":
            _check_certificates(ca_file)
        return cls(text, ca_file)

    @property
    def embedded(self) -> bool:
        return not self.url

    @property
    def name(self) -> str:
        """The address for people: without user, password and parameters."""
        if self.embedded:
            return "the embedded server"
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return f"unix://{unquote(parts.path)}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}:{parts.port or 6379}{parts.path.rstrip('/')}"


@dataclass(frozen=True)
class Problem:
    """One fault of the store, in a sentence, with one on its cure. ``fatal``: the service must not run on it."""

    sentence: str
    cure: str
    fatal: bool = False


@dataclass(frozen=True)
class StoreReport:
    """What `check` tells about the store. Sizes are bytes; 0 as ``max_memory`` is no limit."""

    server: str
    durability: str
    loss_window_seconds: float | None
    evicting: str
    used_memory: int
    max_memory: int
    machine_memory: int
    aof: str
    rdb: str
    problems: list[Problem]

    @property
    def fatal(self) -> bool:
        return any(problem.fatal for problem in self.problems)


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise StoreRefusedError("REDIS_URL is not an address: write redis://host:6379/0.") from error
    scheme = parts.scheme.lower()
    if "sentinel" in scheme:
        raise StoreRefusedError(
            "REDIS_URL names Sentinel, which is not supported: name the primary as redis://host:port."
        )
    if "cluster" in scheme:
        raise StoreRefusedError("REDIS_URL names a Redis Cluster, which is not supported: name a single server.")
    if scheme not in _SCHEMES:
        raise StoreRefusedError("REDIS_URL must begin with redis://, rediss:// or unix:///.")
    if scheme == "unix" and not parts.path.strip("/"):
        raise StoreRefusedError("REDIS_URL lacks the path of the socket: write unix:///path/to/socket.")
    if scheme != "unix" and (not parts.hostname or port == 0):
        raise StoreRefusedError("REDIS_URL lacks the host or has port 0: write redis://host:6379/0.")
    if parts.query and not (scheme == "unix" and parts.query.startswith("db=")):
        # A parameter can switch off the check of certificates or change what replies look like.
        raise StoreRefusedError("REDIS_URL takes no parameters: remove what follows the question mark.")
    database = parts.query.removeprefix("db=") if scheme == "unix" else parts.path.strip("/")
    if database and not database.isdecimal():
        raise StoreRefusedError("REDIS_URL names a database that is not a number: write redis://host:6379/0.")


def _check_certificates(ca_file: Path) -> None:
    try:
        ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise StoreRefusedError(f"CA_FILE {ca_file} cannot be read as certificates in PEM form.") from error


async def connect(target: StoreTarget, *, connections: int, timeout_seconds: float) -> Redis:
    """A client over a bounded pool, tried once with PING. The caller closes it with ``aclose()``.

    A caller that finds every connection in use waits ``timeout_seconds`` for one. A command's reply is awaited as
    long: a blocking command must ask for less. Raises StoreUnavailableError or StoreRefusedError.
    """
    client = Redis.from_pool(_pool(target, connections, timeout_seconds))
    try:
        await client.ping()
        await _refuse_other_modes(client)
    except BaseException as error:
        await client.aclose()
        if isinstance(error, redis_errors.RedisError | OSError | TimeoutError):
            raise translated(error) from error
        raise
    return client


class _PromptSending(AbstractConnection):
    """Writes without a task of its own, and lets others run when it fails.

    redis-py 8.1 writes through ``asyncio.wait_for``, which before Python 3.12 swallows a cancellation that arrives as
    the write ends: a cancelled command then went on for as long as its reply took. It also costs a task a command.
    """

    async def connect(self) -> None:
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except redis_errors.RedisError:
            # A missing socket fails without giving way once: a caller that tries again at once would stop the loop.
            await asyncio.sleep(0)
            raise

    def pack_command(self, *args: Any) -> list[bytes]:
        """In C, as redis-py does for its blocking client alone: its own loop takes seven times as long (measured)."""
        return [hiredis.pack_command((*args[0].split(), *args[1:]))]

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        writer = self._writer
        if writer is None:
            raise redis_errors.ConnectionError("Connection closed.")
        if isinstance(command, str):
            command = command.encode()
        try:
            writer.writelines([command] if isinstance(command, bytes) else command)
            if writer.transport.get_write_buffer_size():
                async with asyncio.timeout(self.socket_timeout):
                    await writer.drain()
        except BaseException as error:
            # Half a command may be on its way: nothing else can go over this connection.
            await self.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise redis_errors.TimeoutError("Timeout writing to socket") from error
            if isinstance(error, OSError):
                raise redis_errors.ConnectionError("Error while writing to socket.") from error
            raise


class _TcpConnection(_PromptSending, Connection):
    pass


class _TlsConnection(_PromptSending, SSLConnection):
    pass


class _UnixConnection(_PromptSending, UnixDomainSocketConnection):
    pass


_CLASSES: dict[str, type[AbstractConnection]] = {
    "redis": _TcpConnection,
    "rediss": _TlsConnection,
    "unix": _UnixConnection,
}


def _pool(target: StoreTarget, connections: int, timeout_seconds: float) -> BlockingConnectionPool:
    scheme = urlsplit(target.url).scheme
    options: dict[str, Any] = {
        **parse_url(target.url),
        "connection_class": _CLASSES[scheme],
        "max_connections": connections,
        "timeout": timeout_seconds,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
        "driver_info": None,
    }
    if scheme != "unix":
        options["socket_keepalive"] = True
    if scheme == "rediss" and target.ca_file is not None:
        options["ssl_ca_certs"] = str(target.ca_file)
    return BlockingConnectionPool(**options)


async def _refuse_other_modes(client: Redis) -> None:
    """A Sentinel or a cluster node answers PING too; neither can serve."""
    try:
        facts: Mapping[str, Any] = await client.info("server")
    except redis_errors.ResponseError:  # INFO forbidden to this user: the first command will tell
        return
    mode = _text(facts.get("redis_mode") or facts.get("server_mode"))
    if mode not in {"standalone", ""}:
        raise StoreRefusedError(f"REDIS_URL names a server in {mode} mode: name a single server instead.")


async def inspect(client: Redis) -> StoreReport:
    """What the store is and whether it is safe to run on. Raises translated errors."""
    try:
        facts: dict[str, Any] = await client.info("everything")
        settings = await _settings(client)
    except (redis_errors.RedisError, OSError, TimeoutError) as error:
        raise translated(error) from error
    window, durability = _loss_window(facts, settings)
    return StoreReport(
        server=_server(facts),
        durability=durability,
        loss_window_seconds=window,
        evicting=_text(facts.get("maxmemory_policy")),
        used_memory=_number(facts, "used_memory"),
        max_memory=_number(facts, "maxmemory"),
        machine_memory=_number(facts, "total_system_memory"),
        aof=_aof(facts, settings),
        rdb=_text(facts.get("rdb_last_bgsave_status")),
        problems=[*_wrong_server(facts), *_unsafe(facts, durability, window), *_troubles(facts)],
    )


async def _settings(client: Redis) -> dict[str, str]:
    """The server's configuration as far as we may see it: hosted servers forbid CONFIG."""
    try:
        found: Mapping[Any, Any] = await client.config_get("appendfsync", "save")
    except (redis_errors.ResponseError, redis_errors.DataError):
        return {}
    return {_text(name): _text(value) for name, value in found.items()}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name, 0)
    return int(value) if isinstance(value, int | float) else 0


def _server(facts: Mapping[str, Any]) -> str:
    if "valkey_version" in facts:
        return f"Valkey {_text(facts['valkey_version'])}"
    return f"Redis {_text(facts.get('redis_version'))}"


def _loss_window(facts: Mapping[str, Any], settings: Mapping[str, str]) -> tuple[float | None, str]:
    """Seconds of confirmed writes that a crash of the machine can lose (None: no bound is known), and the sentence."""
    if _number(facts, "aof_enabled"):
        match settings.get("appendfsync"):
            case "always":
                return 0.0, "nothing that was confirmed is lost"
            case "everysec":
                return 1.0, "up to one second of confirmed messages can be lost"
            case "no":
                return 30.0, "what the operating system has not written yet is lost, about 30 seconds"
            case _:
                return None, "unknown: the server does not tell its appendfsync; about one second is usual"
    if "save" in settings and not settings["save"].strip():
        return None, "everything is lost when the server stops"
    return None, "everything since the last snapshot is lost"


def _aof(facts: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    if not _number(facts, "aof_enabled"):
        return "off"
    state = _text(facts.get("aof_last_write_status")) or "ok"
    return f"{settings.get('appendfsync', 'on')}, last write {state}"


def _wrong_server(facts: Mapping[str, Any]) -> list[Problem]:
    found: list[Problem] = []
    version = _text(facts.get("redis_version")).split(".")
    if all(part.isdecimal() for part in version[:2]) and tuple(map(int, version[:2])) < _OLDEST:
        found.append(Problem(f"{_server(facts)} is too old.", "Install Redis 7.0 or newer, or Valkey.", fatal=True))
    if _text(facts.get("role")) == "slave":
        found.append(Problem("The store is a read-only replica.", "Let REDIS_URL name the primary.", fatal=True))
    if _number(facts, "cluster_enabled"):
        found.append(Problem("The store is a cluster node.", "Let REDIS_URL name a single server.", fatal=True))
    return found


def _unsafe(facts: Mapping[str, Any], durability: str, window: float | None) -> list[Problem]:
    found: list[Problem] = []
    policy = _text(facts.get("maxmemory_policy"))
    if policy not in {"noeviction", ""}:
        sentence = f"The store drops data when its memory is full (maxmemory-policy {policy})."
        found.append(Problem(sentence, "Set maxmemory-policy noeviction on the server.", fatal=True))
    if window != 0:
        cure = "Set appendonly yes and appendfsync always on the server."
        found.append(Problem(f"When the server's machine stops: {durability}.", cure))
    return found


def _troubles(facts: Mapping[str, Any]) -> list[Problem]:
    found: list[Problem] = []
    used = _number(facts, "used_memory")
    for name, what in (("maxmemory", "its maxmemory"), ("total_system_memory", "the machine's memory")):
        limit = _number(facts, name)
        if limit and used > _CROWDED * limit:
            cure = "Give it more, or shorten RETENTION_DAYS."
            found.append(Problem(f"The store uses {used * 100 // limit} % of {what}.", cure))
    if _text(facts.get("aof_last_write_status")) == "err":
        found.append(Problem("The store cannot write its append-only file.", "Free disk space on the server."))
    if _text(facts.get("rdb_last_bgsave_status")) == "err":
        found.append(Problem("The store's last snapshot failed.", "Look into the server's log and free disk space."))
    if "min_slaves_good_slaves" in facts:  # told only while `min-replicas-to-write` is set, as by our own guard
        cure = "Free disk space, or remove min-replicas-to-write from the server's settings."
        found.append(Problem("The store may refuse writes for now (min-replicas-to-write).", cure))
    if _number(facts, "loading"):
        found.append(Problem("The store is still loading its data.", "Wait until it is ready."))
    return found


__all__ = ["Problem", "StorageError", "StoreReport", "StoreTarget", "connect", "inspect"]
